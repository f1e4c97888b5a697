"""Decode CAN frames in whole columns: group by (bus, id), then one shift and one mask per signal for all its frames.

Flow: sort frames by (bus, id) -> per group view the payload as 64-bit words, both byte orders -> per signal
`(word >> shift) & mask`, sign, multiplexer filter -> `Column` with exact raw integers and the rows they came from.
A frame shorter than a signal's last byte does not carry that signal. Wide payloads (CAN FD, ISO-TP) use the 8-byte
window the signal lies in; a signal that straddles nine bytes is put together from two words.
Cost: about 0.1 to 0.3 us a frame (docs/decisions/0009-can-in-columns.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from rocade.wire.can.dbc import Dbc, Message, Signal
from rocade.wire.can.frames import Frames

type Raw = NDArray[np.int64] | NDArray[np.uint64]


@dataclass(frozen=True)
class Column:
    """All values of one signal on one bus, in log order.

    Shape: `rows` are row numbers of the frames; `raw` the integers as sent (uint64 for an unsigned 64-bit signal and
    for IEEE bits, else int64).
    """

    bus: int
    message: Message
    signal: Signal
    rows: NDArray[np.int64]
    raw: Raw

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """Physical values, raw * factor + offset, rounded once."""
        if self.signal.float_bits:
            bits = self.raw.astype(f"u{self.signal.float_bits // 8}")
            numbers = bits.view(f"f{self.signal.float_bits // 8}").astype(np.float64)
            return numbers * float(self.signal.factor) + float(self.signal.offset)
        exact = self.scaled()
        if exact is not None:
            return exact[0] / 10.0 ** -exact[1]
        return self.raw.astype(np.float64) * float(self.signal.factor) + float(self.signal.offset)

    def scaled(self) -> tuple[NDArray[np.int64], int] | None:
        """(integers, exponent) with value = integer * 10**exponent exactly, or None where int64 cannot hold it."""
        a, b, exponent = self.signal.scale()
        if self.signal.float_bits or exponent < -18 or not len(self.raw):
            return None
        largest = max(abs(int(self.raw.max())), abs(int(self.raw.min())))
        if largest * abs(a) + abs(b) >= 1 << 53:
            return None
        return self.raw.astype(np.int64) * a + b, exponent


def decode(frames: Frames, dictionaries: Dbc | Mapping[int, Dbc]) -> list[Column]:
    """Every signal that the dictionary (one for all buses, or one per bus) finds in the frames."""
    if not len(frames):
        return []
    key = (frames.bus.astype(np.uint64) << np.uint64(32)) | frames.id
    order = np.argsort(key, kind="stable")
    ordered = key[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.append(starts[1:], len(ordered))
    columns: list[Column] = []
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        bus, number = int(ordered[start]) >> 32, int(ordered[start]) & 0xFFFFFFFF
        dictionary = dictionaries if isinstance(dictionaries, Dbc) else dictionaries.get(bus)
        message = dictionary.messages.get(number) if dictionary else None
        if message and message.signals:
            columns += _decode_group(frames, bus, message, order[start:end])
    return columns


def known(frames: Frames, dictionaries: Dbc | Mapping[int, Dbc]) -> NDArray[np.bool_]:
    """Mask of the frames whose message the dictionary names."""
    mask = np.zeros(len(frames), bool)
    for bus in np.unique(frames.bus).tolist():
        dictionary = dictionaries if isinstance(dictionaries, Dbc) else dictionaries.get(bus)
        if dictionary:
            mask |= (frames.bus == bus) & np.isin(frames.id, np.fromiter(dictionary.messages, np.uint32))
    return mask


def _decode_group(frames: Frames, bus: int, message: Message, rows: NDArray[np.int64]) -> list[Column]:
    payload = _Payload(frames.data[rows])
    lengths = frames.length[rows]
    shortest = int(lengths.min())
    raws: dict[str, Raw] = {}
    present: dict[str, NDArray[np.bool_] | None] = {}
    by_name = {signal.name: signal for signal in message.signals}

    def presence(signal: Signal) -> NDArray[np.bool_] | None:
        """Rows that carry the signal; None = all of them."""
        if signal.name not in present:
            mask = lengths >= signal.end_byte if signal.end_byte > shortest else None
            if signal.switch:
                selected = _selected(raw_of(by_name[signal.switch]), signal.switch_ranges)
                for other in (presence(by_name[signal.switch]), mask):
                    selected = selected if other is None else selected & other
                mask = selected
            present[signal.name] = mask
        return present[signal.name]

    def raw_of(signal: Signal) -> Raw:
        if signal.name not in raws:
            raws[signal.name] = payload.extract(signal)
        return raws[signal.name]

    columns = []
    for signal in message.signals:
        mask, raw = presence(signal), raw_of(signal)
        if mask is None:
            columns.append(Column(bus, message, signal, rows, raw))
        elif mask.any():
            columns.append(Column(bus, message, signal, rows[mask], raw[mask]))
    return columns


def _selected(raw: Raw, ranges: tuple[tuple[int, int], ...]) -> NDArray[np.bool_]:
    mask = np.zeros(len(raw), bool)
    for low, high in ranges:
        mask |= (raw >= low) & (raw <= high)
    return mask


class _Payload:
    """Payload matrix of one message, seen as 64-bit words; words are cached per (first byte, byte order)."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        width = data.shape[1]
        self._data = np.pad(data, ((0, 0), (0, 8 - width))) if width < 8 else np.ascontiguousarray(data)
        self._words: dict[tuple[int, bool], NDArray[np.uint64]] = {}

    def extract(self, signal: Signal) -> Raw:
        """Raw integers of the signal in every row; zero where the payload is too short."""
        width = self._data.shape[1]
        if signal.end_byte > width:
            return np.zeros(len(self._data), np.int64)
        first = min(signal.first_bit // 8, width - 8)
        lowest = signal.first_bit - first * 8
        if lowest + signal.length > 64:
            raw = self._straddling(signal, first, lowest)
        else:
            shift = 64 - lowest - signal.length if signal.is_big_endian else lowest
            raw = self._word(first, signal.is_big_endian) >> np.uint64(shift)
        if signal.length < 64:
            raw &= np.uint64((1 << signal.length) - 1)
        if signal.float_bits or (signal.length == 64 and not signal.is_signed):
            return raw
        integers = raw.view(np.int64)
        if signal.is_signed and signal.length < 64:
            top = np.int64(1 << (signal.length - 1))
            integers = (integers ^ top) - top
        return integers

    def _word(self, first: int, is_big_endian: bool) -> NDArray[np.uint64]:
        key = (first, is_big_endian)
        if key not in self._words:
            window = np.ascontiguousarray(self._data[:, first : first + 8])
            self._words[key] = window.view(">u8" if is_big_endian else "<u8").ravel().astype(np.uint64)
        return self._words[key]

    def _straddling(self, signal: Signal, first: int, lowest: int) -> NDArray[np.uint64]:
        """A signal over nine bytes: eight of them as a word, the ninth beside it."""
        word = self._word(first, signal.is_big_endian)
        ninth = self._data[:, first + 8].astype(np.uint64)
        over = lowest + signal.length - 64
        if signal.is_big_endian:
            return (word << np.uint64(over)) | (ninth >> np.uint64(8 - over))
        return (word >> np.uint64(lowest)) | (ninth << np.uint64(64 - lowest))
