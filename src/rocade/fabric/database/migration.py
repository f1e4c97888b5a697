"""Migrations: every package that owns tables brings a folder `migrations/`, Alembic runs them all as one transaction.

One branch a package: files `0001_<name>.py` with `revision = "<short>_0001"`, `branch_labels = ("<short>",)` on the first,
`depends_on` across packages. Several processes may start at once: an advisory lock lets one migrate, the others wait.
Killed half-way, nothing has changed. Refuses a database that is newer than the code (`database.schema.newer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import asyncpg

from rocade.core.errors import Misconfigured, Unavailable
from rocade.fabric.database.connection import CONNECT_TIMEOUT_S, DOWN, check_url

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

LOCK = 0x526F63616465  # "Rocade": the advisory lock that serialises migrations of one database


def migrate(url: str, packages: Sequence[str]) -> None:
    """Bring the tables of all `packages` to the newest version; packages without migrations are passed over.

    May be called with or without a running event loop; blocks until done.
    Raises: Unavailable `database.down`; Misconfigured `database.schema.newer`, `database.url`.
    """
    from alembic.script import ScriptDirectory  # with SQLAlchemy a third of a second, and only one process migrates

    check_url(url)
    folders = [folder for folder in map(_migrations_folder, packages) if folder is not None]
    if not folders:
        return
    script = ScriptDirectory(folders[0], version_locations=folders)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(_migrate(url, script))
        except BaseException as error:  # handed to the caller's thread, raised there
            failures.append(error)

    thread = Thread(target=run, name="migrate")
    thread.start()
    thread.join()
    if failures:
        if isinstance(failures[0], DOWN):
            raise Unavailable("database.down", "PostgreSQL does not answer, nothing was migrated") from failures[0]
        raise failures[0]


async def _migrate(url: str, script: ScriptDirectory) -> None:
    engine = make_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, script)
    finally:
        await engine.dispose()


def make_engine(url: str) -> AsyncEngine:
    """A SQLAlchemy engine whose connections asyncpg opens from `url` itself."""
    from sqlalchemy.ext.asyncio import create_async_engine

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect)


def _upgrade(connection: Connection, script: ScriptDirectory) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy import text

    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    known = {revision.revision for revision in script.walk_revisions()}
    unknown = sorted(set(MigrationContext.configure(connection).get_current_heads()) - known)
    if unknown:
        raise Misconfigured(
            "database.schema.newer",
            f"the database was migrated by a newer Rocade ({', '.join(unknown)}); start that version or restore a backup",
        )
    with EnvironmentContext(
        Config(), script, fn=lambda current, _: script._upgrade_revs("heads", current), destination_rev="heads"
    ) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()


def _migrations_folder(package: str) -> Path | None:
    try:
        spec = find_spec(package)
    except ModuleNotFoundError:
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "migrations"
    return folder if folder.is_dir() and any(folder.glob("[0-9]*.py")) else None
