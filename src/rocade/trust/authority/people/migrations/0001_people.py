"""People, their duties, passkeys, sessions and one-time links; challenges and touches, which outlive no crash."""

import sqlalchemy as sa
from alembic import op

revision = "people_0001"
down_revision = None
branch_labels = ("people",)
depends_on = None

_PERSON = "person.id"


def upgrade() -> None:
    op.create_table(
        "person",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("organisation", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("added_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_table(
        "person_duty",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("person", sa.BigInteger, sa.ForeignKey(_PERSON), nullable=False, index=True),
        sa.Column("duty", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("granted_by", sa.Text, nullable=False),
        sa.Column("granted_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_table(
        "passkey",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("credential_id", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("person", sa.BigInteger, sa.ForeignKey(_PERSON), nullable=False, index=True),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("is_synced", sa.Boolean, nullable=False),
        sa.Column("added_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_table(
        "person_session",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("secret_hash", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("person", sa.BigInteger, sa.ForeignKey(_PERSON), nullable=False, index=True),
        sa.Column("means", sa.Text, nullable=False),
        sa.Column("passkey", sa.BigInteger),
        sa.Column("opened_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger, nullable=False),
        sa.Column("idle_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("ended_us", sa.BigInteger),
    )
    op.create_table(
        "person_link",
        sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
        sa.Column("person", sa.BigInteger, sa.ForeignKey(_PERSON), nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sa.Column("used_us", sa.BigInteger),
    )
    op.create_table(
        "person_challenge",
        sa.Column("challenge_hash", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("browser_hash", sa.LargeBinary, nullable=False),
        sa.Column("person", sa.BigInteger),
        sa.Column("detail", sa.LargeBinary, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("used_us", sa.BigInteger),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "person_touch",
        sa.Column("secret_hash", sa.LargeBinary, primary_key=True),
        sa.Column("session", sa.BigInteger, nullable=False),
        sa.Column("act", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False, index=True),
        sa.Column("used_us", sa.BigInteger),
        prefixes=["UNLOGGED"],
    )
    op.create_table(
        "person_account",
        sa.Column("issuer", sa.Text, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("person", sa.BigInteger, sa.ForeignKey(_PERSON), nullable=False, index=True),
        sa.Column("added_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for table in ("account", "touch", "challenge", "link", "session", "duty"):
        op.drop_table(f"person_{table}")
    op.drop_table("passkey")
    op.drop_table("person")
