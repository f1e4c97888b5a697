"""Sums of rows, held in memory with the list: a row that is no longer the one that was written is told when it is read.

A row's sum is linear in its values with odd factors, modulo 2^64, so one turned bit always changes it. Sums of rows add up, in whatever
order: a row that is gone, stands twice or belongs to another part changes the total like one that reads otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from rocade.core.prices import SEPARATOR
from rocade.wire.prices import Descriptions, Entries, Ints

type Sums = NDArray[np.uint64]
_INDEX, _SEQ, _FROM, _PRICE = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F
_ROW = 0xE7037ED1A0B428DB
_MASK = (1 << 64) - 1


def entry_sums(entries: Entries) -> Sums:
    """Of each entry."""
    return _sums(entries.index, entries.seq, entries.valid_from_us, entries.price_minor)


def sum_of_entries(rows: Iterable[tuple[int, int, int, int]]) -> int:
    """Of all these (index, seq, valid_from, price)."""
    return sum(i * _INDEX + s * _SEQ + v * _FROM + p * _PRICE + _ROW for i, s, v, p in rows) & _MASK


def sum_of_part(index: int, rows: list[tuple[int, int, int]]) -> int:
    """Of all these (seq, valid_from, price) of one part."""
    found = len(rows) * (index * _INDEX + _ROW)
    for seq, valid_from, price in rows:
        found += seq * _SEQ + valid_from * _FROM + price * _PRICE
    return found & _MASK


def text_sums(described: Descriptions) -> Sums:
    """Of each description."""
    columns = (described.ref, described.family, described.label, described.superseded_by)
    texts = map(SEPARATOR.join, zip(*columns, strict=True))
    crcs = np.fromiter((crc32(text.encode()) for text in texts), np.int64, len(described))
    return _sums(described.index, described.seq, crcs, np.zeros(len(described), np.int64))


def sum_of_texts(rows: Iterable[tuple[int, int, str]]) -> int:
    """Of all these (index, seq, text)."""
    return sum_of_entries((index, seq, crc32(text.encode()), 0) for index, seq, text in rows)


def add_by_release(totals: dict[int, int], seqs: Ints, sums: Sums) -> None:
    """Add each row's sum to the total of its release."""
    if len(seqs):
        order = np.argsort(seqs, kind="stable")
        ordered = seqs[order]
        firsts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        added = np.add.reduceat(sums[order], firsts)
        for seq, more in zip(ordered[firsts].tolist(), added.tolist(), strict=True):
            totals[seq] = totals.get(seq, 0) + more & _MASK


def total(totals: dict[int, int]) -> int:
    return sum(totals.values()) & _MASK


def _sums(index: Ints, seq: Ints, valid_from: Ints, price: Ints) -> Sums:
    columns = ((index, _INDEX), (seq, _SEQ), (valid_from, _FROM), (price, _PRICE))
    sums = np.full(len(index), _ROW, np.uint64)
    for column, factor in columns:
        sums += column.astype(np.uint64) * np.uint64(factor)
    return sums
