"""Orders to agents: what a provider, a manager or support asked an agent to do, and when it was sent down the line."""

from alembic import op

revision = "dealers_0002"
down_revision = "dealers_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE dealer_order (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " site text NOT NULL REFERENCES dealer_site (id), what text NOT NULL, by text NOT NULL, at_us bigint NOT NULL,"
        " sent_us bigint NOT NULL DEFAULT 0)"
    )
    op.execute("CREATE INDEX dealer_order_waiting ON dealer_order (number) WHERE sent_us = 0")
    op.execute("CREATE INDEX dealer_order_by_site ON dealer_order (site, number DESC)")


def downgrade() -> None:
    op.execute("DROP TABLE dealer_order")
