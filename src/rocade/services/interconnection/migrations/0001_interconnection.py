"""Named services, rules, what was opened, bytes by the hour, and the lines sites pay for."""

from alembic import op

revision = "interconnection_0001"
down_revision = None
branch_labels = ("interconnection",)
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE interconnection_service (name text PRIMARY KEY, at text NOT NULL, host text NOT NULL,"
        " port integer NOT NULL, priority text NOT NULL, about text NOT NULL)"
    )
    op.execute(
        "CREATE TABLE interconnection_rule (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " service text NOT NULL REFERENCES interconnection_service ON DELETE CASCADE, caller text NOT NULL,"
        " device text NOT NULL, connections bigint NOT NULL, per_minute bigint NOT NULL, rate_bytes_s bigint NOT NULL,"
        " day_bytes bigint NOT NULL, from_us bigint NOT NULL, until_us bigint NOT NULL, CHECK (from_us < until_us))"
    )
    op.execute("CREATE TABLE interconnection_policy (one boolean PRIMARY KEY CHECK (one), number bigint NOT NULL)")
    op.execute("INSERT INTO interconnection_policy VALUES (true, 0)")
    op.execute(
        "CREATE TABLE interconnection_opening (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " at_us bigint NOT NULL, site text NOT NULL, device text NOT NULL, service text NOT NULL, rule bigint NOT NULL,"
        " is_refused boolean NOT NULL, code text NOT NULL, closed_us bigint, up_bytes bigint NOT NULL DEFAULT 0, down_bytes bigint NOT NULL DEFAULT 0)"
    )
    op.execute("CREATE INDEX interconnection_opening_by_site ON interconnection_opening (site, id)")
    op.execute("CREATE INDEX interconnection_opening_by_service ON interconnection_opening (service, id)")
    op.execute(
        "CREATE TABLE interconnection_traffic (site text NOT NULL, service text NOT NULL, hour_us bigint NOT NULL,"
        " up_bytes bigint NOT NULL, down_bytes bigint NOT NULL, PRIMARY KEY (hour_us, site, service))"
    )
    op.execute(
        "CREATE TABLE interconnection_device (site text NOT NULL, name text NOT NULL, first_us bigint NOT NULL,"
        " last_us bigint NOT NULL, openings bigint NOT NULL, PRIMARY KEY (site, name))"
    )
    op.execute(
        "CREATE TABLE interconnection_line (site text NOT NULL, name text NOT NULL, supplier text NOT NULL,"
        " capacity_kbit_s bigint NOT NULL, monthly_minor bigint NOT NULL, currency text NOT NULL,"
        " is_private boolean NOT NULL, PRIMARY KEY (site, name))"
    )


def downgrade() -> None:
    for table in ("line", "device", "traffic", "opening", "policy", "rule", "service"):
        op.execute(f"DROP TABLE interconnection_{table}")
