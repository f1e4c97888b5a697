"""Terms, contracts with their versions, what waits for third parties, their addresses, and the log of each contract."""

from alembic import op

revision = "sharing_0001"
down_revision = None
branch_labels = ("sharing",)
depends_on = None

_FOREVER = (1 << 63) - 1


def upgrade() -> None:
    op.execute(
        "CREATE TABLE sharing_terms (version bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, party text NOT NULL,"
        " compensation text NOT NULL, withheld integer[] NOT NULL, reason text NOT NULL, made_us bigint NOT NULL)"
    )
    op.execute(
        "CREATE TABLE sharing_contract (id text NOT NULL, version integer NOT NULL, ref bigint NOT NULL, party text NOT NULL,"
        " purpose text NOT NULL, classes integer NOT NULL, signals integer[] NOT NULL, ways text[] NOT NULL,"
        ' terms bigint NOT NULL, "grant" text NOT NULL, from_us bigint NOT NULL, until_us bigint NOT NULL,'
        " made_us bigint NOT NULL, accepted_us bigint NOT NULL DEFAULT 0,"
        f" ended_us bigint NOT NULL DEFAULT {_FOREVER}, why_ended text NOT NULL DEFAULT '', PRIMARY KEY (id, version))"
    )
    op.execute("CREATE INDEX sharing_contract_by_ref ON sharing_contract (ref, made_us)")
    op.execute("CREATE INDEX sharing_contract_by_party ON sharing_contract (party, made_us)")
    op.execute(f"CREATE INDEX sharing_contract_live ON sharing_contract (ref) WHERE ended_us = {_FOREVER}")
    op.execute("CREATE TABLE sharing_change (one boolean PRIMARY KEY CHECK (one), number bigint NOT NULL)")
    op.execute("INSERT INTO sharing_change VALUES (true, 0)")
    op.execute(
        "CREATE TABLE sharing_queue (number bigint PRIMARY KEY, ref bigint NOT NULL, at_us bigint NOT NULL,"
        " arrived_us bigint NOT NULL, samples integer NOT NULL, body bytea NOT NULL)"
    )
    op.execute("ALTER TABLE sharing_queue ALTER COLUMN body SET STORAGE EXTERNAL")  # it is sealed: nothing to compress
    op.execute("CREATE SEQUENCE sharing_number")
    op.execute("CREATE INDEX sharing_queue_by_ref ON sharing_queue (ref, number)")
    op.execute("CREATE INDEX sharing_queue_by_time ON sharing_queue (at_us)")
    op.execute(
        "CREATE TABLE sharing_webhook (contract text PRIMARY KEY, url text NOT NULL, generation integer NOT NULL,"
        " rotated_us bigint NOT NULL, cursor bigint NOT NULL, attempt integer NOT NULL, due_us bigint NOT NULL,"
        " paused_us bigint NOT NULL, status integer NOT NULL, told_us bigint NOT NULL, made_us bigint NOT NULL,"
        " expired bigint NOT NULL)"
    )
    op.execute(
        "CREATE TABLE sharing_log (contract text NOT NULL, at_us bigint NOT NULL, kind text NOT NULL, way text NOT NULL,"
        " version integer NOT NULL, records bigint NOT NULL, samples bigint NOT NULL, bytes bigint NOT NULL,"
        " code text NOT NULL, PRIMARY KEY (contract, at_us, kind, way))"
    )


def downgrade() -> None:
    for table in ("log", "webhook", "queue", "change", "contract", "terms"):
        op.execute(f"DROP TABLE sharing_{table}")
    op.execute("DROP SEQUENCE sharing_number")
