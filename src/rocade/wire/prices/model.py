"""What travels of a price list: signed heads, and deltas in columns. A snapshot is a delta from number 0.

A delta says everything that the releases `from_seq + 1` to `to_seq` did; it is the same for everybody. Its rows are sorted:
descriptions by (index, seq), entries by (index, seq, valid_from). `index` is a part's number within its list, given at
its first appearance, dense from 0, never given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.prices import WITHDRAWN

type Ints = NDArray[np.int64]

HEAD_TYPE = "application/vnd.rocade.price-head+json"
KEY_TYPE = "application/vnd.rocade.price-key"
"""The list-signing key's public half in DER, signed by the region's root."""
ACK_TYPE = "application/vnd.rocade.price-ack+json"
"""How far a point of sale has come with a list: what it says under `up/ack`, sealed with its own key."""


class Release(msgspec.Struct, frozen=True, array_like=True):
    """One number of a list. Prices of this release are in this currency, whatever the list's was before."""

    seq: int
    effective_us: int
    currency: str
    note: str = ""


class Blob(msgspec.Struct, frozen=True):
    """An encrypted delta file, named by its own SHA-256 (hex)."""

    sha256: str
    size: int
    from_seq: int
    to_seq: int
    epoch: int


class Head(msgspec.Struct, frozen=True, rename={"list_id": "list"}):
    """The signed head of a list at number `seq`: what its state is, and where the files are.

    `skips` are deltas over more than one release; any that starts at or below a holder's number serves him.
    """

    list_id: str
    brand: str
    country: str
    currency: str
    kind: Literal["retail", "net"]
    seq: int
    prev_head: str
    """`id` of the head before; empty for the first."""
    effective_us: int
    signed_us: int
    state_root: str
    parts: int
    epoch: int
    blob: Blob
    snapshot: Blob
    skips: tuple[Blob, ...] = ()

    @property
    def files(self) -> tuple[Blob, ...]:
        return (self.blob, self.snapshot, *self.skips)

    @property
    def id(self) -> str:
        """What two heads of one number must share: all but where files are and when it was signed."""
        said = (self.list_id, self.brand, self.country, self.currency, self.kind, self.seq, self.prev_head)
        return sha256(
            msgspec.json.encode((*said, self.effective_us, self.state_root, self.parts)),
        ).hexdigest()


class Part(msgspec.Struct, frozen=True, order=True, array_like=True):
    """A description as a row: for building deltas by hand and for reading them."""

    index: int
    seq: int
    ref: str
    family: str = ""
    label: str = ""
    superseded_by: str = ""


class Priced(msgspec.Struct, frozen=True, array_like=True):
    """An entry as a row; `price_minor` None = withdrawn."""

    index: int
    seq: int
    valid_from_us: int
    price_minor: int | None


def first_rows(column: Ints) -> Ints:
    """Rows where a sorted column has another value than the row before."""
    return np.flatnonzero(np.r_[True, column[1:] != column[:-1]]) if len(column) else column


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Descriptions:
    """Descriptions of new or newly described parts, in columns of one length."""

    index: Ints = field(default_factory=_none)
    seq: Ints = field(default_factory=_none)
    ref: list[str] = field(default_factory=list)
    family: list[str] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    superseded_by: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Iterable[Part]) -> Self:
        """Columns of these rows, sorted."""
        given = sorted(rows)
        index = np.array([row.index for row in given], np.int64)
        seq = np.array([row.seq for row in given], np.int64)
        refs, families = [row.ref for row in given], [row.family for row in given]
        return cls(index, seq, refs, families, [row.label for row in given], [row.superseded_by for row in given])

    def rows(self) -> list[Part]:
        columns = (self.index.tolist(), self.seq.tolist(), self.ref, self.family, self.label, self.superseded_by)
        return list(map(Part, *columns))

    def __len__(self) -> int:
        return len(self.index)

    def cut(self, low: int, high: int) -> Descriptions:
        """Those from row `low` to before row `high`."""
        at = slice(low, high)
        return Descriptions(
            self.index[at], self.seq[at], self.ref[at], self.family[at], self.label[at], self.superseded_by[at]
        )

    @classmethod
    def joined(cls, parts: Sequence[Descriptions]) -> Self:
        """All of them, one after the other."""
        if not parts:
            return cls()
        index, seq = (np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "seq"))
        names = ("ref", "family", "label", "superseded_by")
        refs, families, labels, replaced = ([text for p in parts for text in getattr(p, name)] for name in names)
        return cls(index, seq, refs, families, labels, replaced)


@dataclass(frozen=True, slots=True)
class Entries:
    """Prices, in columns of one length; `WITHDRAWN` where a part has none any more."""

    index: Ints = field(default_factory=_none)
    seq: Ints = field(default_factory=_none)
    valid_from_us: Ints = field(default_factory=_none)
    price_minor: Ints = field(default_factory=_none)

    @classmethod
    def of(cls, rows: Iterable[Priced]) -> Self:
        """Columns of these rows, sorted."""
        table = [(r.index, r.seq, r.valid_from_us, WITHDRAWN if r.price_minor is None else r.price_minor) for r in rows]
        columns = np.array(sorted(table), np.int64).reshape(-1, 4).T
        return cls(*(column.copy() for column in columns))

    def rows(self) -> list[Priced]:
        columns = (self.index, self.seq, self.valid_from_us, self.price_minor)
        return [
            Priced(i, s, f, None if p == WITHDRAWN else p)
            for i, s, f, p in zip(*(c.tolist() for c in columns), strict=True)
        ]

    def __len__(self) -> int:
        return len(self.index)

    def cut(self, low: int, high: int) -> Entries:
        """Those from row `low` to before row `high`."""
        at = slice(low, high)
        return Entries(self.index[at], self.seq[at], self.valid_from_us[at], self.price_minor[at])

    @classmethod
    def joined(cls, parts: Sequence[Entries]) -> Self:
        """All of them, one after the other."""
        if not parts:
            return cls()
        names = ("index", "seq", "valid_from_us", "price_minor")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True, slots=True)
class Delta:
    """What the releases after `from_seq`, up to `to_seq`, did to a list."""

    list_id: str
    from_seq: int
    to_seq: int
    releases: tuple[Release, ...]
    descriptions: Descriptions
    entries: Entries
