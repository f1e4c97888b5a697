"""Refusals by request id: which audit entries a request left, for a bounded time."""

import sqlalchemy as sa
from alembic import op

revision = "trust_0002"
down_revision = "trust_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_request",
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("request", "position"),
    )
    op.create_index("audit_request_by_time", "audit_request", ["at_us"])


def downgrade() -> None:
    op.drop_table("audit_request")
