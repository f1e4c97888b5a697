"""One verifier for every proof that Rocade gives: a price at an instant, a receipt, an entry of the audit log.

A proof file is one JSON document with its `type`. What it shows is a leaf of a tree, the path from the leaf to the root, and a
head of that tree, signed. The verifier computes the leaf from what is shown, the root from leaf and path, and opens the head with
what it was given to trust; nothing is asked of anybody. To trust is the signer's own key; or the region's root, which vouches for
the signer by a statement that lies in the file, or (root certificate) by the issuer table and the signer's certificate in it.
For a price: what is shown are all changes of the part, so the verifier applies the rule of prices (`core.prices`) itself.
Refuses: Refused `proof.malformed`, `proof.signer`, `proof.path`, `proof.list`, `proof.price`; Misconfigured `proof.key`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from rocade.core.errors import Misconfigured, Refused
from rocade.core.money import amount
from rocade.core.prices import WITHDRAWN, Change, leaf_of, price_at
from rocade.trust.identity import signers
from rocade.trust.identity.envelope import Envelope, unseal
from rocade.trust.identity.issuers import IssuerTable
from rocade.trust.identity.keys import PublicKey, key_id

PRICE_PROOF = "rocade.price-proof"
INCLUSION_PROOF = "rocade.inclusion-proof"
PRICE_HEAD_TYPE = "application/vnd.rocade.price-head+json"
SIGNER_TYPES = ("application/vnd.rocade.price-key", "application/vnd.rocade.audit-key")
"""Statements of the region's root about a key that signs heads."""
PRICE_WIDTH = 64
HASH_BYTES = 32
type Trust = PublicKey | x509.Certificate
MAX_BYTES = 4 << 20


class PriceProof(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """A price proven. `path` is, bottom first, the other children of each node above the part; bytes stand in base64."""

    type: str
    list_id: str
    ref: str
    at_us: int
    known_seq: int
    price_minor: int | None
    currency: str
    index: int
    changes: tuple[Change, ...]
    path: bytes
    head: msgspec.Raw
    signers: tuple[msgspec.Raw, ...] = ()
    """Statements of the root about the keys of signers."""


class InclusionProof(msgspec.Struct, frozen=True, omit_defaults=True):
    """Content proven to be leaf `position` of an RFC 6962 tree, whose head says its size and root."""

    type: str
    what: Literal["receipt", "audit entry"]
    content: bytes
    position: int
    path: bytes
    head: msgspec.Raw
    signers: tuple[msgspec.Raw, ...] = ()
    chains: tuple[str, ...] = ()
    """PEM chains of signers."""
    issuers: msgspec.Raw = msgspec.Raw(b"null")
    """The root-signed issuer table that the chains are checked with."""


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


HEADS = {
    "receipt": ("application/vnd.rocade.receipt-root+json", "exchange"),
    "audit entry": ("application/vnd.rocade.tree-head+json", ""),
}
"""Type of the head, and the service whose certificate may sign it, by what is proven."""


class _Type(msgspec.Struct):
    type: str


def verify(content: bytes, trust: Trust) -> list[str]:
    """What a proof file proves, in sentences. `trust`: the key of whoever signed the head, or the region's root.

    Raises: Refused `proof.*` as named above.
    """
    if len(content) > MAX_BYTES:
        raise _refused("malformed", "the file is larger than any proof")
    try:
        kind = msgspec.json.decode(content, type=_Type).type
        if kind == PRICE_PROOF:
            return _verify_price(msgspec.json.decode(content, type=PriceProof), trust)
        if kind == INCLUSION_PROOF:
            return _verify_inclusion(msgspec.json.decode(content, type=InclusionProof), trust)
    except (msgspec.MsgspecError, ValueError, struct.error):
        raise _refused("malformed", "the file is not a proof as Rocade writes it") from None
    raise _refused("malformed", "the file says to be a proof of a kind unknown here")


def read_trust(pem: bytes) -> Trust:
    """What a PEM file gives to trust: a public key or a certificate. Raises: Misconfigured `proof.key`."""
    try:
        if b"BEGIN CERTIFICATE" in pem:
            certificate = x509.load_pem_x509_certificate(pem)
            _key_of(certificate)
            return certificate
        key = load_pem_public_key(pem)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured("proof.key", "the key file holds no P-256 public key and no certificate of one")
    return key


def inclusion_proof(
    what: Literal["receipt", "audit entry"],
    content: bytes,
    position: int,
    path: bytes,
    head: bytes,
    *,
    statements: Sequence[bytes] = (),
    chains: Sequence[str] = (),
    issuers: bytes = b"null",
) -> bytes:
    """A proof file. `path`: the hashes beside the way to the root, bottom first, one after the other; `head`: signed envelope.

    Who vouches for the signer comes along: `statements` of the root, or its certificate `chains` with the `issuers` table.
    """
    signers = tuple(msgspec.Raw(statement) for statement in statements)
    proof = InclusionProof(
        INCLUSION_PROOF, what, content, position, path, msgspec.Raw(head), signers, tuple(chains), msgspec.Raw(issuers)
    )
    return msgspec.json.format(msgspec.json.encode(proof), indent=1)


def root_of(leaf: bytes, index: int, size: int, path: bytes, width: int = 2) -> bytes:
    """The root of a tree of `size` leaves that has this leaf at `index`; a node alone under its parent is that parent.

    Raises: Refused `proof.path` if the path has not the length that index and size ask for.
    """
    if not 0 <= index < size:
        raise _refused("path", "the leaf lies outside the tree")
    node, rest = leaf, path
    while size > 1:
        place, low = index % width, index - index % width
        many = min(width, size - low) - 1
        others, rest = rest[: many * HASH_BYTES], rest[many * HASH_BYTES :]
        if len(others) < many * HASH_BYTES:
            raise _refused("path", "the path is shorter than the tree is high")
        if many:
            before, after = others[: place * HASH_BYTES], others[place * HASH_BYTES :]
            node = sha256(b"\x01" + before + node + after).digest()
        index, size = index // width, (size + width - 1) // width
    if rest:
        raise _refused("path", "the path is longer than the tree is high")
    return node


def path_of(leaves: Sequence[bytes], index: int, width: int = 2) -> bytes:
    """The path of one leaf in a tree of these; for width 2 the tree is that of RFC 6962."""
    path, level = [], list(leaves)
    while len(level) > 1:
        low = index - index % width
        path += [*level[low:index], *level[index + 1 : low + width]]
        groups = [level[at : at + width] for at in range(0, len(level), width)]
        level = [one[0] if len(one) == 1 else sha256(b"\x01" + b"".join(one)).digest() for one in groups]
        index //= width
    return b"".join(path)


def _verify_price(proof: PriceProof, trust: Trust) -> list[str]:
    vouched = _stated(proof.signers, trust)
    payload, signer = _open_head(proof.head, PRICE_HEAD_TYPE, vouched, trust)
    head = msgspec.json.decode(payload, type=_PriceHead)
    if head.list_id != proof.list_id:
        raise _refused("list", "the head is of another list than the proof")
    numbers = [change.seq for change in proof.changes]
    if not numbers or numbers != sorted(set(numbers)) or numbers[-1] > head.seq or not 1 <= proof.known_seq <= head.seq:
        raise _refused("malformed", "the changes do not fit the head's number")
    root = root_of(leaf_of(proof.changes), proof.index, head.parts, proof.path, PRICE_WIDTH)
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
        f"Head {head.seq} of the list was signed on {_instant(head.signed_us)} by {_who(signer, trust)}.",
    ]


def _verify_inclusion(proof: InclusionProof, trust: Trust) -> list[str]:
    kind, service = HEADS[proof.what]
    vouched = _stated(proof.signers, trust)
    certified: signers.Signers = {}
    if proof.chains and isinstance(trust, x509.Certificate) and trust.issuer == trust.subject:
        try:
            table = IssuerTable.load(bytes(proof.issuers), trust)
            certified = signers.read_signers([chain.encode() for chain in proof.chains], table, service)
        except Refused as error:
            raise _refused("signer", f"the signer's certificate does not hold: {error.message}") from None
    keys = {name: one.key for name, one in certified.items()}
    payload, signer = _open_head(proof.head, kind, vouched | keys, trust)
    head = msgspec.json.decode(payload, type=_TreeHead)
    by = certified.get(signer)
    if by is not None and not by.not_before_us <= head.at_us < by.not_after_us:
        raise _refused("signer", "the head was not signed while its signer's certificate was in force")
    root = root_of(sha256(b"\x00" + proof.content).digest(), proof.position, head.size, proof.path)
    if root.hex() != head.root:
        raise _refused("path", "the content is not at this place of what the head was signed over")
    return [
        f"This {proof.what} is number {proof.position} of the {head.size} that the signed head covers.",
        f"It reads: {proof.content.decode()}",
        f"The head was signed on {_instant(head.at_us)} by {_who(signer, trust)}.",
    ]


def _open_head(head: msgspec.Raw, kind: str, vouched: Mapping[str, PublicKey], trust: Trust) -> tuple[bytes, str]:
    """The head's payload and the id of the key that signed it: the trusted one, or one it vouches for."""
    key = _key_of(trust)
    keys = {**vouched, key_id(key).hex(): key}
    try:
        payload = unseal(kind, bytes(head), keys)
    except Refused:
        raise _refused("signer", "the head is signed by nobody whom the key given vouches for") from None
    signatures = msgspec.json.decode(bytes(head), type=Envelope).signatures
    return payload, next(one.keyid for one in signatures if one.keyid in keys)


def _stated(statements: Sequence[msgspec.Raw], trust: Trust) -> dict[str, PublicKey]:
    """Keys that the trusted key signed a statement about."""
    root, stated = _key_of(trust), dict[str, PublicKey]()
    for statement in statements:
        for kind in SIGNER_TYPES:
            try:
                key = load_der_public_key(unseal(kind, bytes(statement), {key_id(root).hex(): root}))
            except (Refused, ValueError):
                continue
            if isinstance(key, ec.EllipticCurvePublicKey):
                stated[key_id(key).hex()] = key
    return stated


def _key_of(trust: Trust) -> PublicKey:
    key = trust.public_key() if isinstance(trust, x509.Certificate) else trust
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misconfigured("proof.key", "the key to trust is not on curve P-256")
    return key


def _who(signer: str, trust: Trust) -> str:
    return f"key {signer}" + ("" if key_id(_key_of(trust)).hex() == signer else ", which the key given vouches for")


def _instant(at_us: int) -> str:
    try:
        return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=at_us)).isoformat()
    except OverflowError:
        raise _refused("malformed", "an instant lies outside all calendars") from None


def _refused(what: str, why: str) -> Refused:
    return Refused(f"proof.{what}", why)
