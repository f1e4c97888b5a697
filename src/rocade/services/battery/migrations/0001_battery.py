"""What was found in the history of each battery: segments, the answer made from them, and earlier answers."""

from alembic import op

revision = "battery_0001"
down_revision = None
branch_labels = ("battery",)
depends_on = None

_TABLES = {
    "battery_segment": """ref bigint NOT NULL, start_us bigint NOT NULL, end_us bigint NOT NULL, body bytea NOT NULL,
        PRIMARY KEY (ref, start_us)""",
    "battery_health": "ref bigint PRIMARY KEY, read_until_us bigint NOT NULL, made_us bigint NOT NULL, body bytea NOT NULL",
    "battery_point": "ref bigint NOT NULL, as_of_us bigint NOT NULL, body bytea NOT NULL, PRIMARY KEY (ref, as_of_us)",
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
