"""The engines of the log: every contract test runs against each of them."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest

from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.log import Log, Slice, jetstream
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
            with mock.patch.object(jetstream, "REQUEST_TIMEOUT_S", 30.0):
                yield cluster
        finally:
            cluster.stop()


class PatientLog(JetStreamLog):
    """Any replica answers a read, and one that the machine held up answers with less: wait until all hold the same."""

    monitors: Sequence[str] = ()

    async def read(self, stream: str, *asked: Any) -> Slice:
        async with asyncio.timeout(60), httpx.AsyncClient() as http:
            while len({await self._held(http, monitor, stream) for monitor in self.monitors}) > 1:
                await asyncio.sleep(0.02)
        return await super().read(stream, *asked)

    async def _held(self, http: httpx.AsyncClient, monitor: str, stream: str) -> int:
        """The last message of a stream that this node has itself."""
        told = (await http.get(f"{monitor}/jsz", params={"streams": "true"})).json()
        streams = [one for account in told.get("account_details", ()) for one in account.get("stream_detail", ())]
        return sum(one["state"]["last_seq"] for one in streams if one["name"] == self._stream(stream))


@pytest.fixture
async def open_jetstream(nats_cluster: NatsCluster, database: Database) -> AsyncIterator[Opener]:
    name = f"test{next(_numbers)}"
    async with AsyncExitStack() as stack:

        async def open_one(retention: Retention | None = None) -> Log:
            retention = retention or Retention(limit_bytes=1 << 30)
            log = await PatientLog.connect(database, nats_cluster.urls, name=name, retention=retention)
            log.monitors = nats_cluster.monitors
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
