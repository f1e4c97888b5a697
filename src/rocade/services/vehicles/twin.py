"""The twin: last value, time and quality per signal, as one packed row a vehicle.

Flow: a worker keeps the twins of its vehicles in one array (`Twins`), updates thousands of slots in one numpy pass, and
packs a vehicle's row by cutting its slice out; readers unpack (`TwinStore`). A row = count, slots of 32 bytes, texts.
A value replaces another only if it is not older. The vehicle's newest good position and speed stand beside as columns.
Source: docs/decisions/0016-twin.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Corrupt
from rocade.fabric.database import Database
from rocade.fabric.database.gathering import Gathering

type Ints = NDArray[np.int64]

SLOT = np.dtype(
    [
        ("time_us", "<i8"),
        ("value", "<i8"),
        ("changed_us", "<i8"),
        ("signal", "<u4"),
        ("form", "u1"),
        ("exponent", "i1"),
        ("quality", "u1"),
        ("spare", "u1"),
    ]
)
"""`value`: an integer to scale by 10^exponent, the bits of a float64, or an index into the texts. `changed_us`: since when
the value is the same."""
INTEGER, FLOAT, TEXT, BOOLEAN = range(4)
NEVER_US = -(1 << 63)
MAX_SIGNALS = 4096
"""Of one vehicle's twin; what comes beyond lives in history only."""
_COUNT, _INTEGER, _FLOAT = struct.Struct("<I"), struct.Struct("<q"), struct.Struct("<d")


class Value(msgspec.Struct, frozen=True, gc=False):
    """Last known value of one signal."""

    value: float | bool | str
    time_us: int
    quality: int
    changed_us: int


class Twin(msgspec.Struct, frozen=True):
    """What is known of a vehicle now. `skew_us`: its clock minus ours at the last batch, latency included."""

    ref: int
    updated_us: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    reported: dict[int, Value]
    desired: dict[int, float | bool | str]


class Row(msgspec.Struct, frozen=True):
    """What a worker writes for one vehicle."""

    ref: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    reported: bytes
    doubts: int = 0
    """Quality flags of all its latest values together."""


def pack(slots: NDArray[Any], texts: Sequence[str]) -> bytes:
    """One row; the values of text slots are indexes into `texts`."""
    if not texts:
        return _COUNT.pack(len(slots)) + slots.tobytes()
    return _COUNT.pack(len(slots)) + slots.tobytes() + msgspec.msgpack.encode(texts)


def unpack(row: bytes) -> tuple[NDArray[Any], list[str]]:
    """Slots and texts of a packed row.

    Raises: Corrupt `twin.corrupt`.
    """
    try:
        (count,) = _COUNT.unpack_from(row)
        end = _COUNT.size + count * SLOT.itemsize
        slots = np.frombuffer(row[_COUNT.size : end], SLOT, count)
        return slots, msgspec.msgpack.decode(row[end:], type=list[str]) if len(row) > end else []
    except (struct.error, ValueError, msgspec.DecodeError) as error:
        raise Corrupt("twin.corrupt", "a packed twin row is damaged; rebuild it from history") from error


def values_of(row: bytes) -> dict[int, Value]:
    """The reported values of a packed row by signal id."""
    slots, texts = unpack(row)
    return {
        signal: Value(_value(form, value, exponent, texts), time_us, quality, changed_us)
        for time_us, value, changed_us, signal, form, exponent, quality, _ in slots.tolist()
    }


def _value(form: int, value: int, exponent: int, texts: Sequence[str]) -> float | bool | str:
    if form == INTEGER:
        return value / 10.0**-exponent if exponent < 0 else value * 10.0**exponent
    if form == FLOAT:
        number: float = _FLOAT.unpack(_INTEGER.pack(value))[0]
        return number
    return texts[value] if form == TEXT else bool(value)


class _Layout:
    """The signals of a vehicle's slots in order; vehicles with the same signals share one."""

    def __init__(self, signals: tuple[int, ...]) -> None:
        self.signals = signals
        self._places = {signal: place for place, signal in enumerate(signals)}
        self._known: dict[bytes, Ints | None] = {}

    def places(self, signals: bytes) -> Ints | None:
        """Slots of these signals (uint32 bytes) within a vehicle; None if one has no slot yet."""
        try:
            return self._known[signals]
        except KeyError:
            if len(self._known) > 4096:
                self._known.clear()
            wanted = np.frombuffer(signals, "<u4").tolist()
            found = [self._places.get(signal, -1) for signal in wanted]
            whole = -1 not in found or len(self.signals) >= MAX_SIGNALS
            self._known[signals] = places = np.array(found, np.int64) if whole else None
            return places

    def place(self, signal: int) -> int:
        return self._places.get(signal, -1)


class Twins:
    """Twins of the vehicles a worker serves: `slots` of all of them end to end; slot 0 takes what has no place."""

    def __init__(self) -> None:
        self.slots = np.zeros(1, SLOT)
        self._used = 1
        self._vehicles: dict[int, tuple[int, _Layout]] = {}
        self._layouts: dict[tuple[int, ...], _Layout] = {}
        self._texts: list[str] = []
        self._text_index: dict[str, int] = {}
        self._wasted = 0

    @property
    def is_worn(self) -> bool:
        """Mostly filled with places no longer used and texts long gone: better begun again from the database."""
        return self._wasted > max(100_000, self._used // 2) or len(self._texts) > 100_000

    def __contains__(self, ref: int) -> bool:
        return ref in self._vehicles

    def load(self, ref: int, row: bytes | None) -> None:
        """Put in a vehicle's packed row (None for one without)."""
        slots, texts = unpack(row) if row else (np.zeros(0, SLOT), [])
        slots = slots.copy()
        for at in np.flatnonzero(slots["form"] == TEXT):
            slots["value"][at] = self.text_index(texts[slots["value"][at]])
        self._store(ref, tuple(slots["signal"].tolist()), slots)

    def places(self, refs: Sequence[int], signals: Sequence[bytes]) -> Ints:
        """Slot of every column of many batches, end to end; new signals get one. Cost: 0.5 us a batch."""
        starts, parts, moved = np.empty(len(refs), np.int64), [], False
        for at, (ref, wanted) in enumerate(zip(refs, signals, strict=True)):
            start, layout = self._vehicles[ref]
            places = layout.places(wanted)
            if places is None:
                start, places = self._extend(ref, wanted)
                moved = True
            starts[at] = start
            parts.append(places)
        if moved:  # earlier batches of a vehicle that moved point to where it was; now every signal has its slot
            return self.places(refs, signals)
        if not parts:
            return np.zeros(0, np.int64)
        within = np.concatenate(parts)
        return np.where(within < 0, 0, within + np.repeat(starts, np.fromiter(map(len, parts), np.int64, len(parts))))

    def slot_of(self, ref: int, signal: int) -> int:
        """Slot of one signal of a vehicle, 0 if it has none."""
        start, layout = self._vehicles[ref]
        place = layout.place(signal)
        return start + place if place >= 0 else 0

    def text_index(self, text: str) -> int:
        index = self._text_index.get(text)
        if index is None:
            index = self._text_index[text] = len(self._texts)
            self._texts.append(text)
        return index

    def row(self, ref: int) -> bytes:
        """The vehicle's packed row as it is now. Cost: 0.5 us, more with texts."""
        start, layout = self._vehicles[ref]
        slots = self.slots[start : start + len(layout.signals)]
        texts = np.flatnonzero(slots["form"] == TEXT)
        if not len(texts):
            return pack(slots, ())
        slots = slots.copy()
        words = [self._texts[index] for index in slots["value"][texts].tolist()]
        slots["value"][texts] = np.arange(len(texts))
        return pack(slots, words)

    def doubts(self, refs: Sequence[int]) -> list[int]:
        """Quality flags of all of a vehicle's slots together. Cost: one numpy pass over the slots of these vehicles."""
        held = [self._vehicles[ref] for ref in refs]
        counts = np.fromiter((len(layout.signals) for _, layout in held), np.int64, len(held))
        ends = np.cumsum(counts)
        if not held or not ends[-1]:
            return [0] * len(held)
        starts = np.fromiter((start for start, _ in held), np.int64, len(held))
        places = np.arange(ends[-1]) + np.repeat(starts - ends + counts, counts)
        flags = np.append(self.slots["quality"][places], np.uint8(0))
        found: list[int] = np.where(counts > 0, np.bitwise_or.reduceat(flags, ends - counts), 0).tolist()
        return found

    def _extend(self, ref: int, signals: bytes) -> tuple[int, Ints]:
        """Give a vehicle slots for more signals, at a new place; the old one is not used again."""
        start, layout = self._vehicles[ref]
        fresh = sorted({*np.frombuffer(signals, "<u4").tolist()} - {*layout.signals})[
            : MAX_SIGNALS - len(layout.signals)
        ]
        added = np.zeros(len(fresh), SLOT)
        self._wasted += len(layout.signals)
        added["signal"], added["time_us"], added["changed_us"] = fresh, NEVER_US, NEVER_US
        held = self.slots[start : start + len(layout.signals)]
        self._store(ref, (*layout.signals, *fresh), np.concatenate((held, added)))
        start, layout = self._vehicles[ref]
        places = layout.places(signals)
        assert places is not None
        return start, places

    def _store(self, ref: int, signals: tuple[int, ...], slots: NDArray[Any]) -> None:
        end = self._used + len(slots)
        if end > len(self.slots):
            self.slots = np.concatenate((self.slots, np.zeros(max(end, 2 * len(self.slots)) - len(self.slots), SLOT)))
        self.slots[self._used : end] = slots
        layout = self._layouts.setdefault(signals, _Layout(signals))
        self._vehicles[ref] = (self._used, layout)
        self._used = end


_UPSERT = """
    INSERT INTO twin AS t (ref, updated_us, arrived_us, skew_us, latitude, longitude, speed_kmh, reported,
                           doubts)
    SELECT ref, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, arrived_us, skew_us, latitude, longitude,
           speed_kmh, reported, doubts
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::float8[], $5::float8[], $6::float8[], $7::bytea[],
                $8::smallint[]) AS u (ref, arrived_us, skew_us, latitude, longitude, speed_kmh, reported, doubts)
    ON CONFLICT (ref) DO UPDATE SET updated_us = excluded.updated_us, arrived_us = excluded.arrived_us,
        skew_us = excluded.skew_us, latitude = coalesce(excluded.latitude, t.latitude),
        longitude = coalesce(excluded.longitude, t.longitude), speed_kmh = coalesce(excluded.speed_kmh, t.speed_kmh),
        reported = excluded.reported, doubts = excluded.doubts"""
_COLUMNS = "ref, updated_us, arrived_us, skew_us, latitude, longitude, speed_kmh"


async def upsert_many(connection: Any, rows: Sequence[Row]) -> None:
    """Write rows inside the caller's transaction, in order of reference so that two writers never wait crosswise."""
    ordered = sorted(rows, key=lambda row: row.ref)
    await connection.execute(_UPSERT, *([getattr(row, name) for row in ordered] for name in Row.__struct_fields__))


class Position(msgspec.Struct, frozen=True):
    """What a map needs of a vehicle."""

    ref: int
    updated_us: int
    arrived_us: int
    skew_us: int
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    doubts: int = 0


class TwinStore:
    """Reads twins, and writes what is desired of a vehicle."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool
        self._rows: Gathering[int, Any] = Gathering(self._latest)

    async def latest(self, ref: int) -> Twin | None:
        """Everything known of a vehicle now; None if it never sent anything. Those who ask at once share a query."""
        row = await self._rows.get(ref)
        if row is None:
            return None
        desired = msgspec.msgpack.decode(row["desired"]) if row["desired"] else {}
        return Twin(**{**row, "reported": values_of(row["reported"]), "desired": desired})

    async def _latest(self, refs: list[int]) -> dict[int, Any]:
        query = f"SELECT {_COLUMNS}, reported, desired FROM twin WHERE ref = ANY($1::bigint[])"
        return {row["ref"]: row for row in await self._pool.fetch(query, refs)}

    async def seen(self, refs: Iterable[int]) -> dict[int, int]:
        """When the last batch of these vehicles arrived, microseconds; those that never sent are left out. Cost: one query."""
        rows = await self._pool.fetch(
            "SELECT ref, arrived_us FROM twin WHERE ref = ANY($1::bigint[]) AND arrived_us > 0", list(refs)
        )
        return {row["ref"]: row["arrived_us"] for row in rows}

    async def written(self, refs: Iterable[int]) -> dict[int, int]:
        """When the twins of these vehicles were written last (database clock). Cost: one query by key."""
        rows = await self._pool.fetch("SELECT ref, updated_us FROM twin WHERE ref = ANY($1::bigint[])", list(refs))
        return {row["ref"]: row["updated_us"] for row in rows}

    async def positions(self, refs: Iterable[int]) -> dict[int, Position]:
        """Where these vehicles are and how; those that never sent are left out. Cost: one query."""
        query = f"SELECT {_COLUMNS}, doubts FROM twin WHERE ref = ANY($1::bigint[]) AND arrived_us > 0"
        return {row["ref"]: Position(*row) for row in await self._pool.fetch(query, list(refs))}

    async def changed_since(self, since_us: int, limit: int = 100_000) -> list[Position]:
        """Vehicles whose twin was written at or after `since_us` (database clock), oldest first.

        A transaction shows its rows a moment after it stamped them: ask again from two seconds before the newest
        `updated_us` seen, and expect repeats. Cost: reads the whole table, 1 ms per 1,000 vehicles.
        """
        rows = await self._pool.fetch(
            f"SELECT {_COLUMNS}, doubts FROM twin WHERE updated_us >= $1 ORDER BY updated_us LIMIT $2", since_us, limit
        )
        return [Position(*row) for row in rows]

    async def packed(self, connection: Any, refs: Iterable[int]) -> Mapping[int, bytes]:
        """Packed rows of these vehicles, for a worker that begins to serve them."""
        rows = await connection.fetch("SELECT ref, reported FROM twin WHERE ref = ANY($1::bigint[])", list(refs))
        return {row["ref"]: row["reported"] for row in rows}

    async def desire(self, ref: int, values: Mapping[int, float | bool | str]) -> None:
        """Lay these values over what is desired of the vehicle already."""
        async with self._pool.acquire() as connection, connection.transaction():
            held = await connection.fetchval("SELECT desired FROM twin WHERE ref = $1 FOR UPDATE", ref)
            merged = {**(msgspec.msgpack.decode(held) if held else {}), **values}
            await connection.execute(
                "INSERT INTO twin (ref, updated_us, arrived_us, skew_us, reported, desired)"
                " VALUES ($1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, 0, 0, $2, $3)"
                " ON CONFLICT (ref) DO UPDATE SET desired = excluded.desired, updated_us = excluded.updated_us",
                ref, pack(np.zeros(0, SLOT), ()), msgspec.msgpack.encode(merged),
            )  # fmt: skip

    async def erase(self, connection: Any, ref: int) -> None:
        """Remove a vehicle's twin inside the caller's transaction."""
        await connection.execute("DELETE FROM twin WHERE ref = $1", ref)
