"""Engines that live in memory and fail as real ones do: the log, the history, the database's tables with transactions.

Each call has two ways that may break: before the act (nothing happened) and after it (it happened, and the caller is told
that it did not). What is stored is what a disk would hold: it outlives every process.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa
from virtual_loop import Dice, Process, VirtualClock, VirtualLoop

from rocade.core.errors import Unavailable
from rocade.core.identifiers import PARTITIONS
from rocade.fabric.log import Lag, Limits, Positions, Record, Slice
from rocade.services.telemetry.apportioning import Renewals
from rocade.services.telemetry.gaps import MAX_ASKS, Numbers, Row, unpacked
from rocade.services.telemetry.ledger import Due, Intent, token_of
from rocade.services.telemetry.model import Held, Unknown


class Disk:
    """Everything the hub keeps, and how it fails now."""

    def __init__(self, loop: VirtualLoop, dice: Dice, clock: VirtualClock) -> None:
        self.loop, self.dice, self.clock = loop, dice, clock
        self.trouble = dice.choice((0.0, 0.02, 0.1))
        """Chance of each act that it fails before it happens, and again that its success is not heard of."""
        self.log: dict[tuple[int, int], list[Record]] = defaultdict(list)
        self.history: dict[str, pa.Table] = {}
        self.repeated: list[str] = []
        """Tokens that came again with other rows: the history would have kept the first and lost the others."""
        self.blocks: dict[int, Intent] = {}
        self.positions: dict[tuple[int, int], int] = {}
        self.numbers: dict[tuple[int, int], list[Any]] = {}
        """(ref, epoch) -> row of telemetry_sequence, asked, ask_at_us."""
        self.twins: dict[int, dict[str, Any]] = {}
        self.keys: dict[tuple[int, int], bytes] = {}
        self.held: list[Held] = []
        self.leases: dict[int, tuple[str, int]] = {}
        self.members: dict[str, float] = {}
        self.lock = asyncio.Lock()
        self.next_block = 1

    def may_fail(self, code: str, error: type[Exception] = Unavailable) -> None:
        if self.dice.happens(self.trouble):
            raise Unavailable(code, "as the simulation wants it") if error is Unavailable else error(code)


class MemoryLog:
    """One process's view of the log; `writer` is its number."""

    def __init__(self, disk: Disk, process: Process, writer: int) -> None:
        self._disk, self._process, self._writer = disk, process, writer

    async def append(self, stream: str, records: Sequence[Record]) -> None:
        await self._process.reach()
        self._disk.may_fail("log.down")
        for record in records:
            self._disk.log[record.partition, self._writer].append(record)
        self._disk.loop.note("append", self._writer, len(records))
        await self._process.reach()
        self._disk.may_fail("log.down")

    async def read(
        self, stream: str, partitions: Sequence[int], after: Positions, max_records: int, max_bytes: int
    ) -> Slice:
        await self._process.reach()
        self._disk.may_fail("log.down")
        limits: dict[tuple[int, int], tuple[int, int]] = {}
        room = min(max_records, self._disk.dice.choice((1, 20, 1000)))
        wanted = set(partitions)
        for place in sorted(self._disk.log):
            begun = after.get(place, 0)
            upto = min(len(self._disk.log[place]), begun + room)
            if place[0] in wanted and upto > begun:
                limits[place] = (begun, upto)
                room -= upto - begun
        return self._slice(limits)

    async def reread(self, stream: str, limits: Limits) -> Slice:
        await self._process.reach()
        return self._slice(dict(limits))

    def _slice(self, limits: dict[tuple[int, int], tuple[int, int]]) -> Slice:
        return Slice(
            [record for place in sorted(limits) for record in self._disk.log[place][slice(*limits[place])]], limits
        )

    async def positions(self, group: str, stream: str, partitions: Sequence[int]) -> dict[tuple[int, int], int]:
        await self._process.reach()
        return {place: upto for place, upto in self._disk.positions.items() if place[0] in set(partitions)}

    async def commit(self, group: str, stream: str, positions: Positions, connection: Any = None) -> None:
        connection.later(lambda: self._disk.positions.update(positions))

    async def lag(self, group: str, stream: str) -> Lag:
        await self._process.reach()
        unread = [
            record
            for place, records in self._disk.log.items()
            for record in records[self._disk.positions.get(place, 0) :]
        ]
        return Lag(len(unread), min((record.arrived_us for record in unread), default=None))


class MemoryKeys:
    """A keyring without custody; what a process has asked for once it holds."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk, self._process = disk, process
        self._held: dict[tuple[int, int], bytes] = {}

    def held(self, owner: int, group: int, /) -> bytes | None:
        return self._held.get((owner, group))

    async def fetch(self, names: Iterable[tuple[int, int]], /) -> dict[tuple[int, int], bytes]:
        wanted = list(names)
        if any(name not in self._held for name in wanted):
            await self._process.reach()
            self._disk.may_fail("custody.down")
        self._held |= {name: self._disk.keys[name] for name in wanted if name in self._disk.keys}
        return {name: self._held[name] for name in wanted if name in self._held}

    async def ensure(self, names: Iterable[tuple[int, int]], /) -> dict[tuple[int, int], bytes]:
        wanted = list(names)
        for name in wanted:
            if name not in self._disk.keys:
                self._disk.keys[name] = self._disk.dice.randbytes(32)
        return await self.fetch(wanted)


class MemoryHistory:
    """Inserts under a token; the same token again changes nothing."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk, self._process = disk, process

    async def insert(self, table: str, rows: pa.Table, token: str) -> None:
        await self._process.reach(0.05)
        self._disk.may_fail("history.down")
        held = self._disk.history.get(token)
        if held is None:
            self._disk.history[token] = rows
        elif not held.equals(rows) and any(one.token == token for one in self._disk.blocks.values()):
            self._disk.repeated.append(token)  # of a finished block a late worker may say anything: it is not stored
        self._disk.loop.note("history", token, rows.num_rows)
        await self._process.reach(0.05)
        self._disk.may_fail("history.down")


class Connection:
    """A transaction's acts, which happen together at its end."""

    def __init__(self) -> None:
        self._acts: list[Callable[[], object]] = []

    def later(self, act: Callable[[], object]) -> None:
        self._acts.append(act)

    def happen(self) -> None:
        for act in self._acts:
            act()


class MemoryPool:
    """As much of asyncpg's pool as a worker touches: one transaction at a time, all of it or nothing."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk, self._process = disk, process
        self.pool = self

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        await self._process.reach()
        async with self._disk.lock:
            self.now = Connection()
            yield
            if not self._process.is_alive:  # the server rolls back what a dead client left open
                return
            self._disk.may_fail("database", ConnectionError)
            self.now.happen()
            self._disk.loop.note("commit", len(self.now._acts))
        await self._process.reach()
        self._disk.may_fail("database", ConnectionError)

    def later(self, act: Callable[[], object]) -> None:
        self.now.later(act)

    async def execute(self, sql: str, *columns: Any) -> None:
        """The one statement a worker gives itself: rows of `twin`, whatever their columns are."""
        assert "INSERT INTO twin" in sql, sql
        names = [name.strip() for name in sql.split("AS u (")[1].split(")", maxsplit=1)[0].split(",")]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        self.later(lambda: self._disk.twins.update({row["ref"]: row for row in rows}))

    async def fetch(self, sql: str, refs: Sequence[int]) -> list[Mapping[str, Any]]:
        """The one it asks: rows of `twin` by reference."""
        assert "FROM twin WHERE ref = ANY($1" in sql, sql
        await self._process.reach()
        self._disk.may_fail("database", ConnectionError)
        return [defaultdict(lambda: None, self._disk.twins[ref]) for ref in refs if ref in self._disk.twins]


class MemoryLeases:
    """`fabric.database.Leases` without SQL: the same runs, the same fences."""

    TTL_S = 6.0

    def __init__(self, disk: Disk, process: Process, owner: str) -> None:
        self._disk, self._process, self._owner = disk, process, owner
        self._held: dict[int, int] = {}
        self._renewed_s = float("-inf")

    @property
    def partitions(self) -> list[int]:
        return list(self._held) if self._disk.loop.time() - self._renewed_s < self.TTL_S else []

    async def renew(self) -> list[int]:
        now_s = self._disk.loop.time()
        if now_s - self._renewed_s >= self.TTL_S / 3:
            await self._process.reach()
            self._disk.may_fail("database.down")
            async with self._disk.lock:
                self._held = self._share()
            await self._process.reach()
            self._renewed_s = now_s
        return self.partitions

    def _share(self) -> dict[int, int]:
        disk, now_s = self._disk, self._disk.loop.time()
        disk.members[self._owner] = now_s + self.TTL_S
        for owner in [owner for owner, until_s in disk.members.items() if until_s < now_s]:
            del disk.members[owner]
        living = list(disk.members)
        rank, count = living.index(self._owner), len(living)
        mine = range(rank * PARTITIONS // count, (rank + 1) * PARTITIONS // count)
        for partition in range(PARTITIONS):
            owner, fence = disk.leases.get(partition, ("", 0))
            if owner == self._owner and partition not in mine:
                disk.leases[partition] = ("", fence + 1)
            elif partition in mine and owner != self._owner and owner not in disk.members:
                disk.leases[partition] = (self._owner, fence + 1)
        return {number: fence for number, (owner, fence) in disk.leases.items() if owner == self._owner}

    async def guard(self, connection: Any, partitions: Iterable[int]) -> None:
        wanted = sorted(partitions)
        held = {number: self._disk.leases.get(number, ("", 0)) for number in wanted}
        if held != {number: (self._owner, self._held.get(number)) for number in wanted}:
            self._renewed_s = float("-inf")
            raise Unavailable("lease.lost", "another worker has taken it")

    async def release(self) -> None:
        pass


class MemoryLedger:
    """`telemetry.ledger.Ledger` without SQL, as far as intake, asker and worker need it."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk, self._process = disk, process

    async def begin(
        self, connection: Any, name: str, limits: Limits, salt: int, oldest_us: int = 0, *, is_late: bool = False
    ) -> Intent:
        number, self._disk.next_block = self._disk.next_block, self._disk.next_block + 1
        intent = Intent(number, token_of(name, limits, salt), dict(limits))
        connection.later(lambda: self._disk.blocks.__setitem__(number, intent))
        return intent

    async def pending(self, name: str, partitions: Sequence[int]) -> list[Intent]:
        await self._process.reach()
        wanted = set(partitions)
        return [one for _, one in sorted(self._disk.blocks.items()) if {place for place, _ in one.limits} & wanted]

    async def finish(self, connection: Any, intent: Intent) -> None:
        if intent.id not in self._disk.blocks:
            raise Unavailable("telemetry.block.taken", "another worker has finished this block")
        connection.later(lambda: self._disk.blocks.pop(intent.id))

    async def load_numbers(self, refs: Iterable[int]) -> dict[int, list[Numbers]]:
        await self._process.reach()
        wanted, found = set(refs), dict[int, list[Numbers]]()
        for (ref, epoch), row in self._disk.numbers.items():
            if ref in wanted:
                _, _, highest, gaps, _, opened_us, arrived_us, closed = row[0]
                found.setdefault(ref, []).append(
                    Numbers(ref, epoch, opened_us, arrived_us, highest, unpacked(gaps), closed)
                )
        return found

    async def store_numbers(self, connection: Any, rows: Sequence[Row]) -> None:
        def store() -> None:
            for *row, ask_at_us in rows:
                before = self._disk.numbers.get((row[0], row[1]), [None, 0, 0])
                self._disk.numbers[row[0], row[1]] = [row, 0, ask_at_us] if ask_at_us else [row, *before[1:]]

        connection.later(store)

    async def hold(self, connection: Any, held: Sequence[Held]) -> None:
        connection.later(lambda: self._disk.held.extend(held))

    async def report_unknown(self, connection: Any, unknown: Sequence[Unknown]) -> None:
        pass

    async def erased(self) -> frozenset[int]:
        return frozenset()

    async def renewals(self, refs: Iterable[int]) -> Renewals:
        return Renewals()

    async def gone(self, refs: Iterable[int], now_us: int) -> frozenset[int]:
        return frozenset()

    async def check_renewals(self, connection: Any, refs: Iterable[int], known: Renewals) -> None:
        pass

    async def due(self, refs: Sequence[int], now_us: int) -> list[Due]:
        await self._process.reach()
        wanted = set(refs)
        return [
            Due(ref, epoch, unpacked(row[3]), row[6], asked)
            for (ref, epoch), (row, asked, ask_at_us) in self._disk.numbers.items()
            if ref in wanted and row[4] and row[7] is None and ask_at_us <= now_us and asked < MAX_ASKS
        ]

    async def asked(self, asks: Sequence[tuple[int, int, int]]) -> None:
        await self._process.reach()
        for ref, epoch, at_us in asks:
            row = self._disk.numbers[ref, epoch]
            row[1:] = [row[1] + 1, at_us]


class MemoryTwins:
    """Twins in one dictionary."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def packed(self, _connection: Any, refs: Iterable[int]) -> Mapping[int, bytes]:
        return {ref: self._disk.twins[ref] for ref in refs if ref in self._disk.twins}
