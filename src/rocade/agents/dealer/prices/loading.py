"""Rows -> memory: from the kept columns and what came after them, or from the first row on; right by the signed head, or nothing."""

from __future__ import annotations

from rocade.agents.dealer.prices.ledger import BROKEN, ListRow, damaged
from rocade.agents.dealer.prices.state import COLUMNS, State
from rocade.agents.dealer.prices.store import Tables
from rocade.core.errors import Corrupt, Refused
from rocade.wire.prices import Head

_PARTS = 8192
"""Parts read at once."""


def load(tables: Tables, row: ListRow, head: Head) -> State:
    """The state its head was signed for; an empty one if the rows do not give it."""
    for begin in (_kept, lambda _tables, _row: State()):
        try:
            state = _advance(tables, row, begin(tables, row))
        except Corrupt:
            continue
        if state.is_of(head):
            return state
    return State()


def rebuild(tables: Tables, row: ListRow) -> State:
    """The state computed from every row. Raises: Corrupt `prices.store.damaged`."""
    return _advance(tables, row, State())


def _kept(tables: Tables, row: ListRow) -> State:
    seq, columns = tables.kept(row.number)
    return State.thaw(seq, columns) if 0 < seq <= row.seq and len(columns) == COLUMNS else State()


def _advance(tables: Tables, row: ListRow, state: State) -> State:
    try:
        releases = tables.releases(row.number)
        after = {release.seq: release.currency for release in releases if release.seq > state.seq}
        if state.seq < row.seq:
            for low in range(0, row.parts, _PARTS):
                state.advance(tables.read_delta(row, releases, state.seq, low, low + _PARTS))
        state.finish(row.seq, after)
    except (Refused, *BROKEN) as error:
        raise damaged(f"rows do not fit each other: {error}") from None
    return state
