"""Answers about one list at the number held: prices, parts, successors, changes, search, proofs.

A look-up finds the part and its newest entry in memory; only an instant before that entry, or an earlier number, asks the
rows, and then never beyond the number of this state, so that an answer is of one number even while a release is applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rocade.agents.dealer.prices.model import Changed, PartCard, Price, Successors
from rocade.agents.dealer.prices.state import State
from rocade.agents.dealer.prices.store import ListRow, Tables, failing
from rocade.core.errors import Corrupt, Refused
from rocade.core.prices import WITHDRAWN, Change, Description, Entry, leaf_of
from rocade.trust.identity.proof_files import PRICE_PROOF, PriceProof
from rocade.wire.prices import Head

_MAX_SUCCESSORS = 1000
_LATEST_US = (1 << 62) - 1


class Reading:
    """One list at one number."""

    def __init__(self, tables: Tables, row: ListRow, head: Head, state: State) -> None:
        self.state = state
        self._tables, self._row, self._head = tables, row, head
        self._list_id, self._seq, self._base = row.name, row.seq, row.number << 32
        self._find, self._from, self._number, self._minor = (
            state.refs.find, state.valid_from_us, state.newest_seq, state.price_minor
        )  # fmt: skip

    def price(self, ref: str, at_us: int, known_seq: int | None) -> Price:
        """Raises: Refused `prices.part.*`, `prices.number.unknown`."""
        index = self._find(ref)
        if index < 0:
            raise _unknown()
        valid_from, seq, minor = self._from[index], self._number[index], self._minor[index]
        if at_us < valid_from or known_seq is not None:
            known_seq = self._known(known_seq)
            if at_us < valid_from or known_seq < seq:
                valid_from, seq, minor = self._at(index, at_us, known_seq)
        return Price(
            self._list_id, ref, at_us, known_seq or self._seq, seq, valid_from,
            None if minor == WITHDRAWN else minor, self.state.currency[seq],
        )  # fmt: skip

    def prices(self, refs: Sequence[str], at_us: int) -> dict[str, Price]:
        found = {}
        for ref in refs:
            try:
                found[ref] = self.price(ref, at_us, None)
            except Refused:
                continue
        return found

    def all_prices(self, at_us: int, known_seq: int | None) -> Iterator[tuple[Description, Price]]:
        later = self._tables.later_words(self._row.number)
        for first, *columns in self._tables.words(self._row.number):
            for index, words in enumerate(zip(*columns, strict=True), first):
                if index >= self.state.parts:
                    return
                try:
                    price = self.price(words[0], at_us, known_seq)
                except Refused:
                    continue
                yield later.get(index) or Description(*words), price

    def part(self, ref: str) -> PartCard:
        return self._card(self._index(ref))

    def successors(self, ref: str) -> Successors:
        seen, ends = [ref], "here"
        following = self.part(ref).description.superseded_by
        while following:
            if following in seen or len(seen) > _MAX_SUCCESSORS:
                return Successors((), "circle")
            seen.append(following)
            index = self._find(following)
            if index < 0:
                ends = "unknown"
                break
            following = self._card(index).description.superseded_by
        return Successors(tuple(seen[1:]), ends)

    def changes_of(self, ref: str) -> list[Change]:
        return self._changes(self._index(ref))

    def changes(self, seq: int, limit: int | None) -> list[Changed]:
        """What a release did. Cost: reads all rows of the list once."""
        self._known(seq)
        described = self._tables.descriptions_with(self._row.number, seq)
        priced: dict[int, list[Entry]] = {}
        for index, valid_from, minor in self._tables.prices_of(self._row.number, seq):
            priced.setdefault(index, []).append(Entry(valid_from, minor))
        found, currency = [], self.state.currency[seq]
        for index in sorted({*described, *priced})[:limit]:
            entries = tuple(priced.get(index, ()))
            change = Change(seq, currency, entries, described.get(index))
            at_us = entries[0].valid_from_us if entries else _LATEST_US
            before = self._tables.entry_at(self._base + index, at_us, seq - 1)
            was = None if before is None or before[2] == WITHDRAWN else before[2]
            found.append(Changed(self.state.refs[index], change, was))
        return found

    def search(self, text: str, limit: int) -> list[PartCard]:
        found = dict.fromkeys(self.state.refs.starting_with(text, limit))
        wanted = text.casefold()
        later = self._tables.later_words(self._row.number) if wanted else {}
        for first, _, _, labels, _ in self._tables.words(self._row.number) if wanted else ():
            if len(found) >= limit:
                break
            if wanted in "\n".join(labels).casefold() or any(first <= at < first + len(labels) for at in later):
                for place, label in enumerate(labels):
                    now = later[first + place].label if first + place in later else label
                    if wanted in now.casefold():
                        found[first + place] = None
        return [self._card(index) for index in list(found)[:limit]]

    def prove(self, ref: str, at_us: int, known_seq: int | None, signers: Sequence[bytes]) -> bytes:
        """Raises: as `price`; Corrupt `prices.store.altered`."""
        price = self.price(ref, at_us, known_seq)
        index = self._index(ref)
        changes = self._changes(index)
        if leaf_of(changes) != self.state.tree.leaves[index].tobytes():
            raise Corrupt("prices.store.altered", "the rows of this part are not those the signed head covers")
        path = b"".join(one for level in self.state.tree.path(index) for one in level)
        proof = PriceProof(
            type=PRICE_PROOF, list_id=self._list_id, ref=ref, at_us=at_us, known_seq=price.known_seq,
            price_minor=price.price_minor, currency=price.currency, index=index, changes=tuple(changes), path=path,
            head=msgspec.Raw(self._row.envelope), signers=tuple(msgspec.Raw(one) for one in signers),
        )  # fmt: skip
        return msgspec.json.format(msgspec.json.encode(proof), indent=1)

    def _index(self, ref: str) -> int:
        index = self._find(ref)
        if index < 0:
            raise _unknown()
        return index

    def _known(self, known_seq: int | None) -> int:
        if known_seq is None:
            return self._seq
        if not 1 <= known_seq <= self._seq:
            raise Refused("prices.number.unknown", f"the list is held up to number {self._seq}; ask for one from 1 on")
        return known_seq

    def _at(self, index: int, at_us: int, known_seq: int) -> tuple[int, int, int]:
        with failing():
            found = self._tables.entry_at(self._base + index, at_us, known_seq)
        if found is None:
            raise Refused("prices.part.unpriced", "the part has no price yet at this instant, as known at this number")
        return found

    def _card(self, index: int) -> PartCard:
        *_, (seq, description) = self._descriptions(index)
        return PartCard(self._list_id, index, seq, description)

    def _descriptions(self, index: int) -> list[tuple[int, Description]]:
        found = self._tables.descriptions_of(self._row.number, index)
        return [one for one in found if one[0] <= self._seq]

    def _changes(self, index: int) -> list[Change]:
        described = dict(self._descriptions(index))
        priced: dict[int, list[Entry]] = {}
        for seq, valid_from, minor in self._tables.entries_of(self._base + index):
            if seq <= self._seq:
                priced.setdefault(seq, []).append(Entry(valid_from, minor))
        currency = self.state.currency
        return [
            Change(seq, currency[seq], tuple(priced.get(seq, ())), described.get(seq))
            for seq in sorted({*described, *priced})
        ]


def _unknown() -> Refused:
    return Refused(
        "prices.part.unknown", "the price list has no part of this reference; it is written as the list writes it"
    )
