"""A sheet against the list as it stands: the delta that would be released, and what a person must know before he releases it.

Flow: each line finds its part, or makes a new one -> its price is held against the one in force at the instant it is for ->
what differs becomes an entry, what is described otherwise a description; in a full file what is not named is withdrawn.
Suspicious are prices that move by a factor of 10, 100 or 1,000 (cents taken for euros), prices of zero, many withdrawals,
and an instant in the past. Refused is nothing here: whoever releases accepts what `needs` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rocade.services.prices.model import Mode, Move, Suspicion
from rocade.services.prices.state import NONE, State
from rocade.services.prices.validating import Problems, Sheet
from rocade.wire.prices.model import Delta, Descriptions, Entries, Ints, Release

SHOWN = 20
FACTORS = (("100 times as much", 100.0), ("a hundredth", 0.01), ("10 times as much", 10.0), ("a tenth", 0.1),
           ("1000 times as much", 1000.0), ("a thousandth", 0.001))  # fmt: skip
TOLERANCE = 0.02
MANY_WITHDRAWN = 0.02
"""Part of a list whose withdrawal at once has to be accepted, where it is more than ten references."""


@dataclass
class Differences:
    """See `model.Report`."""

    new: int = 0
    changed: int = 0
    withdrawn: int = 0
    described: int = 0
    same: int = 0
    later: int = 0
    rises: tuple[Move, ...] = ()
    falls: tuple[Move, ...] = ()
    suspicions: tuple[Suspicion, ...] = ()
    needs: tuple[str, ...] = ()
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)


def compare(
    sheet: Sheet, state: State, mode: Mode, columns: tuple[str, ...], release: Release, now_us: int, problems: Problems
) -> tuple[Delta, Differences]:
    """What the sheet would do to the list if it took effect then."""
    index, described = _parts(sheet, state, columns, release.seq)
    price = np.array(sheet.price_minor, np.int64)
    own = np.array(sheet.valid_from_us, np.int64)
    at_us = np.where(own == 0, release.effective_us, own)
    before = _before(state, index, at_us)
    is_new = index >= state.parts
    moved = (price != before) & (index >= 0)
    _check_supersession(sheet, state, problems)

    gone = np.empty(0, np.int64)
    if mode == "full":
        priced = state.prices_at(release.effective_us) != NONE
        priced[index[(index >= 0) & (index < state.parts)]] = False
        gone = np.flatnonzero(priced)
    rows = np.flatnonzero(moved)
    entries = _sorted(
        np.r_[index[rows], gone], np.r_[at_us[rows], np.full(len(gone), release.effective_us)],
        np.r_[price[rows], np.full(len(gone), NONE)], release.seq,
    )  # fmt: skip
    delta = Delta(state.list_id, release.seq - 1, release.seq, (release,), described, entries)

    found = Differences()
    ended = rows[price[rows] == NONE]
    real = rows[(price[rows] != NONE) & ~is_new[rows]]
    refs = state.descriptions.ref
    gone_refs = [refs[row] for row in state.latest[gone[:SHOWN]].tolist()]
    found.new = len(np.unique(index[is_new]))
    found.changed, found.withdrawn = len(real), len(ended) + len(gone)
    found.described = int((described.index < state.parts).sum())
    found.same = len(price) - len(rows) - int((index < 0).sum())
    touched = np.unique(entries.index)
    found.later = len(np.intersect1d(state.later_than(release.effective_us), touched)) if state.parts else 0
    _judge(found, sheet, price, before, real, release, now_us, state)
    found.examples = {
        "new": tuple(sheet.ref[row] for row in np.flatnonzero(is_new)[:SHOWN].tolist()),
        "changed": tuple(sheet.ref[row] for row in real[:SHOWN].tolist()),
        "withdrawn": (*(sheet.ref[row] for row in ended[:SHOWN].tolist()), *gone_refs)[:SHOWN],
        "described": tuple(
            ref for ref, one in zip(described.ref, described.index.tolist(), strict=True) if one < state.parts
        )[:SHOWN],
    }
    return delta, found


def _parts(sheet: Sheet, state: State, columns: tuple[str, ...], seq: int) -> tuple[Ints, Descriptions]:
    """Index of each line's part (-1: one that would begin withdrawn), and what is to be described."""
    known, following = state.index_of, state.parts
    held, latest = state.descriptions, state.latest.tolist()
    named = [name for name in ("family", "label", "superseded_by") if name in columns]
    given = {name: getattr(sheet, name) for name in named}
    kept = {name: getattr(held, name) for name in named}
    fresh: dict[str, int] = {}
    index: list[int] = []
    rows: list[tuple[int, str, str, str, str]] = []
    done: set[int] = set()
    for line, ref in enumerate(sheet.ref):
        at = known.get(ref, -1)
        if at < 0:
            at = fresh.get(ref, -1)
            if at < 0 and sheet.price_minor[line] != NONE:
                at = fresh[ref] = following
                following += 1
                rows.append((at, ref, sheet.family[line], sheet.label[line], sheet.superseded_by[line]))
        else:
            row = latest[at]
            for name in named:
                if kept[name][row] != given[name][line]:
                    if at not in done:
                        done.add(at)
                        texts = [given[n][line] if n in given else getattr(held, n)[row]
                                 for n in ("family", "label", "superseded_by")]  # fmt: skip
                        rows.append((at, ref, *texts))
                    break
        index.append(at)
    rows.sort()
    ids = np.array([row[0] for row in rows], np.int64)
    texts = [[row[column] for row in rows] for column in range(1, 5)]
    return np.array(index, np.int64), Descriptions(ids, np.full(len(rows), seq, np.int64), *texts)


def _before(state: State, index: Ints, at_us: Ints) -> Ints:
    """The price in force, of each line's part at the instant the line is for."""
    before = np.full(len(index), NONE, np.int64)
    old = (index >= 0) & (index < state.parts)
    for instant in np.unique(at_us[old]).tolist():
        rows = np.flatnonzero(old & (at_us == instant))
        before[rows] = state.prices_at(instant)[index[rows]]
    return before


def _sorted(index: Ints, at_us: Ints, price: Ints, seq: int) -> Entries:
    order = np.lexsort((at_us, index))
    return Entries(index[order], np.full(len(order), seq, np.int64), at_us[order], price[order])


def _judge(
    found: Differences, sheet: Sheet, price: Ints, before: Ints, real: Ints, release: Release, now_us: int, state: State
) -> None:
    """Moves, suspicions and what has to be accepted."""
    real = real[(before[real] > 0) & (price[real] > 0)]
    factor = price[real] / before[real]
    order = np.argsort(factor, kind="stable")

    def moves(rows: Ints) -> tuple[Move, ...]:
        return tuple(Move(sheet.ref[row], int(before[row]), int(price[row])) for row in real[rows].tolist())

    found.rises = moves(order[::-1][:SHOWN][factor[order[::-1][:SHOWN]] > 1])
    found.falls = moves(order[:SHOWN][factor[order[:SHOWN]] < 1])
    suspicions = []
    for kind, about in FACTORS:
        rows = real[np.abs(factor / about - 1) <= TOLERANCE]
        if len(rows):
            suspicions.append(Suspicion(kind, len(rows), tuple(sheet.ref[row] for row in rows[:SHOWN].tolist())))
    zero = np.flatnonzero((price == 0) & (before != 0))
    needs = ["factors"] if suspicions else []
    if len(zero):
        suspicions.append(Suspicion("zero", len(zero), tuple(sheet.ref[row] for row in zero[:SHOWN].tolist())))
        needs.append("zero")
    if found.withdrawn > max(10, MANY_WITHDRAWN * state.parts):
        needs.append("withdrawals")
    if release.effective_us < now_us:
        needs.append("past")
    found.suspicions, found.needs = tuple(suspicions), tuple(needs)


def _check_supersession(sheet: Sheet, state: State, problems: Problems) -> None:
    """A chain of successors that comes back to where it began names no part to order."""
    d = state.descriptions
    follows = {d.ref[row]: d.superseded_by[row] for row in state.latest.tolist() if d.superseded_by[row]}
    given = {ref: by for ref, by in zip(sheet.ref, sheet.superseded_by, strict=True) if by}
    follows.update(given)
    settled: set[str] = set()
    for ref in given:
        chain: dict[str, None] = {}
        at = ref
        while at in follows and at not in settled and at not in chain:
            chain[at] = None
            at = follows[at]
        if at in chain:
            problems.add(0, f"the parts {' -> '.join([*chain][:8])} supersede each other in a circle", "break it")
        settled.update(chain)
