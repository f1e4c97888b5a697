"""What people agreed to when they opened an application."""

from alembic import op

revision = "applications_0002"
down_revision = "applications_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE application_consent (person text NOT NULL, application text NOT NULL, scope text NOT NULL,"
        " is_remembered boolean NOT NULL, given_us bigint NOT NULL, until_us bigint NOT NULL,"
        " PRIMARY KEY (person, application))"
    )
    op.execute("CREATE INDEX application_consent_ended ON application_consent (until_us)")


def downgrade() -> None:
    op.execute("DROP TABLE application_consent")
