"""Tables of the log beside its segments: which segments exist, who writes, who reads and how far."""

from __future__ import annotations

from alembic import op

revision = "log_0001"
down_revision = None
branch_labels = ("log",)
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA log_data")
    op.execute("""
        CREATE TABLE log_segment (
            stream text NOT NULL,
            number bigint NOT NULL,
            opened_us bigint NOT NULL,
            PRIMARY KEY (stream, number)
        )""")
    op.execute(
        "CREATE TABLE log_writer (writer integer PRIMARY KEY, session bigint NOT NULL, taken_us bigint NOT NULL)"
    )
    op.execute("""
        CREATE TABLE log_group (
            name text NOT NULL,
            stream text NOT NULL,
            registered_us bigint NOT NULL,
            PRIMARY KEY (name, stream)
        )""")
    op.execute("""
        CREATE TABLE log_cursor (
            name text NOT NULL,
            stream text NOT NULL,
            partition smallint NOT NULL,
            writer integer NOT NULL,
            position bigint NOT NULL,
            PRIMARY KEY (name, stream, partition, writer)
        ) WITH (fillfactor = 50)""")
