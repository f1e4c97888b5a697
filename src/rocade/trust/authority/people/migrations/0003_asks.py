"""Who opened an invitation and waits to be let in by whoever made it; outlives no crash."""

import sqlalchemy as sa
from alembic import op

revision = "people_0003"
down_revision = "people_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "person_ask",
        sa.Column("link_hash", sa.LargeBinary, primary_key=True),
        sa.Column("browser_hash", sa.LargeBinary, primary_key=True),
        sa.Column("person", sa.BigInteger, nullable=False, index=True),
        sa.Column("number", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("confirmed_us", sa.BigInteger),
        prefixes=["UNLOGGED"],
    )


def downgrade() -> None:
    op.drop_table("person_ask")
