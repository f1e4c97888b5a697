"""The keys that sign for the hub: a service certificate renewed by itself, its predecessors handed out while they may matter.

Flow: `open` loads (or, where this machine holds the region's issuing keys, makes) the identity directory `exchange` -> its chain is
written into `exchange_signer` for all processes and parties -> `keep` renews key and certificate at two thirds of their life; from
then on the new key signs, and what the old one signed is checked with the old one: nothing has to be re-signed or agreed.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.exchange import store
from rocade.services.exchange.model import SIGNER
from rocade.trust.authority import Authority
from rocade.trust.identity import envelope
from rocade.trust.identity.directory import load_identity, load_key, load_leaf, renewal_due_us, stamp_of
from rocade.trust.identity.issuers import to_us
from rocade.trust.identity.keys import PrivateKey, PublicKey, key_id

RENEW_S = 30.0
LOOK_S = 5.0
_log = logging.getLogger(__name__)


class Signer:
    """`seal` signs with the newest key. `uri` is the hub's name in receipts."""

    def __init__(self, directory: Path, database: Database, clock: Clock, authority: Authority | None = None) -> None:
        self._directory = directory
        self._database = database
        self._clock = clock
        self._authority = authority
        self._key: PrivateKey
        self._stamp = (0, 0)
        self._looked_s = clock.monotonic_s()
        self.uri = ""
        self.changed: Callable[[], Awaitable[None]] | None = None
        """Called after a new key was taken into use: parties are to be told of its certificate."""

    @classmethod
    async def open(
        cls, directory: Path, database: Database, clock: Clock, authority: Authority | None = None
    ) -> Signer:
        """Raises: Misconfigured `exchange.signer.missing` where there is none and none can be made here."""
        signer = cls(directory, database, clock, authority)
        await signer.renew()
        return signer

    @property
    def public_key(self) -> PublicKey:
        return self._current().public_key()

    def _current(self) -> PrivateKey:
        """The key as it stands: another process may have renewed it."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            stamp = stamp_of(self._directory / "certificate.pem")
            if stamp != self._stamp:
                self._key, self._stamp = load_key(self._directory), stamp
        return self._key

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        return envelope.seal(payload_type, payload, self._current())

    def countersign(self, content: bytes) -> bytes:
        """Another party's envelope with the hub's signature beside: this hub checked the first one and recorded it."""
        return envelope.countersign(content, self._current())

    async def renew(self) -> bool:
        """Make or renew the pair if it is due and this machine can, then load what is there; whether it is new here."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if self._authority is not None and self._is_due():
                identity = self._authority.region.identity("service", SIGNER)
                (await self._authority.provision([identity], identity.uri))[0].write(self._directory)
        finally:
            os.close(lock)
        return await self._load()

    def _is_due(self) -> bool:
        if not (self._directory / "certificate.pem").exists():
            return True
        return self._clock.now_us() >= renewal_due_us(load_leaf(self._directory))

    async def _load(self) -> bool:
        if not (self._directory / "certificate.pem").exists():
            raise Misconfigured(
                "exchange.signer.missing",
                f"no identity in {self._directory.name} and no issuing key here; issue service/{SIGNER} and put it there",
            )
        stamp = stamp_of(self._directory / "certificate.pem")
        if stamp == self._stamp:
            return False
        key, leaf = load_key(self._directory), load_leaf(self._directory)
        chain = (self._directory / "certificate.pem").read_bytes()
        async with self._database.pool.acquire() as connection:
            await store.add_signer(connection, key_id(key.public_key()), chain, to_us(leaf.not_valid_after_utc))
        self.uri = load_identity(self._directory).uri
        self._key, self._stamp = key, stamp
        return True

    async def keep(self, every_s: float = RENEW_S) -> None:
        """Renew for ever; a failure is logged and tried again."""
        while True:
            await asyncio.sleep(every_s)
            try:
                if await self.renew() and self.changed is not None:
                    await self.changed()
            except (RocadeError, OSError) as error:
                _log.warning("the signing key was not renewed: %s", error)
