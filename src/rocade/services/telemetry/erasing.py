"""Erasing, from the order to the certificate: unreadable at once, out of every file on demand or within the hour.

    ordered    audit entry, row, line in the ledger of erasures; every process hides the vehicle's history (`hiding`)
    forgotten  twin, numbers, quarantine and what services made of the data are gone, the keys destroyed, the vehicle renewed
    cleared    history parts rewritten, records out of the log's tables and the archive, room of dead rows given back,
               key tables punctured: no older copy of them opens anything of it any more
    done       audit entry with the counts, second line in the ledger; the certificate can be had

`erase` does the first two and returns; `run` does the rest, one process of all, several erasures at a time because
rewriting costs as much for many vehicles as for one. Each step may be broken off anywhere: the next turn repeats it from its
beginning, and what was counted before a removal stays counted. People go the same way (`forget_person`).
Refuses: what the audit log, the ledger file and the keyring refuse; nothing is done then. docs/decisions/0057-erasure.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol

from rocade.core.errors import RocadeError, Unavailable
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import follow
from rocade.fabric.history import History
from rocade.fabric.log import Log
from rocade.services.telemetry import store
from rocade.services.telemetry.condensing import discard_staged
from rocade.services.telemetry.handover import Handover
from rocade.services.telemetry.ledger import ERASING, Ledger
from rocade.services.telemetry.model import STREAM
from rocade.trust.authority.erasure import Entry, Erasure, Erasures
from rocade.trust.authority.erasure.store import CHANNEL, CLEARED, FORGOTTEN, ORDERED
from rocade.trust.authority.people.model import person_number
from rocade.trust.authority.sealing import Keyring

REST_US = 3_600_000_000
"""How long rows that nobody finds may stay in files when nobody asked for more."""
MANY = 200
"""More do not rest: each question to the history carries the references of all that do."""
POLL_S = 30.0
BEAT_S = 60.0
_log = logging.getLogger(__name__)

type ForgetPerson = Callable[[Any, int], Awaitable[dict[str, int]]]
"""`await forget_person(connection, number)`: everything of a person goes, in this transaction; counts by name."""
type LetGo = Callable[[str], Awaitable[Sequence[int]]]
"""`await let_go(person)`: the person's vehicles are nobody's any more; references of all the time he had them."""


class Place(Protocol):
    """Files besides history and log that hold what vehicles sent (the archive)."""

    name: str

    async def forget(self, refs: Sequence[int]) -> int:
        """Write anew what holds something of these references, without it; how many records went. Repeatable."""
        ...


class Eraser:
    """Erases vehicles and people of one region."""

    def __init__(
        self, handover: Handover, erasures: Erasures, database: Database, history: History, log: Log, clock: Clock,
        places: Sequence[Place] = (), forget_person: ForgetPerson | None = None, let_go: LetGo | None = None,
    ) -> None:  # fmt: skip
        self._handover = handover
        self.erasures = erasures
        self._database = database
        self._history = history
        self._log = log
        self._clock = clock
        self._ledger = Ledger(database)
        self.places = places
        self.forget_person = forget_person
        self.let_go = let_go
        self._wake = asyncio.Event()

    async def erase(self, ref: int, actor: str, *, is_physical: bool = False) -> Erasure:
        """Erase a vehicle's data for every reader; when this returns nobody finds them.

        Raises: Unavailable `audit.down`, `erasure.ledger.full`, `database.down`.
        """
        renewed = self._handover.draw() if await self._handover.is_present(ref) else 0
        ordered = await self.erasures.order(f"vehicle:{ref}", ref, renewed, actor, is_physical=is_physical)
        return await self._hurry(ordered)

    async def erase_person(self, person: str, actor: str) -> Erasure:
        """Forget a person: name, passkeys, sessions, consents, and what his vehicles sent; those he owns he gives back.

        Raises: as `erase`; Refused `people.unknown`, `consent.conflict.open`.
        """
        number = person_number(person)
        if self.let_go is not None:
            for ref in await self.let_go(person):
                await self.erase(ref, actor, is_physical=True)
        return await self._hurry(await self.erasures.order(person, number, 0, actor, is_physical=True))

    async def _hurry(self, ordered: Erasure) -> Erasure:
        try:
            if ordered.step == ORDERED:
                await self._forget(ordered)
        except Unavailable as error:  # it is hidden already; `run` goes on with it
            _log.warning("an erasure waits: %s", error.code)
        self._wake.set()
        return await self.erasures.find(ordered.id)

    async def erase_again(self, entries: Iterable[Entry]) -> int:
        """Erasures of the ledger once more, all together, in a region restored from an older copy that serves nobody; how many.

        Raises: as `erase`, and what rewriting raises.
        """
        done = 0
        for entry in entries:
            kind, _, number = entry.subject.partition(":")
            ref = int(number) if kind == "vehicle" else person_number(entry.subject)
            await self.erasures.order(
                entry.subject, ref, entry.renewed, "service:restore", is_physical=True, again=entry
            )
            done += 1
        await self.work(waits=False)
        if await self.erasures.unfinished():
            raise Unavailable("erasure.unfinished", "another process erases in this region; stop it, then again")
        return done

    async def run(self) -> None:
        """Move every erasure on, for ever: after each order, and every half minute what was broken off or may rest no longer."""
        async with asyncio.TaskGroup() as group:
            group.create_task(follow(self._database, CHANNEL, self._heard, poll_s=POLL_S))
            group.create_task(self._beat())
            while True:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                try:
                    await self.work()
                except (RocadeError, OSError, *DOWN):
                    _log.exception("an erasure was broken off; it goes on in half a minute")

    async def _heard(self, _connection: object) -> None:
        self._wake.set()

    async def _beat(self) -> None:
        """Let the ledger say every minute that nothing else was erased: restores ask for its age."""
        while True:
            try:
                await asyncio.to_thread(self.erasures.ledger.beat)
            except (RocadeError, OSError):
                _log.exception("the ledger of erasures could not be signed anew")
            await asyncio.sleep(BEAT_S)

    async def work(self, *, waits: bool = True) -> None:
        """One turn: what is ordered is forgotten, what is due is cleared, what is cleared is certified."""
        async with self._ledger.alone(ERASING) as is_alone:
            if not is_alone:
                return
            for one in await self.erasures.unfinished():
                if one.step == ORDERED:
                    await self._taken_up(one, waits=waits)
            waiting = [one for one in await self.erasures.unfinished() if one.step == FORGOTTEN]
            rested_us = self._clock.now_us() - REST_US
            if len(waiting) > MANY or any(one.is_physical or one.ordered_us <= rested_us for one in waiting):
                await self._clear(waiting)
            for one in await self.erasures.unfinished():
                if one.step == CLEARED:
                    await self.erasures.finish(one)

    async def _taken_up(self, erasure: Erasure, *, waits: bool) -> None:
        """Forget what was only ordered; one that cannot be forgotten now keeps none of the others waiting."""
        await self.erasures.wrote(erasure)
        try:
            await self._forget(erasure, waits=waits)
        except Unavailable as error:
            if not waits:
                raise
            _log.warning("an erasure waits: %s", error.code)

    async def _forget(self, erasure: Erasure, *, waits: bool = True) -> None:
        if erasure.subject.startswith("person:"):
            await self._forget_person(erasure)
            return

        async def last(connection: Any, keys: int) -> None:
            await self.erasures.counted(erasure, connection, scope="vehicle", keys=keys)
            await self.erasures.reached(erasure, FORGOTTEN, connection)

        async def claim(connection: Any) -> bool:
            return await self.erasures.claimed(erasure, connection)

        await self._handover.forget(erasure.ref, erasure.renewed, erasure.ordered_us, claim, last, waits=waits)

    async def _forget_person(self, erasure: Erasure) -> None:
        assert self.forget_person is not None, "nothing that forgets people was handed in"
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await self.erasures.claimed(erasure, connection):
                return
            counts = await self.forget_person(connection, erasure.ref)
            await self._keyring.destroy(connection, [erasure.ref])
            await self.erasures.counted(erasure, connection, scope="person", **counts)
            await self.erasures.reached(erasure, FORGOTTEN, connection)

    async def _clear(self, waiting: Sequence[Erasure]) -> None:
        """Out of every file. What is counted is counted before it goes."""
        vehicles = {one.ref: one for one in waiting if one.subject.startswith("vehicle:")}
        if vehicles:
            await self._clear_history(vehicles)
            await self._clear_log(vehicles)
            for place in self.places:
                await self._tell(waiting, place.name)
                removed = await place.forget(list(vehicles))
                for one in vehicles.values():
                    await self.erasures.counted(one, **{f"{place.name}_records": removed})
        await self._tell(waiting, "keys and dead rows")
        punctured = await self._keyring.puncture()
        await self.erasures.sweep()
        for one in waiting:
            await self.erasures.counted(one, key_version=punctured.version_after, together=len(waiting))
            await self.erasures.reached(one, CLEARED)

    async def _clear_history(self, vehicles: dict[int, Erasure]) -> None:
        held = await store.held_of(self._history, list(vehicles))
        for ref, one in vehicles.items():
            rows, parts = held.get(ref, (0, 0))
            await self.erasures.counted(one, rows=rows, parts_before=parts)
        telling: set[asyncio.Task[None]] = set()

        def progress(done: int, of: int) -> None:
            if not telling:
                told = asyncio.create_task(self._tell(list(vehicles.values()), f"history {done}/{of}"))
                telling.add(told)
                told.add_done_callback(telling.discard)

        erased = await store.erase_vehicles(self._history, list(vehicles), progress)
        await asyncio.gather(*telling, return_exceptions=True)
        await discard_staged(self._history, self._ledger)
        if erased.parts_after:
            raise Unavailable("erasure.parts", "parts of the history still hold erased rows; the next turn goes on")
        for one in vehicles.values():
            await self.erasures.counted(one, parts_after=0)

    async def _clear_log(self, vehicles: dict[int, Erasure]) -> None:
        await self._tell(list(vehicles.values()), "log")
        removed = await self._log.forget(STREAM, {ref: partition_of(VehicleRef(ref)) for ref in vehicles})
        for ref, count in (removed or {}).items():
            await self.erasures.counted(vehicles[ref], log_records=count)

    async def _tell(self, erasures: Sequence[Erasure], progress: str) -> None:
        for one in erasures:
            await self.erasures.tell(one, progress)

    @property
    def _keyring(self) -> Keyring:
        keyring = self._database.keyring
        assert isinstance(keyring, Keyring), "a region that holds data has its keyring"
        return keyring
