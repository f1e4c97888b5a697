"""Values of price lists and the rules that need nothing but them."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from rocade.services.prices import errors
from rocade.services.prices.money import CURRENCIES

MODES = ("full", "changes")
"""full: what the file leaves out is withdrawn; changes: only what the file names is touched."""
type Mode = Literal["full", "changes"]
ACCEPTABLE = ("factors", "withdrawals", "zero", "past")
"""What a report may warn of so seriously that whoever releases must say that he accepts it."""
_LIST_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_WORD = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_COUNTRY = re.compile(r"[A-Z]{2}")


class PriceList(msgspec.Struct, frozen=True):
    """`seq`: number of its last release, 0 = none yet; `epoch`: which key encrypts its files now."""

    number: int
    id: str
    brand: str
    country: str
    currency: str
    kind: Literal["retail", "net"]
    made_us: int
    seq: int
    parts: int
    epoch: int


class Released(msgspec.Struct, frozen=True):
    """One release as it stands in the database."""

    seq: int
    effective_us: int
    note: str
    released_us: int
    released_by: str
    changes: int
    head_sha256: str


class Problem(msgspec.Struct, frozen=True, array_like=True):
    """A line that cannot be taken: what is wrong with it and what to do."""

    line: int
    what: str
    do: str


class Move(msgspec.Struct, frozen=True, array_like=True):
    """A price that changes much."""

    ref: str
    before_minor: int
    after_minor: int

    @property
    def factor(self) -> float:
        return self.after_minor / self.before_minor


class Suspicion(msgspec.Struct, frozen=True, array_like=True):
    """`count` prices look like this mistake; some of their references."""

    kind: str
    count: int
    refs: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """What a file would do. `needs`: what whoever releases it must accept; `problems` names the first 1,000 wrong lines."""

    list: str
    file_sha256: str
    size_bytes: int
    form: str
    encoding: str
    delimiter: str
    mode: Mode
    effective_us: int
    base_seq: int
    currency: str
    lines: int
    problem_count: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    new: int = 0
    changed: int = 0
    withdrawn: int = 0
    described: int = 0
    same: int = 0
    later: int = 0
    """Prices that an earlier release already announced for after this one takes effect; those stay."""
    rises: tuple[Move, ...] = ()
    falls: tuple[Move, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    needs: tuple[str, ...] = ()
    examples: dict[str, tuple[str, ...]] = {}
    """Some references each of new, changed, withdrawn, described."""

    @property
    def changes(self) -> int:
        return self.new + self.changed + self.withdrawn + self.described

    @property
    def is_valid(self) -> bool:
        return self.problem_count == 0


class Draft(msgspec.Struct, frozen=True):
    """A file handed in and looked at, which can be released as it is."""

    id: str
    list: str
    note: str
    made_us: int
    made_by: str
    report: Report


class Price(msgspec.Struct, frozen=True):
    """The price of a reference at an instant as known at a number; `price_minor` None = withdrawn."""

    ref: str
    family: str
    label: str
    superseded_by: str
    price_minor: int | None
    valid_from_us: int
    seq: int


class Site(msgspec.Struct, frozen=True):
    """How far a point of sale has come with a list."""

    site: str
    fetched_seq: int
    applied_seq: int
    code: str
    at_us: int


class Progress(msgspec.Struct, frozen=True):
    """How far a release has come among those entitled to it."""

    seq: int
    entitled: int
    fetched: int
    applied: int
    refused: int


def check_list(id: str, brand: str, country: str, currency: str, kind: str) -> None:
    """Raises: Refused `prices.list.malformed`."""
    if not _LIST_ID.fullmatch(id) or not _WORD.fullmatch(brand):
        raise errors.list_malformed("id and brand have small letters, digits and hyphens, like renault-fr-retail")
    if not _COUNTRY.fullmatch(country):
        raise errors.list_malformed("country is its two capital letters, ISO 3166, like FR")
    if currency not in CURRENCIES:
        raise errors.list_malformed("currency is its three capital letters, ISO 4217, like EUR")
    if kind not in ("retail", "net"):
        raise errors.list_malformed("kind is retail or net")
