"""What an order wants, which may name a vehicle, and what a station answered are sealed."""

from alembic import op

revision = "stations_0004"
down_revision = "stations_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE station_order ALTER COLUMN body DROP NOT NULL, ADD COLUMN body_sealed bytea, ADD COLUMN answer_sealed bytea"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE station_order DROP COLUMN body_sealed, DROP COLUMN answer_sealed")
