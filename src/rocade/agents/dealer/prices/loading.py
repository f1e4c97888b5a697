"""Rows -> memory: from the kept columns and what came after them, or from the first row on."""

from __future__ import annotations

from rocade.agents.dealer.prices.state import State
from rocade.agents.dealer.prices.store import ListRow, Tables
from rocade.core.errors import Corrupt, Refused

_PARTS = 8192
"""Parts read at once."""


def load(tables: Tables, row: ListRow) -> State:
    """The state of a list. Raises: Corrupt `prices.store.damaged`."""
    kept_seq = tables.kept_seq(row.number)
    columns = tables.kept(row.number) if 0 < kept_seq <= row.seq else None
    return _advance(tables, row, State.thaw(kept_seq, columns) if columns else State())


def rebuild(tables: Tables, row: ListRow) -> State:
    """The state computed from every row. Raises: Corrupt `prices.store.damaged`."""
    return _advance(tables, row, State())


def _advance(tables: Tables, row: ListRow, state: State) -> State:
    releases = tables.releases(row.number)
    try:
        if state.seq < row.seq:
            for low in range(0, row.parts, _PARTS):
                state.advance(tables.read_delta(row, releases, state.seq, low, low + _PARTS))
        state.finish(row.seq, {release.seq: release.currency for release in releases})
    except Refused as error:
        raise Corrupt(
            "prices.store.damaged", f"rows of the price store do not fit each other: {error.message}"
        ) from None
    return state
