"""The compiled consent table: every owner, consent and driver in memory, pushed to each process within moments.

Flow: load all -> listen; each numbered change names a vehicle, whose entry is compiled anew and replaced whole -> watchers
hear which vehicles changed. A poll every second covers lost notifications. Beginnings and ends that nobody pushes (a period
runs out) wait in a heap and reach the watchers the same way. A decision reads the entry at the instant asked: no engine, no
lock. `mask` is the path per record, `masks` a whole column, `right` what the gate asks.

While the database has been away for more than `STALE_S` the table fails closed: owners alone see, for nobody knows what has
been withdrawn since. Source: docs/decisions/0033-consent.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Callable, Iterable, Set
from sys import intern
from typing import Any, Self

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core import data_classes
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.consent import store
from rocade.services.consent.columns import Columns
from rocade.services.consent.model import FOREVER_US, OWN, REGION, REGION_PURPOSES, Grant, Guest, Ownership
from rocade.trust.authority.gate.model import Principal, Right

POLL_S = 1.0
RETRY_S = 0.5
STALE_S = 10.0
TICK_S = 0.25
READ_S = 5.0
BATCH = 10_000
KEPT_CHANGES_US = 86_400_000_000

type Watcher = Callable[[Set[int]], object]
type Span = tuple[str, str, int, int, int, str]
"""recipient, purpose, from, end (microseconds), classes, id of the consent or invitation ('' = the owner himself)."""

_log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What is agreed on one vehicle. `until_us` ends the ownership; the former owner still sees what was his."""

    owner: str
    until_us: int
    spans: tuple[Span, ...]
    drivers: tuple[Span, ...]

    @property
    def parties(self) -> set[str]:
        """Everybody it names."""
        return {span[0] for span in self.spans}


class ConsentTable:
    """Implements the gate's `Rights`. `Consents` writes; every process that decides opens one of these."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._entries: dict[int, Entry] = {}
        self._named: dict[str, set[int]] = {}
        """Vehicles whose entry names a party as owner, driver or recipient."""
        self._columns = Columns(self._entries)
        self._last_number = 0
        self._is_stale = False
        self._read_s = clock.monotonic_s()
        self._boundaries: list[tuple[int, int]] = []
        self._watchers: list[Watcher] = []
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, database: Database, clock: Clock) -> Self:
        """Load the table, then follow changes until `close`.

        Raises: what the database raises when it is down; a process must not start with an unknown table.
        """
        opened = cls(database, clock)
        async with database.pool.acquire() as connection:
            await opened._load(connection)
        opened._tasks = [
            asyncio.create_task(opened._follow(), name="consent-table"),
            asyncio.create_task(opened._watch_age(), name="consent-age"),
        ]
        return opened

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def age_s(self) -> float:
        """Seconds since the database last confirmed this table."""
        return self._clock.monotonic_s() - self._read_s

    @property
    def is_stale(self) -> bool:
        """Whether only owners are answered, because the database has been away too long."""
        return self._is_stale

    # --- decisions ----------------------------------------------------------------------------------------------------

    def mask(self, ref: int, recipient: str, purpose: str, at_us: int) -> int:
        """Classes (mask) of `ref` that a recipient may see for a purpose at an instant."""
        entry = self._entries.get(ref)
        if entry is None:
            return self._unowned(recipient, purpose)
        if self._is_stale and recipient != entry.owner:
            return 0
        for to, why, from_us, end_us, classes, _ in entry.spans:
            if to == recipient and why == purpose and from_us <= at_us < end_us:
                return classes
        return 0

    def masks(self, refs: NDArray[np.int64], recipient: str, purpose: str, at_us: int) -> NDArray[np.int64]:
        """`mask` for a whole column of references."""
        unowned = self._unowned(recipient, purpose)
        if self._is_stale:
            of_entry = [self.mask(ref, recipient, purpose, at_us) for ref in refs.tolist()]
            return np.array(of_entry, np.int64)
        return self._columns.masks(refs, recipient, purpose, at_us, unowned)

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        """What ties a principal to a vehicle for a purpose at an instant."""
        entry = self._entries.get(ref)
        if entry is None:
            return Right("none", self._unowned(principal.recipient, purpose), "", is_owned=False)
        person = principal.id if principal.is_person else ""
        if person and person == entry.owner:
            relation = "owner" if at_us < entry.until_us else "former"
            if purpose == OWN:
                return Right(relation, data_classes.ALL, "", is_owned=True)
        else:
            relation = "none"
            if self._is_stale:
                return Right(relation, 0, "", is_owned=True)
            for to, _, from_us, end_us, classes, id in entry.drivers if person else ():
                if to == person and from_us <= at_us < end_us:
                    relation = "driver"
                    if purpose == OWN:
                        return Right(relation, classes, id, is_owned=True)
        if not self._is_stale:
            for to, why, from_us, end_us, classes, id in entry.spans:
                if why == purpose and from_us <= at_us < end_us and to in (principal.recipient, person):
                    return Right(relation, classes, id, is_owned=True)
        return Right(relation, 0, "", is_owned=True)

    def refs(self, principal: Principal, purpose: str, at_us: int) -> list[int]:
        """The owned vehicles he may see anything of, in order of reference."""
        named = self._named.get(principal.recipient, set()) | self._named.get(principal.id, set())
        return sorted(ref for ref in named if self.right(principal, ref, purpose, at_us).classes)

    def hidden(self, recipient: str, purpose: str, classes: int, at_us: int) -> list[int]:
        """The owned vehicles of which a recipient may not see all of `classes`, in order of reference."""
        owned = np.fromiter(self._entries, np.int64, len(self._entries))
        seen = self.masks(owned, recipient, purpose, at_us)
        return sorted(owned[seen & classes != classes].tolist())

    def is_owned(self, ref: int) -> bool:
        """Whether this reference has, or had, an owner: looks at it are noted for him."""
        return ref in self._entries

    def _unowned(self, recipient: str, purpose: str) -> int:
        """A vehicle that nobody owns is the region's own, open to its operators."""
        is_open = recipient == REGION and purpose in REGION_PURPOSES and not self._is_stale
        return data_classes.ALL if is_open else 0

    async def refresh(self) -> None:
        """Take in now what changed, so that whoever just acted sees it in his next answer.

        Raises: what the database raises when it is down; the table is as it was then.
        """
        async with self._database.pool.acquire() as connection:
            changed = await self._read(connection)
        self._tell(changed)

    # --- following ----------------------------------------------------------------------------------------------------

    def watch(self, callback: Watcher) -> Callable[[], None]:
        """Call `callback` with the vehicles whose rights changed, by an act or because a period began or ended.

        Returns what ends the watching. A callback must not block.
        """
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback)

    def _tell(self, refs: Set[int]) -> None:
        for watcher in tuple(self._watchers) if refs else ():
            try:
                watcher(refs)
            except Exception:  # a watcher's fault must not keep the others from hearing of a withdrawal
                _log.exception("a watcher of the consent table failed")

    async def _follow(self) -> None:
        while True:
            try:
                connection = await asyncpg.connect(self._database.url, timeout=READ_S)
                try:
                    await connection.add_listener(store.CHANNEL, self._heard)
                    await self._read_for_ever(connection)
                finally:
                    connection.terminate()
            except (*DOWN, TimeoutError):
                await asyncio.sleep(RETRY_S)
            except Exception:  # a table that stopped following would go on showing what was withdrawn
                _log.exception("the consent table could not be read")
                await asyncio.sleep(RETRY_S)

    async def _read_for_ever(self, connection: asyncpg.Connection) -> None:
        trimmed_s = self._clock.monotonic_s()
        while True:
            self._wake.clear()
            async with asyncio.timeout(READ_S):
                changed = await self._read(connection)
                if self._clock.monotonic_s() - trimmed_s > 3_600:
                    trimmed_s = self._clock.monotonic_s()
                    await store.trim_changes(connection, self._clock.now_us() - KEPT_CHANGES_US)
            now_us = self._clock.now_us()
            self._tell(changed | self._passed(now_us))
            wait_s = min(POLL_S, max(0.0, (self._boundaries[0][0] - now_us) / 1e6) if self._boundaries else POLL_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), wait_s)

    async def _watch_age(self) -> None:
        """Close when the database has been away too long, open when it is back; both reach the watchers."""
        while True:
            await asyncio.sleep(TICK_S)
            is_stale = self.age_s > STALE_S
            if is_stale != self._is_stale:
                self._is_stale = is_stale
                _log.warning(
                    "consents %s", "are not known any more; owners alone see" if is_stale else "are known again"
                )
                self._tell(frozenset(self._entries))

    async def _read(self, connection: asyncpg.Connection) -> Set[int]:
        """Take in what changed, one reader at a time; vehicles whose entry is another now."""
        async with self._reading:
            return await self._read_alone(connection)

    async def _read_alone(self, connection: asyncpg.Connection) -> Set[int]:
        low, high = await store.change_bounds(connection)
        if high < self._last_number or low > self._last_number + 1:
            before = frozenset(self._entries)
            await self._load(connection)
            return before | self._entries.keys()
        changed: set[int] = set()
        while high > self._last_number:
            rows = await store.changes(connection, self._last_number, BATCH)
            refs = {ref for _, ref in rows}
            await self._compile(connection, refs)
            self._last_number = rows[-1][0]
            changed |= refs
        self._read_s = self._clock.monotonic_s()
        return changed

    async def _load(self, connection: asyncpg.Connection) -> None:
        _, number = await store.change_bounds(connection)
        await self._compile(connection, None)
        self._last_number = number
        self._read_s = self._clock.monotonic_s()

    async def _compile(self, connection: asyncpg.Connection, refs: Set[int] | None) -> None:
        """Read and replace the entries of these vehicles, or of all."""
        now_us = self._clock.now_us()
        asked = None if refs is None else list(refs)
        owners = await store.owners(connection, asked)
        grants = _by_ref(await store.live_grants(connection, now_us, asked))
        guests = _by_ref(await store.live_guests(connection, now_us, asked))
        made = {one.ref: entry_of(one, grants.get(one.ref, ()), guests.get(one.ref, ())) for one in owners}
        for ref in self._entries.keys() if refs is None else refs:
            if known := self._entries.get(ref):
                for party in known.parties:
                    self._named[party].discard(ref)
        for ref in (self._entries.keys() if refs is None else refs) - made.keys():
            self._entries.pop(ref, None)
        self._entries.update(made)
        for ref, entry in made.items():
            for party in entry.parties:
                self._named.setdefault(party, set()).add(ref)
        self._columns.changed(refs)
        if refs is None:
            self._boundaries.clear()
        for ref, entry in made.items():
            for at_us in boundaries(entry, now_us):
                heapq.heappush(self._boundaries, (at_us, ref))

    def _passed(self, now_us: int) -> Set[int]:
        """Vehicles for whom a period began or ended since this was last asked."""
        refs = set()
        while self._boundaries and self._boundaries[0][0] <= now_us:
            refs.add(heapq.heappop(self._boundaries)[1])
        return refs

    def _heard(self, *_: Any) -> None:
        self._wake.set()


def entry_of(owner: Ownership, grants: Iterable[Grant], guests: Iterable[Guest]) -> Entry:
    """Compile one vehicle: the owner first, for he asks most."""
    drivers = tuple((one.person, OWN, one.from_us, one.end_us, one.classes, one.id) for one in guests)
    given = tuple(
        (intern(one.recipient), intern(one.purpose), one.from_us, one.end_us, one.classes, one.id) for one in grants
    )
    himself = (owner.person, OWN, 0, FOREVER_US, data_classes.ALL, "")
    return Entry(owner.person, owner.until_us, (himself, *drivers, *given), drivers)


def boundaries(entry: Entry, now_us: int) -> set[int]:
    """Instants after now at which the entry answers otherwise, though nobody changes it."""
    instants = {at_us for span in entry.spans for at_us in span[2:4]} | {entry.until_us}
    return {at_us for at_us in instants if now_us < at_us < FOREVER_US}


def _by_ref[T: (Grant, Guest)](rows: Iterable[T]) -> dict[int, list[T]]:
    found: dict[int, list[T]] = {}
    for row in rows:
        found.setdefault(row.ref, []).append(row)
    return found
