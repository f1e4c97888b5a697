"""An RFC 6962 tree over all leaves of one commit, small enough to be held whole, with the path of every leaf.

A last node without a neighbour moves up as it is, which is the tree of RFC 6962 section 2.1; a path is read bottom to top and
says by index and size alone on which side each hash stands (RFC 9162 section 2.1.3.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from rocade.core.errors import Refused

HASH_BYTES = 32


def leaf_hash(content: bytes) -> bytes:
    return sha256(b"\x00" + content).digest()


class Tree:
    """`leaves` are leaf hashes; at least one."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        levels = [list(leaves)]
        while len(below := levels[-1]) > 1:
            level = [sha256(b"\x01" + below[at] + below[at + 1]).digest() for at in range(0, len(below) - 1, 2)]
            if len(below) % 2:
                level.append(below[-1])
            levels.append(level)
        self._levels = levels
        self.size = len(leaves)

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def path(self, index: int) -> bytes:
        """The hashes beside the way from leaf to root, bottom first, one after the other."""
        found = []
        for level in self._levels[:-1]:
            beside = index ^ 1
            if beside < len(level):
                found.append(level[beside])
            index >>= 1
        return b"".join(found)


def root_of_path(leaf: bytes, index: int, size: int, path: bytes) -> bytes:
    """The root a path leads to.

    Raises: Refused `exchange.receipt.path` if index, size and length of the path cannot belong together.
    """
    if not 0 <= index < size or len(path) % HASH_BYTES:
        raise Refused("exchange.receipt.path", "the path does not fit a tree of this size")
    node, at, last = leaf, index, size - 1
    for begin in range(0, len(path), HASH_BYTES):
        if not last:
            raise Refused("exchange.receipt.path", "the path is longer than the tree is high")
        beside = path[begin : begin + HASH_BYTES]
        if at & 1 or at == last:
            node = sha256(b"\x01" + beside + node).digest()
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = sha256(b"\x01" + node + beside).digest()
        at, last = at >> 1, last >> 1
    if last:
        raise Refused("exchange.receipt.path", "the path ends below the root")
    return node
