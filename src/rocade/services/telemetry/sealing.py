"""Records on the road, sealed: body and kind as they lie in the log and in quarantine.

Flow: the gateway seals each record before it appends it (`RoadSeals.sealed`) -> log, archive and quarantine hold what only the key
of the vehicle's ownership period opens (group ROAD) -> a worker opens a whole block at once (`RoadSeals.opened`).
    sealed record = kind + SEALED, seal(key, body), bound to reference, stream, kind and instant of arrival
Records written before there was sealing have a kind below SEALED and are taken as they are. A record whose owner's key was
destroyed is gone: dropped and counted, as records of erased references always were. One that does not open (changed,
moved to another vehicle or instant) goes to quarantine as `seal.broken`. Decision and figures: docs/decisions/0055-sealed-road.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from rocade.core.errors import Corrupt
from rocade.fabric.log import Record
from rocade.services.telemetry.model import SEALED, STREAM, Held
from rocade.trust.authority.sealing import Group, Keys, Name, aad, open_sealed, seal

_ROAD = int(Group.ROAD)


class Opened(NamedTuple):
    """A block as the worker takes it in."""

    records: list[Record]
    gone: int
    """Records nobody can open any more: their owner was erased."""
    broken: list[Held]


class RoadSeals:
    """Seals and opens records with the keys of one process."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    async def ready(self, refs: Iterable[int]) -> None:
        """Have the keys of these vehicles at hand. Cost: one query for all that are not.

        Raises: Unavailable `custody.down`, `custody.refused`, `database.down`.
        """
        await self._keys.ensure((ref, _ROAD) for ref in refs)

    async def sealed(self, records: Sequence[Record]) -> list[Record]:
        """The records sealed, without those of owners who were erased. Cost: 5 us each and 1 us per 2 kB.

        Raises: as `ready`.
        """
        held = {ref: self._keys.held(ref, _ROAD) for ref in {record.key for record in records}}
        if missing := [(ref, _ROAD) for ref, key in held.items() if key is None]:
            found = await self._keys.ensure(missing)
            held |= {ref: found.get((ref, _ROAD)) for ref, _ in missing}
        return [seal_record(record, key) for record in records if (key := held[record.key]) is not None]

    async def opened(self, records: Sequence[Record], erased: Collection[int] = ()) -> Opened:
        """The records in clear, in a thread. Raises: as `ready`."""
        names = {(record.key, _ROAD) for record in records if record.kind >= SEALED and record.key not in erased}
        return await asyncio.to_thread(open_records, records, await self._keys.fetch(names), erased)

    async def sealed_held(self, held: Sequence[Held]) -> list[Held]:
        """What goes to quarantine, sealed as the records were. Raises: as `ready`."""
        plain = [one for one in held if one.kind < SEALED]
        found = await self._keys.ensure({(one.ref, _ROAD) for one in plain}) if plain else {}
        return [
            one if one.kind >= SEALED else _sealed_held(one, found[one.ref, _ROAD])
            for one in held
            if one.kind >= SEALED or (one.ref, _ROAD) in found
        ]

    async def open_held(self, ref: int, kind: int, arrived_us: int, body: bytes) -> bytes:
        """The body of a record in quarantine, given as it lies there; empty when its owner was erased.

        Raises: Corrupt `seal.broken`; as `ready`.
        """
        if kind < SEALED or not body:
            return body
        found = await self._keys.fetch([(ref, _ROAD)])
        return open_sealed(found[ref, _ROAD], body, _place(ref, kind % SEALED, arrived_us)) if found else b""


def seal_record(record: Record, key: bytes) -> Record:
    """Partition, key and instant stay readable: the log is ordered and trimmed by them."""
    partition, ref, kind, arrived_us = record.partition, record.key, record.kind, record.arrived_us
    return Record(partition, ref, kind + SEALED, arrived_us, seal(key, record.body, _place(ref, kind, arrived_us)))


def open_records(records: Sequence[Record], keys: Mapping[Name, bytes], erased: Collection[int] = ()) -> Opened:
    """Open what is sealed; records of erased references leave before. Pure."""
    opened, gone, broken = [], 0, []
    for record in records:
        ref, kind = record.key, record.kind - SEALED
        if ref in erased:
            gone += 1
        elif kind < 0:
            opened.append(record)
        elif (key := keys.get((ref, _ROAD))) is None:
            gone += 1
        else:
            try:
                body = open_sealed(key, record.body, _place(ref, kind, record.arrived_us))
                opened.append(Record(record.partition, ref, kind, record.arrived_us, body))
            except Corrupt as error:
                broken.append(Held(ref, record.arrived_us, record.kind, error.code, error.message, record.body))
    return Opened(opened, gone, broken)


def _sealed_held(held: Held, key: bytes) -> Held:
    place = _place(held.ref, held.kind, held.arrived_us)
    return Held(held.ref, held.arrived_us, held.kind + SEALED, held.reason, held.detail, seal(key, held.body, place))


def _place(ref: int, kind: int, arrived_us: int) -> bytes:
    return aad(ref, STREAM, kind, arrived_us)
