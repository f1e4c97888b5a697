"""Twins say which quality flags their latest values bear, so that doubtful vehicles are found without unpacking rows."""

import sqlalchemy as sa
from alembic import op

revision = "twin_0002"
down_revision = "twin_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("twin", sa.Column("doubts", sa.SmallInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("twin", "doubts")
