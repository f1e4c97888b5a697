"""A vehicle's commands by age alone: with `id` in that index, PostgreSQL 18 skips through all of it to find one id, instead of
asking the primary key, while its statistics know few vehicles (a quarter of a second each instead of 2 us).
"""

from alembic import op

revision = "command_0003"
down_revision = "command_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX command_of_vehicle")
    op.execute("CREATE INDEX command_of_vehicle ON command (ref, created_us)")


def downgrade() -> None:
    op.execute("DROP INDEX command_of_vehicle")
    op.execute("CREATE INDEX command_of_vehicle ON command (ref, created_us, id)")
