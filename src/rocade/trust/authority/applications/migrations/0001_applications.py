"""Registered web applications, the one-time codes given to them, and the tokens those became."""

from alembic import op

revision = "applications_0001"
down_revision = None
branch_labels = ("applications",)
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE application (id text PRIMARY KEY, name text NOT NULL, redirects text[] NOT NULL,"
        " logouts text[] NOT NULL, brand text NOT NULL, roles text[] NOT NULL, scopes text[] NOT NULL,"
        " secret_hash bytea, added_us bigint NOT NULL, added_by text NOT NULL)"
    )
    op.execute(
        "CREATE UNLOGGED TABLE application_code (code_hash bytea PRIMARY KEY, application text NOT NULL,"
        " person text NOT NULL, session bigint NOT NULL, redirect text NOT NULL, challenge text NOT NULL,"
        " nonce text NOT NULL, scope text NOT NULL, signed_in_us bigint NOT NULL, until_us bigint NOT NULL,"
        " used_us bigint NOT NULL DEFAULT 0)"
    )
    op.execute("CREATE INDEX application_code_ended ON application_code (until_us)")
    op.execute(
        "CREATE UNLOGGED TABLE application_token (token_hash bytea PRIMARY KEY, code_hash bytea NOT NULL,"
        " application text NOT NULL, person text NOT NULL, session bigint NOT NULL, scope text NOT NULL,"
        " until_us bigint NOT NULL)"
    )
    op.execute("CREATE INDEX application_token_by_code ON application_token (code_hash)")
    op.execute("CREATE INDEX application_token_ended ON application_token (until_us)")


def downgrade() -> None:
    op.execute("DROP TABLE application_token")
    op.execute("DROP TABLE application_code")
    op.execute("DROP TABLE application")
