"""Signed heads: believed or refused, and the cheapest files from what is held to what they say.

Checks of one head: signer (a key that the region's root signed), form, files that fit it. Checks against the head held: an older number is a
roll-back, another statement of the same number is a fork, and the next number must name the held one as its predecessor.
Heads further on are checked by what they lead to: their files are applied on the held state, so that the root can only match if the
hub's history goes on from ours.
Refuses: Refused `prices.head.malformed`, `.signer`, `.rolled_back`, `.forked`, `.list`, `.gap`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from rocade.agents.dealer.prices.model import Plan
from rocade.core.errors import Refused, Unavailable
from rocade.trust.identity.envelope import unseal
from rocade.trust.identity.keys import PublicKey, key_id
from rocade.wire.prices import HEAD_TYPE, KEY_TYPE, Blob, Head

MAX_BLOB_BYTES = 256 << 20
_LIST = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def open_signer(statement: bytes, root: PublicKey) -> tuple[str, PublicKey]:
    """The list-signing key that the region's root signed, by its key id.

    Raises: Refused `prices.signer`.
    """
    try:
        key = load_der_public_key(unseal(KEY_TYPE, statement, {key_id(root).hex(): root}))
    except (Refused, ValueError):
        raise Refused("prices.signer", "this list-signing key was not signed by the region's root") from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("prices.signer", "a list-signing key is on curve P-256")
    return key_id(key).hex(), key


def open_head(envelope: bytes, signers: Mapping[str, PublicKey]) -> Head:
    """What a head says, if one of `signers` signed it.

    Raises: Refused `prices.head.signer`, `prices.head.malformed`; Unavailable `prices.epoch.missing` before the first letter.
    """
    if not signers:
        raise Unavailable("prices.epoch.missing", "no letter with keys and signers has come yet; the hub sends it")
    try:
        payload = unseal(HEAD_TYPE, envelope, signers)
    except Refused as error:
        if error.code in {"trust.envelope.signer", "trust.envelope.signature"}:
            raise Refused("prices.head.signer", "the head is not signed by a list-signing key of this region") from None
        raise _malformed("it is no signed head") from None
    try:
        head = msgspec.json.decode(payload, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise _malformed("it does not say what a head says") from None
    _check_form(head)
    return head


def check_against(head: Head, held: Head | None) -> None:
    """Raises: Refused `prices.head.rolled_back`, `prices.head.forked`, `prices.head.list`."""
    if held is None:
        return
    if (head.brand, head.country, head.kind) != (held.brand, held.country, held.kind):
        raise Refused(
            "prices.head.list", "the head is of another brand, country or kind than the list we hold by this name"
        )
    if head.seq < held.seq:
        raise Refused(
            "prices.head.rolled_back", f"the head is number {head.seq}, we hold {held.seq}; lists never go back"
        )
    if head.seq == held.seq and head.id != held.id:
        raise Refused("prices.head.forked", f"the hub signed two different heads as number {head.seq}")
    if head.seq == held.seq + 1 and head.prev_head != held.id:
        raise Refused("prices.head.forked", f"head {head.seq} follows another head {held.seq} than the one we hold")


def plan(head: Head, from_seq: int, without: Set[str] = frozenset()) -> Plan | None:
    """The files of fewest bytes from a number to the head's; None if none lead there.

    `without`: files that cannot be used, by name. A snapshot serves number 0 only.
    """
    files = [blob for blob in head.files if blob.sha256 not in without]
    best: dict[int, tuple[int, tuple[Blob, ...]]] = {from_seq: (0, ())}
    for at in sorted({from_seq, *(blob.to_seq for blob in files if blob.to_seq > from_seq)}):
        if at not in best:
            continue
        size, path = best[at]
        for blob in files:
            is_next = blob.from_seq <= at < blob.to_seq and (blob.from_seq > 0 or at == 0)
            if is_next and size + blob.size < best.get(blob.to_seq, (1 << 62, ()))[0]:
                best[blob.to_seq] = size + blob.size, (*path, blob)
    return Plan(from_seq, best[head.seq][1]) if head.seq in best else None


def _check_form(head: Head) -> None:
    blobs = head.files
    fits = (
        _LIST.fullmatch(head.list_id)
        and head.seq > 0
        and 0 <= head.parts <= 5_000_000
        and _SHA256.fullmatch(head.state_root)
        and (not head.prev_head if head.seq == 1 else _SHA256.fullmatch(head.prev_head))
        and len(blobs) <= 64
        and head.snapshot.from_seq == 0
        and head.blob.to_seq == head.seq
        and all(0 <= b.from_seq < b.to_seq <= head.seq for b in blobs)
        and all(0 < b.size <= MAX_BLOB_BYTES and _SHA256.fullmatch(b.sha256) for b in blobs)
    )
    if not fits:
        raise _malformed("its numbers or files do not fit each other")


def _malformed(why: str) -> Refused:
    return Refused("prices.head.malformed", f"this is no head of a price list: {why}")
