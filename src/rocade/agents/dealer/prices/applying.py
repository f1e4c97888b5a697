"""Price files into the store: one transaction from the first row to the head, or nothing.

Flow: each file is fetched, checked by size and hash, opened with its epoch's key and unpacked block by block; rows that are
held already are passed over; rows are written while a copy of the memory state advances with them -> the copy's root and
size must be what the head says -> head and rows are committed together. Whoever reads meanwhile sees the state before.
`Witness`: where the state is replaced by a snapshot, the snapshot's own history up to the number held must have the root that was
signed for it then; a hub that rewrote the past is found out.
Refuses: Refused `prices.state.mismatch`, `prices.head.forked`, `prices.delta.*`, `prices.blob.*`; Unavailable `prices.epoch.missing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rocade.agents.dealer.prices.ledger import ListRow
from rocade.agents.dealer.prices.model import Fetch, Plan
from rocade.agents.dealer.prices.state import State
from rocade.agents.dealer.prices.store import Tables
from rocade.core.errors import Refused, Unavailable
from rocade.wire.prices import (
    Blob,
    Delta,
    Descriptions,
    Entries,
    Head,
    Ints,
    Tree,
    changed_leaves,
    open_blob,
    unpack_blocks,
)

type Keys = Mapping[tuple[str, int], bytes]
LATEST_US = (1 << 62) - 1


class Witness:
    """The state at a number held before, recomputed from a snapshot that replaces it."""

    def __init__(self, held: Head) -> None:
        self._held, self._tree = held, Tree()

    def see(self, block: Delta) -> None:
        seq = self._held.seq
        if block.from_seq < seq:
            self._tree.update(*changed_leaves(up_to(block, seq), self._tree.leaves))

    def check(self) -> None:
        """Raises: Refused `prices.head.forked`."""
        if self._tree.root.hex() != self._held.state_root:
            raise Refused(
                "prices.head.forked", f"the snapshot tells another past than head {self._held.seq}, which we hold"
            )


def follow(
    tables: Tables,
    row: ListRow,
    head: Head,
    start: State,
    plan: Plan,
    fetch: Fetch,
    keys: Keys,
    witness: Witness | None,
) -> State:
    """Within a transaction: write what the plan's files say; return the state after it.

    Raises: as the module says; the caller rolls back.
    """
    state = start.copy() if plan.from_seq else State()
    if not plan.from_seq:
        tables.empty(row.number)
    for blob in plan.blobs:
        try:
            _apply_file(tables, row.number, head, state, blob, _open(blob, head, fetch, keys), witness)
        except Refused as error:
            raise Refused(error.code, error.message, **error.facts, file=blob.sha256) from None
    if witness is not None:
        witness.check()
    if not state.is_of(head):
        raise Refused("prices.state.mismatch", f"number {head.seq} does not give the state its head was signed for")
    return state


def _apply_file(
    tables: Tables, number: int, head: Head, state: State, blob: Blob, packed: bytes, witness: Witness | None
) -> None:
    file, blocks = unpack_blocks(packed, _previous(tables, number, state, blob.from_seq))
    if (file.list_id, file.from_seq, file.to_seq) != (head.list_id, blob.from_seq, blob.to_seq):
        raise Refused("prices.blob.swapped", "the price file is of another list or other numbers than its head says")
    for block in blocks:
        if witness is not None:
            witness.see(block)
        new = after(block, state.seq)
        first, later = state.advance(new)
        tables.add_parts(number, state.parts - len(first), first)
        tables.add_descriptions(number, later)
        tables.add_entries(number, new.entries)
    releases = [release for release in file.releases if release.seq > state.seq]
    tables.add_releases(number, releases)
    state.finish(file.to_seq, {release.seq: release.currency for release in releases})


def _open(blob: Blob, head: Head, fetch: Fetch, keys: Keys) -> bytes:
    key = keys.get((head.list_id, blob.epoch))
    if key is None:
        raise missing_key(head, blob)
    return open_blob(blob, fetch(blob.sha256), key, head.list_id)


def missing_key(head: Head, blob: Blob) -> Unavailable:
    return Unavailable(
        "prices.epoch.missing",
        f"no key for epoch {blob.epoch} of list {head.list_id}; the hub sends it to points of sale that may have the list",
    )


def _previous(tables: Tables, number: int, state: State, from_seq: int) -> Ints:
    """Each part's price at `from_seq`, also where the state is already further on."""
    if from_seq == 0:
        return np.empty(0, np.int64)
    later = np.flatnonzero(state.newest_number > from_seq)
    if not len(later):
        return state.newest_price
    prices = state.newest_price.copy()
    for index in later.tolist():
        found = tables.entry_at((number << 32) + index, LATEST_US, from_seq)
        prices[index] = found[2] if found else 0
    return prices


def after(delta: Delta, seq: int) -> Delta:
    """What of a delta came after a number."""
    return delta if delta.from_seq >= seq else _cut(delta, delta.descriptions.seq > seq, delta.entries.seq > seq)


def up_to(delta: Delta, seq: int) -> Delta:
    """What of a delta came up to a number."""
    return delta if delta.to_seq <= seq else _cut(delta, delta.descriptions.seq <= seq, delta.entries.seq <= seq)


def _cut(delta: Delta, parts: np.ndarray, prices: np.ndarray) -> Delta:
    d, e = delta.descriptions, delta.entries
    rows = np.flatnonzero(parts)
    texts = ([column[at] for at in rows.tolist()] for column in (d.ref, d.family, d.label, d.superseded_by))
    columns = (e.index, e.seq, e.valid_from_us, e.price_minor)
    return replace(
        delta,
        descriptions=Descriptions(d.index[rows], d.seq[rows], *texts),
        entries=Entries(*(column[prices] for column in columns)),
    )
