"""Certificates are found by their end, claim codes by when they were made."""

from alembic import op

revision = "trust_0003"
down_revision = "trust_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("certificate_by_end", "certificate", ["not_after_us", "serial"])
    op.create_index("claim_code_by_making", "claim_code", ["made_us"])


def downgrade() -> None:
    op.drop_index("claim_code_by_making")
    op.drop_index("certificate_by_end")
