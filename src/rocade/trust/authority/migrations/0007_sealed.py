"""The number in a vehicle's identity is sealed beside a blind index; other parties' identities stay as they are.

`sealed_column`: columns whose older rows have been sealed.
"""

from alembic import op

revision = "trust_0007"
down_revision = "trust_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE certificate ADD COLUMN identity_sealed bytea, ADD COLUMN identity_endings bytea")
    op.execute("ALTER TABLE claim_code ADD COLUMN identity_sealed bytea")
    op.execute("CREATE TABLE sealed_column (name text PRIMARY KEY, at_us bigint NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE sealed_column")
    op.execute("ALTER TABLE claim_code DROP COLUMN identity_sealed")
    op.execute("ALTER TABLE certificate DROP COLUMN identity_sealed, DROP COLUMN identity_endings")
