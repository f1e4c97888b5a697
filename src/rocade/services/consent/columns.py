"""Whole columns of decisions: sorted arrays per (recipient, purpose), made from the table's entries when first asked for.

Vehicles that change afterwards are looked up one by one, until there are enough of them to make the arrays anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from rocade.services.consent.table import Entry

type Ints = NDArray[np.int64]

REMAKE_AFTER = 1_000
KEPT = 256
"""Pairs of recipient and purpose whose arrays are kept."""


class Column(msgspec.Struct):
    """Spans of one recipient and purpose, sorted by reference; `most` = spans of one vehicle at most."""

    ref: Ints
    from_us: Ints
    end_us: Ints
    classes: Ints
    most: int
    owned: Ints
    """References that have, or had, an owner; sorted."""
    changed: set[int]


class Columns:
    """Arrays over a mapping of entries that its owner changes and reports by `changed`."""

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self._columns: dict[tuple[str, str], Column] = {}

    def changed(self, refs: Set[int] | None) -> None:
        """These entries are others now; None = all."""
        if refs is None:
            self._columns.clear()
        for key, column in tuple(self._columns.items()) if refs else ():
            column.changed |= refs or set()
            if len(column.changed) > REMAKE_AFTER:
                del self._columns[key]

    def masks(self, refs: Ints, recipient: str, purpose: str, at_us: int, unowned: int) -> Ints:
        """Classes per reference; `unowned` for a vehicle without owner."""
        column = self._columns.get((recipient, purpose)) or self._make(recipient, purpose)
        found = np.zeros(len(refs), np.int64)
        if unowned:
            place = np.minimum(np.searchsorted(column.owned, refs), max(len(column.owned) - 1, 0))
            is_owned = np.zeros(len(refs), np.bool_)
            if len(column.owned):
                is_owned = column.owned[place] == refs
            found[~is_owned] = unowned
        if len(column.ref):
            first = np.searchsorted(column.ref, refs)
            for step in range(column.most):
                place = np.minimum(first + step, len(column.ref) - 1)
                holds = (column.ref[place] == refs) & (column.from_us[place] <= at_us) & (at_us < column.end_us[place])
                found[holds] = column.classes[place[holds]]
        if column.changed:
            for at in np.flatnonzero(np.isin(refs, np.fromiter(column.changed, np.int64))).tolist():
                found[at] = self._one(int(refs[at]), recipient, purpose, at_us, unowned)
        return found

    def _one(self, ref: int, recipient: str, purpose: str, at_us: int, unowned: int) -> int:
        entry = self._entries.get(ref)
        if entry is None:
            return unowned
        spans = entry.spans
        return next((s[4] for s in spans if s[0] == recipient and s[1] == purpose and s[2] <= at_us < s[3]), 0)

    def _make(self, recipient: str, purpose: str) -> Column:
        rows = np.array(list(self._rows(recipient, purpose)), np.int64).reshape(-1, 4)
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        owned = np.sort(np.fromiter(self._entries, np.int64, len(self._entries)))
        most = int(np.unique(rows[:, 0], return_counts=True)[1].max(initial=0))
        ref, from_us, end_us, classes = np.ascontiguousarray(rows.T)
        column = Column(ref, from_us, end_us, classes, most, owned, set())
        if len(self._columns) >= KEPT:
            self._columns.pop(next(iter(self._columns)))
        self._columns[recipient, purpose] = column
        return column

    def _rows(self, recipient: str, purpose: str) -> Iterator[tuple[int, int, int, int]]:
        for ref, entry in self._entries.items():
            for to, why, from_us, end_us, classes, _ in entry.spans:
                if to == recipient and why == purpose:
                    yield ref, from_us, end_us, classes
