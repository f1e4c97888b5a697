"""What each car was told and drew while a depot was dimmed is sealed."""

from alembic import op

revision = "charging_grid_0002"
down_revision = "charging_grid_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE charging_grid_proof ADD COLUMN kw_sealed bytea")


def downgrade() -> None:
    op.execute("ALTER TABLE charging_grid_proof DROP COLUMN kw_sealed")
