"""One store process for the tests of the history room; each test makes tables of its own names."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocade.fabric.history import History, Table, connect
from rocade.fabric.history.process import StoreProcess

_numbers = itertools.count(1)


@contextmanager
def running() -> Iterator[StoreProcess]:
    with tempfile.TemporaryDirectory(prefix="rocade-h-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="session")
def store() -> Iterator[StoreProcess]:
    with running() as process:
        yield process
        process.stop()


@pytest.fixture
def own() -> Iterator[StoreProcess]:
    """For one test alone, which may stop it."""
    with running() as process:
        yield process


@pytest.fixture
async def history(store: StoreProcess) -> AsyncIterator[History]:
    client = connect(store.url)
    yield client
    await client.close()


@pytest.fixture
def table() -> Table:
    """A table of a fresh name: a key, a day and a list of values; one partition a day."""
    return Table(
        name=f"t{next(_numbers)}",
        columns=(("key", "UInt64 CODEC(Delta, ZSTD)"), ("day", "UInt16"), ("v", "Array(Int32) CODEC(ZSTD)")),
        order_by=("key", "day"),
        partition_by="day",
        settings={"old_parts_lifetime": 1, "cleanup_delay_period": 1, "max_cleanup_delay_period": 1},
    )
