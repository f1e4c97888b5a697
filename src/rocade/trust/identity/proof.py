"""One verifier for every proof that Rocade gives: a price at an instant, a receipt, an entry of the audit log.

A proof file is one JSON document with its `type`. What it shows is a leaf of a tree, the path from the leaf to the root, and a
head of that tree, signed. The verifier computes the leaf from what is shown, the root from leaf and path, and opens the head with the
key it was given; nothing is asked of anybody. The key may be the signer's own, or that of the region's root, whose statement about the
signer then lies in the file.
For a price: what is shown are all changes of the part, so the verifier applies the rule of prices (`core.prices`) itself.
Refuses: Refused `proof.malformed`, `proof.signer`, `proof.path`, `proof.list`, `proof.price`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from rocade.core.errors import Misconfigured, Refused
from rocade.core.money import amount
from rocade.core.prices import WITHDRAWN, Change, leaf_of, price_at
from rocade.trust.identity.envelope import Envelope, unseal
from rocade.trust.identity.keys import PublicKey, key_id

PRICE_PROOF = "rocade.price-proof"
INCLUSION_PROOF = "rocade.inclusion-proof"
PRICE_HEAD_TYPE = "application/vnd.rocade.price-head+json"
SIGNER_TYPES = (
    "application/vnd.rocade.price-key",
    "application/vnd.rocade.audit-key",
    "application/vnd.rocade.receipt-key",
)
"""Statements of the region's root about a key that signs heads."""
PRICE_WIDTH = 64
MAX_BYTES = 4 << 20


class PriceProof(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """A price proven. `path` holds, bottom first, the other children of each node above the part, in base64."""

    type: str
    list_id: str
    ref: str
    at_us: int
    known_seq: int
    price_minor: int | None
    currency: str
    index: int
    changes: tuple[Change, ...]
    path: list[list[str]]
    head: msgspec.Raw
    signers: tuple[msgspec.Raw, ...] = ()


class InclusionProof(msgspec.Struct, frozen=True):
    """Content proven to be leaf `position` of an RFC 6962 tree, whose head says its size and root."""

    type: str
    what: str
    """In words of the one who gives it: "receipt", "audit entry"."""
    content: str
    position: int
    path: list[list[str]]
    head: msgspec.Raw
    head_type: str
    signers: tuple[msgspec.Raw, ...] = ()


class _PriceHead(msgspec.Struct, rename={"list_id": "list"}):
    list_id: str
    brand: str
    seq: int
    signed_us: int
    state_root: str
    parts: int


class _TreeHead(msgspec.Struct):
    size: int
    root: str
    at_us: int


class _Type(msgspec.Struct):
    type: str


def verify(content: bytes, key: PublicKey) -> list[str]:
    """What a proof file proves, in sentences. `key`: of whoever signed the head, or of the region's root.

    Raises: Refused `proof.*` as named above.
    """
    if len(content) > MAX_BYTES:
        raise _refused("malformed", "the file is larger than any proof")
    try:
        kind = msgspec.json.decode(content, type=_Type).type
        if kind == PRICE_PROOF:
            return _verify_price(msgspec.json.decode(content, type=PriceProof), key)
        if kind == INCLUSION_PROOF:
            return _verify_inclusion(msgspec.json.decode(content, type=InclusionProof), key)
    except (msgspec.MsgspecError, binascii.Error, UnicodeDecodeError):
        raise _refused("malformed", "the file is not a proof as Rocade writes it") from None
    raise _refused("malformed", "the file says to be a proof of a kind unknown here")


def read_key(pem: bytes) -> PublicKey:
    """The P-256 key of a PEM file: a public key, or a certificate's. Raises: Misconfigured `proof.key`."""
    try:
        is_certificate = b"BEGIN CERTIFICATE" in pem
        key = x509.load_pem_x509_certificate(pem).public_key() if is_certificate else load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured("proof.key", "the key file holds no P-256 public key and no certificate of one")
    return key


def root_of(leaf: bytes, index: int, size: int, path: Sequence[Sequence[bytes]], width: int) -> bytes:
    """The root of a tree of `size` leaves that has this leaf at `index`; `path` as in the proofs.

    Raises: Refused `proof.path` if the path has not the form that index and size ask for.
    """
    if not 0 <= index < size:
        raise _refused("path", "the leaf lies outside the tree")
    node = leaf
    levels = iter(path)
    while size > 1:
        place, low = index % width, index - index % width
        others = list(next(levels, ()))
        if len(others) != min(width, size - low) - 1 or any(len(one) != 32 for one in others):
            raise _refused("path", "the path has another form than the tree")
        if others:
            node = sha256(b"\x01" + b"".join([*others[:place], node, *others[place:]])).digest()
        index, size = index // width, (size + width - 1) // width
    if next(levels, None) is not None:
        raise _refused("path", "the path is longer than the tree is high")
    return node


def path_of(leaves: Sequence[bytes], index: int, width: int = 2) -> list[list[bytes]]:
    """The path of one leaf in a tree of these; for width 2 the tree is that of RFC 6962."""
    path, level = [], list(leaves)
    while len(level) > 1:
        low = index - index % width
        path.append([*level[low:index], *level[index + 1 : low + width]])
        groups = [level[at : at + width] for at in range(0, len(level), width)]
        level = [one[0] if len(one) == 1 else sha256(b"\x01" + b"".join(one)).digest() for one in groups]
        index //= width
    return path


def encode_path(path: Sequence[Sequence[bytes]]) -> list[list[str]]:
    """A path as it stands in proof files."""
    return [[base64.b64encode(one).decode() for one in level] for level in path]


def _verify_price(proof: PriceProof, key: PublicKey) -> list[str]:
    payload, signer = _open_head(proof.head, PRICE_HEAD_TYPE, proof.signers, key)
    head = msgspec.json.decode(payload, type=_PriceHead)
    if head.list_id != proof.list_id:
        raise _refused("list", "the head is of another list than the proof")
    numbers = [change.seq for change in proof.changes]
    if not numbers or numbers != sorted(set(numbers)) or numbers[-1] > head.seq or not 1 <= proof.known_seq <= head.seq:
        raise _refused("malformed", "the changes do not fit the head's number")
    root = root_of(leaf_of(proof.changes), proof.index, head.parts, _path(proof.path), PRICE_WIDTH)
    if root.hex() != head.state_root:
        raise _refused(
            "path", "what the proof shows is not what the head was signed over; something was changed or left out"
        )
    first = proof.changes[0].description
    if first is None or first.ref != proof.ref:
        raise _refused("list", "the changes are of another part than the proof says")
    found = price_at(proof.changes, proof.at_us, proof.known_seq)
    if found is None:
        raise _refused("price", "the part had no price at this instant")
    minor = None if found.price_minor == WITHDRAWN else found.price_minor
    if (minor, found.currency) != (proof.price_minor, proof.currency):
        raise _refused("price", "the price follows otherwise from the changes shown than the proof says")
    says = "is withdrawn" if minor is None else f"costs {amount(minor, found.currency)}"
    return [
        f"Part {proof.ref} of list {proof.list_id} (brand {head.brand}) {says} at {_instant(proof.at_us)}, as known at number {proof.known_seq}.",
        f"The entry that says so came with number {found.seq} and holds from {_instant(found.valid_from_us)} on.",
        f"All {len(numbers)} changes of this part up to number {head.seq} are shown; none can have been left out.",
        f"Head {head.seq} of the list was signed on {_instant(head.signed_us)} by {signer}.",
    ]


def _verify_inclusion(proof: InclusionProof, key: PublicKey) -> list[str]:
    payload, signer = _open_head(proof.head, proof.head_type, proof.signers, key)
    head = msgspec.json.decode(payload, type=_TreeHead)
    content = base64.b64decode(proof.content, validate=True)
    root = root_of(sha256(b"\x00" + content).digest(), proof.position, head.size, _path(proof.path), 2)
    if root.hex() != head.root:
        raise _refused("path", "the content is not at this place of what the head was signed over")
    return [
        f"This {proof.what} is number {proof.position} of the {head.size} that the signed head covers: {content.decode()}",
        f"The head was signed on {_instant(head.at_us)} by {signer}.",
    ]


def _open_head(head: msgspec.Raw, kind: str, signers: Sequence[msgspec.Raw], key: PublicKey) -> tuple[bytes, str]:
    """The head's payload and who signed it, by a key given or by one that the given key stated."""
    keys, stated = {key_id(key).hex(): key}, set[str]()
    for statement in signers:
        one = _stated(bytes(statement), key)
        if one is not None:
            keys[key_id(one).hex()] = one
            stated.add(key_id(one).hex())
    try:
        payload = unseal(kind, bytes(head), keys)
    except Refused:
        raise _refused(
            "signer", "the head is not signed by the key given, nor by one that this key signed a statement about"
        ) from None
    by = next(s.keyid for s in msgspec.json.decode(bytes(head), type=Envelope).signatures if s.keyid in keys)
    return payload, f"key {by}, which the key given vouches for" if by in stated else f"key {by}, the one given"


def _stated(statement: bytes, root: PublicKey) -> PublicKey | None:
    for kind in SIGNER_TYPES:
        try:
            stated = load_der_public_key(unseal(kind, statement, {key_id(root).hex(): root}))
        except (Refused, ValueError):
            continue
        if isinstance(stated, ec.EllipticCurvePublicKey):
            return stated
    return None


def _path(path: list[list[str]]) -> list[list[bytes]]:
    return [[base64.b64decode(one, validate=True) for one in level] for level in path]


def _instant(at_us: int) -> str:
    try:
        return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)).isoformat()
    except OverflowError:
        raise _refused("malformed", "an instant lies outside all calendars") from None


def _refused(what: str, why: str) -> Refused:
    return Refused(f"proof.{what}", why)
