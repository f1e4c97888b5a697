"""The state of a price list as one hash: a Merkle tree over its parts' leaves, 64 children to a node, held in memory.

A node is sha256(0x01 | children); a child that stands alone under its parent is that parent (as in RFC 6962, for any
width). So 10,000 changes of 500,000 parts cost some 6,000 hashes of 2 KiB; a path of proof has four levels.
`trust.identity.proof` computes the same root from one leaf and its path.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Self

import numpy as np

from rocade.wire.prices.leaves import HASH_BYTES, Leaves
from rocade.wire.prices.model import Ints

WIDTH = 64
EMPTY_ROOT = sha256().digest()


class Tree:
    """All levels, leaves first. Memory: 32.5 bytes a part."""

    def __init__(self, leaves: Leaves | None = None) -> None:
        self._levels = [np.empty((0, HASH_BYTES), np.uint8)]
        self._sizes = [0]
        if leaves is not None and len(leaves):
            self.update(np.arange(len(leaves)), leaves)

    @property
    def leaves(self) -> Leaves:
        return self._levels[0][: self._sizes[0]]

    @property
    def root(self) -> bytes:
        return self._levels[-1][0].tobytes() if self._sizes[0] else EMPTY_ROOT

    def copy(self) -> Self:
        """The same tree, to be changed apart. Cost: 5 ms for 500,000 parts."""
        other = type(self)()
        other._levels = [level[:size].copy() for level, size in zip(self._levels, self._sizes, strict=True)]
        other._sizes = [*self._sizes]
        return other

    def update(self, indices: Ints, leaves: Leaves) -> bytes:
        """Set the leaves of these parts (growing indices; new ones follow without a hole); return the root."""
        if not len(indices):
            return self.root
        level = 0
        size = max(self._sizes[0], int(indices[-1]) + 1)
        self._put(0, size, indices, leaves)
        while size > 1:
            children, size = self._levels[level], (size + WIDTH - 1) // WIDTH
            indices = np.unique(indices // WIDTH)
            row = memoryview(children[: self._sizes[level]].reshape(-1))
            step = WIDTH * HASH_BYTES
            hashed = [_node(row[at * step : (at + 1) * step]) for at in indices.tolist()]
            level += 1
            self._put(level, size, indices, np.frombuffer(b"".join(hashed), np.uint8).reshape(-1, HASH_BYTES))
        return self.root

    def path(self, index: int) -> list[list[bytes]]:
        """The other children of each node above this part, bottom first."""
        siblings = []
        for level, size in zip(self._levels[:-1], self._sizes[:-1], strict=True):
            low = index - index % WIDTH
            group = [row.tobytes() for row in level[low : min(low + WIDTH, size)]]
            siblings.append(group[: index - low] + group[index - low + 1 :])
            index //= WIDTH
        return siblings

    def _put(self, level: int, size: int, indices: Ints, rows: Leaves) -> None:
        if level == len(self._levels):
            self._levels.append(np.empty((0, HASH_BYTES), np.uint8))
            self._sizes.append(0)
        held = self._levels[level]
        if len(held) < size:
            room = size if not len(held) else size + size // 8  # a long list comes in many blocks
            grown = np.empty((room, HASH_BYTES), np.uint8)
            grown[: self._sizes[level]] = held[: self._sizes[level]]
            self._levels[level] = held = grown
        self._sizes[level] = size
        held[indices] = rows


def _node(children: memoryview) -> bytes:
    return bytes(children) if len(children) == HASH_BYTES else sha256(b"\x01" + children).digest()
