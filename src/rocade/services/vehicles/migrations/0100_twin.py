"""The twin: one packed row a vehicle."""

import sqlalchemy as sa
from alembic import op

revision = "twin_0001"
down_revision = None
branch_labels = ("twin",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "twin",
        sa.Column("ref", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.Column("arrived_us", sa.BigInteger, nullable=False),
        sa.Column("skew_us", sa.BigInteger, nullable=False),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sa.Column("speed_kmh", sa.Double),
        sa.Column("reported", sa.LargeBinary, nullable=False),
        sa.Column("desired", sa.LargeBinary),
        postgresql_with={"fillfactor": 50},
    )
    # packed rows above 2 kB go out of line uncompressed: compressing them at every update would cost more than the disk
    op.execute("ALTER TABLE twin ALTER COLUMN reported SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("twin")
