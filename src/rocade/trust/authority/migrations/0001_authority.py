"""Certificates, claim codes and revocations; the audit log's entries, tree and signed heads."""

import sqlalchemy as sa
from alembic import op

revision = "trust_0001"
down_revision = None
branch_labels = ("trust",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "certificate",
        sa.Column("serial", sa.LargeBinary, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("issuer_key_id", sa.LargeBinary, nullable=False),
        sa.Column("key_id", sa.LargeBinary, nullable=False),
        sa.Column("not_before_us", sa.BigInteger, nullable=False),
        sa.Column("not_after_us", sa.BigInteger, nullable=False),
        sa.Column("issued_us", sa.BigInteger, nullable=False),
        sa.Column("replaces", sa.LargeBinary),
    )
    op.create_index("certificate_by_identity", "certificate", ["identity", "not_after_us"])
    op.create_table(
        "revocation",
        sa.Column("number", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("serial", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("revoked_us", sa.BigInteger, nullable=False),
        sa.Column("not_after_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "claim_code",
        sa.Column("code_hash", sa.LargeBinary, primary_key=True),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
        sa.Column("expires_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger),
        sa.Column("serial", sa.LargeBinary),
    )
    op.create_index("claim_code_by_identity", "claim_code", ["identity"])
    op.create_table(
        "audit_entry",
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "audit_tree",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("edge", sa.LargeBinary, nullable=False),
        sa.Column("head_size", sa.BigInteger, nullable=False),
        sa.Column("head_us", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name="audit_tree_one_row"),
    )
    op.execute("INSERT INTO audit_tree VALUES (1, 0, '', 0, 0)")
    op.create_table(
        "audit_head",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("signed", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    for table in ("audit_head", "audit_tree", "audit_entry", "claim_code", "revocation", "certificate"):
        op.drop_table(table)
