"""RFC 6962 Merkle tree, kept as its frontier: the roots of the full subtrees on its right edge.

Appending needs the frontier only (at most 64 hashes), so does the root; a million entries cost no more than one. What comes
in groups is hashed level by level. A full subtree of `GROUP` leaves is told to whoever keeps the tree's nodes (`nodes`).
Leaves are hashed with prefix 0x00, nodes with 0x01, so that no node can pass for a leaf. Source: RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()
GROUP_BITS = 8
GROUP = 1 << GROUP_BITS
"""Leaves of a subtree whose root is kept; as wide as a tile of C2SP's tlog-tiles."""


def leaf_hash(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


def full_root(hashes: Sequence[bytes]) -> bytes:
    """The root over these, a power of two of them."""
    level = hashes
    while len(level) > 1:
        joined = b"".join(level)
        level = [sha256(b"\x01" + joined[at : at + 64]).digest() for at in range(0, len(joined), 64)]
    return level[0]


class Frontier:
    """A tree of `size` leaves; `edge` holds the full subtrees' roots, largest first."""

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        if len(edge) != size.bit_count():
            raise ValueError("a frontier has one hash per bit of its size")
        self.size = size
        self.edge = list(edge)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Sequence[bytes]) -> list[bytes]:
        """Add leaf hashes; the roots of the groups of `GROUP` leaves that became full by them, in order."""
        full, at = [], 0
        while at < len(leaves):
            fits = 1 << ((len(leaves) - at).bit_length() - 1)
            width = min(self.size & -self.size or GROUP, GROUP, fits)
            if group := self._push(full_root(leaves[at : at + width]), width):
                full.append(group)
            at += width
        return full

    def _push(self, node: bytes, width: int) -> bytes | None:
        """Add a full subtree. Each trailing one-bit of the size, counted in it, is one that now has its neighbour."""
        group, count, self.size = (node if width == GROUP else None), self.size // width, self.size + width
        while count & 1:
            node = sha256(b"\x01" + self.edge.pop() + node).digest()
            width, count = width * 2, count >> 1
            if width == GROUP:
                group = node
        self.edge.append(node)
        return group

    @property
    def root(self) -> bytes:
        if not self.edge:
            return EMPTY_ROOT
        *rest, node = self.edge
        for left in reversed(rest):
            node = sha256(b"\x01" + left + node).digest()
        return node

    def __bytes__(self) -> bytes:
        return b"".join(self.edge)

    @classmethod
    def parse(cls, size: int, edge: bytes) -> Frontier:
        return cls(size, [edge[at : at + HASH_BYTES] for at in range(0, len(edge), HASH_BYTES)])
