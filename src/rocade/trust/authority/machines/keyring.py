"""Keys that sign access tokens: made, sealed for the database, and rotated so that no process ever misses one.

A key stands in the region's database, encrypted with a key of `trust/tokens` (mode 0600): who reads a backup of the
database cannot sign, and who writes into the database cannot slip a key in, because its seal would not open. Every
process holds all keys. A new key is published `AHEAD_US` before it begins to sign (in a hurry `HEARD_US`, five polls), so
that all know it by then; an old one is dropped when the last token it can have signed has ended. Decision: docs/decisions/0035-machines.md.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc.jwk import ECKey

from rocade.core.errors import Misconfigured
from rocade.core.ports import Random
from rocade.trust.authority.machines.model import EARLY_US, TOKEN_LIFE_US
from rocade.trust.authority.machines.store import KeyRow
from rocade.trust.identity.keys import write_private

SIGNS_US = 24 * 3_600_000_000
AHEAD_US = 600_000_000
HEARD_US = 10_000_000
WRAPPING = "wrapping.key"


class SigningKey(msgspec.Struct, frozen=True):
    """One key in memory."""

    kid: str
    begins_us: int
    ends_us: int
    pair: ECKey

    def public(self) -> dict[str, object]:
        return {**self.pair.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": "ES256"}


class KeyRing:
    """All signing keys of the region as of one reading, oldest first."""

    def __init__(self, keys: Iterable[SigningKey] = ()) -> None:
        self.keys = tuple(keys)
        self._by_kid = {key.kid: key for key in self.keys}

    def find(self, kid: object) -> SigningKey | None:
        return self._by_kid.get(kid) if isinstance(kid, str) else None

    def signer(self, now_us: int) -> SigningKey | None:
        """The newest key that has begun."""
        return next((key for key in reversed(self.keys) if key.begins_us <= now_us), None)

    def is_due(self, now_us: int) -> bool:
        """Whether the next key must be published."""
        return not self.keys or self.keys[-1].ends_us - now_us < AHEAD_US

    def spent(self, now_us: int) -> list[str]:
        """Keys whose last token has ended: the next one signs for longer than a token lives."""
        return [
            old.kid
            for old, new in zip(self.keys, self.keys[1:], strict=False)
            if new.begins_us + TOKEN_LIFE_US + EARLY_US < now_us
        ]


class Seal:
    """Seals and opens key rows with the wrapping key of a directory."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(secret)

    @classmethod
    def load(cls, directory: Path) -> Seal:
        """Raises: Misconfigured `trust.tokens.missing`, `trust.tokens.exposed`."""
        file = directory / WRAPPING
        try:
            mode, secret = file.stat().st_mode, file.read_bytes()
        except FileNotFoundError:
            raise Misconfigured(
                "trust.tokens.missing", "trust/tokens is not here; copy it from the machine the region was made on"
            ) from None
        if mode & 0o077:
            raise Misconfigured("trust.tokens.exposed", f"{WRAPPING} can be read by others; chmod 600 it")
        return cls(secret)

    def new_row(self, begins_us: int, random: Random) -> tuple[KeyRow, SigningKey]:
        """Draw a key that signs from `begins_us` on."""
        pair = ECKey.generate_key("P-256", auto_kid=True)
        kid, ends_us = pair.thumbprint(), begins_us + SIGNS_US
        nonce = random.bits(96).to_bytes(12)
        sealed = nonce + self._cipher.encrypt(nonce, pair.as_der(private=True), _label(kid, begins_us, ends_us))
        return KeyRow(begins_us, ends_us, kid, sealed), SigningKey(kid, begins_us, ends_us, pair)

    def open(self, row: KeyRow) -> SigningKey:
        """Raises: Misconfigured `trust.tokens.seal` (another wrapping key, or somebody else's row)."""
        try:
            der = self._cipher.decrypt(row.sealed[:12], row.sealed[12:], _label(row.kid, row.begins_us, row.ends_us))
        except InvalidTag:
            raise Misconfigured(
                "trust.tokens.seal",
                "a signing key in the database does not open with trust/tokens here; all machines of a region need the same",
            ) from None
        return SigningKey(row.kid, row.begins_us, row.ends_us, ECKey.import_key(der))


def create_wrapping(directory: Path, random: Random) -> None:
    """Make the wrapping key, once and for all processes: an existing one is never overwritten."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = directory / f".{WRAPPING}.{random.bits(64):016x}"
    write_private(draft, random.bits(256).to_bytes(32))
    try:
        os.link(draft, directory / WRAPPING)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _label(kid: str, begins_us: int, ends_us: int) -> bytes:
    """What the seal vouches for besides the key."""
    return f"token key {kid} {begins_us} {ends_us}".encode()
