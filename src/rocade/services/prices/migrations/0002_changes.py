"""What a release changed is found without reading the whole list: entries lie on disk in the order of releases."""

from alembic import op

revision = "prices_0002"
down_revision = "prices_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX price_entry_by_seq ON price_entry USING brin (seq) WITH (pages_per_range = 16)")


def downgrade() -> None:
    op.execute("DROP INDEX price_entry_by_seq")
