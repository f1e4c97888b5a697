"""Which reference a vehicle goes on under after a change of owner, and from when."""

from alembic import op

revision = "telemetry_0002"
down_revision = "telemetry_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE telemetry_renewal (ref bigint PRIMARY KEY, renewed bigint NOT NULL UNIQUE, at_us bigint NOT NULL)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE telemetry_renewal")
