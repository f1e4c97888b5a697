"""Price deltas: there and back again, small, in blocks; and nothing but a refusal for any other bytes."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from benchmarks import price_lists
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.core.prices import MAX_PRICE_MINOR
from rocade.wire.prices import (
    Delta,
    Descriptions,
    Entries,
    Ints,
    Limits,
    Part,
    Priced,
    Release,
    pack,
    unpack,
    unpack_blocks,
)
from rocade.wire.prices.packing import MAGIC, Block, File

NONE = np.empty(0, np.int64)
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)
PRICES = st.one_of(st.none(), st.integers(0, 500), st.integers(0, MAX_PRICE_MINOR))


@st.composite
def deltas(draw: st.DrawFn) -> tuple[Delta, Ints]:
    from_seq = draw(st.integers(0, 1000))
    many = draw(st.integers(1, 4))
    releases = tuple(
        Release(from_seq + n, draw(st.integers(0, 10**16)), draw(st.sampled_from(["EUR", "CHF"])), draw(WORDS))
        for n in range(1, many + 1)
    )
    places = st.tuples(st.integers(0, 3000), st.integers(from_seq + 1, from_seq + many))
    parts = [
        Part(*key, draw(WORDS.filter(bool)), draw(WORDS), draw(WORDS), draw(WORDS))
        for key in draw(st.sets(places, max_size=5))
    ]
    instants = st.one_of(st.sampled_from([release.effective_us for release in releases]), st.integers(0, 10**16))
    keys = draw(st.sets(st.tuples(places, instants), max_size=12))
    prices = [Priced(index, seq, instant, draw(PRICES)) for (index, seq), instant in keys]
    previous = np.array(draw(st.lists(st.integers(0, MAX_PRICE_MINOR), max_size=20)), np.int64)
    delta = Delta("a-list", from_seq, from_seq + many, releases, Descriptions.of(parts), Entries.of(prices))
    return delta, previous


@settings(max_examples=150, deadline=None)
@given(deltas())
def test_what_was_packed_is_unpacked(made: tuple[Delta, Ints]) -> None:
    delta, previous = made
    again = unpack(pack(delta, previous), previous)
    assert again.descriptions.rows() == delta.descriptions.rows()
    assert again.entries.rows() == delta.entries.rows()
    assert (again.list_id, again.from_seq, again.to_seq, again.releases) == (
        delta.list_id, delta.from_seq, delta.to_seq, delta.releases,
    )  # fmt: skip


def test_ten_thousand_changes_take_less_than_thirty_kilobytes() -> None:
    first = price_lists.snapshot(parts=100_000)
    prices = first.entries.price_minor
    for by_family in (False, True):
        release, entries = price_lists.day(prices, 2, 10_000, by_family=by_family)
        assert len(pack(Delta("l", 1, 2, (release,), Descriptions(), entries), prices)) < 30_000


def test_a_snapshot_is_read_in_blocks_that_share_no_part() -> None:
    first = price_lists.snapshot(parts=80_000)
    file, blocks = unpack_blocks(pack(first, NONE, level=1), NONE)
    read = list(blocks)
    assert file.to_seq == 1
    assert len(read) == 10
    assert max(len(block.entries) + len(block.descriptions) for block in read) <= 16_384
    assert np.array_equal(np.concatenate([block.entries.price_minor for block in read]), first.entries.price_minor)
    assert [ref for block in read for ref in block.descriptions.ref] == first.descriptions.ref


# --- refusals ---

GOOD = Delta(
    "a-list", 4, 6, (Release(5, 1000, "EUR"), Release(6, 2000, "EUR")),
    Descriptions.of([Part(7, 5, "REF7", "F", "LABEL"), Part(8, 6, "REF8", "G", "", "REF7")]),
    Entries.of([Priced(3, 5, 1000, 250), Priced(3, 6, 2000, None), Priced(7, 5, 1234, 100), Priced(8, 6, 2000, 300)]),
)  # fmt: skip
PREVIOUS = np.array([0, 0, 0, 240], np.int64)
PACKED = pack(GOOD, PREVIOUS)


def again(file: dict[str, Any] | None = None, block: dict[str, Any] | None = None) -> bytes:
    """The good file with some fields changed."""
    read = msgspec.msgpack.decode(PACKED[4:], type=File)
    inside = msgspec.msgpack.decode(read.blocks[0], type=Block)
    blocks = [msgspec.msgpack.encode(msgspec.structs.replace(inside, **(block or {})))]
    changed = msgspec.structs.replace(read, **({"blocks": blocks} | (file or {})))
    return MAGIC + msgspec.msgpack.encode(changed)


def zipped(plain: bytes, *, says_size: bool = False) -> bytes:
    return zstandard.ZstdCompressor(write_content_size=says_size).compress(plain)


BOMB = zipped(bytes(200 << 20), says_size=True)
SILENT_BOMB = zipped(bytes(200 << 20))
REFUSALS = {
    "no magic": ("malformed", b"CSV;" + PACKED[4:]),
    "truncated": ("malformed", PACKED[:-20]),
    "a list's name with a slash": ("malformed", again({"list_id": "../x"})),
    "a release left out": ("releases", again({"releases": (Release(6, 2000, "EUR"),)})),
    "releases the wrong way round": ("releases", again({"releases": (Release(6, 1, "EUR"), Release(5, 1, "EUR"))})),
    "no release": ("releases", again({"from_seq": 6, "releases": ()})),
    "a currency in small letters": ("text", again({"releases": (Release(5, 1, "eur"), Release(6, 2, "EUR"))})),
    "an instant before 1970": ("price", again({"releases": (Release(5, -1, "EUR"), Release(6, 2, "EUR"))})),
    "a block without rows": ("malformed", again(block={"entries": -1})),
    "more rows than a block may have": ("limits", again(block={"entries": 70_000})),
    "a block twice": ("order", again({"blocks": msgspec.msgpack.decode(PACKED[4:], type=File).blocks * 2})),
    "fewer rows than declared": ("size", again(block={"entries": 9})),
    "more rows than declared": ("compression", again(block={"entries": 3})),
    "a bomb that says its size": ("size", again(block={"price": [BOMB]})),
    "a bomb that does not": ("compression", again(block={"price": [SILENT_BOMB]})),
    "a bomb of text": ("size", again(block={"label": (200 << 20, BOMB)})),
    "text that is no zstd": ("compression", again(block={"label": (5, b"LABEL")})),
    "two frames": ("compression", again(block={"seq": [zipped(bytes(4)) + zipped(bytes(4))]})),
    "nine bytes to a number": ("size", again(block={"price": [zipped(bytes(4))] * 9})),
    "a row twice": ("order", again(block={"index": [zipped(bytes(4))], "seq": [zipped(bytes(4))], "instant": []})),
    "a number outside the file": ("order", again(block={"seq": [zipped(b"\0\1\0\5")]})),
    "a gap beyond all lists": ("limits", again(block={"index": [zipped(b"\xff" * 4)] * 7})),
    "a part beyond the limit": ("limits", again(block={"index": [zipped(b"\3\0\4\1"), zipped(b"\0\0\0\1"), zipped(b"\0\0\0\xff")]})),
    "a negative price": ("price", again(block={"price": [zipped(b"\xff\1\1\1"), zipped(b"\xff\1\1\1")]})),
    "a price beyond all prices": ("price", again(block={"price": [zipped(b"\xfe" * 4)] * 8})),
    "an instant that is not in the table": ("price", again(block={"instant": [zipped(b"\0\0\7\0")]})),
    "an instant in the table before 1970": ("price", again(block={"instants": [-5]})),
    "withdrawn beyond the rows": ("price", again(block={"withdrawn": 1, "withdrawn_at": [zipped(b"\x09")]})),
    "withdrawn with a price": ("price", again(block={"withdrawn": 1, "withdrawn_at": [zipped(b"\0")], "price": [zipped(b"\2\2\2\2")]})),
    "a family that is not there": ("size", again(block={"family": [zipped(b"\0\7")]})),
    "more families than parts": ("size", again(block={"families": (5, 1, zipped(b"F"))})),
    "an empty reference": ("text", again(block={"ref": (0, b"")})),
    "a reference with a tab": ("text", again(block={"ref": (5, zipped(b"A\tB\nC"))})),
    "a separator in a label": ("text", again(block={"label": (3, zipped(b"A\x1f\n"))})),
    "a label too long": ("text", again(block={"label": (301, zipped(b"A" * 300 + b"\n"))})),
    "a label that is not UTF-8": ("text", again(block={"label": (2, zipped(b"\xff\n"))})),
    "more lines than parts": ("size", again(block={"label": (3, zipped(b"A\n\n"))})),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSALS)
def test_a_delta_is_refused_for(what: str) -> None:
    code, content = REFUSALS[what]
    with pytest.raises(Refused) as caught:
        unpack(content, PREVIOUS)
    assert caught.value.code == f"prices.delta.{code}"


def test_a_larger_file_than_asked_for_is_refused() -> None:
    with pytest.raises(Refused, match="limits"):
        unpack(PACKED, PREVIOUS, Limits(size_bytes=len(PACKED) - 1))


def test_the_good_one_is_good() -> None:
    assert unpack(again(), PREVIOUS).entries.rows() == GOOD.entries.rows()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused_or_read_as_something_sound(data: st.DataObject) -> None:
    content = bytearray(PACKED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    with contextlib.suppress(Refused):
        read = unpack(bytes(content), PREVIOUS)
        assert unpack(pack(read, PREVIOUS), PREVIOUS).entries.rows() == read.entries.rows()


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=40) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=6),
        max_leaves=30,
    ),
    st.binary(max_size=60),
)
def test_other_bytes_are_refused(structure: object, noise: bytes) -> None:
    for content in (MAGIC + msgspec.msgpack.encode(structure), MAGIC + noise, noise):
        with pytest.raises(Refused):
            unpack(content, NONE)


def test_differences_to_another_base_are_other_prices() -> None:
    """What the differences are taken from is not in the file; where no check of form finds the mistake, the state root does."""
    with pytest.raises(Refused, match="price"):  # a withdrawn row ends at nothing, from the right base alone
        unpack(PACKED, np.array([0, 0, 0, 1000], np.int64))
    delta = Delta("l", 1, 2, (Release(2, 9, "EUR"),), Descriptions(), Entries.of([Priced(0, 2, 9, 500)]))
    assert unpack(pack(delta, np.array([400])), np.array([410])).entries.rows() == [Priced(0, 2, 9, 510)]
