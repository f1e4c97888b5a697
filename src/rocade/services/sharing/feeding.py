"""What goes out under contracts: waiting records opened, looked at under the contract and its consent, written as JSON.

`Feeding.after` gives a reader what comes behind its cursor; `Bell` wakes readers when something waits for their vehicles. Each
record asks contract and consent again at the moment it goes out (`is_agreed`), so what was withdrawn or narrowed stops at the next
record; what goes out is noted for the owner as a look. While consents are not known, or keys are not to be had, nothing goes out and nothing is lost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import EVERYTHING, listen
from rocade.services.consent import Looks
from rocade.services.sharing import outbox, records, store
from rocade.services.sharing.book import Book
from rocade.services.sharing.model import Contract, Line
from rocade.services.sharing.records import Scope
from rocade.services.sharing.service import Sharing
from rocade.trust.authority.gate import Permit, Principal, Right, acts
from rocade.trust.authority.sealing import Keyring

PAGE = 50
HOUR_US = 3_600_000_000


class Sent(msgspec.Struct, frozen=True):
    """One record as it goes out while `classes` may. `body` is '' where nothing of it does (other classes, no such signals)."""

    contract: Contract
    classes: int
    number: int
    at_us: int
    body: bytes
    samples: int


class Feeding:
    """Reads for third parties, in the process that answers or posts."""

    def __init__(
        self, sharing: Sharing, book: Book, keyring: Keyring, looks: Looks, catalogue: Catalogue, clock: Clock
    ) -> None:
        self.sharing = sharing
        self.book = book
        self._pool = sharing.database.pool
        self._keyring = keyring
        self._looks = looks
        self._catalogue = catalogue
        self._clock = clock

    async def newest(self) -> int:
        """The cursor behind everything that waits."""
        return await store.newest(self._pool)

    async def after(
        self, contracts: Sequence[Contract], cursor: int, limit: int = PAGE
    ) -> tuple[list[Sent], int, bool]:
        """Records of these running contracts behind a cursor, the cursor behind them, and whether that is all that waits.

        Raises: Unavailable `sharing.stale`, `custody.down`, `consent.looks.full`, `database.down`.
        """
        of: dict[int, list[Contract]] = defaultdict(list)
        for one in contracts:
            of[one.ref].append(one)
        found = await store.after(self._pool, list(of), cursor, limit)
        sent = []
        for waiting, body in await outbox.opened(self._keyring, found):
            for contract in of[waiting.ref]:
                classes = self.sharing.classes_of(contract)
                if classes and waiting.at_us >= contract.accepted_us:
                    sent.append(self._sent(contract, classes, waiting.number, waiting.at_us, waiting.arrived_us, body))
        return sent, found[-1].number if found else cursor, len(found) < limit

    async def missed(self, id: str, cursor: int, upto: int) -> tuple[int, int]:
        """Of what waits behind a cursor until `upto`: records that would have gone out under a contract, and their samples.

        Raises: as `after`.
        """
        records_missed = samples = 0
        is_all = (contract := self.book.by_id.get(id)) is None
        while contract is not None and not is_all and cursor < upto:
            found, cursor, is_all = await self.after([contract], cursor)
            shown = [one for one in found if one.body and one.number <= upto]
            records_missed, samples = records_missed + len(shown), samples + sum(one.samples for one in shown)
        return records_missed, samples

    def _sent(self, contract: Contract, classes: int, number: int, at_us: int, arrived_us: int, body: bytes) -> Sent:
        scope = Scope(contract, self.book.terms_of(contract), self._catalogue)
        found = records.series(body, scope, classes)
        if not found:
            return Sent(contract, classes, number, at_us, b"", 0)
        written = records.written(contract, number, arrived_us, found, scope, classes)
        return Sent(contract, classes, number, at_us, written, records.count(found))

    def is_agreed(self, one: Sent) -> bool:
        """Whether a record may still leave as it was read: under this version of its contract, and all of its classes.

        Raises: Unavailable `sharing.stale`.
        """
        return (
            self.book.by_id.get(one.contract.id) == one.contract
            and self.sharing.classes_of(one.contract) == one.classes
        )

    def note(self, actor: Principal, contract: Contract, signals: Iterable[int] = ()) -> None:
        """The owner's log of looks: something of his vehicle is about to leave. Raises: Unavailable `consent.looks.full`."""
        right = Right("none", self.sharing.classes_of(contract), contract.grant, is_owned=True)
        permit = Permit(actor, acts.FOLLOW_SHARING, contract.purpose, right)
        self._looks.note(permit, contract.ref, acts.FOLLOW_SHARING.name, signals, self._clock.now_us())

    def line(self, way: str, sent: Sent) -> Line:
        """What the contract's log gets for one record, summed by hours."""
        at_us = self._clock.now_us() // HOUR_US * HOUR_US
        one = sent.contract
        return Line(one.id, at_us, "sent", way, one.version, 1, sent.samples, len(sent.body))


class Bell:
    """Wakes readers: `ringing` gives an event that is set when something waits for one of these vehicles."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._events: dict[int, set[asyncio.Event]] = defaultdict(set)

    async def run(self) -> None:
        await listen(self._database, (store.QUEUED,), self._heard)

    def _heard(self, _channel: str, said: str) -> None:
        refs = list(self._events) if said == EVERYTHING else [int(ref) for ref in said.split()]
        for ref in refs:
            for event in self._events.get(ref, ()):
                event.set()

    @contextmanager
    def ringing(self, refs: Iterable[int], event: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        event = event or asyncio.Event()
        mine = set(refs)
        for ref in mine:
            self._events[ref].add(event)
        try:
            yield event
        finally:
            for ref in mine:
                self._events[ref].discard(event)
                if not self._events[ref]:
                    del self._events[ref]


class Lines:
    """Log lines of one process on their way to the table, summed, every few seconds."""

    FLUSH_S = 2.0

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._pending: dict[tuple[Any, ...], Line] = {}

    def add(self, line: Line) -> None:
        key = line.contract, line.at_us, line.kind, line.way
        if (known := self._pending.get(key)) is not None:
            line = msgspec.structs.replace(
                line, records=known.records + line.records, samples=known.samples + line.samples, bytes=known.bytes + line.bytes
            )  # fmt: skip
        self._pending[key] = line

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.FLUSH_S)
            await self.flush()

    async def flush(self) -> None:
        if self._pending:
            taken, self._pending = self._pending, {}
            try:
                await self._sharing.note(list(taken.values()))
            except BaseException:
                for line in taken.values():
                    self.add(line)
                raise
