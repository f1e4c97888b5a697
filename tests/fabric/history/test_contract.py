"""What every history engine promises. Runs against the store process over its socket and over TCP as a server would answer."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
import rawparts

from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.fabric.history import History, Table, connect
from rocade.fabric.history.process import StoreProcess

NOT_MERGED = dict.fromkeys(("max_bytes_to_merge_at_max_space_in_pool", "max_bytes_to_merge_at_min_space_in_pool"), 1)
"""The engine joins no parts of itself; what a test asks for it does."""


def rows(keys: range, days: int = 3) -> pa.Table:
    return pa.table(
        {
            "key": pa.array(keys, pa.uint64()),
            "day": pa.array([key % days for key in keys], pa.uint16()),
            "v": pa.array([[key, -key] for key in keys], pa.list_(pa.int32())),
        }
    )


async def count(history: History, table: Table) -> int:
    return int((await history.query(f"SELECT count() AS c FROM {table.name}")).column("c")[0].as_py())


@pytest.fixture(params=["unix", "http"])
async def history(request: pytest.FixtureRequest, store: StoreProcess) -> AsyncIterator[History]:
    """The same store through its socket, and through a TCP port as an `http://` server."""
    if request.param == "unix":
        client = connect(store.url)
        yield client
    else:
        listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=_carry, args=(listener, str(store.socket_path)), daemon=True).start()
        client = connect(f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield client
        listener.close()
    await client.close()


def _carry(listener: socket.socket, path: str) -> None:
    """Join TCP connections to the store's socket."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 20):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()

    while True:
        try:
            outer, _ = listener.accept()
        except OSError:
            return
        inner = socket.socket(socket.AF_UNIX)
        inner.connect(path)
        for pair in ((outer, inner), (inner, outer)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


async def test_what_was_inserted_is_read_back(history: History, table: Table) -> None:
    await history.ensure(table)
    await history.insert(table.name, rows(range(1000)), "a")
    found = await history.query(
        f"SELECT key, day, v FROM {table.name} WHERE key >= {{low:UInt64}} ORDER BY key", {"low": 990}
    )
    assert found.equals(rows(range(990, 1000)).cast(found.schema))


async def test_the_same_token_again_changes_nothing_even_over_several_partitions(
    history: History, table: Table
) -> None:
    await history.ensure(table)
    for _ in range(3):
        await history.insert(table.name, rows(range(1000), days=5), "block 7")
    assert await count(history, table) == 1000
    assert len(await history.partitions(table.name)) == 5
    await history.insert(table.name, rows(range(1000), days=5), "block 8")
    assert await count(history, table) == 2000


async def test_an_empty_answer_and_an_empty_stream_have_no_rows(history: History, table: Table) -> None:
    await history.ensure(table)
    assert (await history.query(f"SELECT key FROM {table.name}")).num_rows == 0
    assert [batch async for batch in history.stream(f"SELECT key FROM {table.name}")] == []


async def test_a_stream_brings_all_rows_in_batches(history: History) -> None:
    sizes = [batch.num_rows async for batch in history.stream("SELECT number FROM numbers(1000000)")]
    assert sum(sizes) == 1_000_000
    assert len(sizes) > 3


async def test_a_stream_that_breaks_in_the_middle_raises(history: History) -> None:
    with pytest.raises((Unavailable, Refused)):
        async for _ in history.stream("SELECT throwIf(number = 900000) FROM numbers(1000000)"):
            pass


async def test_a_stream_left_early_frees_its_reader(history: History) -> None:
    for _ in range(12):
        async for _ in history.stream("SELECT number FROM numbers(100000000)"):
            break
    async with asyncio.timeout(60):
        assert (await history.query("SELECT 1 AS one")).num_rows == 1


async def test_long_parameter_lists_arrive(history: History) -> None:
    keys = [2**63 + number for number in range(20_000)]
    found = await history.query(
        "SELECT length({keys:Array(UInt64)}) AS n, {text:String} AS t", {"keys": keys, "text": "a'\\\n\tü"}
    )
    assert found.to_pylist() == [{"n": 20_000, "t": "a'\\\n\tü"}]


async def test_ensure_twice_is_harmless_new_columns_at_the_end_are_added_and_others_refused(
    history: History, table: Table
) -> None:
    await history.ensure(table)
    await history.ensure(table)
    await history.insert(table.name, rows(range(10)), "a")
    grown = msgspec.structs.replace(table, columns=(*table.columns, ("note", "String")))
    await history.ensure(grown)
    assert (await history.query(f"SELECT note FROM {table.name}")).num_rows == 10
    for changed in (
        table,
        msgspec.structs.replace(grown, order_by=("day", "key")),
        msgspec.structs.replace(grown, partition_by="key"),
        msgspec.structs.replace(grown, columns=(("key", "UInt32"), *grown.columns[1:])),
    ):
        with pytest.raises(Misconfigured) as raised:
            await history.ensure(changed)
        assert raised.value.code == "history.table.differs"


@pytest.mark.parametrize(
    "statement", ["SELECT nothing_such", "SELEC 1", "SELECT * FROM no_such_table", "SELECT throwIf(1)"]
)
async def test_a_wrong_statement_is_refused_without_telling_its_text(history: History, statement: str) -> None:
    with pytest.raises(Refused) as raised:
        await history.query(statement)
    assert raised.value.code == "history.statement.refused"
    assert "such" not in str(raised.value)


async def test_rows_of_another_shape_are_refused_and_nothing_is_stored(history: History, table: Table) -> None:
    await history.ensure(table)
    with pytest.raises(Refused):
        await history.insert(table.name, pa.table({"nothing": [1]}), "a")
    with pytest.raises(Refused):
        await history.insert(table.name, pa.table({"key": ["x"]}), "b")
    assert await count(history, table) == 0


async def test_erased_rows_leave_every_part_on_disk(history: History, table: Table, store: StoreProcess) -> None:
    await history.ensure(table)
    marker = 1_234_567_891
    plain = msgspec.structs.replace(
        table, name=table.name + "_plain", columns=(("key", "UInt64 CODEC(NONE)"), *table.columns[1:])
    )
    await history.ensure(plain)
    for number in range(3):
        await history.insert(plain.name, rows(range(marker - 20, marker + 20)), f"b{number}")
    needle = marker.to_bytes(8, "little")
    async with asyncio.timeout(30):  # what is merged while it is looked through may be seen in neither place
        while not any(needle in content for content in _files(store)):
            await asyncio.sleep(0.1)
    await history.erase(plain.name, "key = {key:UInt64}", {"key": marker})
    assert await count(history, plain) == 3 * 39
    assert not any(needle in content for content in _files(store))


def _files(store: StoreProcess) -> list[bytes]:
    return [content for _, content in rawparts.files(store.directory, store._key)]


async def test_an_erasure_rewrites_the_parts_that_hold_rows_and_no_others(
    history: History, table: Table, store: StoreProcess
) -> None:
    table = msgspec.structs.replace(table, settings={**table.settings, **NOT_MERGED})
    await history.ensure(table)
    await history.insert(table.name, rows(range(30)), "a")
    await history.optimize(table.name)
    await history.insert(table.name, rows(range(30), days=2), "b")
    before = await _places(history, table)
    gone = await history.erase(table.name, "key IN (4, 7) AND day = 1", {}, lambda done, of: None)
    assert (gone.rows, gone.parts_before, gone.parts_after) == (3, 2, 0)
    after = await _places(history, table)
    assert {file for day, file in before if day != "1"} <= {file for _, file in after}, "taken over as they are"
    assert not {file for day, file in before if day == "1"} & {file for _, file in after}
    assert await count(history, table) == 57
    assert (await history.erase(table.name, "key IN (4, 7) AND day = 1", {})).rows == 0, "again, nothing is left to do"


async def _places(history: History, table: Table) -> set[tuple[str, int]]:
    """Days and the files on disk that hold their rows."""
    found = await history.query(
        "SELECT partition, path FROM system.parts WHERE active AND table = {t:String}", {"t": table.name}
    )
    return {(row["partition"], _inode(row["path"])) for row in found.to_pylist()}


def _inode(part: str) -> int:
    return Path(part, "data.bin").stat().st_ino


async def test_hidden_rows_are_in_no_answer_and_are_erased_all_the_same(history: History, table: Table) -> None:
    await history.ensure(table)
    await history.insert(table.name, rows(range(30)), "a")
    history.hide(table.name, "key NOT IN (4)")
    assert await count(history, table) == 29
    streamed = [batch.num_rows async for batch in history.stream(f"SELECT key FROM {table.name} WHERE key < 6")]
    assert sum(streamed) == 5
    joined = await history.query(f"SELECT count() AS c FROM (SELECT * FROM {table.name} WHERE key IN (3, 4)) x")
    assert joined.column("c").to_pylist() == [1], "in a subquery too"
    assert (await history.erase(table.name, "key = 4", {})).rows == 1
    history.hide(table.name, "")
    assert await count(history, table) == 29


async def test_a_partition_is_dropped_whole(history: History, table: Table) -> None:
    await history.ensure(table)
    await history.insert(table.name, rows(range(30)), "a")
    for key, value in await history.partitions(table.name):
        if value == "1":
            await history.drop(table.name, key)
    assert [value for _, value in await history.partitions(table.name)] == ["0", "2"]
    assert await count(history, table) == 20


async def test_reads_go_on_while_inserts_run(history: History, table: Table) -> None:
    await history.ensure(table)
    inserts = [history.insert(table.name, rows(range(n * 5000, n * 5000 + 5000)), f"i{n}") for n in range(10)]
    reads = [history.query(f"SELECT count() FROM {table.name}") for _ in range(20)]
    await asyncio.gather(*inserts, *reads)
    assert await count(history, table) == 50_000
