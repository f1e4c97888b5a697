"""What every part of this package works with, and the two things all of them do: draw secrets and write to the audit log."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.trust.authority.people.model import Site
from rocade.trust.authority.sealing.columns import Columns

SECRET_BYTES = 32


@dataclass(frozen=True)
class Parts:
    """Engines and settings of one region's people."""

    database: Database
    audit: Audit
    clock: Clock
    random: Random
    site: Site
    region: str = ""

    @property
    def columns(self) -> Columns:
        """Who seals names."""
        return Columns(self.database)

    def secret(self) -> str:
        """256 random bits as text; only `hash_of` it is ever stored."""
        return base64.urlsafe_b64encode(self.random.bits(SECRET_BYTES * 8).to_bytes(SECRET_BYTES)).decode().rstrip("=")

    def number(self) -> int:
        """A random number that names a row and says nothing."""
        return self.random.bits(63) or 1

    def note(self, actor: str, action: str, subject: str, reason: str) -> None:
        """Write down a refusal."""
        self.audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", reason))

    @contextlib.contextmanager
    def noting(self, actor: str, action: str, subject: str) -> Iterator[None]:
        """Write down what is refused inside."""
        try:
            yield
        except Refused as refusal:
            self.note(actor, action, subject, refusal.code)
            raise

    async def record(self, actor: str, action: str, subject: str, **facts: str | int | float) -> None:
        """Write down an act before it counts."""
        await self.audit.record(AuditEntry(self.clock.now_us(), actor, action, subject, facts=facts))


def hash_of(secret: str) -> bytes:
    """What is stored of a secret. It has 256 random bits, so a plain hash leaves nothing to guess."""
    return sha256(secret.encode()).digest()
