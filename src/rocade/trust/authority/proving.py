"""Proofs of the audit log, for somebody who has nothing but the region's root certificate.

Flow: a signed head (the newest that a witness signed too, where it covers the entry, else the newest) -> the kept nodes and
the few hundred entries that the path needs (`nodes`) -> the path -> a file for `rocade verify`, checked before it is given.
What is handed out to everybody holds hashes, signatures and sizes only; an entry's content is for who may read it.
A proof is never asked for beyond the newest signed head: what is not signed yet may still be lost.
Refuses: Refused `audit.entry.unknown` (none that a signed head covers yet), `audit.head.unknown`, `audit.tile.unknown`,
`proof.path` (the log is not what was signed); Corrupt `audit.key`, `audit.head`, `audit.nodes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Literal

import asyncpg
import msgspec
from cryptography import x509

from rocade.core.errors import Corrupt, Refused
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.heads import Head, load_public_key, read_head
from rocade.trust.authority.merkle import GROUP, GROUP_BITS, HASH_BYTES
from rocade.trust.authority.nodes import Nodes, hashes_of
from rocade.trust.identity import proof, proof_files

AT_ONCE = 4
"""Proofs in the making at one time: strangers may ask, and must not hold every connection to the database."""


class SignedHead(msgspec.Struct, frozen=True):
    """A signed head, opened; `cosignatures`: what witnesses signed of it."""

    head: Head
    signed: bytes
    cosignatures: tuple[bytes, ...] = ()


class Inclusion(msgspec.Struct, frozen=True):
    """Where an entry stands, without what it says: its leaf hash, and the path (hexadecimal each) up to the head's root."""

    position: int
    leaf: str
    path: tuple[str, ...]


class Proofs:
    """The proofs of one region's log. `directory` is where the audit key lies, `root` the region's root certificate."""

    def __init__(self, database: Database, directory: Path, root: x509.Certificate) -> None:
        self._database = database
        self._root = root
        key = load_public_key(directory, root)
        self._open = lru_cache(64)(lambda signed: read_head(signed, key))
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.statement = (directory / "key.json").read_bytes()
        """The root's statement about the key that signs heads."""

    async def head(self, size: int | None = None) -> SignedHead:
        """The newest signed head with its cosignatures, or the one over exactly so many entries.

        Raises: Refused `audit.head.unknown`.
        """
        async with self._reading() as connection:
            return await self._head(connection, size)

    async def entry(self, position: int, what: Literal["audit entry", "erasure"] = "audit entry") -> bytes:
        """A proof file with the entry at a position in it.

        Raises: Refused `audit.entry.unknown`, `proof.path`, `proof.erasure`; Corrupt `audit.nodes`.
        """
        async with self._reading() as connection:
            head = await self._covering(connection, position)
            nodes = await Nodes.load(connection, head.head.size, position)
            body = await store.read_body(connection, position) or b""
        path = nodes.path(position)
        made = proof_files.inclusion_proof(
            what, body, position, path, head.signed, statements=[self.statement], cosignatures=head.cosignatures
        )
        proof.verify(made, self._root)
        return made

    async def inclusion(self, position: int, size: int | None = None) -> tuple[Inclusion, SignedHead]:
        """That an entry stands at a position, in hashes, under the newest head or the one over exactly so many entries.

        Raises: as `entry`, and Refused `audit.head.unknown`.
        """
        async with self._reading() as connection:
            head = await (self._covering(connection, position) if size is None else self._head(connection, size))
            if not 0 <= position < head.head.size:
                raise _unknown_entry()
            nodes = await Nodes.load(connection, head.head.size, position)
        path = tuple(one.hex() for one in hashes_of(nodes.path(position)))
        return Inclusion(position, nodes.leaf(position).hex(), path), head

    async def consistency(self, old: int, new: int | None = None) -> bytes:
        """A proof file: all entries under the signed head over `old` entries stand under the newest head, or the one over `new`.

        Raises: Refused `audit.head.unknown`, `proof.path`; Corrupt `audit.nodes`.
        """
        async with self._reading() as connection:
            older, newer = await self._head(connection, old), await self._head(connection, new)
            if not 1 <= old <= newer.head.size:
                raise Refused("audit.head.unknown", "a log cannot have grown to fewer entries than it had")
            nodes = await Nodes.load(connection, newer.head.size, old - 1)
        path, stated = nodes.extension(old), [self.statement]
        made = proof_files.consistency_proof(
            older.signed, newer.signed, path, statements=stated, cosignatures=newer.cosignatures
        )
        proof.verify(made, self._root)
        return made

    async def tile(self, level: int, number: int) -> bytes:
        """The hashes of one tile: 256, or fewer at the right edge of the newest signed head; level 0 holds leaf hashes.

        Raises: Refused `audit.tile.unknown`; Corrupt `audit.nodes`.
        """
        async with self._reading() as connection:
            size = (await self._head(connection)).head.size
            count = size >> (GROUP_BITS * level) if 0 <= level < GROUP_BITS else 0
            low, high = number * GROUP, min(number * GROUP + GROUP, count)
            if not 0 <= low < high:
                raise Refused("audit.tile.unknown", "no signed head covers such a tile yet")
            hashes = (await store.read_hashes(connection, [(level, low, high)]))[level, low]
        if len(hashes) != (high - low) * HASH_BYTES:
            raise Corrupt("audit.nodes", f"the audit tree has a hole at level {level}, tile {number}")
        return hashes

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[asyncpg.Connection]:
        """No transaction: entries, nodes and heads are written together and never change, so what a head covers stays as it is."""
        async with self._turns, self._database.pool.acquire() as connection:
            yield connection

    async def _head(self, connection: asyncpg.Connection, size: int | None = None) -> SignedHead:
        found = await store.read_head(connection, size)
        if found is None:
            raise Refused("audit.head.unknown", "no head over so many entries was signed here")
        signed, cosignatures = found
        return SignedHead(self._open(signed), signed, tuple(cosignatures))

    async def _covering(self, connection: asyncpg.Connection, position: int) -> SignedHead:
        """The newest head that a witness signed if it covers the entry, else the newest."""
        cosigned = await store.read_cosigned_size(connection)
        try:
            found = await self._head(connection, cosigned if cosigned is not None and position < cosigned else None)
        except Refused:
            raise _unknown_entry() from None
        if not 0 <= position < found.head.size:
            raise _unknown_entry()
        return found


async def prove_entry(
    database: Database, directory: Path, root: x509.Certificate, position: int,
    what: Literal["audit entry", "erasure"] = "audit entry",
) -> bytes:  # fmt: skip
    """A proof file for the entry at a position; `erasure`: a certificate that says what was erased. See `Proofs.entry`."""
    return await Proofs(database, directory, root).entry(position, what)


def _unknown_entry() -> Refused:
    return Refused("audit.entry.unknown", "no signed head covers such an entry yet; a head is signed every few seconds")
