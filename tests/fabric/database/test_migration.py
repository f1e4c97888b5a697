"""Migrations: all packages in one transaction, one migrator at a time, never downwards."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from tests.conftest import PACKAGES

from rocade.core.errors import Misconfigured, Unavailable
from rocade.fabric.database import Database, migrate

FIRST = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "garage_0001", None, ("garage",), "log_0001"
def upgrade():
    op.execute("CREATE TABLE garage (name text)")
"""
SECOND = """
from alembic import op
revision, down_revision, branch_labels, depends_on = "garage_0002", "garage_0001", None, None
def upgrade():
    op.execute("ALTER TABLE garage ADD COLUMN places int NOT NULL DEFAULT 0")
    op.execute({second!r})
"""


@pytest.fixture
def garage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a stranger's service with tables of its own."""
    migrations = tmp_path / "garage_service" / "migrations"
    migrations.mkdir(parents=True)
    (migrations.parent / "__init__.py").touch()
    (migrations / "0001_garage.py").write_text(FIRST)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield migrations
    sys.modules.pop("garage_service", None)


ALL = [*PACKAGES, "garage_service"]


async def test_a_new_package_joins_a_migrated_database(database: Database, garage: Path) -> None:
    migrate(database.url, ALL)
    migrate(database.url, ALL)
    await database.pool.execute("INSERT INTO garage VALUES ('north')")
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT 1"))
    migrate(database.url, ALL)
    assert await database.pool.fetchval("SELECT places FROM garage") == 0


async def test_a_database_newer_than_the_code_is_refused(database: Database, garage: Path) -> None:
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT 1"))
    migrate(database.url, ALL)
    (garage / "0002_places.py").unlink()
    with pytest.raises(Misconfigured, match=r"database\.schema\.newer.*garage_0002"):
        migrate(database.url, ALL)


async def test_a_migration_that_fails_half_way_changes_nothing(database: Database, garage: Path) -> None:
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT 1/0"))
    with pytest.raises(Exception, match="division by zero"):
        migrate(database.url, ALL)
    assert await database.pool.fetchval("SELECT to_regclass('garage')") is None
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT 1"))
    migrate(database.url, ALL)


async def test_a_server_killed_during_a_migration_leaves_the_old_schema(database: Database, garage: Path) -> None:
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT pg_terminate_backend(pg_backend_pid())"))
    with pytest.raises(Exception, match=r"terminat|closed|database\.down"):
        migrate(database.url, ALL)
    assert await database.pool.fetchval("SELECT to_regclass('garage')") is None


async def test_processes_that_migrate_at_once_wait_for_each_other(database: Database, garage: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(migrate, database.url, ALL) for _ in range(4)]:
            done.result()
    assert await database.pool.fetchval("SELECT count(*) FROM alembic_version WHERE version_num LIKE 'garage%'") == 1


def test_packages_without_migrations_are_passed_over(database_url: str) -> None:
    migrate(database_url, ["rocade.core", "rocade.nowhere.at_all", "json"])


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"database\.down"):
        migrate("postgresql://rocade@/rocade?host=/nowhere", ["rocade.fabric.log"])


async def test_an_error_inside_leaves_no_connection_behind(database: Database, garage: Path) -> None:
    (garage / "0002_places.py").write_text(SECOND.format(second="SELECT 1/0"))
    with pytest.raises(Exception, match="division by zero"):
        migrate(database.url, ALL)
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
    connection = await asyncpg.connect(database.url)
    async with asyncio.timeout(30):  # a server process may end some time after its client
        while await connection.fetchval(others) > 1:  # the pool's own
            await asyncio.sleep(0.02)
    await connection.close()
