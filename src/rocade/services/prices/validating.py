"""Rows of a file -> a sheet of columns, line by line; every line that cannot be taken is reported, none is guessed at.

Refused are a reference or text with control characters or too long, a price that is none or could mean two, a reference
that comes twice, a part that supersedes itself by a chain, an instant that is no instant, another currency.
Cost: about 2 µs a line.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from rocade.core.errors import Refused
from rocade.core.money import digits_of
from rocade.core.prices import WITHDRAWN
from rocade.services.prices import instants, money
from rocade.services.prices.model import Problem
from rocade.services.prices.reading import Row

REF_LIMIT, FAMILY_LIMIT, LABEL_LIMIT = 64, 64, 200
PROBLEMS_SHOWN = 1_000
INSTANTS_LIMIT = 1_000
"""Different instants of validity within one file."""
_YES = frozenset(("1", "true", "yes", "y", "oui", "ja", "x", "withdrawn", "retire", "是"))
_NO = frozenset(("", "0", "false", "no", "n", "non", "nein", "active", "否"))


@dataclass
class Problems:
    """Wrong lines: the first ones in words, all of them counted."""

    shown: list[Problem] = field(default_factory=list)
    count: int = 0

    def add(self, line: int, what: str, do: str) -> None:
        self.count += 1
        if len(self.shown) < PROBLEMS_SHOWN:
            self.shown.append(Problem(line, what, do))


@dataclass
class Sheet:
    """Columns of the lines that can be taken. `valid_from_us` 0 = when the release takes effect."""

    ref: list[str] = field(default_factory=list)
    price_minor: list[int] = field(default_factory=list)
    valid_from_us: list[int] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    superseded_by: list[str] = field(default_factory=list)
    lines: int = 0


def validate(rows: Iterable[tuple[int, Row]], currency: str, problems: Problems) -> Sheet:
    """Take what can be taken; what cannot is in `problems`."""
    sheet = Sheet()
    seen: dict[str | tuple[str, int], int] = {}
    digits = digits_of(currency)
    instants_known: dict[str, int] = {"": 0}
    for line, row in rows:
        ref = row[0].strip()
        if not ref and not any(map(str.strip, row)):
            continue
        sheet.lines += 1
        try:
            if not ref.isalnum() or not ref.isascii() or len(ref) > REF_LIMIT:
                ref = _text("reference", ref, REF_LIMIT, is_needed=True)
            price = _price(row[1].strip(), row[6], currency, digits)
            family, label, by = row[2].strip(), row[3].strip(), row[4].strip()
            if not (family.isprintable() and len(family) <= FAMILY_LIMIT and family.isascii()):
                family = _text("family", family, FAMILY_LIMIT)
            if not (label.isprintable() and len(label) <= LABEL_LIMIT and label.isascii()):
                label = _text("label", label, LABEL_LIMIT)
            if by:
                by = _text("successor", by, REF_LIMIT)
                if by == ref:
                    raise ValueError("the part supersedes itself; name the one that takes its place")
            if row[7] and row[7].strip().upper() != currency:
                raise ValueError(f"the line's currency is not {currency}; a list has one currency")
            at_us = _instant(row[5].strip(), instants_known)
        except ValueError as error:
            what, _, do = str(error).partition("; ")
            problems.add(line, what, do)
            continue
        first = seen.setdefault((ref, at_us) if at_us else ref, line)
        if first != line:
            problems.add(line, f"the reference {ref!r} stands in line {first} too", "keep one of the two")
            continue
        sheet.ref.append(ref)
        sheet.price_minor.append(price)
        sheet.valid_from_us.append(at_us)
        sheet.family.append(family)
        sheet.label.append(label)
        sheet.superseded_by.append(by)
    return sheet


def _price(text: str, withdrawn: str, currency: str, digits: int) -> int:
    flag = withdrawn.strip().casefold() if withdrawn else ""
    if flag in _YES:
        return WITHDRAWN
    if flag not in _NO:
        raise ValueError("withdrawn is neither yes nor no; write 1 for a part that ends, else nothing")
    if not text:
        raise ValueError("the price is missing; write it, or mark the part as withdrawn")
    return money.parse(text, currency, digits)


def _text(name: str, text: str, limit: int, *, is_needed: bool = False) -> str:
    text = unicodedata.normalize("NFC", text)
    if is_needed and not text:
        raise ValueError(f"the {name} is missing; every line has one")
    if len(text) > limit:
        raise ValueError(f"the {name} has {len(text)} letters; {limit} is the most")
    if not text.isprintable():
        raise ValueError(f"the {name} holds a sign that cannot be printed; remove it")
    return text


def _instant(text: str, known: dict[str, int]) -> int:
    if text not in known:
        if len(known) > INSTANTS_LIMIT:
            raise ValueError(f"more than {INSTANTS_LIMIT} different instants; hand in several files")
        try:
            known[text] = instants.parse(text)
        except Refused as refusal:
            raise ValueError(f"valid_from is no single instant; {refusal.message}") from None
    return known[text]
