"""The engines of the log: every contract test runs against each of them."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.log import Log
from rocade.fabric.log.cluster import NatsCluster
from rocade.fabric.log.jetstream import JetStreamLog
from rocade.fabric.log.postgres import PostgresLog
from rocade.fabric.log.segments import Retention

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")

type Opener = Callable[..., Awaitable[Log]]
"""Open one more log over the same storage, as another process would; keyword `retention`."""

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_15_url() -> Iterator[str]:
    """A cluster of the system's PostgreSQL 15 (packages.txt), run as the embedded one is."""
    if not (DEBIAN_15 / "postgres").exists():
        pytest.fail("PostgreSQL 15 is missing, install the packages of packages.txt")
    with tempfile.TemporaryDirectory(prefix="rocade-pg15-") as directory:
        server = EmbeddedPostgres(Path(directory), binaries=DEBIAN_15)
        url = server.start()
        migrate(url, ["rocade.fabric.log", "rocade.fabric.database"])
        try:
            yield url
        finally:
            server.stop()


@pytest.fixture
async def database_15(postgres_15_url: str) -> AsyncIterator[Database]:
    """The database of PostgreSQL 15, emptied."""
    connected = await Database.connect(postgres_15_url)
    for stream, number in await connected.pool.fetch("SELECT stream, number FROM log_segment"):
        await connected.pool.execute(f"DROP TABLE log_data.{stream}_{number}")
    await connected.pool.execute("TRUNCATE log_segment, log_writer, log_group, log_cursor")
    yield connected
    await connected.close()


@pytest.fixture
async def open_postgres(database: Database) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:
        yield _opener(database, stack)


@pytest.fixture
async def open_postgres_15(database_15: Database) -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:
        yield _opener(database_15, stack)


@pytest.fixture(scope="session")
def nats_cluster() -> Iterator[NatsCluster]:
    with tempfile.TemporaryDirectory(prefix="rocade-nats-") as directory:
        cluster = NatsCluster(Path(directory))
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
async def open_jetstream(nats_cluster: NatsCluster, database: Database) -> AsyncIterator[Opener]:
    name = f"test{next(_numbers)}"
    async with AsyncExitStack() as stack:

        async def open_one(retention: Retention | None = None) -> Log:
            retention = retention or Retention(limit_bytes=1 << 30)
            log = await JetStreamLog.connect(database, nats_cluster.urls, name=name, retention=retention)
            stack.push_async_callback(log.close)
            return log

        yield open_one


@pytest.fixture(params=["open_postgres", "open_postgres_15", "open_jetstream"])
def open_log(request: pytest.FixtureRequest) -> Opener:
    opener: Opener = request.getfixturevalue(request.param)
    return opener


@pytest.fixture
async def log(open_log: Opener) -> Log:
    return await open_log()


def _opener(database: Database, stack: AsyncExitStack) -> Opener:
    async def open_one(retention: Retention | None = None) -> Log:
        log = PostgresLog(database, retention=retention)
        stack.push_async_callback(log.close)
        return log

    return open_one
