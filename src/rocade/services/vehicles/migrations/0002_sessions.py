"""Who has which vehicle's connection. UNLOGGED: connections do not outlive a crash either."""

from alembic import op

revision = "vehicles_0002"
down_revision = "vehicles_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE vehicle_claim")
    op.execute(
        "CREATE UNLOGGED TABLE vehicle_session ("
        " id text PRIMARY KEY, claim bigint NOT NULL, gateway text NOT NULL) WITH (fillfactor = 60)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE vehicle_session")
    op.execute("DROP SEQUENCE vehicle_claim")
