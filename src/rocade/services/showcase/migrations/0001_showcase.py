"""What points of sale show on other web sites."""

from alembic import op

revision = "showcase_0001"
down_revision = None
branch_labels = ("showcase",)
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE showcase_card (site text PRIMARY KEY, card bytea NOT NULL, changed_us bigint NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE showcase_card")
