"""What meters show at whose car is sealed; a vehicle's transactions are found by a blind index."""

from alembic import op

revision = "stations_0003"
down_revision = "stations_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE station_transaction ADD COLUMN vehicle_blind bytea, ADD COLUMN vehicle_sealed bytea, ADD COLUMN body bytea"
    )
    op.execute("DROP INDEX station_transaction_vehicle")
    op.execute(
        "CREATE INDEX station_transaction_whose ON station_transaction (vehicle_blind, began_us) WHERE vehicle_blind IS NOT NULL"
    )
    op.execute("ALTER TABLE station_meter ADD COLUMN body bytea, ADD COLUMN is_owned boolean NOT NULL DEFAULT false")
    op.execute("ALTER TABLE station_meter ALTER COLUMN context DROP NOT NULL, ALTER COLUMN body SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("ALTER TABLE station_meter DROP COLUMN body, DROP COLUMN is_owned")
    op.execute("DROP INDEX station_transaction_whose")
    op.execute(
        "ALTER TABLE station_transaction DROP COLUMN vehicle_blind, DROP COLUMN vehicle_sealed, DROP COLUMN body"
    )
    op.execute(
        "CREATE INDEX station_transaction_vehicle ON station_transaction (vehicle, began_us) WHERE vehicle IS NOT NULL"
    )
