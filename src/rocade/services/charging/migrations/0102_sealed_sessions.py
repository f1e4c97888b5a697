"""What a session was is sealed; its depot is found by a blind index."""

from alembic import op

revision = "charging_0102"
down_revision = "charging_0101"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE charging_session ADD COLUMN body bytea, ADD COLUMN site_blind bytea")
    op.execute("DROP INDEX charging_session_by_site")
    op.execute(
        "CREATE INDEX charging_session_at ON charging_session (site_blind, began_us) WHERE site_blind IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX charging_session_at")
    op.execute("ALTER TABLE charging_session DROP COLUMN body, DROP COLUMN site_blind")
    op.execute("CREATE INDEX charging_session_by_site ON charging_session (site, began_us) WHERE site <> ''")
