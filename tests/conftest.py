"""Fixtures for every room: one embedded PostgreSQL a session, a migrated database that nobody has written to a test."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from rocade.core.ports import SystemClock
from rocade.fabric.database import Database, EmbeddedPostgres, connection, embedded, migrate
from rocade.trust.authority.sealing import FileCustody, Keyring, puncturing

sys.path.insert(0, str(Path(__file__).parent / "house"))

from databases import Shelf, execute
from leaks import watching

__all__ = ["watching"]

# Tests start some hundred processes: each would compile all of Rocade anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Test libraries import jsonschema, which would compile a grammar of addresses: a second, for a check that nobody makes.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

settings.register_profile(
    "rocade", deadline=None, derandomize=not os.environ.get("FULL"), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("rocade")
"""Found examples are the same in every run, however slow the machine; a full run (`make test FULL=1`) looks for new ones."""

gc.disable()


def pytest_collection_finish() -> None:
    """Nothing is garbage of what was imported until now, by each worker anew; what tests leave is looked for less often."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()


PACKAGES = (
    "rocade.fabric.database",
    "rocade.fabric.log",
    "rocade.trust.authority",
    "rocade.trust.authority.sealing",
    "rocade.trust.authority.erasure",
    "rocade.trust.authority.people",
    "rocade.trust.authority.machines",
    "rocade.trust.authority.applications",
    "rocade.services.vehicles",
    "rocade.services.consent",
    "rocade.services.telemetry",
    "rocade.services.interconnection",
    "rocade.services.showcase",
    "rocade.services.crossing",
    "rocade.services.battery",
    "rocade.services.charging.grid",
    "rocade.services.dealers",
    "rocade.services.prices",
    "rocade.services.exchange",
    "rocade.services.charging.stations",
    "rocade.services.charging",
    "rocade.services.sharing",
)
"""Every package that owns tables; one without migrations is passed over."""

PATIENCE_S = 120.0
"""An HTTP client's, who is not told another, and for a connection to the database: five seconds are little on a busy machine."""
for _part in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _part, PATIENCE_S)
connection.CONNECT_TIMEOUT_S = PATIENCE_S
httpx._transports.default.create_ssl_context = functools.lru_cache(64)(httpx.create_ssl_context)
"""Clients that name no authority share what trusts the usual ones: to read those takes 20 ms."""

LONGEST = (
    "test_data_commands", "test_every_route_and_role", "test_every_page", "test_first_day", "test_openapi", "test_my_pages",
    "test_bad_input", "test_charging_pages", "test_pages", "test_whole_region", "test_exchange_killed", "test_kill",
    "test_resend", "test_drain", "test_dealer_pages", "test_signin_pages", "test_live_values", "test_turned_bits",
    "test_key_commands", "test_account", "test_api_processes", "test_change_of_owner", "test_embedded", "test_condensing",
    "test_erasing", "test_oracle", "test_log_postgres", "test_operator_acts", "test_interconnection",
    "test_open_connections", "test_history_kill", "test_durability", "test_packaging", "test_price_apply_kill",
    "test_dealer_agent_kill", "test_worker_killed", "test_sandbox", "test_storing", "test_contract",
)  # fmt: skip
"""Files that take longest begin first, so that no worker is left alone with one at the end."""


def pytest_configure(config: pytest.Config) -> None:
    config.option.loadscopereorder = False  # xdist would begin with the files that hold most tests


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """To import all files for the few tests that want the machine alone would take longer than those take."""
    is_named = any("::" in name for name in config.args)
    if config.option.markexpr.startswith("alone") and collection_path.match("test_*.py") and not is_named:
        return "mark.alone" not in collection_path.read_text("utf-8") or None
    return None


SHARING = {
    f"tests/app/test_{name}_commands.py": "tests/app" for name in ("data", "grid", "key", "person", "price", "proof")
} | {f"tests/app/test_{name}_command.py": "tests/app" for name in ("command", "why")}
"""Files whose tests use one region that takes longer to start than they to run."""


class Scheduling(LoadFileScheduling):
    """A file goes to one worker whole, and so do the files that share one running region."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARING.get(file, file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The session's server; tests use `database_url` instead unless they mean the server itself."""
    with forgetful_server() as url:
        yield url


@contextmanager
def forgetful_server(binaries: Path | None = None) -> Iterator[str]:
    """A server for many small databases that nobody needs after a crash. Tests of durability start one of their own."""
    with tempfile.TemporaryDirectory(prefix="rocade-pg-") as directory:
        server = EmbeddedPostgres(Path(directory), binaries=binaries)
        try:
            with mock.patch.dict(embedded.SETTINGS, fsync="off", full_page_writes="off"):
                url = server.start()
            if binaries is None:  # a release that knows how
                word = Path(directory, "password").read_text().strip().rpartition(":")[2]
                execute(
                    url, f"SET scram_iterations = 1; ALTER ROLE rocade PASSWORD '{word}'"
                )  # a third of a connection's cost
            yield url
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """Name of a migrated database that others are copied from."""
    return make_template(postgres_url)


def make_template(postgres_url: str) -> str:
    """Make it on this server. Its bucket keys are wrapped by the region key of `make_custody`: to make them costs 60 ms."""
    execute(postgres_url, "CREATE DATABASE migrated")
    url = postgres_url.replace("@/rocade?", "@/migrated?")
    migrate(url, PACKAGES)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, _make_keys(url, make_custody(Path(folder)))).result()
    return "migrated"


async def _make_keys(url: str, custody: FileCustody) -> None:
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
        await puncturing.prepare(pool, custody, SystemClock().now_us())


def make_custody(folder: Path) -> FileCustody:
    """Where tests keep their region key: it opens the key tables of every fresh database."""
    folder.mkdir(exist_ok=True)
    (folder / "1.key").write_bytes(bytes(range(32)))
    (folder / "1.key").chmod(0o600)
    return FileCustody(folder)


_shelves: dict[str, Shelf] = {}
"""One a server: a folder of tests may bring servers of its own."""


@pytest.fixture
def database_url(postgres_url: str, template: str) -> Iterator[str]:
    """URL of a migrated database that nobody has written to."""
    if postgres_url not in _shelves:
        _shelves[postgres_url] = Shelf(postgres_url, template)
    shelf = _shelves[postgres_url]
    url = shelf.take()
    yield url
    shelf.give_back(url)


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """A connected Database over `database_url`, with a keyring whose region key is a file below `tmp_path`."""
    connected = await Database.connect(database_url)
    keyring = Keyring(connected, make_custody(tmp_path / "custody"), SystemClock())
    connected.keyring = keyring
    yield connected
    await keyring.close()
    async with asyncio.timeout(60):  # a test that failed may have left somebody who holds a connection for ever
        await connected.close()


@pytest.fixture
async def unsealed(database: Database) -> Database:
    """`database` as of a region from before there was sealing, or one that has never run."""
    await database.pool.execute("DELETE FROM seal_bucket; DELETE FROM seal_key")
    return database


@pytest.fixture
async def keyring(database: Database) -> Keyring:
    """The one that `database` carries."""
    assert isinstance(database.keyring, Keyring)
    return database.keyring
