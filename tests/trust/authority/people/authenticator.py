"""A passkey in software, honest or not: signs what a browser would hand it, with every field at the test's will."""

from __future__ import annotations

import base64
import json
from hashlib import sha256
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

PRESENT, VERIFIED, BACKUP_ELIGIBLE, BACKED_UP, ATTESTED = 1, 4, 8, 16, 64


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def octets(encoded: str) -> bytes:
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


class Authenticator:
    """One passkey: a key, its credential id, and the counter it sends (None = it has none, as synced ones)."""

    def __init__(self, origin: str, name: bytes = b"credential-1", counter: int | None = 0) -> None:
        self.origin = origin
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.id = sha256(name).digest()
        self.counter = counter
        self.handle = b""

    def _client(self, kind: str, challenge: str, origin: str | None, **more: Any) -> bytes:
        said = {
            "type": f"webauthn.{kind}",
            "challenge": challenge,
            "origin": origin or self.origin,
            "crossOrigin": False,
        }
        return json.dumps({**said, **more}).encode()

    def _data(self, host: str, flags: int) -> bytes:
        if self.counter is not None:
            self.counter += 1
        return sha256(host.encode()).digest() + bytes([flags]) + (self.counter or 0).to_bytes(4)

    def create(
        self, options: dict[str, Any], *, origin: str | None = None, flags: int = PRESENT | VERIFIED
    ) -> dict[str, Any]:
        """What `navigator.credentials.create` answers, in JSON."""
        self.handle = octets(options["user"]["id"])
        public = self.key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32), -3: public.y.to_bytes(32)})
        data = self._data(options["rp"]["id"], flags | ATTESTED)
        data += bytes(16) + len(self.id).to_bytes(2) + self.id + cose
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = self._client("create", options["challenge"], origin)
        return self._credential(
            clientDataJSON=text(client), attestationObject=text(attestation), transports=["internal"]
        )

    def get(
        self, options: dict[str, Any], *, origin: str | None = None, host: str = "", flags: int = PRESENT | VERIFIED,
        challenge: str = "", key: ec.EllipticCurvePrivateKey | None = None, **client_says: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """What `navigator.credentials.get` answers, in JSON."""
        data = self._data(host or options["rpId"], flags)
        client = self._client("get", challenge or options["challenge"], origin, **client_says)
        signature = (key or self.key).sign(data + sha256(client).digest(), ec.ECDSA(hashes.SHA256()))
        return self._credential(
            clientDataJSON=text(client),
            authenticatorData=text(data),
            signature=text(signature),
            userHandle=text(self.handle),
        )

    def _credential(self, **response: Any) -> dict[str, Any]:
        return {
            "id": text(self.id), "rawId": text(self.id), "type": "public-key", "response": response,
            "clientExtensionResults": {}, "authenticatorAttachment": "platform",
        }  # fmt: skip
