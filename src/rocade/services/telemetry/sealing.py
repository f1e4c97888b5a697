"""Records on the road, sealed: body and kind as they lie in the log and in quarantine.

Flow: the gateway seals each record before it appends it (`RoadSeals.sealed_numbered`) -> log, archive and quarantine hold what only
the key of the vehicle's ownership period opens (group ROAD) -> a worker opens a whole block at once (`RoadSeals.opened`).
    sealed record = kind + NUMBERED, number 8 | seal(key, body), bound to reference, stream, kind, number and instant of arrival
The number is the batch's own sequence, as the structure check found it; 0 for a body in which none can be trusted. Before it
was bound: kind + SEALED, seal(key, body), bound to the rest; before there was sealing: a kind below SEALED. Both still open.
A record whose owner's key was destroyed is gone: dropped and counted, as records of erased references always were. One that
does not open (changed, moved to another vehicle, number or instant) goes to quarantine as `seal.broken`; a whole copy opens, and
falls to its number. Decision and figures: docs/decisions/0055-sealed-road.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from rocade.core.errors import Corrupt, Refused
from rocade.fabric.log import Record
from rocade.services.telemetry.model import BATCH, JSON, NUMBERED, SEALED, STREAM, Held
from rocade.trust.authority.sealing import Group, Keys, Name, aad, open_sealed, seal
from rocade.wire.batch import json_form, sequence_of

NUMBER_BYTES = 8
UNNUMBERED = 0
_ROAD = int(Group.ROAD)

type Numbered = tuple[Record, int]
"""A record in clear and its batch's number."""


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
        """As `sealed_numbered`, for records whose numbers nobody has at hand: they are read from the bodies."""
        return await self.sealed_numbered([(record, number_of(record.kind, record.body)) for record in records])

    async def sealed_numbered(self, records: Sequence[Numbered]) -> list[Record]:
        """The records sealed, without those of owners who were erased. Cost: 5 us each and 1 us per 2 kB.

        Raises: as `ready`.
        """
        held = {ref: self._keys.held(ref, _ROAD) for ref in {record.key for record, _ in records}}
        if missing := [(ref, _ROAD) for ref, key in held.items() if key is None]:
            found = await self._keys.ensure(missing)
            held |= {ref: found.get((ref, _ROAD)) for ref, _ in missing}
        return [seal_record(record, number, key) for record, number in records if (key := held[record.key]) is not None]

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
        return _opened(found[ref, _ROAD], ref, kind, arrived_us, body) if found else b""


def number_of(kind: int, body: bytes) -> int:
    """The number a record in clear is sealed under. Cost: a JSON body is read whole."""
    if kind == BATCH:
        return sequence_of(body)
    try:
        return json_form.parse(body).sequence if kind == JSON else UNNUMBERED
    except Refused:
        return UNNUMBERED


def seal_record(record: Record, number: int, key: bytes) -> Record:
    """Partition, key, instant and number stay readable: the log is ordered and trimmed by the first, and opened by the last."""
    partition, ref, kind, arrived_us = record.partition, record.key, record.kind, record.arrived_us
    return Record(partition, ref, kind + NUMBERED, arrived_us, _sealed(key, ref, kind, arrived_us, number, record.body))


def open_records(records: Sequence[Record], keys: Mapping[Name, bytes], erased: Collection[int] = ()) -> Opened:
    """Open what is sealed; records of erased references leave before. Pure."""
    opened, gone, broken = [], 0, []
    for record in records:
        ref, kind = record.key, record.kind
        if ref in erased:
            gone += 1
        elif kind < SEALED:
            opened.append(record)
        elif (key := keys.get((ref, _ROAD))) is None:
            gone += 1
        else:
            try:
                body = _opened(key, ref, kind, record.arrived_us, record.body)
                opened.append(Record(record.partition, ref, kind % SEALED, record.arrived_us, body))
            except Corrupt as error:
                broken.append(Held(ref, record.arrived_us, kind, error.code, error.message, record.body))
    return Opened(opened, gone, broken)


def _sealed_held(held: Held, key: bytes) -> Held:
    body = _sealed(key, held.ref, held.kind, held.arrived_us, number_of(held.kind, held.body), held.body)
    return Held(held.ref, held.arrived_us, held.kind + NUMBERED, held.reason, held.detail, body)


def _sealed(key: bytes, ref: int, kind: int, arrived_us: int, number: int, body: bytes) -> bytes:
    return number.to_bytes(NUMBER_BYTES) + seal(key, body, _place(ref, kind, number, arrived_us))


def _opened(key: bytes, ref: int, kind: int, arrived_us: int, body: bytes) -> bytes:
    """Of a sealed kind, in the form its kind says. Raises: Corrupt `seal.broken`."""
    if kind < NUMBERED:
        return open_sealed(key, body, aad(ref, STREAM, kind - SEALED, arrived_us))
    view = memoryview(body)
    number = int.from_bytes(view[:NUMBER_BYTES])
    return open_sealed(key, view[NUMBER_BYTES:], _place(ref, kind - NUMBERED, number, arrived_us))


def _place(ref: int, kind: int, number: int, arrived_us: int) -> bytes:
    return aad(ref, STREAM, kind, number) + arrived_us.to_bytes(8, signed=True)
