"""A key that signs for the region under a service's name: its certificate is renewed by itself, its predecessors are handed out.

Flow: `open` loads (or, where this machine holds the region's issuing keys, makes) the identity directory of `service/<name>` ->
`publish` gets its chain before the first signature, so that whoever checks one finds it -> `keep` renews key and certificate at
two thirds of their life; from then on the new key signs, and what the old one signed is checked with the old one.
Refuses: `trust.signer.missing` where there is no identity and none can be made.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.ports import Clock
from rocade.trust.authority.authority import Authority
from rocade.trust.identity import envelope
from rocade.trust.identity.directory import load_identity, load_key, load_leaf, renewal_due_us, stamp_of
from rocade.trust.identity.issuers import to_us
from rocade.trust.identity.keys import PrivateKey, key_id

RENEW_S = 30.0
LOOK_S = 5.0
_log = logging.getLogger(__name__)

type Publish = Callable[[bytes, bytes, int], Awaitable[None]]
"""`await publish(key_id, chain_pem, not_after_us)`: kept for all who check signatures; repeated is harmless."""


class ServiceSigner:
    """`seal` signs with the newest key. `uri` is the name it signs under."""

    def __init__(
        self, directory: Path, name: str, publish: Publish, clock: Clock, authority: Authority | None = None
    ) -> None:
        self._directory = directory
        self._name = name
        self._publish = publish
        self._clock = clock
        self._authority = authority
        self._key: PrivateKey
        self._stamp = (0, 0)
        self._looked_s = clock.monotonic_s()
        self.uri = ""
        self.key_id = b""
        """Of the key that signs now."""
        self.chain = b""
        """Its certificate with the issuer's, PEM."""

    @classmethod
    async def open(
        cls, directory: Path, name: str, publish: Publish, clock: Clock, authority: Authority | None = None
    ) -> Self:
        """Raises: Misconfigured `trust.signer.missing` where there is none and none can be made here."""
        signer = cls(directory, name, publish, clock, authority)
        await signer.renew()
        return signer

    def seal(self, payload_type: str, payload: bytes) -> bytes:
        return envelope.seal(payload_type, payload, self._key, self.key_id)

    async def refresh(self) -> None:
        """Take a key into use that another process has renewed; to be called before signing, it looks every few seconds."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s > LOOK_S:
            self._looked_s = now_s
            await self._load()

    async def renew(self) -> bool:
        """Make or renew the pair if it is due and this machine can, then load what is there; whether it is new here."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if self._authority is not None and self._is_due():
                identity = self._authority.region.identity("service", self._name)
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
                "trust.signer.missing",
                f"no identity in {self._directory.name} and no issuing key here; issue service/{self._name} and put it"
                " there",
            )
        stamp = stamp_of(self._directory / "certificate.pem")
        if stamp == self._stamp:
            return False
        key, leaf = load_key(self._directory), load_leaf(self._directory)
        chain = (self._directory / "certificate.pem").read_bytes()
        name = key_id(key.public_key())
        await self._publish(name, chain, to_us(leaf.not_valid_after_utc))
        self.uri = load_identity(self._directory).uri
        self._key, self._stamp, self.key_id, self.chain = key, stamp, name, chain
        return True

    async def keep(self, every_s: float = RENEW_S) -> None:
        """Renew for ever; a failure is logged and tried again."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.renew()
            except (RocadeError, OSError) as error:
                _log.warning("the signing key of %s was not renewed: %s", self._name, error)
