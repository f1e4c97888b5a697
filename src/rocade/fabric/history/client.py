"""`History` over `clickhouse-connect`: one client for the local `store` process and for a ClickHouse server or cluster.

`chdb+unix:///path/store.sock` speaks HTTP over that socket; `http(s)://user:password@host:port/database?cluster=name` is
a server. The driver is synchronous, so calls run on a small pool of threads. Answers travel as Arrow streams.
Errors: transport -> Unavailable `history.down`; disk full -> Unavailable `history.full`; damaged parts -> Corrupt
`history.corrupt`; any other statement the engine refuses -> Refused `history.statement.refused`.
"""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client as Driver
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError
from urllib3.exceptions import HTTPError

from rocade.core.errors import Corrupt, Misconfigured, Refused, Unavailable
from rocade.fabric.history import Erased, Progress, Table, ddl
from rocade.fabric.history.unix import UnixPool

# The driver logs each refused connection with its address and a stack; callers get an error and log it themselves.
logging.getLogger("clickhouse_connect").setLevel(logging.CRITICAL)
THREADS = 8
GATHER_BYTES = 1 << 20
ERASE_WAIT_S = 300.0
PROGRESS_S = 0.5
_FULL = {243, 1001}
_DISK = {75, 76, 204}
"""Of a file that cannot be opened, written or flushed."""
_CORRUPT = {33, 40, 228, 271, 354}
_BUSY = {159, 202, 241, 252, 394}
_ONCE = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "max_insert_block_size": 100_000_000,
    "distributed_foreground_insert": 1,
}


class Client:
    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in {"chdb+unix", "http", "https"}:
            raise Misconfigured(
                "history.url",
                "the history address must be chdb+unix:///path/store.sock or http(s)://host:port/database",
            )
        self._cluster = parse_qs(self._url.query).get("cluster", [None])[0]
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="history")
        self._driver: Driver | None = None
        self._hidden: dict[str, str] = {}

    async def ensure(self, table: Table) -> None:
        stored = await self.query(
            "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
            {"name": table.name},
        )
        if stored.num_rows:
            statements = ddl.alter(table, stored.column(0)[0].as_py(), self._cluster)
        else:
            statements = ddl.create(table, self._cluster)
        for statement in statements:
            await self._command(statement)

    async def insert(self, table: str, rows: pa.Table, token: str) -> None:
        body = _stream_of(rows)
        settings = {**_ONCE, "insert_deduplication_token": token}
        await self._run(lambda d: d.raw_insert(table, rows.column_names, body, settings=settings, fmt="ArrowStream"))

    async def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> pa.Table:
        return await self._ask(sql, parameters, self._filters())

    async def _ask(self, sql: str, parameters: Mapping[str, Any] | None, settings: dict[str, Any]) -> pa.Table:
        answer = await self._run(
            lambda driver: driver.raw_query(sql, dict(parameters or {}), settings=settings, fmt="ArrowStream")
        )
        return pa.ipc.open_stream(pa.py_buffer(answer)).read_all()

    async def stream(self, sql: str, parameters: Mapping[str, Any] | None = None) -> AsyncIterator[pa.RecordBatch]:
        settings = self._filters()

        def opened() -> tuple[_Answer, pa.RecordBatch | None]:
            with _translated():
                answer = _Answer(
                    self._connected().raw_stream(sql, dict(parameters or {}), settings=settings, fmt="ArrowStream")
                )
                return answer, answer.take()

        answer, batch = await self._thread(opened)
        try:
            while batch is not None:
                yield batch
                batch = None if answer.is_closed else await self._thread(answer.take)
        finally:
            if not answer.is_closed:
                await self._thread(answer.close)

    def hide(self, table: str, condition: str) -> None:
        self._hidden[table] = condition

    def _filters(self) -> dict[str, Any]:
        """The setting by which the engine itself leaves hidden rows out of every answer, whatever is asked."""
        hidden = ", ".join(f"{ddl.quote_text(name)}: {ddl.quote_text(c)}" for name, c in self._hidden.items() if c)
        return {"additional_table_filters": f"{{{hidden}}}"} if hidden else {}

    async def erase(
        self, table: str, condition: str, parameters: Mapping[str, Any], progress: Progress | None = None
    ) -> Erased:
        name = self._stored(table)
        rows, before = (await self.holding(table, condition, parameters, "0")).get(0, (0, 0))
        if rows:
            statement = f"ALTER TABLE {ddl.quote_name(name)}{ddl.on_cluster(self._cluster)} DELETE WHERE {condition}"
            rewriting = asyncio.ensure_future(self._command(statement, parameters, {"mutations_sync": 2}))
            while progress is not None and not rewriting.done():
                await asyncio.wait([rewriting], timeout=PROGRESS_S)
                if not rewriting.done():
                    progress(before - min(before, await self._unwritten(name)), before)
            await rewriting
        await self._wait_until_gone(name)
        _, left = (await self.holding(table, condition, parameters, "0")).get(0, (0, 0))
        return Erased(rows, before, left)

    async def _unwritten(self, table: str) -> int:
        """Parts that an erasure under way has not looked at yet."""
        found = await self._ask(
            "SELECT toInt64(max(parts_to_do)) AS n FROM system.mutations"
            " WHERE NOT is_done AND database = currentDatabase() AND table = {table:String}",
            {"table": table},
            {},
        )
        return int(found.column("n")[0].as_py())

    async def holding(
        self, table: str, condition: str, parameters: Mapping[str, Any], by: str
    ) -> dict[int, tuple[int, int]]:
        found = await self._ask(
            f"SELECT toInt64({by}) AS of, toInt64(count()) AS n, toInt64(uniqExact(_part)) AS parts"
            f" FROM {ddl.quote_name(table)} WHERE {condition} GROUP BY of ORDER BY of",
            parameters,
            {},
        )
        return {row["of"]: (row["n"], row["parts"]) for row in found.to_pylist()}

    def _stored(self, table: str) -> str:
        """The table that holds the parts."""
        return table if self._cluster is None else f"{table}_local"

    async def _wait_until_gone(self, table: str) -> None:
        """Parts that were replaced before now leave the disk after `old_parts_lifetime`; wait for exactly those.

        A part whose files are being removed is listed only to who asks for its state.
        """
        parts = (
            "SELECT name FROM system.parts WHERE database = currentDatabase() AND table = {table:String}"
            " AND _state IN ('Outdated', 'Deleting', 'DeleteOnDestroy')"
        )
        waiting = set((await self.query(parts, {"table": table})).column(0).to_pylist())
        end = time.monotonic() + ERASE_WAIT_S
        while waiting:
            if time.monotonic() > end:
                raise Unavailable(
                    "history.erase.slow", "rows are masked but old parts are still on disk; call erase again"
                )
            await asyncio.sleep(0.5)
            waiting &= set((await self.query(parts, {"table": table})).column(0).to_pylist())

    async def partitions(self, table: str) -> list[tuple[str, str]]:
        found = await self.query(
            "SELECT DISTINCT partition_id, partition FROM system.parts WHERE active AND database = currentDatabase() "
            "AND table = {table:String} ORDER BY partition_id",
            {"table": self._stored(table)},
        )
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    async def drop(self, table: str, partition: str) -> None:
        name = f"{ddl.quote_name(self._stored(table))}{ddl.on_cluster(self._cluster)}"
        await self._run(
            lambda driver: driver.command(f"ALTER TABLE {name} DROP PARTITION ID {ddl.quote_text(partition)}")
        )
        await self._wait_until_gone(self._stored(table))

    async def stage(self, table: str, name: str, columns: Mapping[str, str]) -> None:
        if self._cluster is not None:
            raise Refused(
                "history.stage.cluster", "partitions are put in place on a single server only, not on a cluster"
            )
        await self.discard(name)
        await self._command(f"CREATE TABLE {ddl.quote_name(name)} AS {ddl.quote_name(table)}")
        for column, kind in columns.items():
            await self._command(f"ALTER TABLE {ddl.quote_name(name)} MODIFY COLUMN {ddl.quote_name(column)} {kind}")

    async def put_in_place(self, table: str, partition: str, name: str) -> None:
        source, key = ddl.quote_name(name), ddl.quote_text(partition)
        act = f"ALTER TABLE {ddl.quote_name(table)} REPLACE PARTITION ID {key} FROM {source}"
        await self._run(lambda driver: driver.command(act))
        await self._wait_until_gone(table)

    async def discard(self, name: str) -> None:
        await self._command(f"DROP TABLE IF EXISTS {ddl.quote_name(name)} SYNC")

    async def optimize(self, table: str) -> None:
        name = table if self._cluster is None else f"{table}_local"
        await self._command(f"OPTIMIZE TABLE {ddl.quote_name(name)} FINAL")

    async def freeze(self, table: str, name: str) -> None:
        if self._url.scheme != "chdb+unix":
            raise Refused(
                "history.freeze.remote", "the history is a server's own: back it up there, with its BACKUP statement"
            )
        await self._command(f"ALTER TABLE {ddl.quote_name(table)} FREEZE WITH NAME {ddl.quote_text(name)}")

    async def close(self) -> None:
        if self._driver is not None:
            self._driver.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _command(
        self, statement: str, parameters: Mapping[str, Any] | None = None, settings: dict[str, Any] | None = None
    ) -> None:
        await self._run(lambda driver: driver.command(statement, dict(parameters or {}), settings=settings))

    async def _run[T](self, act: Callable[[Driver], T]) -> T:
        def work() -> T:
            with _translated():
                return act(self._connected())

        return await self._thread(work)

    async def _thread[T](self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _connected(self) -> Driver:
        if self._driver is None:
            url = self._url
            quick: dict[str, Any] = {
                "compress": False,
                "autogenerate_session_id": False,
                "autogenerate_query_id": False,
            }
            if url.scheme == "chdb+unix":
                self._driver = clickhouse_connect.get_client(
                    host="localhost", pool_mgr=UnixPool(unquote(url.path), THREADS), **quick
                )
            else:
                self._driver = clickhouse_connect.get_client(
                    interface=url.scheme,
                    host=url.hostname or "localhost",
                    port=url.port or (8443 if url.scheme == "https" else 8123),
                    username=unquote(url.username or "default"),
                    password=unquote(url.password or ""),
                    database=url.path.strip("/") or "default",
                    **quick,
                )
        return self._driver


def _stream_of(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return sink.getvalue()


class _Answer:
    """An answer being read: Arrow streams one after the other; a server sends one, the embedded engine one for each block.

    `take` gathers small blocks, so that a short answer costs one turn of a thread, whatever number of parts it came from.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._batches = self._read()
        self.is_closed = False

    def take(self) -> pa.RecordBatch | None:
        """What comes next, of `GATHER_BYTES` or more; None and closed at the end."""
        gathered: list[pa.RecordBatch] = []
        size_bytes = 0
        try:
            with _translated():
                while size_bytes < GATHER_BYTES and (batch := next(self._batches, None)) is not None:
                    gathered.append(batch)
                    size_bytes += batch.nbytes
        except BaseException:
            self.close()
            raise
        if size_bytes < GATHER_BYTES:
            self.close()
        return pa.concat_batches(gathered) if gathered else None

    def close(self) -> None:
        self.is_closed = True
        self._source.close()

    def _read(self) -> Iterator[pa.RecordBatch]:
        while True:
            try:
                reader = pa.ipc.open_stream(self._source)
            except pa.ArrowInvalid as error:
                if "null or length 0" in str(error):  # nothing follows
                    return
                raise
            yield from reader


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, HTTPError, OSError) as error:
        raise Unavailable("history.down", "the history store does not answer; retry") from error
    except ClickHouseError as error:
        code = getattr(error, "code", None) or 0
        if code in _FULL:
            raise Unavailable("history.full", "the history store has no disk room; nothing was stored") from error
        if code in _DISK:
            raise Unavailable("history.disk", "the history's disk cannot be written; nothing was stored") from error
        if code in _BUSY:
            raise Unavailable(
                "history.busy", "the history store has no memory or time for this now; retry or ask for less"
            ) from error
        if code in _CORRUPT:
            raise Corrupt("history.corrupt", "a part of the history store is damaged; see docs/operate.md") from error
        raise Refused(
            "history.statement.refused", f"the history engine refused the statement (engine code {code})"
        ) from error
