"""What a backup says of itself: the manifest, signed with the region's audit key, whose public half the root signed.

A backup without a manifest is one that was not finished. The manifest names every chunk with the SHA-256 of its sealed bytes,
so that each flipped, missing or exchanged one is found before anything is put back. Whoever holds the region's root
certificate can check all of it without a key.
Refuses: `backup.missing`, `backup.unfinished`, `backup.format`, `backup.foreign`, Corrupt `backup.manifest`.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from rocade.core.errors import Corrupt, Refused
from rocade.fabric.database.dump import Rows
from rocade.trust.authority.heads import KEY_TYPE
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import PublicKey, key_id, read_private

FORMAT = 1
MANIFEST_TYPE = "application/vnd.rocade.backup+json"
KEYS_TYPE = "application/vnd.rocade.backup-keys+json"

type Kind = Literal["schema", "table", "history", "files"]


class Chunk(msgspec.Struct, frozen=True, array_like=True):
    """A sealed object `chunks/<name>`: the SHA-256 of its bytes, how long they are, how long what they hold is."""

    name: str
    sha256: str
    stored_bytes: int
    size_bytes: int


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stream of the backup, cut into chunks. `rows` of a table."""

    kind: Kind
    name: str
    size_bytes: int
    chunks: tuple[Chunk, ...]
    rows: Rows | None = None


class Origin(msgspec.Struct, frozen=True):
    """Which region: its name and the SHA-256 of its root certificate, by which a foreign one is told."""

    region: str
    trust_domain: str
    root: str


class Manifest(msgspec.Struct, frozen=True):
    """A whole backup: what the region was at `at_us`. `number` names the key its chunks are sealed with."""

    format: int
    number: int
    origin: Origin
    at_us: int
    finished_us: int
    version: str
    ledger_entries: int
    ledger_hash: str
    """How long the ledger of erasures was when this was made, and the hash of its last line: a later one goes on there."""
    sequences: dict[str, int]
    items: tuple[Item, ...]
    removed: tuple[str, ...] = ()
    """Objects of the archive that the rows note and that were removed on purpose before they could be copied."""
    absent: tuple[str, ...] = ()
    """Those that were gone without that: the region had lost them before."""

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)

    @property
    def stored_bytes(self) -> int:
        return sum({chunk.name: chunk.stored_bytes for item in self.items for chunk in item.chunks}.values())

    @property
    def chunks(self) -> dict[str, Chunk]:
        return {chunk.name: chunk for item in self.items for chunk in item.chunks}


class KeyFile(msgspec.Struct, frozen=True, array_like=True):
    """A file of a keys part and the SHA-256 of its bytes."""

    name: str
    sha256: str


class KeysManifest(msgspec.Struct, frozen=True):
    """A whole keys part: key tables and private files as they were at `at_us`."""

    format: int
    origin: Origin
    at_us: int
    version: str
    region_key: int
    """The version of the region key that opens the tables."""
    tables: tuple[Rows, ...]
    files: tuple[KeyFile, ...]
    private: tuple[Chunk, ...]


def origin_of(region: str, trust_domain: str, trust_pem: bytes) -> Origin:
    root = x509.load_pem_x509_certificate(trust_pem)
    return Origin(region, trust_domain, sha256(root.public_bytes(Encoding.DER)).hexdigest())


def sign(kind: str, manifest: Manifest | KeysManifest, audit: Path) -> bytes:
    """Signed with the audit key; the root's statement about that key travels in front."""
    signed = envelope.seal(kind, msgspec.json.encode(manifest), read_private(audit / "key.pem"))
    return (audit / "key.json").read_bytes().strip() + b"\n" + signed + b"\n"


def read[T: (Manifest, KeysManifest)](kind: str, content: bytes, shape: type[T], root: x509.Certificate) -> T:
    """Open a signed manifest.

    Raises: Refused `backup.foreign` (another root signed for it), `backup.format`; Corrupt `backup.manifest`.
    """
    statement, _, signed = content.strip().partition(b"\n")
    key = _vouched(statement, root)
    try:
        payload = envelope.unseal(kind, signed, {key_id(key).hex(): key})
        if (found := msgspec.json.decode(payload, type=_Format).format) != FORMAT:
            raise Refused("backup.format", f"this backup has format {found}; this version of Rocade reads {FORMAT}")
        return msgspec.json.decode(payload, type=shape)
    except msgspec.MsgspecError:
        raise _broken() from None
    except Refused as error:
        if error.code.startswith("trust.envelope"):
            raise _broken() from None
        raise


class _Format(msgspec.Struct):
    format: int


def _vouched(statement: bytes, root: x509.Certificate) -> PublicKey:
    root_key = root.public_key()
    if not envelope.is_envelope(statement) or not isinstance(root_key, ec.EllipticCurvePublicKey):
        raise _broken()
    try:
        key = load_der_public_key(envelope.unseal(KEY_TYPE, statement, {key_id(root_key).hex(): root_key}))
    except Refused as error:
        if error.code == "trust.envelope.signer":
            raise Refused(
                "backup.foreign", "the backup is of another region: its manifest is signed under another root"
            ) from None
        raise _broken() from None
    except ValueError:
        raise _broken() from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _broken()
    return key


def _broken() -> Corrupt:
    return Corrupt(
        "backup.manifest", "the manifest is not what was signed; take another backup, and find out who changed this one"
    )
