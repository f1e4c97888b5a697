"""Answers about one list at the number held: prices, parts, successors, changes, search, proofs.

A look-up finds the part and its newest entry in memory; only an instant before that entry, or an earlier number, asks the
rows, and then never beyond the number of this state, so that an answer is of one number even while a release is applied.
No row is believed: what is told of one part is held against its leaf in the tree of the signed head; an earlier price, and what is told
of many parts, against sums that memory holds. Raises: Corrupt `prices.store.altered`, `prices.store.damaged`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from rocade.agents.dealer.prices.ledger import ListRow, reading
from rocade.agents.dealer.prices.model import Changed, PartCard, Price, Successors
from rocade.agents.dealer.prices.references import joined
from rocade.agents.dealer.prices.state import State
from rocade.agents.dealer.prices.store import Tables, Words
from rocade.agents.dealer.prices.sums import sum_of_entries, sum_of_part, sum_of_texts, total
from rocade.core.errors import Corrupt, Refused
from rocade.core.prices import SEPARATOR, WITHDRAWN, Change, Description, Entry, leaf_of
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
        self._sums = memoryview(state.entries_of_part)
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
        later = self._later()
        for index, words in self._words():
            try:
                price = self.price(words.ref, at_us, known_seq)
            except Refused:
                continue
            yield later.get(index) or words, price

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
        rows = self._tables.prices_of(self._row.number, seq)
        texts = self._tables.later_texts(self._row.number, seq, seq)
        sums = self.state.entries_of_release.get(seq, 0), self.state.texts_of_release.get(seq, 0)
        with reading():
            if (sum_of_entries(rows), sum_of_texts(texts)) != sums:
                raise altered()
        described = {index: Description(*text.split(SEPARATOR)) for index, _, text in texts}
        for first, words in self._blocks():
            if seq in words.seq:
                described |= {first + at: words.at(at) for at, since in enumerate(words.seq) if since == seq}
        priced: dict[int, list[Entry]] = {}
        for index, _, valid_from, minor in rows:
            priced.setdefault(index, []).append(Entry(valid_from, minor))
        found, currency = [], self.state.currency[seq]
        for index in sorted({*described, *priced})[:limit]:
            entries = tuple(priced.get(index, ()))
            at_us = entries[0].valid_from_us if entries else _LATEST_US
            before = self._entry_at(index, at_us, seq - 1)
            was = None if before is None or before[2] == WITHDRAWN else before[2]
            found.append(Changed(self.state.refs[index], Change(seq, currency, entries, described.get(index)), was))
        return found

    def search(self, text: str, limit: int) -> list[PartCard]:
        found = dict.fromkeys(self.state.refs.starting_with(text, limit))
        wanted = text.casefold()
        later = self._later() if wanted else {}
        for first, words in self._blocks() if wanted else ():
            if len(found) >= limit:
                break
            labels = words.label
            if wanted in "\n".join(labels).casefold() or any(first <= at < first + len(labels) for at in later):
                for place, label in enumerate(labels):
                    now = later[first + place].label if first + place in later else label
                    if wanted in now.casefold():
                        found[first + place] = None
        return [self._card(index) for index in list(found)[:limit]]

    def prove(self, ref: str, at_us: int, known_seq: int | None, signers: Sequence[bytes]) -> bytes:
        """Raises: as `price`."""
        price = self.price(ref, at_us, known_seq)
        index = self._index(ref)
        changes = self._changes(index)
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
        found = self._entry_at(index, at_us, known_seq)
        if found is None:
            raise Refused("prices.part.unpriced", "the part has no price yet at this instant, as known at this number")
        return found

    def _entry_at(self, index: int, at_us: int, known_seq: int) -> tuple[int, int, int] | None:
        """(valid_from, seq, price) by the rule of prices, from all entries of the part."""
        with reading():
            rows = [row for row in self._tables.entries_of(self._base + index) if row[0] <= self._seq]
            if sum_of_part(index, rows) != self._sums[index]:
                raise altered()
            known = [(start, seq, price) for seq, start, price in rows if start <= at_us and seq <= known_seq]
        return max(known, default=None)

    def _card(self, index: int) -> PartCard:
        seq, description = [(one.seq, one.description) for one in self._changes(index) if one.description][-1]
        return PartCard(self._list_id, index, seq, description)

    def _changes(self, index: int) -> list[Change]:
        """All that happened to a part, as its leaf says."""
        currency, priced = self.state.currency, dict[int, list[Entry]]()
        with reading():
            described = dict(self._tables.descriptions_of(self._row.number, index))
            for seq, valid_from, minor in self._tables.entries_of(self._base + index):
                priced.setdefault(seq, []).append(Entry(valid_from, minor))
            changes = [
                Change(seq, currency.get(seq, ""), tuple(priced.get(seq, ())), described.get(seq))
                for seq in sorted({*described, *priced})
                if seq <= self._seq
            ]
            if leaf_of(changes) != self.state.tree.leaves[index].tobytes():
                raise altered()
        return changes

    def _later(self) -> dict[int, Description]:
        """The last description of each part that was described anew, by index."""
        rows = self._tables.later_texts(self._row.number, 1, self._seq)
        with reading():
            if sum_of_texts(rows) != total(self.state.texts_of_release):
                raise altered()
            return {index: Description(*text.split(SEPARATOR)) for index, _, text in rows}

    def _words(self) -> Iterator[tuple[int, Description]]:
        """Index and first description of each part."""
        for first, words in self._blocks():
            columns = zip(words.ref, words.family, words.label, words.superseded_by, strict=True)
            for index, texts in enumerate(columns, first):
                if index < self.state.parts:
                    yield index, Description(*texts)

    def _blocks(self) -> Iterator[tuple[int, Words]]:
        """All blocks of first descriptions, each with its first index: of the parts that the list has, and of all of them."""
        at, parts = 0, self.state.parts
        for first, words in self._tables.words(self._row.number):
            size = min(len(words.ref), parts - at)
            if size <= 0:
                break
            if first != at or joined(words.ref[:size]) != self.state.refs.between(at, at + size):
                raise altered()
            yield first, words
            at += size
        if at < parts:
            raise altered()


def altered() -> Corrupt:
    return Corrupt(
        "prices.store.altered",
        "these rows are not those the signed head covers; the next head, or the same at the next connection, mends them from a snapshot",
    )


def _unknown() -> Refused:
    return Refused(
        "prices.part.unknown", "the price list has no part of this reference; it is written as the list writes it"
    )
