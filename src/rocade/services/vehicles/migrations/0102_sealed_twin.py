"""The twin is sealed: position and speed in `place`, values in `reported`; a row without `place` is from before.

Whether a vehicle moves stays readable (`moves`): lists filter by it.
"""

from alembic import op

revision = "twin_0003"
down_revision = "twin_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE twin ADD COLUMN place bytea, ADD COLUMN moves boolean NOT NULL DEFAULT false")
    op.execute("CREATE INDEX twin_in_clear ON twin (ref) WHERE place IS NULL AND arrived_us > 0")


def downgrade() -> None:
    op.execute("DROP INDEX twin_in_clear")
    op.execute("ALTER TABLE twin DROP COLUMN place, DROP COLUMN moves")
