"""Cosignatures: what witnesses signed of this region's heads, taken in so that every proof carries them.

A witness is known by its public key, a PEM file that the operator put into DIR/trust/audit/witnesses; the file's name is its name.
Taken is what a known witness signed about a head that was signed here, dated not after now. One about a head that was never
signed here means that somebody else signs heads with the region's key, or that the log was rolled back: audited, an alarm.
Refuses: Refused `audit.cosignature.malformed`, `.witness`, `.head`, `.future`.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.proving import Proofs
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PublicKey, key_id
from rocade.trust.identity.tree_heads import COSIGNATURE_TYPE, Cosignature, is_ahead

FOLDER = "witnesses"
MAX_BYTES = 4096


class Cosigning:
    """Takes cosignatures for one region. `directory` is where the audit key lies."""

    def __init__(self, database: Database, directory: Path, proofs: Proofs, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._directory = directory
        self._proofs = proofs
        self._audit = audit
        self._clock = clock

    async def take(self, content: bytes, peer: str) -> str:
        """Keep a cosignature; the witness's name.

        Raises: Refused as named above; each is audited.
        """
        try:
            return await self._take(content)
        except Refused as refusal:
            entry = AuditEntry(self._clock.now_us(), peer, "audit.cosign", "audit:heads", "refused", refusal.code)
            self._audit.note(entry)
            raise

    async def _take(self, content: bytes) -> str:
        known = read_witnesses(self._directory / FOLDER)
        try:
            if len(content) > MAX_BYTES:
                raise Refused("audit.cosignature.malformed", "no cosignature is that long")
            keys = {name: key for name, (_, key) in known.items()}
            payload, keyid = envelope.unseal_with_signer(COSIGNATURE_TYPE, content, keys)
            saw = msgspec.json.decode(payload, type=Cosignature)
        except msgspec.MsgspecError:
            raise _malformed() from None
        except Refused as refusal:
            if refusal.code == "audit.cosignature.malformed":
                raise
            if refusal.code == "trust.envelope.malformed":
                raise _malformed() from None
            raise Refused("audit.cosignature.witness", "it is signed by no witness that is known here") from None
        if is_ahead(saw.at_us, self._clock.now_us()):
            raise Refused("audit.cosignature.future", "it is dated after now; one of the two clocks is wrong")
        try:
            head = (await self._proofs.head(saw.size)).head
        except Refused:
            head = None
        if head is None or head.root != saw.root:
            raise Refused("audit.cosignature.head", "the witness saw a head that was never signed here")
        async with self._database.pool.acquire() as connection:
            await store.add_cosignature(connection, saw.size, bytes.fromhex(keyid), content)
        return known[keyid][0]


def _malformed() -> Refused:
    return Refused("audit.cosignature.malformed", "this is no cosignature")


def read_witnesses(folder: Path) -> dict[str, tuple[str, PublicKey]]:
    """Name and key of each witness, by hex key id; a file that holds no P-256 key is none."""
    found: dict[str, tuple[str, PublicKey]] = {}
    for path in sorted(folder.glob("*.pem")) if folder.is_dir() else ():
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError, UnsupportedAlgorithm):
            continue
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
            found[key_id(key).hex()] = path.stem, key
    return found
