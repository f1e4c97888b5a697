"""Commands: one row each with all instants of its life, the newest version of each lane, and who may have signed."""

from alembic import op

revision = "command_0001"
down_revision = None
branch_labels = ("command",)
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE command_lane (ref bigint NOT NULL, lane text NOT NULL, version bigint NOT NULL,"
        " PRIMARY KEY (ref, lane)) WITH (fillfactor = 70)"
    )
    op.execute("""
        CREATE TABLE command (
            id bytea PRIMARY KEY,
            ref bigint NOT NULL,
            lane text NOT NULL,
            version bigint NOT NULL,
            act text NOT NULL,
            parameters bytea NOT NULL,
            actor text NOT NULL,
            purpose text NOT NULL,
            key text NOT NULL,
            brand text NOT NULL,
            not_before_us bigint NOT NULL,
            expires_us bigint NOT NULL,
            sealed bytea NOT NULL,
            key_id bytea NOT NULL,
            created_us bigint NOT NULL,
            state smallint NOT NULL,
            code text NOT NULL DEFAULT '',
            result bytea NOT NULL DEFAULT '',
            newer bytea,
            doubt smallint NOT NULL DEFAULT 0,
            due_us bigint NOT NULL DEFAULT 0,
            sends smallint NOT NULL DEFAULT 0,
            queued_us bigint NOT NULL DEFAULT 0,
            sent_us bigint NOT NULL DEFAULT 0,
            accepted_us bigint NOT NULL DEFAULT 0,
            waking_us bigint NOT NULL DEFAULT 0,
            applied_us bigint NOT NULL DEFAULT 0,
            vehicle_us bigint NOT NULL DEFAULT 0,
            verified_us bigint NOT NULL DEFAULT 0,
            ended_us bigint NOT NULL DEFAULT 0,
            changed_us bigint NOT NULL
        ) WITH (fillfactor = 70)""")
    op.execute("CREATE UNIQUE INDEX command_by_key ON command (actor, key) WHERE key <> ''")
    op.execute("CREATE INDEX command_of_vehicle ON command (ref, created_us, id)")
    op.execute("CREATE INDEX command_open ON command (ref) WHERE state < 6 AND doubt < 2")
    op.execute("CREATE INDEX command_ending ON command (expires_us) WHERE state < 5")
    op.execute("CREATE INDEX command_unproven ON command (applied_us) WHERE state = 5 AND doubt < 2")
    op.execute("CREATE INDEX command_waking ON command (ref, waking_us) WHERE waking_us > 0")
    op.execute(
        "CREATE TABLE command_signer (key_id bytea PRIMARY KEY, chain bytea NOT NULL, not_after_us bigint NOT NULL)"
    )
    op.execute("CREATE TABLE command_rate (brand text PRIMARY KEY, tokens float8 NOT NULL, filled_us bigint NOT NULL)")


def downgrade() -> None:
    for table in ("command_rate", "command_signer", "command", "command_lane"):
        op.execute(f"DROP TABLE {table}")
