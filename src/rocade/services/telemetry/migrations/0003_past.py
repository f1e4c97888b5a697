"""What keeps the condensing of past days apart from late blocks and erasures (services/telemetry/condensing.py)."""

import sqlalchemy as sa
from alembic import op

revision = "telemetry_0003"
down_revision = "telemetry_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("telemetry_block", sa.Column("oldest_us", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "telemetry_past",
        sa.Column("changes", sa.BigInteger, nullable=False),
        sa.Column("moving", sa.Text),
    )
    op.execute("INSERT INTO telemetry_past VALUES (0, NULL)")
    op.create_table(
        "telemetry_condensed",
        sa.Column("partition", sa.Text, primary_key=True),
        sa.Column("rows", sa.BigInteger, nullable=False),
    )
