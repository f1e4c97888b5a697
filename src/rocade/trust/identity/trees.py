"""The arithmetic of Merkle trees, as whoever checks a proof needs it: from a leaf and a path to the root.

`root_of` is for trees of any width (2: RFC 6962, the audit log and receipts; 64: the state of a price list), `roots_of` for the
two roots of an RFC 6962 tree that grew. Both take a path apart to its end; one that is too short or too long is refused.
Refuses: Refused `proof.path`. Source: RFC 6962 section 2.1.1; RFC 9162 section 2.1.4.2 (the way the two roots are computed).
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from rocade.core.errors import Refused

HASH_BYTES = 32


def root_of(leaf: bytes, index: int, size: int, path: bytes, width: int = 2) -> bytes:
    """The root of a tree of `size` leaves that has this leaf at `index`; a node alone under its parent is that parent.

    Raises: Refused `proof.path` if the path has not the length that index and size ask for.
    """
    if not 0 <= index < size:
        raise _refused("the leaf lies outside the tree")
    node, rest = leaf, path
    while size > 1:
        place, low = index % width, index - index % width
        many = min(width, size - low) - 1
        others, rest = rest[: many * HASH_BYTES], rest[many * HASH_BYTES :]
        if len(others) < many * HASH_BYTES:
            raise _refused("the path is shorter than the tree is high")
        if many:
            before, after = others[: place * HASH_BYTES], others[place * HASH_BYTES :]
            node = sha256(b"\x01" + before + node + after).digest()
        index, size = index // width, (size + width - 1) // width
    if rest:
        raise _refused("the path is longer than the tree is high")
    return node


def roots_of(old_size: int, old_root: bytes, size: int, path: bytes) -> tuple[bytes, bytes]:
    """The roots of the first `old_size` leaves and of all `size`, as they follow from the path between the two.

    `old_root` is what the path leaves out where it is a node of the tree itself; the caller compares both with what was signed.
    Raises: Refused `proof.path`.
    """
    if not 1 <= old_size <= size:
        raise _refused("a tree cannot have grown to fewer leaves")
    if old_size == size:
        if path:
            raise _refused("nothing lies between a tree and itself")
        return old_root, old_root
    hashes = [path[at : at + HASH_BYTES] for at in range(0, len(path), HASH_BYTES)]
    if not hashes or len(hashes[-1]) != HASH_BYTES:
        raise _refused("the path is shorter than the tree is high")
    if old_size & (old_size - 1) == 0:
        hashes.insert(0, old_root)
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = hashes[0]
    for one in hashes[1:]:
        if last == 0:
            raise _refused("the path is longer than the tree is high")
        if place & 1 or place == last:
            old, new = _node(one, old), _node(one, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = _node(new, one)
        place, last = place >> 1, last >> 1
    if last:
        raise _refused("the path is shorter than the tree is high")
    return old, new


def path_of(leaves: Sequence[bytes], index: int, width: int = 2) -> bytes:
    """The path of one leaf in a tree of these; for width 2 the tree is that of RFC 6962."""
    path, level = [], list(leaves)
    while len(level) > 1:
        low = index - index % width
        path += [*level[low:index], *level[index + 1 : low + width]]
        groups = [level[at : at + width] for at in range(0, len(level), width)]
        level = [one[0] if len(one) == 1 else sha256(b"\x01" + b"".join(one)).digest() for one in groups]
        index //= width
    return b"".join(path)


def root_of_all(leaves: Sequence[bytes]) -> bytes:
    """The root of the RFC 6962 tree of these leaf hashes, one at least."""
    level = list(leaves)
    while len(level) > 1:
        odd = level[len(level) & ~1 :]
        joined = b"".join(level[: len(level) & ~1])
        level = [sha256(b"\x01" + joined[at : at + 64]).digest() for at in range(0, len(joined), 64)] + odd
    return level[0]


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _refused(why: str) -> Refused:
    return Refused("proof.path", why)
