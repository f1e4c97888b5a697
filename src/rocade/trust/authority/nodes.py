"""Nodes of the audit tree that are kept, and the paths made from them: a proof reads hundreds of rows, not the whole log.

Kept (table audit_node) is the root of each full subtree of 256, 65,536, 16,777,216 ... leaves: one row of 32 bytes for 256
entries, written in the transaction that fills the subtree. What lies below is hashed again from the entries themselves, so
that a proof always speaks of what stands in the log now. A path needs, on each such level, the group around the leaf and the
group at the tree's right edge: at most 512 entries and as many nodes a level. Source: RFC 6962 section 2.1 (paths), C2SP
tlog-tiles (groups of 256), docs/decisions/0060-proofs.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import asyncpg

from rocade.core.errors import Corrupt
from rocade.trust.authority import store
from rocade.trust.authority.merkle import GROUP, GROUP_BITS, HASH_BYTES, full_root

type Range = tuple[int, int, int]
"""Level (0 = entries, 1 = groups of 256, ...), from, until."""


async def add_groups(connection: asyncpg.Connection, first: int, roots: Sequence[bytes]) -> None:
    """Keep the roots of the groups that became full, from group number `first` on, and of the larger ones they fill."""
    level = 1
    while roots:
        await store.add_nodes(connection, level, first, roots)
        begin, end = first >> GROUP_BITS, (first + len(roots)) >> GROUP_BITS
        wanted = [(level, at * GROUP, (at + 1) * GROUP) for at in range(begin, end)]
        groups = list((await store.read_hashes(connection, wanted)).values()) if wanted else []
        if any(len(one) != GROUP * HASH_BYTES for one in groups):  # taken away: `verify` and each proof will say so
            return
        first, roots, level = begin, [full_root(hashes_of(one)) for one in groups], level + 1


class Nodes:
    """What the paths of one leaf need in the tree of the first `size` entries."""

    def __init__(self, size: int, groups: dict[tuple[int, int], bytes]) -> None:
        self.size = size
        self._groups = groups

    @classmethod
    async def load(cls, connection: asyncpg.Connection, size: int, position: int) -> Nodes:
        """Read what `path` of this position needs, and `extension` from the tree that ends with it."""
        return cls(size, await store.read_hashes(connection, list(_ranges(size, position))))

    def leaf(self, position: int) -> bytes:
        return self._node(0, position)

    def path(self, position: int) -> bytes:
        """The hashes beside the way from a leaf to the root, bottom first.

        Raises: Corrupt `audit.nodes` if an entry or a node is missing.
        """
        return b"".join(self._path(position, 0, self.size))

    def extension(self, old_size: int) -> bytes:
        """What shows that the tree of the first `old_size` entries became this one (consistency proof of RFC 6962).

        Raises: Corrupt `audit.nodes`.
        """
        return b"".join(self._extension(old_size, 0, self.size, is_whole=True))

    def _path(self, position: int, low: int, high: int) -> list[bytes]:
        if high - low == 1:
            return []
        middle = low + _left(high - low)
        if position < middle:
            return [*self._path(position, low, middle), self._root(middle, high)]
        return [*self._path(position, middle, high), self._root(low, middle)]

    def _extension(self, old: int, low: int, high: int, *, is_whole: bool) -> list[bytes]:
        if old == high:
            return [] if is_whole else [self._root(low, high)]
        middle = low + _left(high - low)
        if old <= middle:
            return [*self._extension(old, low, middle, is_whole=is_whole), self._root(middle, high)]
        return [*self._extension(old, middle, high, is_whole=False), self._root(low, middle)]

    def _root(self, low: int, high: int) -> bytes:
        """The root over entries `low` until `high`, of which `low` is where a subtree begins."""
        width = high - low
        if width & (width - 1) == 0:
            return self._node(width.bit_length() - 1, low // width)
        middle = low + _left(width)
        return sha256(b"\x01" + self._root(low, middle) + self._root(middle, high)).digest()

    def _node(self, height: int, number: int) -> bytes:
        """The full subtree of 2**height leaves with this number, from the kept nodes or entries under it."""
        level, above = divmod(height, GROUP_BITS)
        first, many = number << above, 1 << above
        begin = (first % GROUP) * HASH_BYTES
        hashes = self._groups.get((level, first & -GROUP), b"")[begin : begin + many * HASH_BYTES]
        if len(hashes) != many * HASH_BYTES:
            raise Corrupt("audit.nodes", f"the audit tree has a hole at level {level} near number {first}")
        return full_root(hashes_of(hashes))


def hashes_of(joined: bytes) -> list[bytes]:
    return [joined[at : at + HASH_BYTES] for at in range(0, len(joined), HASH_BYTES)]


def _ranges(size: int, position: int) -> Iterator[Range]:
    """On each level, from the entries up: the group around the leaf and the group at the right edge."""
    level = 0
    while count := size >> (GROUP_BITS * level):
        groups = sorted({at & -GROUP for at in (position >> (GROUP_BITS * level), count)})
        yield from ((level, at, min(at + GROUP, count)) for at in groups if at < count)
        level += 1


def _left(width: int) -> int:
    """Leaves of the left subtree under the root over `width` leaves: the greatest power of two below it."""
    return 1 << ((width - 1).bit_length() - 1)
