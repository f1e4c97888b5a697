"""Marks: pseudo-references that one point of sale alone is given, so that a list that leaks says through whom.

Flow: at a list's first release a sample of its references, labels and prices is frozen as its pattern -> a holder's
marks are drawn from it with the region's secret: each looks like its neighbours in the list, none is a part -> a holder's
agent writes them into every export. Nothing is stored for 6,500 holders: whoever has the secret draws them again.
Honest limits: docs/prices.md, "A list that leaks".
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from rocade.services.prices.signing import Signing
from rocade.services.prices.state import NONE, State
from rocade.wire.prices import Mark

MARKS = 48
"""A fifth of a list keeps ten of them; the chance that fewer than three stay is two in a thousand."""
SAMPLE = 512
KEPT_LETTERS = 2
"""A reference's first letters stay as they are: they say which family of numbers it is from."""
VARIED_LEAST = 6


class Pattern(msgspec.Struct, frozen=True):
    """What marks of a list look like: real references, families, labels and prices, in no relation to each other."""

    refs: tuple[str, ...]
    families: tuple[str, ...]
    labels: tuple[str, ...]
    prices_minor: tuple[int, ...]


def pattern_of(state: State, draw: bytes) -> Pattern:
    """A sample of a list, by a fixed rule: the same list gives the same."""
    rows = state.latest.tolist()
    step = max(1, len(rows) // SAMPLE)
    begin = int.from_bytes(draw[:4]) % step
    sample = rows[begin::step][:SAMPLE]
    d = state.descriptions
    prices = [price for price in state.prices_at((1 << 62) - 1)[:: max(1, step)].tolist() if price not in (NONE, 0)]
    refs = [d.ref[row] for row in sample]
    long = [ref for ref in refs if sum(map(str.isalnum, ref)) >= KEPT_LETTERS + VARIED_LEAST]
    return Pattern(
        tuple(long or [(ref + "00000000")[:10] for ref in refs]), tuple(dict.fromkeys(d.family[row] for row in sample)),
        tuple(dict.fromkeys(d.label[row] for row in sample)), tuple(prices[:SAMPLE] or [1000]),
    )  # fmt: skip


def write_pattern(pattern: Pattern) -> bytes:
    return msgspec.json.encode(pattern)


def read_pattern(content: bytes) -> Pattern:
    return msgspec.json.decode(content, type=Pattern)


def marks_of(signing: Signing, pattern: Pattern, list_id: str, site: str) -> tuple[Mark, ...]:
    """The marks of one holder, always the same."""
    return tuple(_mark(signing.draw(list_id, site, str(number)), pattern) for number in range(MARKS))


def _mark(draw: bytes, pattern: Pattern) -> Mark:
    number = int.from_bytes(draw[:8])
    base = _pick(pattern.refs, number)
    price = _pick(pattern.prices_minor, number // 7)
    price += 1 + draw[8] % 97 if price > 200 else draw[8] % 7
    return Mark(
        _varied(base, draw[9:]), _pick(pattern.families, number // 11), _pick(pattern.labels, number // 13), price
    )


def _varied(ref: str, draw: bytes) -> str:
    """The reference with its later letters drawn anew, digit for digit and letter for letter."""
    value = int.from_bytes(draw)
    made, kept = [], 0
    for letter in ref:
        if not letter.isalnum() or not letter.isascii():
            made.append(letter)
        elif kept < KEPT_LETTERS:
            kept += 1
            made.append(letter)
        else:
            symbols = "0123456789" if letter.isdigit() else "ABCDEFGHJKLMNPRSTVWXYZ"
            value, at = divmod(value, len(symbols))
            made.append(symbols[at] if letter.isdigit() or letter.isupper() else symbols[at].lower())
    return "".join(made)


def plain(text: str) -> str:
    """A reference without what reformatting changes: signs between, case, zeros in front."""
    return re.sub(r"[^0-9A-Za-z]", "", text).upper().lstrip("0")


def _pick[T](from_: Sequence[T], number: int) -> T:
    return from_[number % len(from_)]
