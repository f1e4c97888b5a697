"""The region's audit log: one ordered, tamper-evident record of all processes, in PostgreSQL.

Flow: `note`, `record` and `record_all` queue entries in the process; every few milliseconds one transaction takes the tree's
row lock, writes the batch with the next positions, moves the RFC 6962 frontier, keeps the nodes that proofs are made from
(`nodes`) and, when due, signs a tree head (`heads`). After the commit the leaf hashes and the signed head are also kept apart,
in files beside the audit key, where `verify` (in `verification`) finds what a change in the database cannot reach.

One log and not one per process: order between processes is part of what an audit proves, and one head covers all.
The queue is bounded, and so is each kind of refusal per second; what is beyond is counted and written as "n more". A refusal
noted within a request carries its id and can be found by it for `REQUEST_LIFE_US` (`book`). Figures and reasons:
docs/decisions/0017-audit.md, docs/decisions/0036-why.md, docs/decisions/0060-proofs.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import asyncpg
import msgspec

from rocade.core import request
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.trust.authority import nodes, store
from rocade.trust.authority.heads import Head, Kept, Written, sign_head
from rocade.trust.authority.merkle import GROUP_BITS, Frontier, leaf_hash
from rocade.trust.identity.keys import read_private
from rocade.trust.identity.tree_heads import is_ahead

QUEUE_LIMIT = 10_000
BATCH_LIMIT = 20_000
PIECE = 1_024
"""Entries of a batch that are encoded and hashed here while the database takes the piece before."""
KINDS_LIMIT = 1_000
GATHER_S = 0.005
IDLE_S = 5.0
MORE_EVERY_S = 5.0
SAME_PER_S = 50
HEAD_EVERY_ENTRIES = 10_000
HEAD_EVERY_US = 10_000_000
RECORD_TIMEOUT_S = 15.0
RETRY_S = 0.5
REQUEST_LIFE_US = 30 * 86_400_000_000
"""How long a refusal can be found by its request's id."""
FORGET_EVERY_S = 3600.0
REQUEST = "request"
"""The fact that holds a refusal's request id."""

type Kind = tuple[str, str, str]
"""Action, outcome, reason: what entries are counted by."""

_log = logging.getLogger(__name__)


class Line(msgspec.Struct, frozen=True, array_like=True):
    """What is hashed and stored: the entry with its place, so that a moved entry betrays itself."""

    position: int
    entry: AuditEntry


@lru_cache(65_536)
def key_of(party: str) -> int:
    """What entries about or by somebody are found by: 63 bits of a hash. No part of the proof; readers compare the text."""
    return int.from_bytes(blake2b(party.encode(), digest_size=8).digest()) >> 1


class _Batch:
    """Entries on their way into the log: encoded, hashed and put into the tree a piece at a time."""

    def __init__(self, tree: store.Tree, entries: Sequence[AuditEntry]) -> None:
        self.first = tree.size
        self.frontier = Frontier.parse(tree.size, tree.edge)
        self.leaves: list[bytes] = []
        self.groups: list[bytes] = []
        self._entries = entries

    def rows(self) -> Iterator[list[store.EntryRow]]:
        """The pieces; the tree has grown by all of them when the last was taken."""
        encode = msgspec.json.Encoder().encode
        for at in range(0, len(self._entries), PIECE):
            piece = self._entries[at : at + PIECE]
            bodies = [encode(Line(number, one)) for number, one in enumerate(piece, self.first + at)]
            leaves = [leaf_hash(body) for body in bodies]
            self.leaves += leaves
            self.groups += self.frontier.extend(leaves)
            yield [
                (number, body, key_of(one.subject), key_of(one.actor))
                for number, (body, one) in enumerate(zip(bodies, piece, strict=True), self.first + at)
            ]


class AuditLog:
    """Implements core.ports.Audit for one process. Open one per process; they share the database."""

    def __init__(self, database: Database, directory: Path, clock: Clock) -> None:
        self._url = database.url
        self._connection: asyncpg.Connection | None = None
        self._kept = Kept(directory)
        self._key = read_private(directory / "key.pem")
        self._clock = clock
        self._queue: deque[tuple[AuditEntry, asyncio.Future[None] | None]] = deque()
        self._more: dict[Kind, int] = {}
        self._more_written_s = -math.inf
        self._noted: Counter[Kind] = Counter()
        self._second = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._is_failing = False
        self._in_hand = 0
        self._tried: tuple[int, bytes] | None = None
        self._forgot_s = -math.inf
        self._writer = asyncio.create_task(self._write_for_ever(), name="audit")

    def note(self, entry: AuditEntry) -> None:
        """Queue an entry; in a flood of one refusal, or with a full queue, count it by action, outcome and reason."""
        kind = (entry.action, entry.outcome, entry.reason)
        if len(self._queue) < QUEUE_LIMIT and not (entry.outcome == "refused" and self._is_flood(kind)):
            self._queue.append((_of_request(entry), None))
        else:
            if kind not in self._more and len(self._more) >= KINDS_LIMIT:
                kind = ("audit.overflow", "", "")
            self._more[kind] = self._more.get(kind, 0) + 1
        self._wake.set()

    def _is_flood(self, kind: Kind) -> bool:
        """Whether this refusal was noted often enough within this second: strangers must not fill the disk."""
        second = int(self._clock.monotonic_s())
        if second != self._second:
            self._second = second
            self._noted.clear()
        self._noted[kind] += 1
        return self._noted[kind] > SAME_PER_S

    async def record(self, entry: AuditEntry) -> None:
        """Return when the entry is durable.

        Raises: Unavailable `audit.down`; the entry may still be written later, so record before you act.
        """
        await self.record_all((entry,))

    async def record_all(self, entries: Sequence[AuditEntry]) -> None:
        """Return when all of a group are durable, in this order; others' entries may stand between.

        Raises: as `record`.
        """
        if not entries:
            return
        written = asyncio.get_running_loop().create_future()
        self._queue.extend((_of_request(one), None) for one in entries[:-1])
        self._queue.append((_of_request(entries[-1]), written))
        self._wake.set()
        try:
            await asyncio.wait_for(written, RECORD_TIMEOUT_S)
        except TimeoutError:
            raise Unavailable("audit.down", "the audit log cannot be written now; nothing was done") from None

    async def close(self) -> None:
        """Write what is queued, sign a head over it, stop. Gives up after the time a `record` would."""
        self._closing = True
        self._wake.set()
        try:
            await asyncio.wait_for(self._writer, RECORD_TIMEOUT_S)
        except TimeoutError:
            lost = self._in_hand + len(self._queue) + sum(self._more.values())
            _log.error("%d audit entries were not written before the end", lost)
        if self._connection is not None:
            self._connection.terminate()
        self._kept.close()

    async def _write_for_ever(self) -> None:
        while not (self._closing and not self._queue and not self._more):
            if not self._queue:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), IDLE_S)
                if not self._closing:
                    await asyncio.sleep(GATHER_S)
            self._wake.clear()
            await self._write(self._take())
        await self._write([])  # the last head

    def _take(self) -> list[tuple[AuditEntry, asyncio.Future[None] | None]]:
        """The next batch; what was only counted follows every few seconds."""
        batch = [self._queue.popleft() for _ in range(min(BATCH_LIMIT, len(self._queue)))]
        now_s = self._clock.monotonic_s()
        if self._more and (self._closing or now_s - self._more_written_s >= MORE_EVERY_S):
            now_us = self._clock.now_us()
            for (action, outcome, reason), count in self._more.items():
                batch.append((AuditEntry(now_us, "audit", action, "", outcome, reason, {"more": count}), None))
            self._more.clear()
            self._more_written_s = now_s
        return batch

    async def _write(self, batch: list[tuple[AuditEntry, asyncio.Future[None] | None]]) -> None:
        """Write one batch, trying until the database takes it."""
        entries = [entry for entry, _ in batch]
        self._in_hand = len(entries)
        while True:
            try:
                written = await self._append(await self._connect(), entries)
                break
            except (*DOWN, TimeoutError, asyncpg.PostgresError) as error:  # gone, full or refusing
                if not self._is_failing:
                    _log.error("the audit log cannot be written: %s", type(error).__name__)
                self._is_failing = True
                await asyncio.sleep(RETRY_S)
        self._is_failing = False
        try:
            await asyncio.to_thread(self._kept.add, written)
        except OSError as error:  # the entries are durable; what is kept apart has a hole, which `verify` allows
            _log.error("hashes or head of the audit log were not kept: %s", error.strerror)
        self._in_hand = 0
        for _, waiting in batch:
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    async def _connect(self) -> asyncpg.Connection:
        """The log's own connection: a `record` inside somebody's transaction must never wait for the pool."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url, timeout=10)
        return self._connection

    async def _append(self, connection: asyncpg.Connection, entries: list[AuditEntry]) -> Written:
        """One transaction: entries, frontier, nodes and, when due, a signed head, under the lock of the tree's row."""
        async with connection.transaction():
            tree = await store.lock_tree(connection)
            if self._tried and await store.read_body(connection, self._tried[0]) == self._tried[1]:
                return self._repeat(tree, entries)  # the commit was done, only its answer was lost
            batch = _Batch(tree, entries)
            if entries:
                self._tried = batch.first, msgspec.json.encode(Line(batch.first, entries[0]))
                await store.add_entries(connection, batch.rows())
                await nodes.add_groups(connection, batch.first >> GROUP_BITS, batch.groups)
            signed = await self._sign_if_due(connection, tree, batch.frontier)
            if requests := [
                (bytes.fromhex(str(entry.facts[REQUEST])), number, entry.at_us)
                for number, entry in enumerate(entries, batch.first)
                if REQUEST in entry.facts
            ]:
                forget_before_us = self._forget_before_us(self._clock.now_us())
                await store.add_requests(connection, requests, forget_before_us)
        self._tried = None
        return Written(batch.first, batch.leaves, signed)

    async def _sign_if_due(self, connection: asyncpg.Connection, tree: store.Tree, frontier: Frontier) -> bytes | None:
        """Write the tree's row if it grew or is signed now; the signed head."""
        now_us = self._clock.now_us()
        signed = None
        head_size, head_us = tree.head_size, tree.head_us
        if is_ahead(head_us, now_us):
            self._note_future(tree, now_us)
        if self._is_head_due(tree, frontier.size, now_us):
            signed = sign_head(Head(frontier.size, frontier.root.hex(), now_us), self._key)
            await store.add_head(connection, frontier.size, signed)
            head_size, head_us = frontier.size, now_us
        if signed or frontier.size != tree.size:
            await store.write_tree(connection, store.Tree(frontier.size, bytes(frontier), head_size, head_us))
        return signed

    def _note_future(self, tree: store.Tree, now_us: int) -> None:
        """Witnesses refuse the last head until its time has come; the next one is signed at once."""
        refusal = Refused(
            "audit.head.future", "the last signed head is dated after now; the clock was ahead, or is behind"
        )
        facts: dict[str, str | int | float] = {"size": tree.head_size, "head_us": tree.head_us}
        self.note(AuditEntry(now_us, "audit", "audit.head", "audit:heads", "refused", refusal.code, facts))

    def _forget_before_us(self, now_us: int) -> int | None:
        """Once in a while: the instant before which requests are forgotten."""
        now_s = self._clock.monotonic_s()
        if now_s - self._forgot_s < FORGET_EVERY_S:
            return None
        self._forgot_s = now_s
        return now_us - REQUEST_LIFE_US

    def _repeat(self, tree: store.Tree, entries: list[AuditEntry]) -> Written:
        """What the settled transaction had written, for the files beside; its head, if any, stays in the database."""
        first, self._tried = self._tried[0] if self._tried else tree.size, None
        bodies = [msgspec.json.encode(Line(first + at, entry)) for at, entry in enumerate(entries)]
        return Written(first, [leaf_hash(body) for body in bodies], None)

    def _is_head_due(self, tree: store.Tree, size: int, now_us: int) -> bool:
        unsigned = size - tree.head_size
        is_late = abs(now_us - tree.head_us) >= HEAD_EVERY_US  # a clock that was ahead and was set right must not wait
        return unsigned > 0 and (unsigned >= HEAD_EVERY_ENTRIES or is_late or self._closing)


def _of_request(entry: AuditEntry) -> AuditEntry:
    """A refusal with the id of the request it ends, if there is one."""
    at_hand = request.current.get()
    if at_hand is None or entry.outcome != "refused":
        return entry
    at_hand.is_noted = True
    return msgspec.structs.replace(entry, facts={**entry.facts, REQUEST: at_hand.id})
