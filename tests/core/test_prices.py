"""The rule of prices, against its own words; the bytes of a change; amounts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.money import amount
from rocade.core.prices import WITHDRAWN, Change, Description, Entry, Found, leaf_of, price_at, record

JANUARY, FEBRUARY, MARCH = 100, 200, 300
LIFE = [
    Change(1, "EUR", (Entry(JANUARY, 1000),), Description("A1")),
    Change(2, "EUR", (Entry(FEBRUARY, 1100),)),
    Change(4, "EUR", (Entry(JANUARY, 900), Entry(MARCH, 1200))),  # January was wrong; March is announced
    Change(6, "CHF", (Entry(MARCH, 1300),)),
    Change(7, "CHF", (Entry(MARCH + 50, WITHDRAWN),)),
]


@pytest.mark.parametrize(
    ("at_us", "known_seq", "seq", "price"),
    [
        (JANUARY, 1, 1, 1000),
        (JANUARY + 5, None, 4, 900),  # the correction counts back
        (JANUARY + 5, 3, 1, 1000),  # as it was known then
        (FEBRUARY, None, 2, 1100),  # a correction of January leaves February alone
        (FEBRUARY - 1, None, 4, 900),
        (MARCH, 4, 4, 1200),
        (MARCH, 3, 2, 1100),
        (MARCH, None, 6, 1300),  # of two entries of one instant the later number counts
        (MARCH + 50, None, 7, WITHDRAWN),
        (MARCH + 49, 7, 6, 1300),
        (10**15, 6, 6, 1300),
    ],
)
def test_the_price_at_an_instant_as_known_at_a_number(at_us: int, known_seq: int | None, seq: int, price: int) -> None:
    found = price_at(LIFE, at_us, known_seq)
    assert found is not None
    assert (found.seq, found.price_minor) == (seq, price)
    assert found.currency == ("EUR" if seq < 6 else "CHF")


def test_before_the_first_entry_there_is_no_price() -> None:
    assert price_at(LIFE, JANUARY - 1) is None
    assert price_at(LIFE, MARCH, 0) is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 9), st.integers(1, 99)), max_size=3)), max_size=8
    ),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_the_rule_is_what_its_words_say(
    life: list[tuple[int, list[tuple[int, int]]]], at_us: int, known_seq: int
) -> None:
    changes = [
        Change(seq, "EUR", tuple(Entry(*one) for one in sorted(dict(entries).items())))
        for seq, entries in sorted(dict(life).items())
    ]
    candidates = [
        Found(change.seq, "EUR", entry.valid_from_us, entry.price_minor)
        for change in changes
        for entry in change.entries
        if change.seq <= known_seq and entry.valid_from_us <= at_us
    ]
    expected = max(candidates, key=lambda found: (found.valid_from_us, found.seq), default=None)
    assert price_at(changes, at_us, known_seq) == expected


def test_records_differ_where_anything_differs() -> None:
    base = Change(3, "EUR", (Entry(5, 7),), Description("A", "B", "C", "D"))
    others = [
        Change(4, "EUR", base.entries, base.description),
        Change(3, "CHF", base.entries, base.description),
        Change(3, "EUR", (Entry(7, 5),), base.description),
        Change(3, "EUR", (), base.description),
        Change(3, "EUR", base.entries),
        Change(3, "EUR", base.entries, Description("A", "BC", "", "D")),
        Change(3, "EUR", base.entries, Description("AB", "", "C", "D")),
    ]
    assert len({record(change) for change in (base, *others)}) == 8
    assert len({leaf_of([change]) for change in (base, *others)}) == 8
    assert leaf_of([base, others[0]]) != leaf_of([others[0], base])


@pytest.mark.parametrize(
    "change", [Change(1, "EURO"), Change(1, "eur"), Change(1, "EUR", (), Description("A\x1fB", "C"))]
)
def test_a_change_that_could_be_read_in_two_ways_has_no_record(change: Change) -> None:
    with pytest.raises(ValueError):
        record(change)


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [(1665, "EUR", "16.65 EUR"), (5, "EUR", "0.05 EUR"), (500, "JPY", "500 JPY"), (1, "KWD", "0.001 KWD"), (-205, "CHF", "-2.05 CHF")],
)  # fmt: skip
def test_amounts_are_written_with_their_currencys_digits(minor: int, currency: str, text: str) -> None:
    assert amount(minor, currency) == text
