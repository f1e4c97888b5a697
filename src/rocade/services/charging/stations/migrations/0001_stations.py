"""Stations, their connectors, tags, transactions and meter values; limits with how they stand, what stations accept; orders."""

from alembic import op

revision = "stations_0001"
down_revision = None
branch_labels = ("stations",)
depends_on = None

_TABLES = {
    "station": """id text PRIMARY KEY, name text NOT NULL DEFAULT '',
        site text NOT NULL DEFAULT '', profile smallint NOT NULL, secret bytea, next_secret bytea,
        is_open boolean NOT NULL DEFAULT false, is_closed boolean NOT NULL DEFAULT false, phases smallint NOT NULL DEFAULT 3,
        voltage real NOT NULL DEFAULT 230, version text NOT NULL DEFAULT '', vendor text NOT NULL DEFAULT '',
        model text NOT NULL DEFAULT '', serial text NOT NULL DEFAULT '', firmware text NOT NULL DEFAULT '',
        booted_us bigint NOT NULL DEFAULT 0, seen_us bigint NOT NULL DEFAULT 0, process text NOT NULL DEFAULT '',
        line bigint NOT NULL DEFAULT 0, dialect bytea, made_us bigint NOT NULL""",
    "station_connector": """station text NOT NULL, evse integer NOT NULL, connector integer NOT NULL, state text NOT NULL,
        error text NOT NULL, at_us bigint NOT NULL, PRIMARY KEY (station, evse, connector)""",
    "station_tag": """digest bytea PRIMARY KEY, reference text NOT NULL UNIQUE, vehicle bigint, label text NOT NULL,
        ends_us bigint, is_blocked boolean NOT NULL DEFAULT false, made_us bigint NOT NULL""",
    "station_transaction": """number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text NOT NULL,
        reference text NOT NULL, evse integer NOT NULL, connector integer NOT NULL, tag bytea, vehicle bigint,
        began_us bigint NOT NULL, began_wh float8, ended_us bigint, ended_wh float8, reason text NOT NULL DEFAULT '',
        last_us bigint NOT NULL DEFAULT 0, last_wh float8, last_w real, last_soc real,
        sequence integer NOT NULL DEFAULT -1, events integer NOT NULL DEFAULT 0, changed_us bigint NOT NULL,
        UNIQUE (station, reference)""",
    "station_meter": """station text NOT NULL, evse integer NOT NULL, at_us bigint NOT NULL, digest bigint NOT NULL,
        transaction bigint NOT NULL, energy_wh float8, power_w real, current_a real[], voltage_v real[], soc real,
        offered_a real, context text NOT NULL, other jsonb, PRIMARY KEY (station, evse, at_us, digest)""",
    "station_limit": """station text NOT NULL, evse integer NOT NULL, connector integer NOT NULL, version integer NOT NULL,
        body bytea NOT NULL, until_us bigint NOT NULL, state text NOT NULL, purpose text NOT NULL DEFAULT '',
        unit text NOT NULL DEFAULT '', code text NOT NULL DEFAULT '', at_us bigint NOT NULL,
        PRIMARY KEY (station, evse)""",
    "station_order": """id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text NOT NULL, act text NOT NULL,
        body jsonb NOT NULL, by text NOT NULL, made_us bigint NOT NULL, expires_us bigint NOT NULL,
        state text NOT NULL DEFAULT 'queued', answer jsonb, code text NOT NULL DEFAULT '', at_us bigint NOT NULL DEFAULT 0""",
    "station_event": """id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, station text NOT NULL, at_us bigint NOT NULL,
        kind text NOT NULL, evse integer NOT NULL, transaction bigint NOT NULL, code text NOT NULL""",
}
_INDEXES = (
    "station_transaction_open ON station_transaction (station, evse) WHERE ended_us IS NULL",
    "station_transaction_vehicle ON station_transaction (vehicle, began_us) WHERE vehicle IS NOT NULL",
    "station_transaction_changed ON station_transaction (changed_us)",
    "station_meter_transaction ON station_meter (transaction, at_us)",
    "station_tag_vehicle ON station_tag (vehicle) WHERE vehicle IS NOT NULL",
    "station_limit_wanted ON station_limit (station) WHERE state <> 'ended'",
    "station_order_queued ON station_order (station) WHERE state = 'queued'",
    "station_event_at ON station_event (station, id)",
    "station_model ON station (vendor, model, firmware)",
)


def upgrade() -> None:
    for name, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {name} ({columns})")
    for index in _INDEXES:
        op.execute(f"CREATE INDEX {index}")


def downgrade() -> None:
    for name in reversed(_TABLES):
        op.execute(f"DROP TABLE {name}")
