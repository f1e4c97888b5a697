"""Names of people and passkeys are sealed; people are found by marks of their names' first letters."""

from alembic import op

revision = "people_0002"
down_revision = "people_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("person", "passkey"):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN name DROP NOT NULL, ADD COLUMN name_sealed bytea")
    op.execute("ALTER TABLE person ADD COLUMN name_marks bytea")


def downgrade() -> None:
    op.execute("ALTER TABLE person DROP COLUMN name_marks")
    for table in ("passkey", "person"):
        op.execute(f"ALTER TABLE {table} DROP COLUMN name_sealed, ALTER COLUMN name SET NOT NULL")
