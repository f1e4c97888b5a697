"""Proof files: one JSON document each, as they are written here and read by `proof` and by console/static/verify.js.

Every field is described in docs/proofs.md. Heads, statements and cosignatures are envelopes, put in as they were signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from rocade.core.prices import Change

PRICE_PROOF = "rocade.price-proof"
INCLUSION_PROOF = "rocade.inclusion-proof"
CONSISTENCY_PROOF = "rocade.consistency-proof"
FORK_PROOF = "rocade.fork-proof"
type What = Literal["receipt", "audit entry", "erasure"]


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
    what: What
    content: bytes
    position: int
    path: bytes
    head: msgspec.Raw
    signers: tuple[msgspec.Raw, ...] = ()
    chains: tuple[str, ...] = ()
    """PEM chains of signers."""
    issuers: msgspec.Raw = msgspec.Raw(b"null")
    """The root-signed issuer table that the chains are checked with."""
    cosignatures: tuple[msgspec.Raw, ...] = ()
    """What witnesses signed of the head."""


class GrowthProof(msgspec.Struct, frozen=True, omit_defaults=True):
    """Two signed heads of one log: that the newer holds all of the older (`path` of RFC 6962), or that it cannot (a fork)."""

    type: str
    old: msgspec.Raw
    new: msgspec.Raw
    path: bytes = b""
    signers: tuple[msgspec.Raw, ...] = ()
    cosignatures: tuple[msgspec.Raw, ...] = ()


def inclusion_proof(
    what: What,
    content: bytes,
    position: int,
    path: bytes,
    head: bytes,
    *,
    statements: Sequence[bytes] = (),
    chains: Sequence[str] = (),
    issuers: bytes = b"null",
    cosignatures: Sequence[bytes] = (),
) -> bytes:
    """A proof file. `path`: the hashes beside the way to the root, bottom first, one after the other; `head`: signed envelope.

    Who vouches for the signer comes along: `statements` of the root, or its certificate `chains` with the `issuers` table.
    """
    vouched = _raw(statements), tuple(chains), msgspec.Raw(issuers), _raw(cosignatures)
    return _file(InclusionProof(INCLUSION_PROOF, what, content, position, path, msgspec.Raw(head), *vouched))


def consistency_proof(
    old: bytes, new: bytes, path: bytes, *, statements: Sequence[bytes] = (), cosignatures: Sequence[bytes] = ()
) -> bytes:
    """A proof file: the log of the signed head `new` holds all of the log of the signed head `old`, at the same places."""
    heads = msgspec.Raw(old), msgspec.Raw(new)
    return _file(GrowthProof(CONSISTENCY_PROOF, *heads, path, _raw(statements), _raw(cosignatures)))


def fork_proof(one: bytes, other: bytes, *, statements: Sequence[bytes] = ()) -> bytes:
    """A proof file against who keeps the log: two signed heads over equally many entries that differ."""
    return _file(GrowthProof(FORK_PROOF, msgspec.Raw(one), msgspec.Raw(other), signers=_raw(statements)))


def _raw(parts: Sequence[bytes]) -> tuple[msgspec.Raw, ...]:
    return tuple(msgspec.Raw(part) for part in parts)


def _file(proof: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(proof), indent=1)
