"""Owners, consents, drivers, claim codes, conflicts, and the numbered list of what changed."""

from alembic import op

revision = "consent_0001"
down_revision = None
branch_labels = ("consent",)
depends_on = None

_FOREVER = (1 << 63) - 1


def upgrade() -> None:
    op.execute(
        "CREATE TABLE consent_owner (ref bigint PRIMARY KEY, person text NOT NULL, since_us bigint NOT NULL,"
        f" until_us bigint NOT NULL DEFAULT {_FOREVER}, CHECK (since_us <= until_us))"
    )
    op.execute("CREATE INDEX consent_owner_by_person ON consent_owner (person)")
    op.execute(
        "CREATE TABLE consent_grant (id text PRIMARY KEY, ref bigint NOT NULL, owner text NOT NULL,"
        " recipient text NOT NULL, purpose text NOT NULL, classes integer NOT NULL, from_us bigint NOT NULL,"
        f" until_us bigint NOT NULL, made_us bigint NOT NULL, ended_us bigint NOT NULL DEFAULT {_FOREVER},"
        " why_ended text NOT NULL DEFAULT '', replaces text NOT NULL DEFAULT '',"
        " CHECK (classes > 0), CHECK (from_us < until_us))"
    )
    op.execute("CREATE INDEX consent_grant_by_ref ON consent_grant (ref, made_us)")
    op.execute(
        "CREATE TABLE consent_guest (id text PRIMARY KEY, ref bigint NOT NULL, owner text NOT NULL,"
        " person text NOT NULL DEFAULT '', classes integer NOT NULL, from_us bigint NOT NULL, until_us bigint NOT NULL,"
        " invitation_end_us bigint NOT NULL, made_us bigint NOT NULL, accepted_us bigint NOT NULL DEFAULT 0,"
        f" ended_us bigint NOT NULL DEFAULT {_FOREVER}, why_ended text NOT NULL DEFAULT '',"
        " code_hash bytea NOT NULL UNIQUE, CHECK (from_us < until_us))"
    )
    op.execute("CREATE INDEX consent_guest_by_ref ON consent_guest (ref, made_us)")
    op.execute("CREATE INDEX consent_guest_by_person ON consent_guest (person) WHERE person <> ''")
    op.execute(
        "CREATE TABLE consent_claim (code_hash bytea PRIMARY KEY, ref bigint NOT NULL, giver text NOT NULL,"
        " made_us bigint NOT NULL, expires_us bigint NOT NULL, used_us bigint NOT NULL DEFAULT 0,"
        " used_by text NOT NULL DEFAULT '')"
    )
    op.execute("CREATE INDEX consent_claim_by_ref ON consent_claim (ref)")
    op.execute(
        "CREATE TABLE consent_conflict (id text PRIMARY KEY, ref bigint NOT NULL, holder text NOT NULL,"
        " claimant text NOT NULL, opened_us bigint NOT NULL, settled_us bigint NOT NULL DEFAULT 0,"
        " settled_for text NOT NULL DEFAULT '')"
    )
    op.execute("CREATE UNIQUE INDEX consent_conflict_open ON consent_conflict (ref, claimant) WHERE settled_us = 0")
    op.execute(
        "CREATE TABLE consent_change (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ref bigint NOT NULL,"
        " at_us bigint NOT NULL)"
    )
    op.execute(
        "CREATE TABLE consent_look (id bigint GENERATED ALWAYS AS IDENTITY UNIQUE, ref bigint NOT NULL,"
        " minute_us bigint NOT NULL, kind bytea NOT NULL, actor text NOT NULL, recipient text NOT NULL,"
        " purpose text NOT NULL, what text NOT NULL, classes integer NOT NULL, signals integer[] NOT NULL,"
        ' "grant" text NOT NULL, first_us bigint NOT NULL, last_us bigint NOT NULL, times bigint NOT NULL,'
        " PRIMARY KEY (ref, minute_us, kind))"
    )


def downgrade() -> None:
    for table in ("look", "change", "conflict", "claim", "guest", "grant", "owner"):
        op.execute(f"DROP TABLE consent_{table}")
