"""One verifier for every proof that Rocade gives: a price at an instant, a receipt, an entry of the audit log, an erasure, that the
log only grew, that it was forked.

A proof file is one JSON document with its `type`. What it shows is a leaf of a tree, the path from the leaf to the root, and a
head of that tree, signed; or two heads and the path from one to the other. The verifier computes the leaf from what is shown, the
root from leaf and path, and opens the head with what it was given to trust; nothing is asked of anybody. To trust is the signer's
own key; or the region's root, which vouches for the signer by a statement that lies in the file, or (root certificate) by the
issuer table and the signer's certificate in it. Whoever does not trust the region names witnesses besides: each of them must
have signed the head too. For a price: what is shown are all changes of the part, so the verifier applies the rule of prices
(`core.prices`) itself; for an erasure the audit entry must be that of a completed one.
Refuses: Refused `proof.malformed`, `proof.signer`, `proof.witness`, `proof.future`, `proof.path`, `proof.list`, `proof.price`,
`proof.erasure`, `proof.fork`; Misconfigured `proof.key`. Form of the files: docs/proofs.md; the same in a browser: console/static/verify.js.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

from rocade.core.errors import Misconfigured, Refused
from rocade.core.money import amount
from rocade.core.ports import AuditEntry
from rocade.core.prices import WITHDRAWN, leaf_of, price_at
from rocade.trust.identity import signers
from rocade.trust.identity.envelope import unseal, unseal_with_signer
from rocade.trust.identity.issuers import IssuerTable
from rocade.trust.identity.keys import PublicKey, key_id
from rocade.trust.identity.proof_files import (
    CONSISTENCY_PROOF,
    FORK_PROOF,
    INCLUSION_PROOF,
    PRICE_PROOF,
    GrowthProof,
    InclusionProof,
    PriceProof,
)
from rocade.trust.identity.tree_heads import COSIGNATURE_TYPE, HEAD_TYPE, Cosignature, Head, is_ahead
from rocade.trust.identity.trees import root_of, roots_of

PRICE_HEAD_TYPE = "application/vnd.rocade.price-head+json"
SIGNER_TYPES = ("application/vnd.rocade.price-key", "application/vnd.rocade.audit-key")
"""Statements of the region's root about a key that signs heads."""
PRICE_WIDTH = 64
type Trust = PublicKey | x509.Certificate
MAX_BYTES = 4 << 20


class _PriceHead(msgspec.Struct, rename={"list_id": "list"}):
    list_id: str
    brand: str
    seq: int
    signed_us: int
    state_root: str
    parts: int


HEADS = {
    "receipt": ("application/vnd.rocade.receipt-root+json", "exchange"),
    "audit entry": (HEAD_TYPE, ""),
    "erasure": (HEAD_TYPE, ""),
}
"""Type of the head, and the service whose certificate may sign it, by what is proven."""
ERASED = ("telemetry.erased", "people.erased")
"""Acts whose entry in the audit log says that an erasure is complete."""


class Against(msgspec.Struct, frozen=True):
    """What a proof is held against: whom the verifier trusts, who else must have seen the head, and his clock."""

    trust: Trust
    witnesses: tuple[PublicKey, ...] = ()
    now_us: int | None = None


class _Type(msgspec.Struct):
    type: str


def verify(
    content: bytes, trust: Trust, *, witnesses: Sequence[PublicKey] = (), now_us: int | None = None
) -> list[str]:
    """What a proof file proves, in sentences. `trust`: the key of whoever signed the head, or the region's root.

    `witnesses`: keys each of which must have signed the head too; `now_us`: the clock no head may be ahead of, None = no clock.
    Raises: Refused `proof.*` as named above.
    """
    if len(content) > MAX_BYTES:
        raise _refused("malformed", "the file is larger than any proof")
    against = Against(trust, tuple(witnesses), now_us)
    try:
        kind = msgspec.json.decode(content, type=_Type).type
        if kind == PRICE_PROOF:
            return _verify_price(msgspec.json.decode(content, type=PriceProof), against)
        if kind == INCLUSION_PROOF:
            return _verify_inclusion(msgspec.json.decode(content, type=InclusionProof), against)
        if kind in {CONSISTENCY_PROOF, FORK_PROOF}:
            return _verify_growth(msgspec.json.decode(content, type=GrowthProof), against)
    except (msgspec.MsgspecError, ValueError, RecursionError, struct.error):
        raise _refused("malformed", "the file is not a proof as Rocade writes it") from None
    raise _refused("malformed", "the file says to be a proof of a kind unknown here")


def open_tree_head(head: bytes, statements: Sequence[bytes], trust: Trust) -> Head:
    """A tree head that the trusted key signed, or one it vouches for by these statements. Raises: Refused `proof.signer`."""
    payload, _ = _open_head(
        msgspec.Raw(head), HEAD_TYPE, _stated([msgspec.Raw(one) for one in statements], trust), trust
    )
    try:
        return msgspec.json.decode(payload, type=Head)
    except msgspec.MsgspecError:
        raise _refused("signer", "what was signed is no tree head") from None


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


def read_key(pem: bytes) -> PublicKey:
    """A witness's public key. Raises: Misconfigured `proof.key`."""
    return _key_of(read_trust(pem))


def _verify_price(proof: PriceProof, against: Against) -> list[str]:
    trust = against.trust
    payload, signer = _open_head(proof.head, PRICE_HEAD_TYPE, _stated(proof.signers, trust), trust)
    head = msgspec.json.decode(payload, type=_PriceHead)
    _check_seen(head.signed_us, "", 0, (), against)
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


def _verify_inclusion(proof: InclusionProof, against: Against) -> list[str]:
    kind, service = HEADS[proof.what]
    trust = against.trust
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
    head = msgspec.json.decode(payload, type=Head)
    by = certified.get(signer)
    if by is not None and not by.not_before_us <= head.at_us < by.not_after_us:
        raise _refused("signer", "the head was not signed while its signer's certificate was in force")
    seen = _check_seen(head.at_us, head.root, head.size, proof.cosignatures, against)
    root = root_of(sha256(b"\x00" + proof.content).digest(), proof.position, head.size, proof.path)
    if root.hex() != head.root:
        raise _refused("path", "the content is not at this place of what the head was signed over")
    said = _said_of_erasure(proof) if proof.what == "erasure" else []
    named = "audit entry" if proof.what == "erasure" else proof.what
    return [
        *said,
        f"This {named} is number {proof.position} of the {head.size} that the signed head covers.",
        f"It reads: {proof.content.decode()}",
        f"The head was signed on {_instant(head.at_us)} by {_who(signer, trust)}.",
        *seen,
    ]


def _said_of_erasure(proof: InclusionProof) -> list[str]:
    """What the audit entry of a completed erasure says. Raises: Refused `proof.erasure` if it is another entry."""
    position, entry = msgspec.json.decode(proof.content, type=tuple[int, AuditEntry])
    if entry.action not in ERASED or entry.outcome != "done" or position != proof.position:
        raise _refused("erasure", "the entry proven is not that of a completed erasure")
    fact = {name: entry.facts.get(name, 0) for name in (*_COUNTED, "erasure", "scope", "ledger", "ordered_us")}
    ordered = f"ordered on {_instant(int(fact['ordered_us']))}, " if fact["ordered_us"] else ""
    return [
        f"Data of {entry.subject} were erased (scope {fact['scope']}): {ordered}complete on {_instant(entry.at_us)}.",
        "Removed: " + ", ".join(f"{fact[name]} {says}" for name, says in _COUNTED.items()) + ".",
        f"It is erasure {fact['erasure']}, entry {fact['ledger']} of the ledger of erasures.",
    ]


_COUNTED = {
    "rows": "stored rows",
    "parts_before": "files of the history that held them",
    "parts_after": "that still do",
    "log_records": "records of the log",
    "archive_records": "records of the archive (of all that were erased together)",
    "keys": "keys destroyed",
}


def _verify_growth(proof: GrowthProof, against: Against) -> list[str]:
    trust = against.trust
    vouched = _stated(proof.signers, trust)
    opened = [_open_head(one, HEAD_TYPE, vouched, trust) for one in (proof.old, proof.new)]
    old, new = (msgspec.json.decode(payload, type=Head) for payload, _ in opened)
    signed = [
        f"The {name} head, over {head.size} entries, was signed on {_instant(head.at_us)} by {_who(signer, trust)}."
        for name, head, (_, signer) in zip(("older", "newer"), (old, new), opened, strict=True)
    ]
    if proof.type == FORK_PROOF:
        if old.size != new.size or old.root == new.root:
            raise _refused("fork", "the two heads do not contradict each other")
        return [f"THE LOG WAS FORKED: its keeper signed two different histories of {new.size} entries.", *signed]
    _check_seen(old.at_us, "", 0, (), Against(trust, (), against.now_us))
    seen = _check_seen(new.at_us, new.root, new.size, proof.cosignatures, against)
    old_root, new_root = roots_of(old.size, bytes.fromhex(old.root), new.size, proof.path)
    if (old_root.hex(), new_root.hex()) != (old.root, new.root):
        raise _refused(
            "path", "the newer head does not hold what the older was signed over: the log was changed or forked"
        )
    return [
        f"The log only grew: all {old.size} entries of the older head are the first of the {new.size} of the newer.",
        *signed,
        *seen,
    ]


def _check_seen(at_us: int, root: str, size: int, cosignatures: Sequence[msgspec.Raw], against: Against) -> list[str]:
    """A head of this instant, and who saw it, in sentences. Raises: Refused `proof.future`, `proof.witness`."""
    if is_ahead(at_us, against.now_us):
        raise _refused("future", f"the head is dated {_instant(at_us)}, which has not come yet")
    said = []
    for witness in against.witnesses:
        name = key_id(witness).hex()
        for one in cosignatures:
            try:
                payload = unseal(COSIGNATURE_TYPE, bytes(one), {name: witness})
            except Refused:
                continue
            saw = msgspec.json.decode(payload, type=Cosignature)
            if (saw.size, saw.root) == (size, root) and not is_ahead(saw.at_us, against.now_us):
                said.append(f"Witness {name} saw this head on {_instant(saw.at_us)}.")
                break
        else:
            raise _refused("witness", f"witness {name} did not sign this head")
    return said


def _open_head(head: msgspec.Raw, kind: str, vouched: Mapping[str, PublicKey], trust: Trust) -> tuple[bytes, str]:
    """The head's payload and the id of the key that signed it: the trusted one, or one it vouches for."""
    key = _key_of(trust)
    try:
        return unseal_with_signer(kind, bytes(head), {**vouched, key_id(key).hex(): key})
    except Refused:
        raise _refused("signer", "the head is signed by nobody whom the key given vouches for") from None


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
