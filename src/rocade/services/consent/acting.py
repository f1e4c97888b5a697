"""What every act of consent does: one transaction under the vehicle's lock, in the audit log before it counts, numbered last.

Codes are shown once; only their hashes are kept (125 random bits, so a plain SHA-256 cannot be searched backwards).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.consent import errors, store
from rocade.services.consent.model import FOREVER_US, Ownership

CODE_SYMBOLS = 25
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U."""
_MISREAD = str.maketrans("OIL", "011")


class Acts:
    """What the use cases stand on."""

    def __init__(self, database: Database, audit: Audit, clock: Clock, random: Random) -> None:
        self.pool = database.pool
        self.clock = clock
        self._audit = audit
        self._random = random

    @asynccontextmanager
    async def acting(self, actor: str, action: str, ref: int, subject: str = "") -> AsyncIterator[Any]:
        """One transaction under the vehicle's lock, its change numbered at the end; a refusal is audited and undoes it.

        Raises: Unavailable `database.down`.
        """
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                await store.lock_vehicle(connection, ref)
                yield connection
                await store.note_change(connection, [ref], self.clock.now_us())
        except Refused as refusal:
            self.note_refusal(actor, action, subject or f"vehicle:{ref}", refusal)
            raise
        except (*DOWN, TimeoutError) as error:
            raise Unavailable("database.down", f"consent cannot be changed now: {type(error).__name__}") from error

    def note_refusal(self, actor: str, action: str, subject: str, refusal: Refused) -> Refused:
        """Audit a refusal, and return it to be raised."""
        self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", refusal.code))
        return refusal

    async def record(self, action: str, actor: str, subject: str, at_us: int, **facts: str | int) -> None:
        """Write into the audit log what this transaction is about to do."""
        await self._audit.record(AuditEntry(at_us, actor, action, subject, facts=dict(facts)))

    async def check_owner(self, connection: Any, ref: int, person: str) -> Ownership:
        """Raises: Refused `consent.owner.missing`, from the moment of a sale on, though it takes effect a little later."""
        owner = await store.owner(connection, ref)
        if owner is None or owner.person != person or owner.until_us != FOREVER_US:
            raise errors.not_owner()
        return owner

    def new_id(self, kind: str) -> str:
        return f"{kind}-{self._random.bits(64):016x}"

    def new_code(self) -> str:
        return "".join(_ALPHABET[self._random.bits(5)] for _ in range(CODE_SYMBOLS))


def hash_of(code: str) -> bytes:
    """What is kept of a code; blanks, hyphens, small letters and misread O, I, L do not matter."""
    plain = "".join(code.split()).replace("-", "").upper().translate(_MISREAD)
    return sha256(plain.encode()).digest()


def shown(code: str) -> str:
    """A code as people read it."""
    return "-".join(code[at : at + 5] for at in range(0, CODE_SYMBOLS, 5))


def reference(kind: str, digest: bytes) -> str:
    """How the audit log names a code: by the head of its hash."""
    return f"{kind}:{digest[:8].hex()}"
