"""Erasures under way and done: what every process hides from readers, where a broken-off one goes on, what was counted."""

from alembic import op

revision = "erasure_0001"
down_revision = None
branch_labels = ("erasure",)
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE erasure (id text PRIMARY KEY, subject text NOT NULL, ref bigint NOT NULL, renewed bigint NOT NULL,"
        " actor text NOT NULL, ordered_us bigint NOT NULL, is_physical boolean NOT NULL, step text NOT NULL,"
        " progress text NOT NULL DEFAULT '', facts text NOT NULL DEFAULT '{}', done_us bigint NOT NULL DEFAULT 0)"
    )
    op.execute("CREATE UNIQUE INDEX erasure_open ON erasure (subject) WHERE done_us = 0")
    op.execute("CREATE INDEX erasure_by_subject ON erasure (subject, ordered_us)")


def downgrade() -> None:
    op.execute("DROP TABLE erasure")
