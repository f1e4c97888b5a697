"""Short messages whose structure has been checked before: recognised by comparing bytes, many at once.

A vehicle that says the same few signals again sends the same tags, lengths, kinds and ids around other values. What the
full check (`parsing.open_many`) once found sound becomes a `Shape`: the message and a mask of its structural bytes. A later
message of that length whose structural bytes are the same is sound too, if its checksum and instants are: it is accepted
without opening it. Everything else takes the full check. Source: docs/decisions/0006-batch-format.md. Cost: about 1.5 us a message.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.wire.batch import layout

MAX_BYTES = 512
"""Longer messages repeat their structure too rarely, and their cost is not in the opening."""
MAX_SHAPES = 8
"""Of one length."""
_EXPONENT = layout.ARRAYS.index("exponent") + 1
_VALUES = frozenset(layout.ARRAYS.index(name) + 1 for name in ("exponent", "first", "i8", "i16", "i32", "i64"))
_STRUCTURE = frozenset(
    layout.ARRAYS.index(name) + 1
    for name in (
        "clock_start",
        "clock_step",
        "clock_rows",
        "clock_kind",
        "signal",
        "column_clock",
        "column_kind",
        "exponent",
    )
)
_TAGS = {0: 0x0D, 5: 0x15, 10: 0x19, 19: 0x21, 28: 0x29, 37: 0x31, 46: 0x3D, 51: 0x45, 56: 0x4D, 61: 0x55, 66: 0x5A}
_EPOCH, _SEQUENCE, _SENT, _START, _CHECKSUM = slice(11, 19), slice(20, 28), slice(29, 37), slice(38, 46), slice(62, 66)
_FREE = (_EPOCH, _SEQUENCE, _SENT, _START, slice(47, 51), slice(52, 56), _CHECKSUM)


@dataclass(frozen=True, slots=True)
class Shape:
    """`mask` is 255 where a byte is structure; the body begins at `body_at`; instants lie in start + [low, high]."""

    message: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    body_at: int
    exponents: slice
    points: int
    low_us: int
    high_us: int


@dataclass(frozen=True, slots=True)
class Known:
    """Messages recognised as sound: their places among those handed in, and what the gateway wants to know of them."""

    places: list[int]
    epoch: NDArray[np.uint64]
    sequence: NDArray[np.uint64]
    sent_at_us: NDArray[np.int64]
    points: int


class Familiar:
    """The shapes one process has seen."""

    def __init__(self) -> None:
        self._shapes: dict[int, list[Shape]] = {}

    def recognise(self, bodies: Sequence[bytes]) -> tuple[list[Known], list[int]]:
        """Those recognised, by shape, and the places of the rest in order."""
        lengths: dict[int, list[int]] = {}
        rest: list[int] = []
        for place, body in enumerate(bodies):
            size = len(body)
            if size in self._shapes:
                lengths.setdefault(size, []).append(place)
            else:
                rest.append(place)
        known: list[Known] = []
        for size, places in lengths.items():
            rest += self._compare(bodies, size, places, known)
        rest.sort()
        return known, rest

    def _compare(self, bodies: Sequence[bytes], size: int, places: list[int], known: list[Known]) -> list[int]:
        """Add what is recognised among messages of one length to `known`; return the other places."""
        for shape in self._shapes[size]:
            if not places:
                break
            rows = np.frombuffer(b"".join([bodies[place] for place in places]), np.uint8).reshape(-1, size)
            same = ~((rows ^ shape.message) & shape.mask).any(axis=1)
            if not same.any():
                continue
            begin = shape.body_at
            sums = np.fromiter((zlib.crc32(bodies[place][begin:]) for place in places), np.uint32, len(places))
            start_us, sent_at_us = _column(rows, _START, "<i8"), _column(rows, _SENT, "<i8")
            epoch, sequence = _column(rows, _EPOCH, "<u8"), _column(rows, _SEQUENCE, "<u8")
            sound = same & (sums == _column(rows, _CHECKSUM, "<u4")) & (epoch != 0) & (sequence != 0)
            sound &= (sent_at_us >= 0) & (sent_at_us < layout.MAX_START_US)
            exponents = rows[:, shape.exponents].view(np.int8)
            sound &= ((exponents >= -layout.MAX_EXPONENT) & (exponents <= layout.MAX_EXPONENT)).all(axis=1)
            sound &= (start_us >= -shape.low_us) & (start_us < layout.MAX_START_US - shape.high_us)
            if not sound.any():
                continue
            chosen = np.flatnonzero(sound).tolist()
            known.append(
                Known([places[at] for at in chosen], epoch[sound], sequence[sound], sent_at_us[sound], shape.points)
            )
            places = [places[at] for at in np.flatnonzero(~sound).tolist()]
        return places

    def learn(self, body: bytes, points: int) -> None:
        """Remember the shape of a message the full check found sound, if it is one that can be remembered."""
        size = len(body)
        if size > MAX_BYTES or len(self._shapes.get(size, ())) >= MAX_SHAPES:
            return
        shape = _shape_of(body, points)
        if shape is not None:
            self._shapes.setdefault(size, []).append(shape)


def _column(rows: NDArray[np.uint8], where: slice, form: str) -> NDArray[Any]:
    return np.ascontiguousarray(rows[:, where]).view(form).ravel()


def _shape_of(body: bytes, points: int) -> Shape | None:
    """None for a message in another order of fields, compressed, with a vehicle id, or with arrays not listed above."""
    if len(body) < 70 or any(body[at] != tag for at, tag in _TAGS.items()):
        return None
    if struct.unpack_from("<I", body, 6)[0] != layout.PLAIN:
        return None
    mask = np.full(len(body), 255, np.uint8)
    for free in _FREE:
        mask[free] = 0
    size, at = _varint(body, 67)
    body_at = at
    if at + size != len(body):
        return None
    starts = np.zeros(0, "<i8")
    exponents = slice(0, 0)
    while at < len(body):
        tag, at = _varint(body, at)
        size, at = _varint(body, at)
        if tag & 7 != 2 or at + size > len(body):
            return None
        if tag >> 3 in _VALUES:
            mask[at : at + size] = 0
            if tag >> 3 == _EXPONENT:
                exponents = slice(at, at + size)
        elif tag >> 3 not in _STRUCTURE:
            return None
        elif tag >> 3 == 1:
            starts = np.frombuffer(body, "<i8", size // 8, at)
        at += size
    if not len(starts):
        return None
    return Shape(
        np.frombuffer(body, np.uint8), mask, body_at, exponents, points, int(starts.min()), max(int(starts.max()), 0)
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint and the place after it; a broken one ends beyond the data."""
    value = shift = 0
    while at < len(data) and shift < 35:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    return value, len(data) + 1
