"""Prove the audit log: read all of it again and name the first entry that is not what was written.

Flow: the signed heads of the database and of the file beside the key are opened with the key the root signed; two heads of
one size must agree; then every entry is hashed in order and compared with its kept hash and with each head it
completes, and at last the nodes that proofs are made from. What is found is raised as Corrupt with the position:
`audit.dropped`, `.reordered`, `.altered`, `.truncated`, `.nodes`, or `audit.forked`, `audit.head`, `audit.key` for the
signatures themselves. Where all else holds and only lines of the file are damaged, that is said with `audit.heads`;
`mend` then records it and writes the file anew from the database, and does so in no other case.
"""

from __future__ import annotations

import asyncio
from mmap import ACCESS_READ, mmap
from pathlib import Path

import msgspec
from cryptography import x509

from rocade.core.errors import Corrupt
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.audit import Line
from rocade.trust.authority.heads import Head, load_public_key, read_head, read_heads, rewrite_heads
from rocade.trust.authority.merkle import GROUP, HASH_BYTES, Frontier, full_root, leaf_hash
from rocade.trust.identity.keys import PublicKey

_NOT_KEPT = bytes(HASH_BYTES)
PIECE = 1_024


class Report(msgspec.Struct, frozen=True):
    """A log that holds: `entries` in all, of which the last signed head covers `signed`."""

    entries: int
    signed: int
    heads: int
    root: str


async def verify(database: Database, directory: Path, root: x509.Certificate) -> Report:
    """Check the whole log against the heads and hashes kept in `directory`.

    Raises: Corrupt as named above, `position` in its facts.
    """
    report, damaged = await _check(database, directory, load_public_key(directory, root))
    if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (" and more" if len(damaged) > 5 else "")
        raise Corrupt(
            "audit.heads",
            f"the log holds, but of the heads kept beside it line {numbers} is not what was signed; keep a copy, then"
            " `rocade audit mend`",
            lines=len(damaged),
            line=damaged[0],
        )
    return report


async def mend(
    database: Database, directory: Path, root: x509.Certificate, audit: Audit, clock: Clock, actor: str
) -> Path | None:
    """Write damaged kept heads anew, after it was recorded; where the damaged file stands, None if nothing was damaged.

    Raises: Corrupt as `verify`, if anything else does not hold: nothing is mended over that.
    """
    key = load_public_key(directory, root)
    _, damaged = await _check(database, directory, key)
    if not damaged:
        return None
    facts: dict[str, str | int | float] = {"lines": len(damaged), "line": damaged[0]}
    await audit.record(AuditEntry(clock.now_us(), actor, "audit.heads.mended", "audit:heads", facts=facts))
    async with database.pool.acquire() as connection:
        known = await store.read_heads(connection)
    return await asyncio.to_thread(rewrite_heads, directory / "heads", key, known, clock.now_us())


async def _check(database: Database, directory: Path, key: PublicKey) -> tuple[Report, list[int]]:
    """All but the damaged lines of the kept heads, which are named."""
    kept = await asyncio.to_thread(_read_kept, directory / "leaves")  # files first: writers go on meanwhile
    lines = (directory / "heads").read_bytes() if (directory / "heads").exists() else b""
    async with database.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        known = await store.read_heads(connection)
        apart = await asyncio.to_thread(read_heads, lines, key, known)
        heads = await asyncio.to_thread(_open_heads, [*known, *apart.signed], key)
        frontier, groups, piece = Frontier(), list[bytes](), list[bytes]()
        async for position, body in store.read_entries(connection):
            size, leaf = frontier.size + len(piece) + 1, leaf_hash(body)
            _check_entry(position, body, leaf, size - 1, kept)
            piece.append(leaf)
            if size in heads or len(piece) == PIECE:
                groups += frontier.extend(piece)
                piece.clear()
                _check_head(frontier, heads)
        groups += frontier.extend(piece)
        tree = await store.read_tree(connection)
        nodes = await store.read_all_nodes(connection)
    expected = max((*heads, len(kept) // HASH_BYTES, tree.size if tree else 0))
    if frontier.size < expected:
        missing = expected - frontier.size
        raise _corrupt("truncated", frontier.size, f"the log ends here, {missing} later entries are missing")
    if tree is None or tree.size != frontier.size or tree.edge != bytes(frontier):
        raise Corrupt("audit.tree", "entries were added without the tree, or the tree's row was changed")
    _check_nodes(nodes, groups)
    return Report(frontier.size, max(heads, default=0), len(heads), frontier.root.hex()), apart.damaged


def _corrupt(what: str, position: int, message: str) -> Corrupt:
    return Corrupt(f"audit.{what}", f"entry {position}: {message}", position=position)


def _read_kept(path: Path) -> bytes | mmap:
    """The kept hashes, mapped: a long log has gigabytes of them."""
    if not path.exists() or path.stat().st_size == 0:
        return b""
    with path.open("rb") as file:
        return mmap(file.fileno(), 0, access=ACCESS_READ)


def _open_heads(signed: list[bytes], key: PublicKey) -> dict[int, Head]:
    """Heads by size, in growing order; two of one size must agree."""
    heads: dict[int, Head] = {}
    for head in (read_head(content, key) for content in signed):
        if heads.setdefault(head.size, head).root != head.root:
            raise Corrupt("audit.forked", f"two signed heads of {head.size} entries differ", position=head.size)
    return dict(sorted(heads.items()))


def _check_entry(position: int, body: bytes, leaf: bytes, expected: int, kept: bytes | mmap) -> None:
    """The row at its place: its number, the number inside it, and its hash."""
    if position != expected:
        raise _corrupt("dropped", expected, "the entry is missing")
    hashed = kept[expected * HASH_BYTES : (expected + 1) * HASH_BYTES]
    if leaf == hashed:
        return
    try:
        inside = msgspec.json.decode(body, type=Line).position
    except msgspec.MsgspecError:
        raise _corrupt("altered", expected, "the entry is not readable") from None
    if inside != expected:
        raise _corrupt("reordered", expected, f"what stands here was written as entry {inside}")
    if hashed not in {b"", _NOT_KEPT}:
        raise _corrupt("altered", expected, "the entry is not what was written")


def _check_head(frontier: Frontier, heads: dict[int, Head]) -> None:
    head = heads.get(frontier.size)
    if head is not None and head.root != frontier.root.hex():
        sizes = [size for size in heads if size < head.size]
        first = max(sizes, default=0)
        raise _corrupt(
            "altered", first, f"one of the entries {first} to {head.size - 1} is not what the signed head covers"
        )


def _check_nodes(nodes: dict[tuple[int, int], bytes], roots: list[bytes]) -> None:
    """Kept are the roots of the full groups, and those of 256 of them, and so on; nothing else."""
    level, expected = 1, dict[tuple[int, int], bytes]()
    while roots:
        expected |= {(level, number): root for number, root in enumerate(roots)}
        whole = len(roots) // GROUP * GROUP
        roots, level = [full_root(roots[at : at + GROUP]) for at in range(0, whole, GROUP)], level + 1
    if nodes != expected:
        level, number = min(key for key in nodes.keys() | expected.keys() if nodes.get(key) != expected.get(key))
        first = number * GROUP**level
        raise _corrupt("nodes", first, "a node kept from here on is not that of the entries, proofs over it would fail")
