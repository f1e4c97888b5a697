"""Who may dim a depot, and what was done about each signal."""

from alembic import op

revision = "charging_grid_0001"
down_revision = None
branch_labels = ("charging_grid",)
depends_on = None

_TABLES = {
    "charging_grid_party": "site text NOT NULL, party text NOT NULL, since_us bigint NOT NULL, PRIMARY KEY (site, party)",
    "charging_grid_signal": """site text NOT NULL, signal text NOT NULL, event text NOT NULL, party text NOT NULL, via text NOT NULL,
        first_us bigint NOT NULL, last_us bigint NOT NULL, times integer NOT NULL DEFAULT 1, PRIMARY KEY (site, signal)""",
    "charging_grid_proof": """id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site text NOT NULL, signal text NOT NULL,
        at_us bigint NOT NULL, what text NOT NULL, ref bigint NOT NULL DEFAULT 0, kw float8, code text NOT NULL DEFAULT '',
        once text, UNIQUE (site, signal, once)""",
}


def upgrade() -> None:
    for table, columns in _TABLES.items():
        op.execute(f"CREATE TABLE {table} ({columns})")
    op.execute("CREATE INDEX charging_grid_proof_by_signal ON charging_grid_proof (site, signal, at_us)")


def downgrade() -> None:
    for table in _TABLES:
        op.execute(f"DROP TABLE {table}")
