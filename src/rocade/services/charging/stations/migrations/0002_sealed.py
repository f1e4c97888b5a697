"""Labels of tags are sealed."""

from alembic import op

revision = "stations_0002"
down_revision = "stations_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE station_tag ALTER COLUMN label DROP NOT NULL, ADD COLUMN label_sealed bytea")


def downgrade() -> None:
    op.execute("ALTER TABLE station_tag DROP COLUMN label_sealed, ALTER COLUMN label SET NOT NULL")
