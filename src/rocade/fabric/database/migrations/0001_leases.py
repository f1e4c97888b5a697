"""Who shares the partitions of a stream within a group, and who holds which with what fence."""

from __future__ import annotations

from alembic import op

revision = "database_0001"
down_revision = None
branch_labels = ("database",)
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE lease_member (
            name text NOT NULL,
            stream text NOT NULL,
            owner text NOT NULL,
            joined timestamptz NOT NULL,
            expires timestamptz NOT NULL,
            PRIMARY KEY (name, stream, owner)
        ) WITH (fillfactor = 50)""")
    op.execute("""
        CREATE TABLE lease (
            name text NOT NULL,
            stream text NOT NULL,
            partition smallint NOT NULL,
            owner text,
            fence bigint NOT NULL,
            PRIMARY KEY (name, stream, partition)
        ) WITH (fillfactor = 50)""")
