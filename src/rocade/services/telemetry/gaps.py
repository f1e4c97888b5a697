"""Which numbers of a vehicle have come: duplicate or new, what is missing, what to ask for again and when.

Flow: `Sequences.take` per batch, in order of arrival -> rows of what changed for the worker's transaction; the gateway's
`Asker` (resend.py) reads due rows and sends `down/resend`. An epoch is one life of a sender's journal; a new one closes
the gap list of the one before it, late batches of a closed epoch are still told apart from duplicates.
Refuses: a number further ahead than `MAX_AHEAD` (`sequence.far_ahead`), more gaps than `MAX_GAPS` (`sequence.too_many_gaps`),
more epochs than `MAX_EPOCHS` (`sequence.too_many_epochs`); such a batch is quarantined, nothing of it is lost.
Source: docs/batch.md, "Numbers".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np

from rocade.core.errors import Refused

MAX_AHEAD = 1 << 24
"""Sixteen million batches: 31 years of minutes."""
MAX_GAPS = 1024
MAX_EPOCHS = 256
FIRST_ASK_S = 10
LONGEST_ASK_S = 6 * 3600
MAX_ASKS = 40
"""Requests without any gap closing (eight days), after which a gap list has expired and is asked for no more."""

type Range = tuple[int, int]
type Row = tuple[int, int, int, bytes, int, int, int, str | None, int]
"""ref, epoch, highest, packed gaps, missing, opened_us, arrived_us, closed, ask_at_us (0 = as it was)."""


class Numbers(msgspec.Struct, gc=False):
    """State of one (vehicle, epoch): every number up to `highest` has come, except those in `gaps` (sorted ranges)."""

    ref: int
    epoch: int
    opened_us: int
    arrived_us: int
    highest: int = 0
    gaps: list[Range] = []
    closed: str | None = None
    changed_gaps: bool = False

    def row(self) -> Row:
        """What the worker stores; the first request for a fresh gap waits for batches that come out of order."""
        ask_at_us = self.arrived_us + FIRST_ASK_S * 1_000_000 if self.changed_gaps else 0
        self.changed_gaps = False
        gaps = packed(self.gaps) if self.gaps else b""
        return (
            self.ref, self.epoch, self.highest, gaps, self.missing, self.opened_us, self.arrived_us, self.closed, ask_at_us
        )  # fmt: skip

    @property
    def missing(self) -> int:
        return sum(upto - since + 1 for since, upto in self.gaps)


class Opened(msgspec.Struct, frozen=True):
    """A vehicle began a new epoch; `closed` = the epoch before it and how many numbers of it are given up."""

    ref: int
    epoch: int
    at_us: int
    closed: int | None = None
    given_up: int = 0


class Sequences:
    """Sequence states of the vehicles a worker serves."""

    def __init__(self) -> None:
        self._states: dict[int, dict[int, Numbers]] = {}
        self.changed: dict[tuple[int, int], Numbers] = {}
        self.opened: list[Opened] = []

    def __contains__(self, ref: int) -> bool:
        return ref in self._states

    def load(self, ref: int, states: Iterable[Numbers]) -> None:
        """Put in what the database has for a vehicle (an empty list for a new one)."""
        self._states[ref] = {state.epoch: state for state in states}

    def take(self, ref: int, epoch: int, number: int, arrived_us: int) -> bool:
        """Record one number; True = new, False = it has come before.

        Raises: Refused `sequence.*`, nothing recorded.
        """
        states = self._states[ref]
        state = states.get(epoch)
        if state is None:
            if number > MAX_AHEAD:
                raise _far_ahead(number, 0)
            state = self._open(ref, epoch, arrived_us, states)
        ahead = number - state.highest
        if ahead == 1:
            state.highest = number
        elif ahead > 1:
            if ahead > MAX_AHEAD:
                raise _far_ahead(number, state.highest)
            if len(state.gaps) >= MAX_GAPS:
                raise Refused("sequence.too_many_gaps", f"{MAX_GAPS} gaps are open; send the missing numbers first")
            state.gaps = [*state.gaps, (state.highest + 1, number - 1)]
            state.highest, state.changed_gaps = number, True
        elif not _fill(state, number):
            return False
        state.arrived_us = arrived_us
        self.changed[ref, epoch] = state
        return True

    def _open(self, ref: int, epoch: int, arrived_us: int, states: dict[int, Numbers]) -> Numbers:
        if len(states) >= MAX_EPOCHS:
            raise Refused(
                "sequence.too_many_epochs", f"{MAX_EPOCHS} epochs of this vehicle are known; keep the journal"
            )
        before = next((state for state in states.values() if state.closed is None), None)
        state = states[epoch] = Numbers(ref, epoch, arrived_us, arrived_us)
        if before is None:
            self.opened.append(Opened(ref, epoch, arrived_us))
        elif (
            arrived_us < before.opened_us
        ):  # a gateway was slow: what it took in belongs to a journal from before this one
            state.closed = "new_epoch"
        else:
            self.opened.append(Opened(ref, epoch, arrived_us, before.epoch, before.missing))
            before.closed = "new_epoch"
            self.changed[ref, before.epoch] = before
        self.changed[ref, epoch] = state
        return state


def _fill(state: Numbers, number: int) -> bool:
    """Take one number out of the gaps; False if it is not missing."""
    for at, (since, upto) in enumerate(state.gaps):
        if since <= number <= upto:
            rest = [(since, number - 1), (number + 1, upto)]
            state.gaps = [*state.gaps[:at], *(part for part in rest if part[0] <= part[1]), *state.gaps[at + 1 :]]
            state.changed_gaps = True
            return True
    return False


def ask_again_us(asked: int, now_us: int) -> int:
    """When to ask next after `asked` requests without success: 10 s, 20 s, 40 s ... 6 h."""
    return now_us + min(FIRST_ASK_S << min(asked, 20), LONGEST_ASK_S) * 1_000_000


def packed(gaps: list[Range]) -> bytes:
    """Ranges as little-endian uint64 pairs."""
    return np.array(gaps, "<u8").tobytes()


def unpacked(data: bytes) -> list[Range]:
    return [(int(since), int(upto)) for since, upto in np.frombuffer(data, "<u8").reshape(-1, 2)]


def _far_ahead(number: int, highest: int) -> Refused:
    return Refused(
        "sequence.far_ahead",
        f"number {number} is more than {MAX_AHEAD} ahead of {highest}; start a new epoch if the journal was lost",
    )
