"""`Stations`: what other services, the API and the command line ask of charging stations.

Reading goes to the database from any process. What a station is to do (`limit`, `unlimit`, `order`) becomes a row first; the process
that holds the station's line hears of it and does it (`holding`), the others wait for the outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from rocade.core.errors import Refused
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.services.charging.stations import errors, ledger, proving, store
from rocade.services.charging.stations.dialect import Dialect
from rocade.services.charging.stations.intake import Watcher
from rocade.services.charging.stations.model import (
    NAME,
    Connector,
    ConnectorState,
    Event,
    Limit,
    Sample,
    Standing,
    Station,
    Tag,
    Transaction,
)
from rocade.services.charging.stations.sealing import StationSeals
from rocade.trust.authority.sealing.columns import Columns

PAGE = 200
MOST_SAMPLES = 10_000
ORDER_S = 120
_POLL_S = 0.05


class Stations:
    """One per process. `holding` is set where stations' lines are."""

    def __init__(self, database: Database, tags: proving.Tags, audit: Audit, clock: Clock, random: Random) -> None:
        self._database, self.tag_keys, self._audit = database, tags, audit
        self._clock, self.random = clock, random
        self._seals = StationSeals(database)
        self.watchers: list[Watcher] = []

    # --- what the charging service asks ---------------------------------------------------------------------------

    async def connector_of(self, ref: VehicleRef) -> Connector | None:
        """Where the vehicle hangs now, as its stations know it; the newest place counts."""
        found = await self.transactions_of_vehicles([ref])
        return found[ref].place if ref in found else None

    async def transactions_of_vehicles(self, refs: Sequence[VehicleRef]) -> dict[VehicleRef, Transaction]:
        """The open transaction of each that has one. One query."""
        found = await ledger.open_of_vehicles(self._database.pool, await self._seals.at_hand(), refs)
        return {one.vehicle: one for one in found if one.vehicle is not None}

    async def limit(self, place: Connector, limit: Limit) -> Standing:
        """Want this limit there from now on, until it ends or another takes its place. Returns at once; `standing` and
        the events say what the station made of it.

        Raises: Refused `stations.limit.*`.
        """
        now_us = self._clock.now_us()
        limit.check(now_us)
        if ":" in limit.by:  # somebody, not a plan
            await self._record("stations.limit", limit.by, place.station, evse=place.evse, kw=limit.slots[0].power_kw)
        return await store.want_limit(self._database.pool, place, limit, now_us)

    async def unlimit(self, place: Connector) -> Standing | None:
        """Want no limit there any more; what was wanted. A station that is away loses its profile when it returns."""
        was = await store.end_limit(self._database.pool, place.station, place.evse, self._clock.now_us())
        if was is not None and was.purpose and (await self.station(place.station)).is_here:
            await self.order(place.station, "clear", {"evse": place.evse, "purpose": was.purpose}, "charging")
        return was

    async def standing(self, place: Connector) -> Standing | None:
        """How the limit there stands; None if there never was one."""
        return await store.read_limit(self._database.pool, place.station, place.evse)

    async def standings(self, stations: Sequence[str]) -> list[Standing]:
        """Limits that have not ended."""
        return await store.read_limits(self._database.pool, stations)

    async def meter(
        self, place: Connector, from_us: int, until_us: int, transaction: int = 0, count: int = MOST_SAMPLES
    ) -> list[Sample]:
        """Meter values of an EVSE, of one transaction or of all, the oldest first."""
        return await ledger.samples(
            self._database.pool,
            await self._seals.at_hand(),
            place.station,
            place.evse,
            transaction,
            from_us,
            until_us,
            min(count, MOST_SAMPLES),
        )

    async def transaction(self, number: int) -> Transaction | None:
        return await ledger.read_transaction(self._database.pool, await self._seals.at_hand(), number)

    async def open_at(self, station: str, evse: int | None = None) -> list[Transaction]:
        return await ledger.open_at(self._database.pool, await self._seals.at_hand(), station, evse)

    async def changed_since(self, changed_us: int, number: int = 0, count: int = PAGE) -> list[tuple[int, Transaction]]:
        """Transactions in the order they changed, to be followed: hand in the last row's (changed_us, number)."""
        return await ledger.changed_since(self._database.pool, await self._seals.at_hand(), changed_us, number, count)

    async def bind(self, number: int, ref: VehicleRef | None) -> None:
        """Say which vehicle hangs at an open transaction, where no tag said it (found by time and place, or by a driver).

        Raises: Refused `stations.transaction`.
        """
        hand = await self._seals.at_hand()
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await ledger.bind(connection, hand, number, ref, self._clock.now_us()):
                raise errors.transaction_unknown()

    def watch(self, watcher: Watcher) -> None:
        """Call `watcher(events)` for what happens at stations whose lines are here, after it is durable. Must not block."""
        self.watchers.append(watcher)

    # --- orders ---------------------------------------------------------------------------------------------------

    async def order(self, station: str, act: str, body: Mapping[str, Any], by: str, life_s: int = ORDER_S) -> int:
        """Want an act of a station: start, stop, reset, trigger, clear, composite, password, certify. Its number."""
        now_us = self._clock.now_us()
        if ":" in by:
            await self._record("stations.order", by, station, act=act)
        return await store.add_order(
            self._database.pool, Columns(self._database), station, act, body, by, now_us, now_us + life_s * 1_000_000
        )

    async def outcome(self, id: int, wait_s: float) -> tuple[str, dict[str, Any], str]:
        """(state, answer, code) of an order when it is settled, or as it stands after `wait_s`."""
        ends_s = self._clock.monotonic_s() + wait_s
        while True:
            found = await store.read_order(self._database.pool, Columns(self._database), id)
            if found is None:
                raise Refused("stations.order.unknown", "there is no such order")
            if found[0] not in {"queued", "sent"} or self._clock.monotonic_s() >= ends_s:
                return found
            await asyncio.sleep(_POLL_S)

    # --- registration ---------------------------------------------------------------------------------------------

    async def register(self, station: Station, by: str) -> str:
        """Write a station down; its password for security profiles 1 and 2, shown this once ('' for profile 3).

        Raises: Refused `stations.exists`, `stations.invalid`.
        """
        _check(station)
        password = "" if station.profile == 3 else proving.new_password(self.random)
        secret = await asyncio.to_thread(proving.hash_password, password) if password else None
        now_us = self._clock.now_us()
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.add(connection, msgspec.structs.replace(station, made_us=now_us), secret)
            await self._record("stations.register", by, station.id, profile=station.profile)
        return password

    async def renew_password(self, id: str, by: str, *, at_once: bool) -> str:
        """A new password, shown this once. `at_once` ends the old one now; else the old one is good until the new one is used.

        Raises: Refused `stations.refused.unknown`.
        """
        await self.station(id)
        password = proving.new_password(self.random)
        secret = await asyncio.to_thread(proving.hash_password, password)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.put_next_secret(connection, id, secret, at_once=at_once)
            await self._record("stations.password", by, id)
        return password

    async def change(self, id: str, by: str, **changes: Any) -> Station:
        """Change name, site, profile, is_open, is_closed, phases, voltage. Raises: Refused `stations.refused.unknown`, `.invalid`."""
        changed = msgspec.structs.replace(await self.station(id), **changes)
        if not changes:
            return changed
        _check(changed)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.change(connection, id, changes)
            await self._record("stations.change", by, id, what=" ".join(sorted(changes)))
        if changed.is_closed:
            await self.order(id, "close", {}, by)
        return changed

    async def station(self, id: str) -> Station:
        """Raises: Refused `stations.refused.unknown`."""
        found = await store.read(self._database.pool, id)
        if found is None:
            raise errors.refused("unknown")
        return found

    async def page(self, after: str = "", count: int = PAGE, site: str = "") -> list[Station]:
        return await store.read_many(self._database.pool, after, min(count, PAGE), site)

    async def dialect(self, id: str) -> Dialect:
        """What it has shown that it accepts."""
        kept = (await store.read_dialects(self._database.pool, [id])).get(id)
        return msgspec.json.decode(kept, type=Dialect) if kept is not None else Dialect()

    async def connectors(self, stations: Sequence[str]) -> list[ConnectorState]:
        return await store.read_connectors(self._database.pool, stations)

    async def transactions(self, station: str, before: int = 1 << 62, count: int = PAGE) -> list[Transaction]:
        return await ledger.transactions_of(
            self._database.pool, await self._seals.at_hand(), station, before, min(count, PAGE)
        )

    async def events(self, station: str = "", before: int = 1 << 62, count: int = PAGE) -> list[tuple[int, Event]]:
        return await store.read_events(self._database.pool, station, before, min(count, PAGE))

    # --- tags -----------------------------------------------------------------------------------------------------

    async def put_tag(
        self, tag: str, by: str, *, vehicle: VehicleRef | None = None, label: str = "", ends_us: int | None = None,
        is_blocked: bool = False,
    ) -> Tag:  # fmt: skip
        """Let a tag charge, for a vehicle or for whoever bears it. Only its keyed digest is kept.

        Raises: Refused `stations.tag.form`, `stations.invalid`.
        """
        digest = self.tag_keys.digest(proving.check_tag(tag))
        digest = (await self._seals.at_hand()).blind_tag(digest)
        if len(label) > 80 or not (label.isprintable()):
            raise errors.invalid("label", "at most 80 printable characters")
        made = Tag(
            reference=digest[:6].hex(), vehicle=vehicle, label=label, ends_us=ends_us, is_blocked=is_blocked
        )  # fmt: skip
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.put_tag(connection, Columns(self._database), digest, made, self._clock.now_us())
            await self._record("stations.tag", by, f"tag:{made.reference}", blocked=int(is_blocked))
        return made

    async def tags(self, after: str = "", count: int = PAGE) -> list[Tag]:
        return await store.list_tags(self._database.pool, Columns(self._database), after, min(count, PAGE))

    async def drop_tag(self, reference: str, by: str) -> None:
        """Raises: Refused `stations.tag.unknown`."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            if not await store.drop_tag(connection, reference):
                raise errors.tag("unknown")
            await self._record("stations.tag.drop", by, f"tag:{reference}")

    async def forget(self, connection: Any, ref: int) -> None:
        """Erase what names a vehicle and what was measured at it, in the caller's transaction."""
        await forgetting(self._database)(connection, ref)

    async def _record(self, action: str, by: str, subject: str, **facts: str | int | float) -> None:
        named = subject if ":" in subject else f"station:{subject}"
        await self._audit.record(AuditEntry(self._clock.now_us(), by, action, named, facts=facts))


def forgetting(database: Database) -> Callable[[Any, int], Awaitable[None]]:
    """What an erasure does here, where no `Stations` runs."""
    seals = StationSeals(database)

    async def forget(connection: Any, ref: int) -> None:
        await ledger.forget_vehicle(connection, await seals.at_hand(), ref)

    return forget


def _check(station: Station) -> None:
    if not NAME.match(station.id):
        raise errors.invalid("id", "1 to 48 of A-Z, a-z, 0-9, '.', '_' and '-', as in the station's address")
    if station.profile not in {1, 2, 3}:
        raise errors.invalid("profile", "OCPP's security profile: 1, 2 or 3")
    if station.phases not in {1, 2, 3}:
        raise errors.invalid("phases", "1, 2 or 3")
    if not 100 <= station.voltage <= 500:
        raise errors.invalid("voltage", "volts between phase and neutral: 100 to 500")
    if len(station.name) > 80 or not station.name.isprintable():
        raise errors.invalid("name", "at most 80 printable characters")
    if len(station.site) > 64:
        raise errors.invalid("site", "at most 64 characters")
