"""Goals, cars, plans, alerts, sessions; series of prices and CO2; depots with their places and dimmings; what changed."""

from alembic import op

revision = "charging_0101"
down_revision = None
branch_labels = ("charging",)
depends_on = None

_TABLES = {
    "charging_goal": """ref bigint PRIMARY KEY, version integer NOT NULL, body bytea NOT NULL, is_stopped boolean NOT NULL,
        set_us bigint NOT NULL""",
    "charging_car": "ref bigint PRIMARY KEY, body bytea NOT NULL, changed_us bigint NOT NULL",
    "charging_plan": """ref bigint NOT NULL, version integer NOT NULL, made_us bigint NOT NULL, cause text NOT NULL,
        body bytea NOT NULL, PRIMARY KEY (ref, version)""",
    "charging_alert": """id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref bigint NOT NULL, code text NOT NULL,
        began_us bigint NOT NULL, ended_us bigint NOT NULL DEFAULT 0, facts bytea NOT NULL""",
    "charging_session": """id text PRIMARY KEY, ref bigint NOT NULL, began_us bigint NOT NULL,
        ended_us bigint NOT NULL DEFAULT 0, site text NOT NULL DEFAULT '', station text NOT NULL DEFAULT '',
        energy_kwh float8 NOT NULL DEFAULT 0, cost_minor bigint NOT NULL DEFAULT 0, currency text NOT NULL DEFAULT '',
        co2_g bigint NOT NULL DEFAULT 0, at_once_minor bigint NOT NULL DEFAULT 0, at_once_g bigint NOT NULL DEFAULT 0,
        source text NOT NULL DEFAULT 'telemetry', soc_begin float8, soc_end float8, peak_kw float8 NOT NULL DEFAULT 0,
        goal_version integer NOT NULL DEFAULT 0, tariff text NOT NULL DEFAULT '', carbon text NOT NULL DEFAULT '',
        is_forecast boolean NOT NULL DEFAULT false, priced_us bigint NOT NULL DEFAULT 0,
        is_settled boolean NOT NULL DEFAULT false""",
    "charging_series": """id text PRIMARY KEY, name text NOT NULL, kind text NOT NULL, currency text NOT NULL,
        zone text NOT NULL, area text NOT NULL DEFAULT '', version integer NOT NULL DEFAULT 0,
        from_us bigint NOT NULL DEFAULT 0, known_us bigint NOT NULL DEFAULT 0, until_us bigint NOT NULL DEFAULT 0,
        changed_us bigint NOT NULL""",
    "charging_value": """series text NOT NULL REFERENCES charging_series ON DELETE CASCADE, start_us bigint NOT NULL,
        end_us bigint NOT NULL, value float8 NOT NULL, low float8 NOT NULL, high float8 NOT NULL,
        is_forecast boolean NOT NULL, PRIMARY KEY (series, start_us)""",
    "charging_site": """id text PRIMARY KEY, body bytea NOT NULL, building_kw float8 NOT NULL DEFAULT 0,
        solar_kw float8 NOT NULL DEFAULT 0, changed_us bigint NOT NULL, plan bytea""",
    "charging_place": """site text NOT NULL REFERENCES charging_site ON DELETE CASCADE, ref bigint NOT NULL UNIQUE,
        node text NOT NULL DEFAULT '', priority integer NOT NULL DEFAULT 0, connector text NOT NULL DEFAULT '',
        PRIMARY KEY (site, ref)""",
    "charging_dimming": """site text NOT NULL REFERENCES charging_site ON DELETE CASCADE, signal text NOT NULL,
        limit_kw float8 NOT NULL, from_us bigint NOT NULL, until_us bigint NOT NULL, told_us bigint NOT NULL,
        ended_us bigint NOT NULL DEFAULT 0, honoured_us bigint NOT NULL DEFAULT 0, PRIMARY KEY (site, signal)""",
    "charging_change": """number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL,
        at_us bigint NOT NULL""",
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
    op.execute("CREATE INDEX charging_alert_by_ref ON charging_alert (ref, id)")
    op.execute("CREATE UNIQUE INDEX charging_alert_open ON charging_alert (ref, code) WHERE ended_us = 0")
    op.execute("CREATE INDEX charging_session_by_ref ON charging_session (ref, began_us)")
    op.execute("CREATE UNIQUE INDEX charging_session_open ON charging_session (ref) WHERE ended_us = 0 AND ref <> 0")
    op.execute("CREATE INDEX charging_session_by_site ON charging_session (site, began_us) WHERE site <> ''")
    op.execute("CREATE INDEX charging_session_unsettled ON charging_session (ended_us) WHERE NOT is_settled")
    op.execute("CREATE INDEX charging_dimming_by_end ON charging_dimming (until_us)")


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
