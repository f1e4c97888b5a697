"""The region's key that signs heads of price lists, and the secret that epoch keys and marks are drawn from.

    key.pem       the list-signing key
    key.json      its public half, signed by the region's root: what points of sale believe
    secret        32 bytes; with an epoch's salt from the database it makes that epoch's key, so neither alone opens a file

Made with the region; `create` makes them for a region that was there before, where the root's key lies.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from rocade.core.errors import Misconfigured
from rocade.core.ports import Random
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import (
    PrivateKey,
    create_private,
    create_secret,
    read_private,
    read_secret,
    write_atomically,
)
from rocade.wire.prices import HEAD_TYPE, KEY_TYPE, Head

SECRET_BYTES = 32


class Signing:
    """What is in the folder, opened."""

    def __init__(self, directory: Path) -> None:
        """Raises: Misconfigured `prices.key.missing`, `trust.key.*`; Corrupt `trust.secret.damaged`."""
        try:
            self.statement = (directory / "key.json").read_text("ascii")
            self._secret = read_secret(directory / "secret")
        except FileNotFoundError:
            raise Misconfigured(
                "prices.key.missing",
                "this region has no list-signing key; `rocade prices key` makes one where the root's key lies",
            ) from None
        self._key = read_private(directory / "key.pem")

    @property
    def public(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, head: Head) -> bytes:
        return envelope.seal(HEAD_TYPE, msgspec.json.encode(head), self._key)

    def epoch_key(self, list_id: str, epoch: int, salt: bytes) -> bytes:
        """The key of an epoch's files. Source: RFC 5869."""
        info = f"rocade price epoch|{list_id}|{epoch}".encode()
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt, info).derive(self._secret)

    def draw(self, *about: str) -> bytes:
        """32 bytes that nobody else can foresee, always the same for the same words."""
        return hmac.digest(self._secret, "|".join(("rocade price marks", *about)).encode(), sha256)


def create(directory: Path, root_key: PrivateKey, random: Random) -> None:
    """Make key, statement and secret; what is there already is never overwritten (FileExistsError)."""
    key = create_private(directory / "key.pem")
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    write_atomically(directory / "key.json", envelope.seal(KEY_TYPE, public, root_key))
    create_secret(directory / "secret", random)
