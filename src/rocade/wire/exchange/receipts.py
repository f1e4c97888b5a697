"""Receipts: RECEIVED says the message is durable, DECIDED says what became of it. Both are leaves of a signed tree.

One commit of the hub writes many receipts and signs one root over them. A bundle brings the receipts of one commit that
belong to one party, each with its path, and that root. Whoever holds a receipt, its path and the signed root can prove it to
anybody with the region's root certificate, years later and without the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rocade.core.errors import Refused
from rocade.wire.exchange.messages import UNREADABLE, Digest
from rocade.wire.exchange.tree import Tree, leaf_hash, root_of_path

ROOT_TYPE = "application/vnd.rocade.receipt-root+json"


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the hub states about one message. `outcome`, `code` and `reason` belong to DECIDED."""

    message_id: str
    message_sha256: Digest
    sender: str
    kind: Literal["received", "decided"]
    at_us: int
    hub: str
    outcome: Literal["", "accepted", "refused"] = ""
    code: str = ""
    reason: str = ""


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the hub signs once a commit."""

    hub: str
    commit: int
    size: Annotated[int, Meta(ge=1, le=1 << 32)]
    root: Digest
    at_us: int


class Leaf(msgspec.Struct, frozen=True):
    """A receipt's bytes with their place in the tree."""

    receipt: bytes
    index: int
    path: bytes


class Bundle(msgspec.Struct, frozen=True):
    """`down/receipt`: receipts of one commit for one party. `cursor` is 0 where a retry brings them again."""

    root: msgspec.Raw
    """The signed root: a DSSE envelope."""
    leaves: tuple[Leaf, ...]
    cursor: int = 0


def encode_receipt(receipt: Receipt) -> bytes:
    return _ENCODE(receipt)


def bundle_of(root: bytes, tree: Tree, receipts: Sequence[tuple[int, bytes]], cursor: int = 0) -> bytes:
    """The bytes of a bundle; `receipts` are (index, bytes)."""
    leaves = tuple(Leaf(content, index, tree.path(index)) for index, content in receipts)
    return _ENCODE(Bundle(msgspec.Raw(root), leaves, cursor))


def read_receipts(body: bytes) -> Bundle:
    """Raises: Refused `exchange.receipt.malformed`. Nothing in it is proven yet."""
    return _read(_BUNDLE, body)


def read_root(payload: bytes) -> Root:
    """Raises: Refused `exchange.receipt.malformed`."""
    return _read(_ROOT, payload)


def read_receipt(content: bytes) -> Receipt:
    """Raises: Refused `exchange.receipt.malformed`."""
    return _read(_RECEIPT, content)


def proven(bundle: Bundle, root: Root) -> list[Receipt]:
    """The receipts of a bundle, each shown to stand under this root (whose signature the caller has checked).

    Raises: Refused `exchange.receipt.path`, `exchange.receipt.root`, `exchange.receipt.malformed`.
    """
    wanted, found = bytes.fromhex(root.root), []
    for leaf in bundle.leaves:
        if root_of_path(leaf_hash(leaf.receipt), leaf.index, root.size, leaf.path) != wanted:
            raise Refused("exchange.receipt.root", "a receipt does not stand under the signed root")
        receipt = read_receipt(leaf.receipt)
        if receipt.hub != root.hub:
            raise Refused("exchange.receipt.root", "a receipt names another hub than the signed root")
        found.append(receipt)
    return found


def _read[T](decoder: msgspec.json.Decoder[T], content: bytes) -> T:
    try:
        return decoder.decode(content)
    except UNREADABLE as error:
        raise Refused("exchange.receipt.malformed", f"this is no receipt: {str(error)[:160]}") from None


_ENCODE = msgspec.json.Encoder().encode
_BUNDLE = msgspec.json.Decoder(Bundle)
_ROOT = msgspec.json.Decoder(Root)
_RECEIPT = msgspec.json.Decoder(Receipt)
