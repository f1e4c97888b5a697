"""What the worker commits beside history: block intents, sequence state, quarantine, unknown signals, erased references."""

import sqlalchemy as sa
from alembic import op

revision = "telemetry_0001"
down_revision = None
branch_labels = ("telemetry",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "telemetry_block",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("partitions", sa.ARRAY(sa.SmallInteger), nullable=False),
        sa.Column("writers", sa.ARRAY(sa.Integer), nullable=False),
        sa.Column("after", sa.ARRAY(sa.BigInteger), nullable=False),
        sa.Column("upto", sa.ARRAY(sa.BigInteger), nullable=False),
    )
    op.create_table(
        "telemetry_sequence",
        sa.Column("ref", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("highest", sa.BigInteger, nullable=False),
        sa.Column("gaps", sa.LargeBinary, nullable=False),
        sa.Column("missing", sa.BigInteger, nullable=False),
        sa.Column("opened_us", sa.BigInteger, nullable=False),
        sa.Column("arrived_us", sa.BigInteger, nullable=False),
        sa.Column("closed", sa.Text),
        sa.Column("asked", sa.Integer, nullable=False, server_default="0"),
        sa.Column("ask_at_us", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("ref", "epoch"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "telemetry_sequence_missing",
        "telemetry_sequence",
        ["ref"],
        postgresql_where=sa.text("missing > 0 AND closed IS NULL"),
    )
    op.create_table(
        "telemetry_quarantine",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("ref", sa.BigInteger, nullable=False),
        sa.Column("arrived_us", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default="held"),
    )
    op.create_index("telemetry_quarantine_by_vehicle", "telemetry_quarantine", ["ref", "id"])
    op.create_table(
        "telemetry_unknown_signal",
        sa.Column("signal", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("ref", sa.BigInteger, nullable=False),
        sa.Column("first_us", sa.BigInteger, nullable=False),
        sa.Column("last_us", sa.BigInteger, nullable=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "telemetry_erased",
        sa.Column("ref", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    for name in ("block", "sequence", "quarantine", "unknown_signal", "erased"):
        op.drop_table(f"telemetry_{name}")
