"""The encrypted disk: what is stored cannot be read from the files, another key opens nothing, what lay in clear moves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from rocade.core.errors import Corrupt, Misconfigured, Refused, Unavailable
from rocade.fabric.history import Table, connect, disk
from rocade.fabric.history.process import StoreProcess

SECRET = "48.8566-2.3522-seen-here"
KEY = b"history key of a test, 32 bytes!"
PLACES = Table("places", (("vehicle", "UInt64"), ("place", "String")), ("vehicle",), "vehicle % 2")


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rocade-d-") as directory:
        yield Path(directory)


def rows() -> pa.Table:
    return pa.table({"vehicle": range(200), "place": [SECRET] * 200})


def files_with(directory: Path, what: bytes) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and holds(path, what)]


def holds(path: Path, what: bytes) -> bool:
    return what in path.read_bytes()


IN_CLEAR = f"""
import sys
from chdb.state.sqlitelike import connect
handle = connect(sys.argv[1] + "/chdb")
handle.query("CREATE TABLE places (vehicle UInt64, place String CODEC(NONE)) ENGINE = MergeTree ORDER BY vehicle"
             " PARTITION BY vehicle % 2 SETTINGS old_parts_lifetime = 1")
handle.query("INSERT INTO places SELECT number, '{SECRET}' FROM numbers(200)")
handle.close()
"""
"""A history as it was before there was an encrypted disk; in a process of its own, as one holds one engine."""


async def test_no_file_of_a_history_holds_a_value_and_the_key_is_on_no_disk(place: Path) -> None:
    process = StoreProcess(place, KEY)
    client = connect(process.start())
    await client.ensure(PLACES)
    await client.insert("places", rows(), "a")
    found = await client.query("SELECT DISTINCT disk_name FROM system.parts WHERE table = 'places'")
    assert found.to_pylist() == [{"disk_name": "sealed"}]
    assert (await client.query("SELECT uniqExact(place) AS n FROM places")).to_pylist() == [{"n": 1}]
    assert not holds(Path(f"/proc/{process.pid}/environ"), KEY.hex().encode())
    process.kill()
    await client.close()
    assert list((place / disk.FOLDER).rglob("data.bin"))
    for secret in (SECRET.encode(), KEY, KEY.hex().encode()):
        assert files_with(place, secret) == []


async def test_another_key_opens_nothing_and_says_so(place: Path) -> None:
    process = StoreProcess(place, KEY)
    client = connect(process.start())
    await client.ensure(PLACES)
    await client.insert("places", rows(), "a")
    process.kill()
    with pytest.raises(Misconfigured, match="sealed with another key"):
        StoreProcess(place, bytes(32)).start()
    process = StoreProcess(place, KEY)
    again = connect(process.start())
    assert (await again.query("SELECT count() AS n FROM places")).to_pylist() == [{"n": 200}]
    await client.close()
    await again.close()
    process.kill()


def test_a_store_without_a_key_does_not_start(place: Path) -> None:
    with pytest.raises(Misconfigured, match="must be 32 bytes"):
        StoreProcess(place, b"short").start()


async def test_what_lay_in_clear_is_read_at_once_and_moved_to_the_encrypted_disk(place: Path) -> None:
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", IN_CLEAR, str(place)], check=True)
    assert files_with(place, SECRET.encode())
    process = StoreProcess(place, KEY)
    client = connect(process.start())
    assert (await client.query("SELECT count() AS n FROM places WHERE place != ''")).to_pylist() == [{"n": 200}]
    end = threading.Event()
    for _ in range(600):
        if not files_with_patience(place):
            break
        end.wait(0.1)
    assert files_with_patience(place) == []
    assert (await client.query("SELECT count() AS n FROM places WHERE place != ''")).to_pylist() == [{"n": 200}]
    process.kill()
    await client.close()


def files_with_patience(directory: Path) -> list[Path]:
    """As `files_with`; a file may leave while the folder is read."""
    try:
        return files_with(directory, SECRET.encode())
    except FileNotFoundError:
        return [directory]


async def test_what_does_not_fit_in_memory_is_refused_and_never_spilled(place: Path) -> None:
    from rocade.fabric.history.engine import OPTIONS

    assert all(OPTIONS[f"max_bytes_ratio_before_external_{what}"] == 0 for what in ("group_by", "sort", "distinct"))
    process = StoreProcess(place, KEY)
    client = connect(process.start())
    spilled: set[str] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.001):
            spilled.update(path.name for path in (place / "chdb" / "tmp").iterdir())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with pytest.raises((Unavailable, Refused)) as raised:
            await client.query(
                f"SELECT count() FROM (SELECT concat('{SECRET}', toString(number)) AS k, count() FROM numbers(3000000)"
                " GROUP BY k ORDER BY k) SETTINGS max_memory_usage = 50000000"
            )
    finally:
        stop.set()
        watcher.join()
        process.kill()
        await client.close()
    assert raised.value.code == "history.busy"
    assert spilled == set()


async def test_an_insert_whose_part_cannot_be_written_is_not_answered_as_done(place: Path) -> None:
    process = StoreProcess(place, KEY)
    client = connect(process.start())
    await client.ensure(PLACES)
    await client.insert("places", rows(), "a")
    (folder,) = {path.parent.parent for path in (place / disk.FOLDER).rglob("data.bin")}
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_bytes(b"")  # where the engine wants to make a folder
    with pytest.raises((Refused, Unavailable, Corrupt)):
        await client.insert("places", rows(), "b")
    folder.unlink()
    aside.rename(folder)
    await client.insert("places", rows(), "b")
    assert (await client.query("SELECT count() AS n FROM places")).to_pylist() == [{"n": 400}]
    process.kill()
    await client.close()
