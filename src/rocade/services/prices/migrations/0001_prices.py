"""Price lists, parts, append-only entries, releases, drafts, files, epochs with their sites, keys and acknowledgements."""

from alembic import op

revision = "prices_0001"
down_revision = None
branch_labels = ("prices",)
depends_on = None

_TABLES = {
    "price_list": """number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text NOT NULL UNIQUE, brand text NOT NULL,
        country text NOT NULL, currency text NOT NULL, kind text NOT NULL, made_us bigint NOT NULL, made_by text NOT NULL,
        seq integer NOT NULL DEFAULT 0, parts integer NOT NULL DEFAULT 0, epoch integer NOT NULL DEFAULT 0,
        marks bytea""",
    "price_part": """list integer NOT NULL, index integer NOT NULL, ref text NOT NULL, seq integer NOT NULL,
        family text NOT NULL, label text NOT NULL, superseded_by text NOT NULL,
        PRIMARY KEY (list, index), UNIQUE (list, ref)""",
    "price_description": """list integer NOT NULL, index integer NOT NULL, seq integer NOT NULL, family text NOT NULL,
        label text NOT NULL, superseded_by text NOT NULL, PRIMARY KEY (list, index, seq)""",
    "price_entry": """list integer NOT NULL, index integer NOT NULL, valid_from_us bigint NOT NULL, seq integer NOT NULL,
        price_minor bigint, PRIMARY KEY (list, index, valid_from_us, seq)""",
    "price_release": """list integer NOT NULL, seq integer NOT NULL, effective_us bigint NOT NULL, note text NOT NULL,
        released_us bigint NOT NULL, released_by text NOT NULL, draft text NOT NULL, changes integer NOT NULL,
        state_root bytea NOT NULL, head bytea NOT NULL, head_sha256 text NOT NULL, number bigint NOT NULL UNIQUE,
        PRIMARY KEY (list, seq)""",
    "price_blob": """sha256 text PRIMARY KEY, list integer NOT NULL, from_seq integer NOT NULL, to_seq integer NOT NULL,
        epoch integer NOT NULL, size integer NOT NULL, plain_size integer NOT NULL, made_us bigint NOT NULL""",
    "price_draft": """id text PRIMARY KEY, list integer NOT NULL, base_seq integer NOT NULL, effective_us bigint NOT NULL,
        note text NOT NULL, made_us bigint NOT NULL, made_by text NOT NULL, report bytea NOT NULL""",
    "price_epoch": """list integer NOT NULL, epoch integer NOT NULL, salt bytea NOT NULL, made_us bigint NOT NULL,
        reason text NOT NULL, PRIMARY KEY (list, epoch)""",
    "price_epoch_site": """list integer NOT NULL, epoch integer NOT NULL, site text NOT NULL,
        PRIMARY KEY (list, epoch, site)""",
    "price_site_key": """site text NOT NULL, key bytea NOT NULL, not_after_us bigint NOT NULL, announced_us bigint NOT NULL,
        PRIMARY KEY (site, key)""",
    "price_ack": """list integer NOT NULL, site text NOT NULL, seq integer NOT NULL, state text NOT NULL,
        code text NOT NULL, at_us bigint NOT NULL, PRIMARY KEY (list, site, seq)""",
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
    op.execute("CREATE INDEX price_blob_by_list ON price_blob (list, to_seq, from_seq)")
    op.execute("CREATE INDEX price_ack_by_seq ON price_ack (list, seq, state)")


def downgrade() -> None:
    for table in reversed(_TABLES):
        op.execute(f"DROP TABLE {table}")
