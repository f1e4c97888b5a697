"""Formats of the exchange: what is written is read again, what is not of the form is refused, trees are those of RFC 6962."""

from __future__ import annotations

import contextlib
from hashlib import sha256
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from rocade.core.errors import Refused
from rocade.trust.authority.merkle import Frontier
from rocade.wire.exchange import (
    Address,
    Message,
    Receipt,
    Root,
    Tree,
    bundle_of,
    encode,
    leaf_hash,
    proven,
    read_decision,
    read_delivery,
    read_keys,
    read_message,
    read_receipt,
    read_receipts,
    read_revocations,
    read_root,
    root_of_path,
)
from rocade.wire.exchange.receipts import encode_receipt

GOOD = Message(
    id="claim-1", sender="spiffe://test.rocade/eu/dealer/FR-1", recipient=Address("renault", "FR", "warranty", "FR-2"),
    stream="claims:1f3a", sequence=7, content_class="fiscal", content_type="application/json", created_us=1, body=b"\x00\xff",
    answers="offer-2",
)  # fmt: skip
READERS = (
    read_message,
    read_decision,
    read_delivery,
    read_receipt,
    read_receipts,
    read_root,
    read_keys,
    read_revocations,
)


def test_a_message_is_read_as_it_was_written() -> None:
    assert read_message(encode(GOOD)) == GOOD


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""), ("id", "a b"), ("id", "x" * 65), ("sender", "dealer/FR-1"), ("stream", ""), ("sequence", 0),
        ("sequence", 1 << 63), ("content_class", "private"), ("content_type", ""), ("created_us", -1),
        ("recipient", {"brand": "Renault"}), ("recipient", {"country": "fr"}), ("recipient", {"country": "FRA"}),
        ("recipient", {"service": "-"}), ("recipient", {"site": "a/b"}), ("recipient", {"site": "x\n"}),
        ("recipient", {"planet": "earth"}), ("body", "not base64!"), ("also", 1),
    ],
)  # fmt: skip
def test_a_field_that_is_not_of_its_form_is_refused(field: str, value: object) -> None:
    content = {**msgspec.json.decode(encode(GOOD)), field: value}
    with pytest.raises(Refused, match=r"exchange\.message\.malformed"):
        read_message(msgspec.json.encode(content))


@settings(max_examples=150, deadline=None)
@given(some.binary(max_size=400))
def test_bytes_at_random_are_refused_and_nothing_else(content: bytes) -> None:
    for read in READERS:
        with contextlib.suppress(Refused):
            read(content)  # type: ignore[operator]


@settings(max_examples=150, deadline=None)
@given(some.integers(0, 400), some.integers(0, 255))
def test_one_byte_changed_is_another_message_or_none(place: int, value: int) -> None:
    content = bytearray(encode(GOOD))
    place %= len(content)
    is_same = content[place] == value
    content[place] = value
    try:
        assert (read_message(bytes(content)) == GOOD) == is_same or sha256(content).digest() != sha256(
            encode(GOOD)
        ).digest()
    except Refused:
        assert not is_same


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 50_000])
def test_what_is_nested_without_end_is_refused(deep: bytes) -> None:
    for read in READERS:
        with pytest.raises(Refused):
            read(deep)  # type: ignore[operator]


def test_trees_are_those_of_the_audit_log() -> None:
    draw = Random(6962)
    for size in (*range(1, 40), 64, 65, 127, 500):
        leaves = [draw.randbytes(32) for _ in range(size)]
        frontier, tree = Frontier(), Tree(leaves)
        for leaf in leaves:
            frontier.append(leaf)
        assert tree.root == frontier.root
        for index in {0, size // 2, size - 1}:
            assert root_of_path(leaves[index], index, size, tree.path(index)) == tree.root


def test_a_path_proves_nothing_but_its_own_leaf_and_place() -> None:
    draw = Random(9162)
    for size in (2, 3, 7, 13):
        leaves = [draw.randbytes(32) for _ in range(size)]
        tree = Tree(leaves)
        for index in range(size):
            path = tree.path(index)
            for leaf, place, count, way in [
                (draw.randbytes(32), index, size, path), (leaves[index], (index + 1) % size, size, path),
                (leaves[index], index, size, path[32:]), (leaves[index], index, size, path + bytes(32)),
                (leaves[index], index, size, path[:-1]), (leaves[index], size, size, path), (leaves[index], -1, size, path),
            ]:  # fmt: skip
                with contextlib.suppress(Refused):
                    assert root_of_path(leaf, place, count, way) != tree.root


def receipts(count: int) -> tuple[Tree, list[bytes], Root]:
    made = [
        encode_receipt(
            Receipt(message_id=f"m{at}", message_sha256="0" * 64, sender="s", kind="received", at_us=1, hub="hub")
        )
        for at in range(count)
    ]
    tree = Tree([leaf_hash(one) for one in made])
    return tree, made, Root("hub", 1, count, tree.root.hex(), 1)


def test_a_bundle_brings_its_receipts_with_their_proof() -> None:
    tree, made, root = receipts(9)
    bundle = read_receipts(bundle_of(b"{}", tree, [(2, made[2]), (8, made[8])], 17))
    assert [one.message_id for one in proven(bundle, root)] == ["m2", "m8"]
    assert bundle.cursor == 17


def test_a_receipt_under_another_root_or_of_another_hub_is_refused() -> None:
    tree, made, root = receipts(5)
    bundle = read_receipts(bundle_of(b"{}", tree, [(3, made[3])]))
    for wrong in (msgspec.structs.replace(root, root="1" * 64), msgspec.structs.replace(root, hub="other")):
        with pytest.raises(Refused, match=r"exchange\.receipt\.root"):
            proven(bundle, wrong)
    changed = read_receipts(bundle_of(b"{}", tree, [(3, made[3].replace(b"m3", b"m4"))]))
    with pytest.raises(Refused, match=r"exchange\.receipt\.root"):
        proven(changed, root)
