"""The twin as it is stored: what is known of a vehicle opens with the key of its ownership period alone (group TWIN).

    reported   the packed row of values, sealed
    place      latitude, longitude, speed, sealed by themselves: a map opens thousands of these and no values
    desired    what is wanted of the vehicle, sealed

Each is bound to vehicle and column, the first two also to the arrival of the batch they are from, so that no older one can be
put in their place unseen. Instants, flags, references and whether it moves stay readable: lists filter by them, and they say
neither who nor where.
A row without `place` was written before there was sealing; `twin.OLDER` seals those. Decision: docs/decisions/0055-sealed-road.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from rocade.services.vehicles.store import MOVING_KMH
from rocade.trust.authority.sealing import Group, Name, aad, open_sealed, seal

STREAM = "twin"
TWIN = int(Group.TWIN)
_REPORTED, _PLACE, _DESIRED = 1, 2, 3
_FORM = struct.Struct("<3d")


class Place(NamedTuple):
    """Where a vehicle was last seen, and how fast; None = never seen."""

    latitude: float | None = None
    longitude: float | None = None
    speed_kmh: float | None = None


NOWHERE = Place()


class SealedRow(msgspec.Struct, frozen=True):
    """What is written for one vehicle."""

    ref: int
    arrived_us: int
    skew_us: int
    place: bytes
    reported: bytes
    doubts: int
    moves: bool


def names(refs: Iterable[int]) -> list[Name]:
    return [(ref, TWIN) for ref in refs]


def seal_rows(rows: Sequence[Any], keys: Mapping[Name, bytes]) -> list[SealedRow]:
    """The rows (`twin.Row`) sealed; those of owners who were erased are left out. Cost: 10 us a row."""
    return [
        SealedRow(
            row.ref,
            row.arrived_us,
            row.skew_us,
            seal_place(key, row.ref, row.arrived_us, Place(row.latitude, row.longitude, row.speed_kmh)),
            seal(key, row.reported, aad(row.ref, STREAM, _REPORTED, row.arrived_us)),
            row.doubts,
            (row.speed_kmh or 0.0) > MOVING_KMH,
        )
        for row in rows
        if (key := keys.get((row.ref, TWIN))) is not None
    ]


def seal_place(key: bytes, ref: int, arrived_us: int, place: Place) -> bytes:
    plain = _FORM.pack(*(math.nan if value is None else value for value in place))
    return seal(key, plain, aad(ref, STREAM, _PLACE, arrived_us))


def seal_stored(
    rows: Sequence[Mapping[str, Any]], keys: Mapping[Name, bytes]
) -> tuple[list[tuple[int, bytes | None, bytes, bytes | None, bool]], list[int]]:
    """Of stored rows in clear: (ref, place, reported, desired, moves) sealed, and references whose owner was erased."""
    sealed: list[tuple[int, bytes | None, bytes, bytes | None, bool]] = []
    for row in rows:
        ref, arrived_us, desired = row["ref"], row["arrived_us"], row["desired"]
        if (key := keys.get((ref, TWIN))) is None:
            continue
        if desired and desired[0] != 1:
            desired = seal(key, desired, aad(ref, STREAM, _DESIRED, 0))
        place = Place(row["latitude"], row["longitude"], row["speed_kmh"])
        reported = seal(key, row["reported"], aad(ref, STREAM, _REPORTED, arrived_us))
        moves = (place.speed_kmh or 0.0) > MOVING_KMH
        sealed.append((ref, seal_place(key, ref, arrived_us, place), reported, desired, moves))
    return sealed, [row["ref"] for row in rows if (row["ref"], TWIN) not in keys]


def open_place(keys: Mapping[Name, bytes], row: Mapping[str, Any]) -> Place | None:
    """Of a stored row: its place; None when its owner was erased. Raises: Corrupt `seal.broken`."""
    ref = row["ref"]
    if row["place"] is None:
        return Place(row["latitude"], row["longitude"], row["speed_kmh"])
    if (key := keys.get((ref, TWIN))) is None:
        return None
    plain = _FORM.unpack(open_sealed(key, row["place"], aad(ref, STREAM, _PLACE, row["arrived_us"])))
    return Place(*(None if math.isnan(value) else value for value in plain))


def open_reported(keys: Mapping[Name, bytes], row: Mapping[str, Any]) -> bytes | None:
    """Of a stored row: its packed values; None when its owner was erased. Raises: Corrupt `seal.broken`."""
    ref, reported = row["ref"], row["reported"]
    if row["place"] is None:
        return bytes(reported)
    if (key := keys.get((ref, TWIN))) is None:
        return None
    return open_sealed(key, reported, aad(ref, STREAM, _REPORTED, row["arrived_us"]))


def seal_desired(key: bytes, ref: int, values: Mapping[int, float | bool | str]) -> bytes:
    return seal(key, msgspec.msgpack.encode(values), aad(ref, STREAM, _DESIRED, 0))


def open_desired(keys: Mapping[Name, bytes], ref: int, desired: bytes | None) -> dict[int, float | bool | str]:
    """What is desired; a map of MessagePack never begins as a seal does. Raises: Corrupt `seal.broken`."""
    if desired and desired[0] == 1:
        key = keys.get((ref, TWIN))
        desired = open_sealed(key, desired, aad(ref, STREAM, _DESIRED, 0)) if key else None
    found: dict[int, float | bool | str] = msgspec.msgpack.decode(desired) if desired else {}
    return found
