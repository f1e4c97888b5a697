"""A proof that an entry stands in the audit log, for somebody who has nothing but the region's root certificate.

Flow: the newest signed head -> the leaf hashes of all entries that it covers -> the path -> a file for `rocade verify`, checked before it is given.
Refuses: Refused `audit.entry.unknown` (none that a signed head covers yet), `proof.path` (the log is not what was signed); Corrupt `audit.key`, `audit.head`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography import x509

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.heads import load_public_key, read_head
from rocade.trust.authority.merkle import leaf_hash
from rocade.trust.identity import proof


async def prove_entry(database: Database, directory: Path, root: x509.Certificate, position: int) -> bytes:
    """A proof file for the entry at a position. Cost: reads every entry up to the head."""
    key = load_public_key(directory, root)
    leaves: list[bytes] = []
    body = b""
    async with database.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        signed = await store.read_heads(connection)
        size = read_head(signed[-1], key).size if signed else 0
        if not 0 <= position < size:
            raise Refused(
                "audit.entry.unknown", "no signed head covers such an entry yet; a head is signed every few seconds"
            )
        async for at, content in store.read_entries(connection):
            if at >= size:
                break
            leaves.append(leaf_hash(content))
            body = content if at == position else body
    path = await asyncio.to_thread(proof.path_of, leaves, position)
    statement = (directory / "key.json").read_bytes()
    made = proof.inclusion_proof("audit entry", body, position, path, signed[-1], statements=[statement])
    proof.verify(made, root)
    return made
