"""Exports of this region with the bytes they are about, regions whose packets are accepted, packets that were."""

from alembic import op

revision = "crossing_0001"
down_revision = None
branch_labels = ("crossing",)
depends_on = None

_TABLES = {
    "crossing_export": """number bigint PRIMARY KEY, topic text NOT NULL, region text NOT NULL, from_us bigint NOT NULL,
        until_us bigint NOT NULL, state text NOT NULL, sha256 bytea NOT NULL, lines integer NOT NULL, left_out bytea NOT NULL,
        note text NOT NULL, made_us bigint NOT NULL, made_by text NOT NULL, decided_us bigint NOT NULL DEFAULT 0,
        decided_by text NOT NULL DEFAULT '', packet bytea NOT NULL, sealed bytea NOT NULL DEFAULT ''""",
    "crossing_neighbour": "region text PRIMARY KEY, root text NOT NULL, added_us bigint NOT NULL, added_by text NOT NULL",
    "crossing_arrival": """origin text NOT NULL, number bigint NOT NULL, topic text NOT NULL, from_us bigint NOT NULL,
        until_us bigint NOT NULL, lines integer NOT NULL, accepted_us bigint NOT NULL, accepted_by text NOT NULL,
        packet bytea NOT NULL, PRIMARY KEY (origin, number)""",
}


def upgrade() -> None:
    op.execute("CREATE SEQUENCE crossing_number")
    for table, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE crossing_number")
