"""The packed row of a twin, and the twins a worker serves in one array.

A row = count, slots of 32 bytes, texts. A worker updates thousands of slots in one numpy pass and packs a vehicle's row by
cutting its slice out (`Twins`); readers unpack (`values_of`). Refuses: a damaged row (`twin.corrupt`). Source:
docs/decisions/0016-twin.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Corrupt
from rocade.services.vehicles.sealing import NOWHERE, Place

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
        self._last: dict[int, Place] = {}

    @property
    def is_worn(self) -> bool:
        """Mostly filled with places no longer used and texts long gone: better begun again from the database."""
        return self._wasted > max(100_000, self._used // 2) or len(self._texts) > 100_000

    def __contains__(self, ref: int) -> bool:
        return ref in self._vehicles

    def load(self, ref: int, row: bytes | None, place: Place = NOWHERE) -> None:
        """Put in a vehicle's packed row (None for one without), and where it was last seen."""
        self._last[ref] = place
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

    def seen_at(self, ref: int, latitude: float | None, longitude: float | None, speed_kmh: float | None) -> Place:
        """Where the vehicle was last seen, after these good values; None = none has come."""
        last = self._last[ref]
        if latitude is None or longitude is None:
            latitude, longitude = last.latitude, last.longitude
        place = self._last[ref] = Place(latitude, longitude, last.speed_kmh if speed_kmh is None else speed_kmh)
        return place

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
