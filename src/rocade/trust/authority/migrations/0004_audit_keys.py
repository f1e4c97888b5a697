"""Audit entries are found by whom and what they are about. Entries written before this have no keys."""

import sqlalchemy as sa
from alembic import op

revision = "trust_0004"
down_revision = "trust_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("subject_key", "actor_key"):
        op.add_column("audit_entry", sa.Column(name, sa.BigInteger))
        op.create_index(f"audit_entry_by_{name}", "audit_entry", [name, "position"])


def downgrade() -> None:
    for name in ("subject_key", "actor_key"):
        op.drop_index(f"audit_entry_by_{name}")
        op.drop_column("audit_entry", name)
