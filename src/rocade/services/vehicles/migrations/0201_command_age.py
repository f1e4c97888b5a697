"""Commands by their age, so that forgetting the oldest does not read all."""

from alembic import op

revision = "command_0002"
down_revision = "command_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX command_age ON command (created_us)")


def downgrade() -> None:
    op.execute("DROP INDEX command_age")
