"""A vehicle's number is sealed; it is found by blind indexes. The clear column stays empty once `sealing` has run.

The table of connections holds blind indexes too: whoever is connected claims again.
"""

from alembic import op

revision = "vehicles_0003"
down_revision = "vehicles_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE vehicle ALTER COLUMN id DROP NOT NULL, ADD COLUMN id_sealed bytea, ADD COLUMN id_blind bytea,"
        " ADD COLUMN id_endings bytea, ADD CHECK (id IS NULL OR id_sealed IS NULL)"
    )
    op.execute("CREATE UNIQUE INDEX vehicle_by_blind ON vehicle (id_blind)")
    op.execute("TRUNCATE vehicle_session")


def downgrade() -> None:
    op.execute(
        "ALTER TABLE vehicle DROP COLUMN id_endings, DROP COLUMN id_blind, DROP COLUMN id_sealed,"
        " ALTER COLUMN id SET NOT NULL"
    )
