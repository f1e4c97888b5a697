"""Part references -> indices, for half a million parts in 14 MB, looked up in some two microseconds.

All references stand one after the other in one byte string, in order of their index, each with a line feed. A reference's
number is these bytes read as one big number modulo a prime; its low bits name a bucket, a bucket holds the few indices that
share it. The number is computed for all at once in columns, and for one in plain Python. Few new references are kept apart.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from rocade.core.errors import Corrupt

_PRIME = 4_294_967_291
_FEED = 10
APART = 4096
"""New references kept beside the columns before they are built anew."""


class References:
    """The references of a list by index. Never changed in place: `extended` gives another one."""

    def __init__(self, packed: bytes = b"", apart: dict[str, int] | None = None) -> None:
        """`packed`: references in order of index, each followed by a line feed.

        Raises: Corrupt `prices.store.references` if one stands there twice.
        """
        self._packed = packed
        self._apart = {} if apart is None else apart
        ends = np.flatnonzero(np.frombuffer(packed, np.uint8) == _FEED).astype(np.uint32)
        starts = np.r_[np.zeros(1, np.uint32), ends + 1].astype(np.uint32)
        self._count = len(ends)
        self._mask = (1 << max(self._count.bit_length(), 4)) - 1
        numbers = _numbers(packed, starts[:-1], ends + np.uint32(1))
        buckets = (numbers & self._mask).astype(np.uint32)
        order = np.argsort(buckets, kind="stable").astype(np.uint32)
        self._check(numbers, starts)
        counts = np.bincount(buckets, minlength=self._mask + 1)
        self._starts: array[int] = array("I", starts.tobytes())
        self._order: array[int] = array("I", order.tobytes())
        self._buckets: array[int] = array("I", np.r_[0, np.cumsum(counts)].astype(np.uint32).tobytes())

    def __len__(self) -> int:
        return self._count + len(self._apart)

    def find(self, ref: str) -> int:
        """The index of a reference, -1 if the list has none such."""
        line = f"{ref}\n".encode()
        bucket = int.from_bytes(line) % _PRIME & self._mask
        order, starts, packed = self._order, self._starts, self._packed
        for place in range(self._buckets[bucket], self._buckets[bucket + 1]):
            index = order[place]
            begin = starts[index]
            if packed.startswith(line, begin) and starts[index + 1] == begin + len(line):
                return index
        return self._apart.get(ref, -1) if self._apart else -1

    def __getitem__(self, index: int) -> str:
        if index < self._count:
            return self._packed[self._starts[index] : self._starts[index + 1] - 1].decode()
        return next(islice(self._apart, index - self._count, None))

    def extended(self, packed: bytes, count: int) -> References:
        """With these added, at the next indices. Raises: Corrupt `prices.store.references` if one is there already."""
        if len(self._apart) + count > APART:
            return References(self.packed() + packed)
        if not count:
            return self
        apart = dict(self._apart)
        for index, ref in enumerate(packed.decode().split("\n")[:-1], len(self)):
            if self.find(ref) >= 0 or apart.setdefault(ref, index) != index:
                raise _twice()
        other = object.__new__(References)
        other.__dict__.update(self.__dict__)
        other._apart = apart
        return other

    def packed(self) -> bytes:
        """All references in order of index, each followed by a line feed."""
        return self._packed + joined(self._apart)

    def between(self, low: int, high: int) -> bytes:
        """The references from index `low` to before `high`, as `packed` gives them."""
        begin, end = self._starts[min(low, self._count)], self._starts[min(high, self._count)]
        apart = islice(self._apart, max(low - self._count, 0), max(high - self._count, 0))
        return self._packed[begin:end] + joined(apart)

    def starting_with(self, prefix: str, limit: int) -> list[int]:
        """Indices of at most `limit` references that begin so, lowest first."""
        found, at, wanted = [], -1, b"\n" + prefix.encode()
        if self._packed.startswith(wanted[1:]):
            found.append(0)
        starts = np.frombuffer(self._starts, np.uint32)
        while len(found) < limit and (at := self._packed.find(wanted, at + 1)) >= 0 and at + 1 < len(self._packed):
            found.append(int(np.searchsorted(starts, at + 1)))
        found += [index for ref, index in self._apart.items() if ref.startswith(prefix)]
        return found[:limit]

    def _check(self, numbers: NDArray[np.uint64], starts: NDArray[np.uint32]) -> None:
        """No reference twice: only those of one number can be the same."""
        ordered = np.sort(numbers)
        shared = ordered[1:][ordered[1:] == ordered[:-1]]
        texts: set[bytes] = set()
        for at in np.flatnonzero(np.isin(numbers, shared)).tolist() if len(shared) else ():
            text = self._packed[starts[at] : starts[at + 1] - 1]
            if text in texts:
                raise _twice()
            texts.add(text)


def joined(refs: Iterable[str]) -> bytes:
    """References as `References` takes them."""
    return "".join(f"{ref}\n" for ref in refs).encode()


def _twice() -> Corrupt:
    return Corrupt("prices.store.references", "a part reference stands twice in the price list's store")


def _numbers(packed: bytes, starts: NDArray[np.uint32], ends: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Each reference's bytes as one number modulo the prime, byte after byte over all at once."""
    text = np.frombuffer(packed, np.uint8)
    numbers = np.zeros(len(starts), np.uint64)
    lengths = ends - starts
    for place in range(int(lengths.max()) if len(lengths) else 0):
        longer = np.flatnonzero(lengths > place)
        byte = text[starts[longer] + np.uint32(place)].astype(np.uint64)
        numbers[longer] = (numbers[longer] * np.uint64(256) + byte) % np.uint64(_PRIME)
    return numbers
