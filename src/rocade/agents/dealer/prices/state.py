"""A list in memory: references, newest entry of each part, and the tree over all leaves; 40 MB for 500,000 parts.

A state is never changed once it is shown to readers: `advance` works on a copy, and the store puts it in place when the
transaction that wrote the same rows is on disk. `freeze` and `thaw` turn what a start needs into byte strings.
"""

from __future__ import annotations

from collections.abc import Buffer, Sequence

import numpy as np

from rocade.agents.dealer.prices.references import References, joined
from rocade.core.errors import Corrupt, Refused
from rocade.core.prices import WITHDRAWN
from rocade.wire.prices import HASH_BYTES, Delta, Descriptions, Entries, Ints, Tree, changed_leaves

_NEVER = (1 << 63) - 1


class State:
    """A list at number `seq`. `valid_from_us`, `newest_seq`, `price_minor`: of each part's entry with the greatest
    (valid_from, seq); a part without any has number 0 and an instant beyond all.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.tree = Tree()
        self.refs = References()
        self.currency: dict[int, str] = {}
        self._new_refs: list[bytes] = []
        self._new_count = 0
        self._set(*(np.empty(0, np.int64),) * 3)

    @property
    def parts(self) -> int:
        return len(self.refs) + self._new_count

    def copy(self) -> State:
        """To be advanced apart."""
        other = State()
        other.seq, other.refs, other.currency = self.seq, self.refs, dict(self.currency)
        other.tree = self.tree.copy()
        other._set(self.newest_from.copy(), self.newest_number.copy(), self.newest_price.copy())
        return other

    def advance(self, delta: Delta) -> tuple[Descriptions, Descriptions]:
        """Take what a delta (or a block of one) did after this state's number; return first and later descriptions.

        `finish` ends it. Raises: Refused `prices.delta.parts` (a hole, a price of an unknown part, a reference twice).
        """
        first, later = self._split(delta.descriptions)
        grown = self.parts + len(first)
        priced = delta.entries
        if len(priced) and int(priced.index[-1]) >= grown:
            raise _refused("a price belongs to a part that the list does not have")
        self._check_firsts(first, delta)
        for part in later.rows():
            at = part.index - self.parts
            if (first.ref[at] if at >= 0 else self.refs[part.index]) != part.ref:
                raise _refused("a part changes its reference")
        self._new_refs.append(joined(first.ref))
        self._new_count += len(first)
        self.tree.update(*changed_leaves(delta, self.tree.leaves))
        if len(self.tree.leaves) != grown:
            raise _refused("a part is missing")
        self._grow(grown)
        self._renew(priced)
        return first, later

    def finish(self, delta_seq: int, currency: dict[int, str]) -> None:
        """Set the number that was reached, and index new references."""
        self.seq = delta_seq
        self.currency |= currency
        try:
            self.refs = self.refs.extended(b"".join(self._new_refs), self._new_count)
        except Corrupt:
            raise _refused("a reference stands twice") from None
        self._new_refs, self._new_count = [], 0

    def freeze(self) -> list[Buffer]:
        """What a start needs: its columns, not copied."""
        columns = (self.tree.leaves.reshape(-1), self.newest_from, self.newest_number, self.newest_price)
        return [self.refs.packed(), *(column.data for column in columns)]

    @classmethod
    def thaw(cls, seq: int, columns: Sequence[bytes]) -> State:
        """The state of which `freeze` gave these columns."""
        refs, leaves, *newest = columns
        state = cls()
        state.seq, state.refs = seq, References(refs)
        state.tree = Tree(np.frombuffer(leaves, np.uint8).reshape(-1, HASH_BYTES))
        state._set(*(np.frombuffer(column, np.int64).copy() for column in newest))
        return state

    def _set(self, valid_from: Ints, number: Ints, price: Ints) -> None:
        self.newest_from, self.newest_number, self.newest_price = valid_from, number, price
        self.valid_from_us: memoryview[int] = memoryview(valid_from)
        self.newest_seq: memoryview[int] = memoryview(number)
        self.price_minor: memoryview[int] = memoryview(price)

    def _split(self, described: Descriptions) -> tuple[Descriptions, Descriptions]:
        """First descriptions of new parts, and all others."""
        index = described.index
        fresh = index >= self.parts
        if len(index):
            fresh &= np.r_[True, index[1:] != index[:-1]]
        if fresh.all():
            return described, Descriptions()
        return _chosen(described, np.flatnonzero(fresh)), _chosen(described, np.flatnonzero(~fresh))

    def _check_firsts(self, first: Descriptions, delta: Delta) -> None:
        """New parts follow without a hole, each described before it has a price."""
        if not np.array_equal(first.index, np.arange(self.parts, self.parts + len(first))):
            raise _refused("parts are not numbered without a hole")
        priced = delta.entries
        new = priced.index >= self.parts
        if (priced.seq[new] < first.seq[priced.index[new] - self.parts]).any():
            raise _refused("a part has a price before it is in the list")

    def _grow(self, size: int) -> None:
        more = size - len(self.newest_from)
        if more:
            none = np.full(more, _NEVER), np.zeros(more, np.int64), np.full(more, WITHDRAWN)
            old = (self.newest_from, self.newest_number, self.newest_price)
            self._set(*(np.concatenate(pair) for pair in zip(old, none, strict=True)))

    def _renew(self, priced: Entries) -> None:
        """Let each part's newest entry be the one with the greatest (valid_from, seq)."""
        index, valid_from, seq, price = priced.index, priced.valid_from_us, priced.seq, priced.price_minor
        if not len(index):
            return
        if (index[1:] == index[:-1]).any():
            order = np.lexsort((seq, valid_from, index))
            order = order[np.flatnonzero(np.r_[np.diff(index[order]) != 0, True])]
            index, valid_from, seq, price = index[order], valid_from[order], seq[order], price[order]
        old_from, old_seq = self.newest_from[index], self.newest_number[index]
        wins = (old_seq == 0) | (valid_from > old_from) | ((valid_from == old_from) & (seq > old_seq))
        at = index[wins]
        self.newest_from[at], self.newest_number[at], self.newest_price[at] = valid_from[wins], seq[wins], price[wins]


def _chosen(described: Descriptions, rows: Ints) -> Descriptions:
    places = rows.tolist()
    columns = (described.ref, described.family, described.label, described.superseded_by)
    refs, families, labels, replaced = ([column[at] for at in places] for column in columns)
    return Descriptions(described.index[rows], described.seq[rows], refs, families, labels, replaced)


def _refused(why: str) -> Refused:
    return Refused("prices.delta.parts", f"the delta does not fit the list: {why}")
