"""Status rows, one per process. UNLOGGED: worthless after a crash, and cheap to rewrite each second."""

from alembic import op

revision = "status_0001"
down_revision = None
branch_labels = ("status",)
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE UNLOGGED TABLE process_status ("
        " role text NOT NULL, process text NOT NULL, at_us bigint NOT NULL, values jsonb NOT NULL,"
        " PRIMARY KEY (role, process)) WITH (fillfactor = 50)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE process_status")
