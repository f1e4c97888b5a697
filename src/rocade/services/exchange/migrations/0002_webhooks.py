"""Addresses that parties want their news at; what was really signed of messages the hub vouches for; envelopes seen."""

from alembic import op

revision = "exchange_0002"
down_revision = "exchange_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TABLE webhook_endpoint (id text PRIMARY KEY, party text NOT NULL, url text NOT NULL, events text[] NOT NULL,"
        " generation integer NOT NULL, rotated_us bigint NOT NULL, cursor text NOT NULL, attempt integer NOT NULL,"
        " due_us bigint NOT NULL, paused_us bigint NOT NULL, status integer NOT NULL, made_us bigint NOT NULL)"
    )
    op.execute("CREATE INDEX webhook_endpoint_by_party ON webhook_endpoint (party)")
    op.execute("CREATE INDEX webhook_endpoint_due ON webhook_endpoint (due_us) WHERE paused_us = 0")
    op.execute(
        "CREATE TABLE exchange_vouched (party text NOT NULL, id text NOT NULL, sha bytea NOT NULL, form text NOT NULL,"
        " evidence bytea NOT NULL, kept_us bigint NOT NULL, PRIMARY KEY (party, id, sha))"
    )
    op.execute("CREATE UNLOGGED TABLE exchange_seen (digest bytea PRIMARY KEY, until_us bigint NOT NULL)")
    op.execute("CREATE INDEX exchange_seen_by_end ON exchange_seen (until_us)")


def downgrade() -> None:
    op.execute("DROP TABLE exchange_seen")
    op.execute("DROP TABLE exchange_vouched")
    op.execute("DROP TABLE webhook_endpoint")
