"""Sealed bytes open with their key, in their place, unchanged; nothing else opens."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocade.core.errors import Corrupt
from rocade.trust.authority.sealing import aad, blind, is_sealed, open_sealed, seal

KEY, OTHER = bytes(range(32)), bytes(32)
PLACE = aad(2**62 + 1, "telemetry", 1, 77)


@given(st.binary(max_size=4096))
def test_what_is_sealed_opens_again(plain: bytes) -> None:
    sealed = seal(KEY, plain, PLACE)
    assert is_sealed(sealed)
    assert len(sealed) == len(plain) + 29
    assert open_sealed(KEY, sealed, PLACE) == plain


def test_a_seal_is_never_the_same_twice_and_shows_nothing() -> None:
    plain = b"VF1AAAAAAAA000001" * 10
    first, second = seal(KEY, plain, PLACE), seal(KEY, plain, PLACE)
    assert first != second
    assert b"VF1AAA" not in first


SEALED = seal(KEY, b"some record", PLACE)
CASES = {
    "another key": (OTHER, SEALED, PLACE),
    "another vehicle": (KEY, SEALED, aad(2**62 + 2, "telemetry", 1, 77)),
    "another stream": (KEY, SEALED, aad(2**62 + 1, "quarantine", 1, 77)),
    "another schema": (KEY, SEALED, aad(2**62 + 1, "telemetry", 2, 77)),
    "another sequence": (KEY, SEALED, aad(2**62 + 1, "telemetry", 1, 78)),
    "cut": (KEY, SEALED[:-1], PLACE),
    "longer": (KEY, SEALED + b"\0", PLACE),
    "no format": (KEY, b"\x02" + SEALED[1:], PLACE),
    "too short": (KEY, SEALED[:28], PLACE),
    "empty": (KEY, b"", PLACE),
    "noise": (KEY, b"\x01" + os.urandom(60), PLACE),
}


@pytest.mark.parametrize("name", CASES)
def test_nothing_else_opens(name: str) -> None:
    with pytest.raises(Corrupt, match=r"seal\.broken"):
        open_sealed(*CASES[name])


def test_every_flipped_bit_is_found() -> None:
    for at in range(1, len(SEALED)):
        for bit in range(8):
            bad = bytearray(SEALED)
            bad[at] ^= 1 << bit
            with pytest.raises(Corrupt):
                open_sealed(KEY, bytes(bad), PLACE)


def test_places_that_differ_have_other_associated_data() -> None:
    places = {aad(*place) for place in ((1, "a", 1, 1), (1, "a1", 1, 1), (1, "", 1, 1), (257, "a", 1, 1), (1, "a", 257, 1),
                                        (1, "a", 1, 257), (-1, "a", 1, 1))}  # fmt: skip
    assert len(places) == 7


def test_a_blind_index_needs_its_key() -> None:
    assert blind(KEY, "VF1AAAAAAAA000001") == blind(KEY, "VF1AAAAAAAA000001")
    assert len({blind(KEY, "a"), blind(KEY, "b"), blind(OTHER, "a")}) == 3
    assert len(blind(KEY, "é")) == 16
