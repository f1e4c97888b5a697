"""Groups, dealers, points of sale and their brands, delegations, roles, national exceptions, moves, and what changed."""

from alembic import op

revision = "dealers_0001"
down_revision = None
branch_labels = ("dealers",)
depends_on = None

_FOREVER = (1 << 63) - 1


def upgrade() -> None:
    op.execute("CREATE TABLE dealer_group (id text PRIMARY KEY, name text NOT NULL)")
    op.execute(
        'CREATE TABLE dealer (id text PRIMARY KEY, name text NOT NULL, "group" text NOT NULL, country text NOT NULL)'
    )
    op.execute('CREATE INDEX dealer_by_group ON dealer ("group")')
    op.execute(
        "CREATE TABLE dealer_site (id text PRIMARY KEY, dealer text NOT NULL REFERENCES dealer (id),"
        ' name text NOT NULL, country text NOT NULL, "primary" text NOT NULL, address text NOT NULL, city text NOT NULL,'
        " latitude double precision, longitude double precision, timezone text NOT NULL, opening_hours text NOT NULL,"
        f" phone text NOT NULL, opened_us bigint NOT NULL, closed_us bigint NOT NULL DEFAULT {_FOREVER},"
        " CHECK (opened_us < closed_us), CHECK ((latitude IS NULL) = (longitude IS NULL)))"
    )
    op.execute("CREATE INDEX dealer_site_by_dealer ON dealer_site (dealer)")
    op.execute(
        "CREATE TABLE dealer_brand (site text NOT NULL REFERENCES dealer_site (id) ON DELETE CASCADE,"
        " brand text NOT NULL, sells boolean NOT NULL, services boolean NOT NULL, from_us bigint NOT NULL,"
        f" until_us bigint NOT NULL DEFAULT {_FOREVER}, PRIMARY KEY (site, brand, from_us),"
        " CHECK (sells OR services), CHECK (from_us < until_us))"
    )
    op.execute(
        "CREATE TABLE dealer_delegation (id text PRIMARY KEY, provider text NOT NULL, scope text NOT NULL,"
        " acts text[] NOT NULL, given_by text NOT NULL, from_us bigint NOT NULL,"
        f" until_us bigint NOT NULL DEFAULT {_FOREVER}, CHECK (from_us <= until_us))"
    )
    op.execute("CREATE INDEX dealer_delegation_by_provider ON dealer_delegation (provider)")
    op.execute("CREATE TABLE dealer_provider (id text PRIMARY KEY, name text NOT NULL, added_us bigint NOT NULL)")
    op.execute(
        "CREATE TABLE dealer_role (id text PRIMARY KEY, person text NOT NULL, site text NOT NULL, brand text NOT NULL,"
        " role text NOT NULL, given_by text NOT NULL, from_us bigint NOT NULL,"
        f" until_us bigint NOT NULL DEFAULT {_FOREVER}, CHECK (from_us <= until_us))"
    )
    op.execute("CREATE INDEX dealer_role_by_person ON dealer_role (person)")
    op.execute("CREATE INDEX dealer_role_by_site ON dealer_role (site)")
    op.execute(
        "CREATE TABLE dealer_exception (country text NOT NULL, service text NOT NULL, brand text NOT NULL,"
        ' "to" text NOT NULL, may_cross boolean NOT NULL, note text NOT NULL, PRIMARY KEY (country, service, brand))'
    )
    op.execute(
        "CREATE TABLE dealer_move (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " site text NOT NULL REFERENCES dealer_site (id), state text NOT NULL, at_us bigint NOT NULL,"
        " by text NOT NULL, note text NOT NULL)"
    )
    op.execute("CREATE INDEX dealer_move_by_site ON dealer_move (site, number DESC)")
    op.execute(
        "CREATE TABLE dealer_shadow (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
        " site text NOT NULL REFERENCES dealer_site (id), list text NOT NULL, seq bigint NOT NULL, at_us bigint NOT NULL,"
        " compared bigint NOT NULL, same bigint NOT NULL, differing bigint NOT NULL, only_old bigint NOT NULL,"
        " only_new bigint NOT NULL, examples bytea NOT NULL)"
    )
    op.execute("CREATE INDEX dealer_shadow_by_site ON dealer_shadow (site, number DESC)")
    op.execute(
        "CREATE TABLE dealer_change (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL,"
        " at_us bigint NOT NULL)"
    )


def downgrade() -> None:
    for table in ("change", "shadow", "move", "exception", "role", "provider", "delegation", "brand", "site"):
        op.execute(f"DROP TABLE dealer_{table}")
    op.execute("DROP TABLE dealer")
    op.execute("DROP TABLE dealer_group")
