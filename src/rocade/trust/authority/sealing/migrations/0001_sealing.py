"""Bucket keys wrapped by the region key, data keys wrapped by bucket keys, and who was destroyed."""

from __future__ import annotations

from alembic import op

revision = "sealing_0001"
down_revision = None
branch_labels = ("sealing",)
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE seal_bucket (
            bucket smallint PRIMARY KEY,
            generation integer NOT NULL,
            version integer NOT NULL,
            wrapped bytea NOT NULL
        )""")
    op.execute("""
        CREATE TABLE seal_key (
            owner bigint NOT NULL,
            grp smallint NOT NULL,
            bucket smallint NOT NULL,
            wrapped bytea,
            made_us bigint NOT NULL,
            PRIMARY KEY (owner, grp)
        )""")
    op.execute("CREATE INDEX seal_key_by_bucket ON seal_key (bucket) WHERE wrapped IS NOT NULL")
    op.execute("""
        CREATE TABLE seal_gone (
            number bigint PRIMARY KEY,
            owner bigint NOT NULL UNIQUE,
            gone_us bigint NOT NULL,
            version integer,
            is_punctured boolean NOT NULL DEFAULT false
        )""")
    op.execute("CREATE INDEX seal_gone_open ON seal_gone (number) WHERE NOT is_punctured")


def downgrade() -> None:
    op.execute("DROP TABLE seal_gone, seal_key, seal_bucket")
