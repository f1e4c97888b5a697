"""The registry of vehicles."""

import sqlalchemy as sa
from alembic import op

revision = "vehicles_0001"
down_revision = None
branch_labels = ("vehicles",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "vehicle",
        sa.Column("ref", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("brand", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("powertrain", sa.Text, nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.Column("hardware", sa.Text, nullable=False),
        sa.Column("added_us", sa.BigInteger, nullable=False),
        sa.Column("changed_us", sa.BigInteger, nullable=False),
        sa.CheckConstraint("ref > 0", name="vehicle_ref_positive"),
    )
    op.create_index("vehicle_by_brand", "vehicle", ["brand", "model", "ref"])


def downgrade() -> None:
    op.drop_table("vehicle")
