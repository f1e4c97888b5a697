"""Clients with the purposes they may ask for, and the keys that sign access tokens (sealed)."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "machines_0001"
down_revision = None
branch_labels = ("machines",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "machine_client",
        sa.Column("identity", sa.Text, primary_key=True),
        sa.Column("purposes", postgresql.ARRAY(sa.Text), nullable=False),
        sa.Column("added_us", sa.BigInteger, nullable=False),
        sa.Column("added_by", sa.Text, nullable=False),
    )
    op.create_table(
        "token_key",
        sa.Column("kid", sa.Text, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("begins_us", sa.BigInteger, nullable=False),
        sa.Column("ends_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("token_key")
    op.drop_table("machine_client")
