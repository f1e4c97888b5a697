"""Messages, their receipts and evidence; the log of each party; routes; encryption keys; who is connected."""

from alembic import op

revision = "exchange_0001"
down_revision = None
branch_labels = ("exchange",)
depends_on = None

_TABLES = {
    "tree": (
        "id smallint PRIMARY KEY CHECK (id = 1), message bigint NOT NULL, commit bigint NOT NULL, entry bigint NOT NULL"
    ),
    "message": (
        "number bigint PRIMARY KEY, party text NOT NULL, id text NOT NULL, sha bytea NOT NULL, envelope bytea,"
        " brand text NOT NULL, country text NOT NULL, service text NOT NULL, site text NOT NULL, stream text NOT NULL,"
        " sequence bigint NOT NULL, class smallint NOT NULL, content_type text NOT NULL, size integer NOT NULL,"
        " created_us bigint NOT NULL, recorded_us bigint NOT NULL, key_id bytea NOT NULL, target text NOT NULL,"
        " state smallint NOT NULL, code text NOT NULL, reason text NOT NULL,"
        " received bytea NOT NULL, received_commit bigint NOT NULL, received_index integer NOT NULL,"
        " decided bytea, decided_commit bigint, decided_index integer, decided_us bigint, evidence bytea,"
        " UNIQUE (party, id, sha)"
    ),
    "stream": (
        "party text NOT NULL, stream text NOT NULL, next bigint NOT NULL, waiting integer NOT NULL,"
        " waiting_since_us bigint NOT NULL, PRIMARY KEY (party, stream)"
    ),
    "commit": (
        "number bigint PRIMARY KEY, at_us bigint NOT NULL, leaves bytea NOT NULL, signed bytea NOT NULL,"
        " noted boolean NOT NULL"
    ),
    "entry": (
        "party text NOT NULL, number bigint NOT NULL, message bigint NOT NULL, kind smallint NOT NULL,"
        " at_us bigint NOT NULL, PRIMARY KEY (party, number)"
    ),
    "cursor": "reader text PRIMARY KEY, entry bigint NOT NULL, sequence bigint NOT NULL",
    "refused": (
        "number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at_us bigint NOT NULL, party text NOT NULL,"
        " tail text NOT NULL, code text NOT NULL, reason text NOT NULL, id text NOT NULL, sha bytea NOT NULL,"
        " body bytea NOT NULL, times bigint NOT NULL DEFAULT 1"
    ),
    "route": (
        "version bigint PRIMARY KEY, made_us bigint NOT NULL, made_by text NOT NULL, note text NOT NULL, rules bytea NOT NULL"
    ),
    "encryption": "party text PRIMARY KEY, at_us bigint NOT NULL, keys bytea NOT NULL",
    "signer": "key_id bytea PRIMARY KEY, chain bytea NOT NULL, not_after_us bigint NOT NULL",
}
_INDEXES = (
    "exchange_message_by_target ON exchange_message (target, number)",
    "exchange_message_waiting ON exchange_message (party, stream, sequence) WHERE state = 0",
    "exchange_message_refused ON exchange_message (number) WHERE state >= 3",
    "exchange_commit_unnoted ON exchange_commit (number) WHERE NOT noted",
    "exchange_entry_by_number ON exchange_entry (number)",
    "exchange_refused_by_party ON exchange_refused (party, number)",
)


def upgrade() -> None:
    for name, columns in _TABLES.items():
        op.execute(f"CREATE TABLE exchange_{name} ({columns})")
    for index in _INDEXES:
        op.execute(f"CREATE INDEX {index}")
    op.execute("INSERT INTO exchange_tree VALUES (1, 0, 0, 0)")
    op.execute(
        "CREATE UNLOGGED TABLE exchange_presence (party text PRIMARY KEY, process text NOT NULL, since_us bigint NOT NULL,"
        " until_us bigint NOT NULL, certificate_end_us bigint NOT NULL, state bytea, state_us bigint NOT NULL)"
        " WITH (fillfactor = 60)"
    )


def downgrade() -> None:
    for name in (*_TABLES, "presence"):
        op.execute(f"DROP TABLE exchange_{name}")
