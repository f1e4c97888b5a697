"""The keys that sign for the hub: the service identity `exchange`, whose chains stand in `exchange_signer` for all processes and parties.

How keys come and go is `ServiceSigner`'s. What is the hub's own: it signs beside other parties' signatures, signs in the middle of work that
cannot wait (so a key that another process renewed is taken from the disk there and then: who renewed it has published it), and
tells its parties of a new key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.exchange import store
from rocade.services.exchange.model import SIGNER
from rocade.trust.authority import Authority
from rocade.trust.authority.signing import LOOK_S, ServiceSigner
from rocade.trust.identity import envelope
from rocade.trust.identity.directory import load_key, stamp_of
from rocade.trust.identity.keys import PrivateKey, PublicKey


class Signer(ServiceSigner):
    """`seal` signs with the newest key. `uri` is the hub's name in receipts."""

    changed: Callable[[], Awaitable[None]] | None = None
    """Called after a new key was taken into use: parties are to be told of its certificate."""

    @classmethod
    async def of_hub(
        cls, directory: Path, database: Database, clock: Clock, authority: Authority | None = None
    ) -> Self:
        """Raises: Misconfigured `trust.signer.missing` where there is none and none can be made here."""

        async def publish(key_id: bytes, chain: bytes, not_after_us: int) -> None:
            async with database.pool.acquire() as connection:
                await store.add_signer(connection, key_id, chain, not_after_us)

        return await cls.open(directory, SIGNER, publish, clock, authority)

    @property
    def public_key(self) -> PublicKey:
        return self._current().public_key()

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        return envelope.seal(payload_type, payload, self._current())

    def countersign(self, content: bytes) -> bytes:
        """Another party's envelope with the hub's signature beside: this hub checked the first one and recorded it."""
        return envelope.countersign(content, self._current())

    async def renew(self) -> bool:
        is_new = await super().renew()
        if is_new and self.changed is not None:
            await self.changed()
        return is_new

    def _current(self) -> PrivateKey:
        """The key as it stands on the disk, looked at every few seconds."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            stamp = stamp_of(self._directory / "certificate.pem")
            if stamp != self._stamp:
                self._key, self._stamp = load_key(self._directory), stamp
        return self._key
