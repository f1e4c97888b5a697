"""A list in memory: references, newest entry of each part, the tree over all leaves, sums of its rows; 44 MB for 500,000 parts.

A state is never changed once it is shown to readers: `advance` works on a copy, and the store puts it in place when the
transaction that wrote the same rows is on disk. `freeze` and `thaw` turn what a start needs into byte strings.
"""

from __future__ import annotations

from collections.abc import Buffer, Sequence

import msgspec
import numpy as np

from rocade.agents.dealer.prices.references import References, joined
from rocade.agents.dealer.prices.sums import Sums, add_by_release, entry_sums, text_sums
from rocade.core.errors import Corrupt, Refused
from rocade.core.prices import WITHDRAWN
from rocade.wire.prices import HASH_BYTES, Delta, Descriptions, Entries, Head, Ints, Tree, changed_leaves

_NEVER = (1 << 63) - 1
COLUMNS = 7


class _Releases(msgspec.Struct, array_like=True):
    """Of each release by its number: currency, sum of its entries, sum of its later descriptions (where it has any)."""

    currency: dict[int, str] = {}
    entries: dict[int, int] = {}
    texts: dict[int, int] = {}


class State:
    """A list at number `seq`. `valid_from_us`, `newest_seq`, `price_minor`: of each part's entry with the greatest
    (valid_from, seq); a part without any has number 0 and an instant beyond all.

    Sums of rows (`sums`): `entries_of_part` by index, `entries_of_release` and `texts_of_release` by number.
    """

    def __init__(self) -> None:
        self.seq = 0
        self.tree = Tree()
        self.refs = References()
        self.currency: dict[int, str] = {}
        self.entries_of_part: Sums = np.empty(0, np.uint64)
        self.entries_of_release: dict[int, int] = {}
        self.texts_of_release: dict[int, int] = {}
        self._new_refs: list[bytes] = []
        self._new_count = 0
        self._set(*(np.empty(0, np.int64),) * 3)

    @property
    def parts(self) -> int:
        return len(self.refs) + self._new_count

    def is_of(self, head: Head) -> bool:
        """Whether a head was signed for this state."""
        last = self.currency.get(head.seq, "")
        return (self.tree.root.hex(), self.parts, last) == (head.state_root, head.parts, head.currency)

    def copy(self) -> State:
        """To be advanced apart."""
        other = State()
        other.seq, other.refs, other.currency = self.seq, self.refs, dict(self.currency)
        other.tree = self.tree.copy()
        other.entries_of_part = self.entries_of_part.copy()
        other.entries_of_release, other.texts_of_release = dict(self.entries_of_release), dict(self.texts_of_release)
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
        self._sum(priced, later)
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
        columns = (
            self.tree.leaves.reshape(-1),
            self.newest_from,
            self.newest_number,
            self.newest_price,
            self.entries_of_part,
        )
        releases = _Releases(self.currency, self.entries_of_release, self.texts_of_release)
        return [self.refs.packed(), *(column.data for column in columns), msgspec.msgpack.encode(releases)]

    @classmethod
    def thaw(cls, seq: int, columns: Sequence[bytes]) -> State:
        """The state of which `freeze` gave these columns."""
        refs, leaves, *newest, sums, packed = columns
        state, releases = cls(), msgspec.msgpack.decode(packed, type=_Releases)
        state.seq, state.refs, state.currency = seq, References(refs), releases.currency
        state.tree = Tree(np.frombuffer(leaves, np.uint8).reshape(-1, HASH_BYTES))
        state.entries_of_part = np.frombuffer(sums, np.uint64).copy()
        state.entries_of_release, state.texts_of_release = releases.entries, releases.texts
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
            self.entries_of_part = np.r_[self.entries_of_part, np.zeros(more, np.uint64)]

    def _sum(self, priced: Entries, later: Descriptions) -> None:
        sums = entry_sums(priced)
        np.add.at(self.entries_of_part, priced.index, sums)
        add_by_release(self.entries_of_release, priced.seq, sums)
        add_by_release(self.texts_of_release, later.seq, text_sums(later))

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
