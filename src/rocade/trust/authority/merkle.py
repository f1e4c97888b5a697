"""RFC 6962 Merkle tree, kept as its frontier: the roots of the full subtrees on its right edge.

Appending needs the frontier only (at most 64 hashes), so does the root; a million entries cost no more than one.
Leaves are hashed with prefix 0x00, nodes with 0x01, so that no node can pass for a leaf. Source: RFC 6962 section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()


def leaf_hash(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


class Frontier:
    """A tree of `size` leaves; `edge` holds the full subtrees' roots, largest first."""

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        if len(edge) != size.bit_count():
            raise ValueError("a frontier has one hash per bit of its size")
        self.size = size
        self.edge = list(edge)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash. Each trailing one-bit of the size is a full subtree that now has its neighbour."""
        node, size = leaf, self.size
        while size & 1:
            node = sha256(b"\x01" + self.edge.pop() + node).digest()
            size >>= 1
        self.edge.append(node)
        self.size += 1

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
