"""Which objects of the raw batch archive must be there (services/telemetry/archive/store.py)."""

from alembic import op

revision = "telemetry_0004"
down_revision = "telemetry_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE telemetry_archive (name text PRIMARY KEY, partition smallint NOT NULL, first_us bigint NOT NULL,"
        " doubt smallint NOT NULL DEFAULT 0)"
    )
    op.execute("CREATE INDEX telemetry_archive_by_time ON telemetry_archive (partition, first_us)")


def downgrade() -> None:
    op.execute("DROP TABLE telemetry_archive")
