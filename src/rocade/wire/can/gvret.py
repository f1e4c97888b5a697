"""Read a GVRET CSV log (SavvyCAN and friends) in whole columns: no Python work per row.

Flow: find all delimiters -> header names say which cell is what -> per wanted column, digits of all rows at once.
Accepts: extra columns (`Dir`), trailing commas, absent data cells, CRLF, negative and backward stamps, blank lines.
A row that cannot be read (cells missing, not a number, more bytes than `LEN` allows) is left out and named in
`Reading.refused`; nothing is guessed. A file without the needed columns is refused as a whole (`can.gvret.malformed`).
Units: `Time Stamp` is microseconds from an origin only the logger knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Refused
from rocade.wire.can.frames import EXTENDED, Frames

_DIGIT = np.full(256, 255, np.uint8)
_DIGIT[np.frombuffer(b"0123456789", np.uint8)] = range(10)
_DIGIT[np.frombuffer(b"ABCDEF", np.uint8)] = range(10, 16)
_DIGIT[np.frombuffer(b"abcdef", np.uint8)] = range(10, 16)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file gave. Shape: `line` (1-based) of each frame; `refused` maps a line to the reason."""

    frames: Frames
    line: NDArray[np.int64]
    refused: dict[int, str]
    rows_read: int


def read(content: bytes) -> Reading:
    """Read a whole log.

    Raises: Refused `can.gvret.malformed` when the header lacks a needed column.
    """
    text = np.frombuffer(content if content.endswith(b"\n") else content + b"\n", np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    starts = np.concatenate(([0], ends[:-1] + 1))
    ends = np.where((ends > starts) & (text[ends - 1] == ord("\r")), ends - 1, ends)
    column = _header(bytes(text[starts[0] : ends[0]])) if len(ends) else {}
    line = np.arange(1, len(ends) + 1)
    keep = (ends > starts) & (line > 1)
    starts, ends, line = starts[keep], ends[keep], line[keep]
    table = _Table(text, starts, ends)

    refused: dict[int, str] = {}
    good = np.ones(len(line), bool)

    def check(is_good: NDArray[np.bool_], reason: str) -> None:
        for row in np.flatnonzero(good & ~is_good).tolist():
            refused[int(line[row])] = reason
        good[:] &= is_good

    check(table.cells > max(column[name] for name in ("time stamp", "id", "bus", "len")), "cells are missing")
    stamp, is_number = table.integers(column["time stamp"])
    check(is_number, "the time stamp is not a number")
    number, is_hex = table.integers(column["id"], base=16)
    extended = table.first_byte(column["extended"]) if "extended" in column else np.zeros(len(line), np.uint8)
    is_extended = np.isin(extended, np.frombuffer(b"tT1", np.uint8))
    check(is_hex & (number >= 0) & (number < np.where(is_extended, 1 << 29, 1 << 11)), "the id is not a CAN id")
    bus, is_number = table.integers(column["bus"])
    check(is_number & (bus >= 0) & (bus < 256), "the bus is not a small number")
    length, is_number = table.integers(column["len"])
    check(is_number & (length >= 0) & (length <= column["d"]), "LEN does not fit the data columns")
    data = np.zeros((len(line), max(column["d"], 8)), np.uint8)
    for place in range(column["d"]):
        wanted = length > place
        value, is_hex = table.integers(column["d1"] + place, base=16)
        check(~wanted | (is_hex & (value >= 0) & (value < 256)), "a data cell within LEN is not a byte")
        data[:, place] = np.where(wanted & is_hex, value, 0).astype(np.uint8)

    number = np.where(is_extended, number | EXTENDED, number)
    frames = Frames(stamp, number.astype(np.uint32), bus.astype(np.uint8), length.astype(np.uint16), data)
    return Reading(frames.where(good), line[good], refused, len(line))


def _header(line: bytes) -> dict[str, int]:
    """Column numbers by lower-case name; `d1` the first data column and `d` their count."""
    names = [name.strip().lower() for name in line.decode("utf-8-sig", "replace").split(",")]
    column = {name: place for place, name in enumerate(names) if name}
    missing = [name for name in ("time stamp", "id", "bus", "len", "d1") if name not in column]
    if missing:
        raise Refused("can.gvret.malformed", f"not a GVRET CSV log: no column {', '.join(missing)} in the first line")
    count = 1
    while column.get(f"d{count + 1}") == column["d1"] + count:
        count += 1
    column["d"] = count
    return column


class _Table:
    """Cells of a delimited text by (row, column), without copying the text."""

    def __init__(self, text: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> None:
        self._text = text
        self._starts, self._ends = starts, ends
        self._commas = np.append(np.flatnonzero(text == ord(",")), len(text))
        self._first = np.searchsorted(self._commas, starts)
        self.cells = np.searchsorted(self._commas, ends) - self._first + 1

    def bounds(self, column: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First byte and end of the cell in every row; empty where the row has no such cell."""
        last = len(self._commas) - 1
        left = self._starts if column == 0 else self._commas[np.minimum(self._first + column - 1, last)] + 1
        right = np.minimum(self._commas[np.minimum(self._first + column, last)], self._ends)
        has = self.cells > column
        return np.where(has, left, self._starts), np.where(has, right, self._starts)

    def first_byte(self, column: int) -> NDArray[np.uint8]:
        left, right = self.bounds(column)
        return np.where(right > left, self._text[left], 0).astype(np.uint8)

    def integers(self, column: int, base: int = 10) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Value of the cell in every row and whether it is a whole number of at most 18 digits (16 for hex: 15)."""
        left, right = self.bounds(column)
        negative = self._text[left] == ord("-")
        left = left + negative
        width = right - left
        good = (width > 0) & (width <= (18 if base == 10 else 15))
        value = np.zeros(len(left), np.int64)
        for place in range(int(width[good].max(initial=0))):
            inside = place < width
            digit = _DIGIT[self._text[np.minimum(left + place, len(self._text) - 1)]]
            good &= ~inside | (digit < base)
            value = np.where(inside, value * base + digit, value)
        return np.where(negative, -value, value), good
