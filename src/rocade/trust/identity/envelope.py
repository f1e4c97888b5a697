"""A signed statement: bytes, their type, and who signed them, in the DSSE form.

The signature covers type and bytes together (`PAE`), so a statement made for one purpose can never be shown as another.
The algorithm stands in each signature, because keys of another kind will come while old statements live on.
Source: DSSE 1.0 (secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from rocade.core.errors import Refused
from rocade.trust.identity.keys import PrivateKey, PublicKey, key_id

ALGORITHM = "ecdsa-p256-sha256"
_ECDSA = ec.ECDSA(hashes.SHA256())
UNREADABLE = (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError)
"""What reading a stranger's JSON can raise; the last by brackets within brackets."""


class Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str
    algorithm: str = ALGORITHM


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    payload_type: str
    payload: str
    signatures: tuple[Signature, ...]


def seal(payload_type: str, payload: bytes, key: PrivateKey, name: bytes = b"") -> bytes:
    """Sign `payload` and return the envelope as JSON. `name` is the key's id, for who signs often and knows it."""
    signature = key.sign(_encoding(payload_type, payload), _ECDSA)
    signed = Signature((name or key_id(key.public_key())).hex(), base64.b64encode(signature).decode())
    return msgspec.json.encode(Envelope(payload_type, base64.b64encode(payload).decode(), (signed,)))


def is_envelope(content: bytes) -> bool:
    """Whether these bytes have the form of a signed statement; says nothing about the signature."""
    try:
        msgspec.json.decode(content, type=Envelope)
    except UNREADABLE:
        return False
    return True


def is_canonical(content: bytes) -> bool:
    """Whether these bytes are exactly what `seal` (or `countersign`) writes: no bit of them can turn and mean the same."""
    try:
        read = msgspec.json.decode(content, type=Envelope)
        texts = [read.payload, *(one.sig for one in read.signatures)]
        is_plain = all(base64.b64encode(base64.b64decode(text, validate=True)).decode() == text for text in texts)
    except UNREADABLE:
        return False
    return is_plain and msgspec.json.encode(read) == content


def unseal(payload_type: str, content: bytes, keys: Mapping[str, PublicKey]) -> bytes:
    """Return the payload if one of `keys` (by hex key id) signed it as this type.

    Raises: Refused `trust.envelope.malformed`, `.type`, `.signer`, `.signature`.
    """
    return unseal_with_signer(payload_type, content, keys)[0]


def unseal_with_signer(payload_type: str, content: bytes, keys: Mapping[str, PublicKey]) -> tuple[bytes, str]:
    """As `unseal`, and the id of the key whose signature was checked: an id that only stands in the envelope proves nothing."""
    try:
        envelope = msgspec.json.decode(content, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [(base64.b64decode(s.sig, validate=True), s) for s in envelope.signatures]
    except UNREADABLE:
        raise Refused("trust.envelope.malformed", "not a signed statement") from None
    if envelope.payload_type != payload_type:
        raise Refused("trust.envelope.type", f"the statement was not made as {payload_type}")
    known = [(raw, s.keyid) for raw, s in signatures if s.keyid in keys and s.algorithm == ALGORITHM]
    if not known:
        raise Refused("trust.envelope.signer", "the statement is signed by nobody known here")
    for raw, name in known:
        try:
            keys[name].verify(raw, _encoding(payload_type, payload), ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Refused("trust.envelope.signature", "the statement was altered after it was signed") from None
    return payload, known[0][1]


def _encoding(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def countersign(content: bytes, key: PrivateKey) -> bytes:
    """The same statement with one more signature, of the same type and bytes.

    Raises: Refused `trust.envelope.malformed`.
    """
    try:
        envelope = msgspec.json.decode(content, type=Envelope)
        payload = base64.b64decode(envelope.payload, validate=True)
    except UNREADABLE:
        raise Refused("trust.envelope.malformed", "not a signed statement") from None
    signature = key.sign(_encoding(envelope.payload_type, payload), ec.ECDSA(hashes.SHA256()))
    signed = Signature(key_id(key.public_key()).hex(), base64.b64encode(signature).decode())
    return msgspec.json.encode(Envelope(envelope.payload_type, envelope.payload, (*envelope.signatures, signed)))


def signers_of(content: bytes) -> frozenset[str]:
    """Key ids that a statement names, its signatures unchecked. Raises: Refused `trust.envelope.malformed`."""
    try:
        return frozenset(one.keyid for one in msgspec.json.decode(content, type=Envelope).signatures)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused("trust.envelope.malformed", "not a signed statement") from None


def payload_of(content: bytes) -> bytes:
    """What a statement says, its signatures unchecked: for what was checked and recorded before.

    Raises: Refused `trust.envelope.malformed`.
    """
    try:
        return base64.b64decode(msgspec.json.decode(content, type=Envelope).payload, validate=True)
    except UNREADABLE:
        raise Refused("trust.envelope.malformed", "not a signed statement") from None
