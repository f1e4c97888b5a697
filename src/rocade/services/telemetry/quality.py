"""Quality flags of decoded values: what is doubtful, and why. A flag stands beside the value; no value is changed.

Flow: lowest and highest value of each column in one pass -> rules that a column cannot break by these are done; the few
columns that might break one are looked at point by point -> flags of single samples, ORed.
Rules: out of range and jump (limits of the catalogue), stuck (no change for so long while the vehicle moves), clock (a
sample later than its batch's `sent_at`, or `sent_at` more than a minute ahead of arrival; lateness is no fault),
latitude exactly 0 (its longitude too), impossible position, not finite. What the source marked itself is added.
A jump is judged against the sample before; one that goes back to where the value was is not flagged again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.core.catalogue import Catalogue
from rocade.core.signals import Quality
from rocade.wire.batch import Decoded
from rocade.wire.batch.decoding import POWER, spans

type Ints = NDArray[np.int64]
type Floats = NDArray[np.float64]

AHEAD_US = 60_000_000
"""A sender's clock this far ahead of ours is wrong, whatever the way took."""
MOVING_KMH = 5.0
_WIDEST = np.array([0, 1 << 7, 1 << 15, 1 << 31, np.inf, np.inf, np.inf, 1])
"""Largest step between neighbours, in units of the last decimal, that a kind can carry."""
UNKNOWN = 0


class Rules:
    """The catalogue's limits as arrays, looked up by signal id."""

    def __init__(self, catalogue: Catalogue) -> None:
        signals = catalogue.signals
        self._top = max(signal.id for signal in signals) + 1
        self._index = np.zeros(self._top + 1, np.int32)
        self._index[[signal.id for signal in signals]] = np.arange(1, len(signals) + 1)

        def limits(name: str, default: float) -> Floats:
            values = [getattr(signal, name) for signal in signals]
            return np.array([default, *(default if value is None else value for value in values)], np.float64)

        self.low, self.high = limits("min", -np.inf), limits("max", np.inf)
        self.max_rate = limits("max_rate", np.inf)
        self.stuck_us = limits("stuck_after_s", np.inf) * 1e6
        self.latitude = int(catalogue.by_name("Vehicle.CurrentLocation.Latitude").id)
        self.longitude = int(catalogue.by_name("Vehicle.CurrentLocation.Longitude").id)
        self.speed = int(catalogue.by_name("Vehicle.Speed").id)
        self.positions = np.array(sorted((self.latitude, self.longitude)), np.uint32)

    def rows(self, signal: NDArray[np.uint32]) -> NDArray[np.int32]:
        """Row of each signal in the limit arrays; UNKNOWN for those not in the catalogue."""
        return self._index[np.minimum(signal, self._top)]


@dataclass(slots=True)
class Prior:
    """What was known of each column's signal before the column's first sample (time far in the past = nothing)."""

    time_us: Ints
    value: Floats
    quality: NDArray[np.uint8]
    changed_us: Ints


@dataclass(slots=True)
class Spread:
    """Lowest, highest, first and last value of each column, in the signal's unit (text columns: 0)."""

    low: Floats
    high: Floats
    first: Floats
    last: Floats


@dataclass(slots=True)
class Doubts:
    """Flagged samples: rising places among all samples (columns end to end), and flags; `last`: flags of last samples."""

    at: Ints
    flags: NDArray[np.uint8]
    last: NDArray[np.uint8]


def spread_of(decoded: Decoded) -> Spread:
    """Cost: two passes over the values."""
    columns = decoded.columns
    count, many = columns.integer_count, len(columns.rows)
    low, high, first, last = (np.zeros(many) for _ in range(4))
    offset, ends = columns.offset, columns.offset + columns.rows - 1
    if count:
        at = offset[:count]
        low[:count], high[:count] = np.minimum.reduceat(columns.ints, at), np.maximum.reduceat(columns.ints, at)
        first[:count], last[:count] = columns.ints[at], columns.ints[ends[:count]]
    if many > count:
        at = offset[count:]
        low[count:], high[count:] = np.fmin.reduceat(columns.floats, at), np.fmax.reduceat(columns.floats, at)
        first[count:], last[count:] = columns.floats[at], columns.floats[ends[count:]]
    exponent = columns.exponent.astype(np.int64)
    if exponent[:count].any():
        down, up = POWER[np.maximum(-exponent, 0)], POWER[np.maximum(exponent, 0)]
        down[count:], up[count:] = 1, 1
        low, high, first, last = (values / down * up for values in (low, high, first, last))
    return Spread(low, high, first, last)


def assess(
    decoded: Decoded, arrived_us: Ints, rules: Rules, rows: NDArray[np.int32], spread: Spread, prior: Prior
) -> Doubts:
    """Flag doubtful samples.

    Shape: `arrived_us` per batch; `rows` (of `rules`), `spread` and `prior` per column. Irregular clocks must not run
    backwards (`decoding.in_time_order`).
    """
    found = _Found(decoded)
    columns, clocks = decoded.columns, decoded.clocks
    numeric = ~columns.is_text
    _flag_range(found, numeric, spread, rules.low[rows], rules.high[rows], int(Quality.OUT_OF_RANGE))
    _flag_positions(found, decoded, rules, spread)
    if len(columns.floats):
        found.add(len(columns.ints) + np.flatnonzero(~np.isfinite(columns.floats)), int(Quality.NOT_FINITE))
    _flag_jumps(found, decoded, rules.max_rate[rows], spread, prior)
    _flag_stuck(found, decoded, rules, rows, spread, prior)

    ahead = decoded.sent_at_us > arrived_us + AHEAD_US
    limit = np.where(ahead, -1, decoded.sent_at_us)[clocks.batch]
    late = clocks.last_us > limit
    if late.any():
        for column in np.flatnonzero(late[columns.clock]).tolist():
            clock = int(columns.clock[column])
            found.add_rows(column, np.flatnonzero(clocks.times_of(clock) > limit[clock]), int(Quality.CLOCK))
    if len(decoded.mark_column):
        found.add(found.start[decoded.mark_column] + decoded.mark_row, decoded.mark_flags)
    return found.doubts()


class _Found:
    """Flags while they are collected."""

    def __init__(self, decoded: Decoded) -> None:
        columns = decoded.columns
        self._decoded = decoded
        self._at: list[Ints] = []
        self._flags: list[NDArray[np.uint8]] = []
        self.start = columns.offset.copy()
        self.start[columns.integer_count :] += len(columns.ints)

    def add(self, at: Ints, flags: int | NDArray[np.uint8]) -> None:
        if len(at):
            self._at.append(at)
            self._flags.append(np.broadcast_to(np.asarray(flags, np.uint8), at.shape))

    def add_rows(self, column: int, rows: Ints, flag: int) -> None:
        self.add(self.start[column] + rows, flag)

    def values(self, columns: Ints) -> tuple[Floats, Ints, Ints]:
        """Values of these columns end to end in their unit, where each column starts there, and their places."""
        every = self._decoded.columns
        rows = every.rows[columns]
        places = spans(self.start[columns], rows)
        is_integer = places < len(every.ints)
        values = np.empty(len(places))
        values[is_integer] = every.ints[places[is_integer]]
        values[~is_integer] = every.floats[places[~is_integer] - len(every.ints)]
        exponent = np.where(columns < every.integer_count, every.exponent[columns], 0).astype(np.int64)
        values /= np.repeat(POWER[np.maximum(-exponent, 0)], rows)
        values *= np.repeat(POWER[np.maximum(exponent, 0)], rows)
        return values, np.cumsum(rows) - rows, places

    def doubts(self) -> Doubts:
        columns = self._decoded.columns
        last = np.zeros(len(columns.rows), np.uint8)
        if not self._at:
            return Doubts(np.zeros(0, np.int64), np.zeros(0, np.uint8), last)
        at, flags = np.concatenate(self._at), np.concatenate(self._flags)
        order = np.argsort(at, kind="stable")
        at, begin = np.unique(at[order], return_index=True)
        flags = np.bitwise_or.reduceat(flags[order], begin)
        ends = self.start + columns.rows - 1
        near = np.minimum(np.searchsorted(at, ends), len(at) - 1)
        hit = at[near] == ends
        last[hit] = flags[near[hit]]
        return Doubts(at, flags, last)


def _flag_range(found: _Found, chosen: NDArray[np.bool_], spread: Spread, low: Floats, high: Floats, flag: int) -> None:
    outside = np.flatnonzero(chosen & ((spread.low < low) | (spread.high > high)))
    if len(outside):
        values, _, places = found.values(outside)
        rows = found._decoded.columns.rows[outside]
        found.add(places[(values < np.repeat(low[outside], rows)) | (values > np.repeat(high[outside], rows))], flag)


def _flag_positions(found: _Found, decoded: Decoded, rules: Rules, spread: Spread) -> None:
    columns = decoded.columns
    is_latitude, is_longitude = columns.signal == rules.latitude, columns.signal == rules.longitude
    limit = np.where(is_latitude, 90.0, 180.0)
    _flag_range(found, is_latitude | is_longitude, spread, -limit, limit, int(Quality.IMPOSSIBLE_POSITION))
    for column in np.flatnonzero(is_latitude & (spread.low <= 0) & (spread.high >= 0)).tolist():
        values, _, _ = found.values(np.array([column]))
        void = np.flatnonzero(values == 0)
        found.add_rows(column, void, int(Quality.ZERO_POSITION))
        for pair in np.flatnonzero(is_longitude & (columns.clock == columns.clock[column])).tolist():
            found.add_rows(pair, void, int(Quality.ZERO_POSITION))


def _flag_jumps(found: _Found, decoded: Decoded, max_rate: Floats, spread: Spread, prior: Prior) -> None:
    """Changes faster than the signal's limit; most columns are cleared by their range or by the width they travel in."""
    columns, clocks = decoded.columns, decoded.clocks
    limited = np.isfinite(max_rate) & ~columns.is_text
    max_rate = np.where(limited, max_rate, 0.0)
    clock = columns.clock
    step_s = clocks.step_us[clock] / 1e6
    exponent = columns.exponent.astype(np.int64)
    unit = POWER[np.maximum(exponent, 0)] / POWER[np.maximum(-exponent, 0)]
    change = np.minimum(spread.high - spread.low, _WIDEST[columns.kind] * unit)
    inside = np.flatnonzero(limited & (columns.rows > 1) & ((change > max_rate * step_s) | ~(change >= 0)))
    if len(inside):
        _flag_inner_jumps(found, decoded, inside, max_rate)
    gap_s = (clocks.first_us[clock] - prior.time_us) / 1e6
    jumped = limited & (gap_s > 0) & (prior.quality == 0) & (np.abs(spread.first - prior.value) > max_rate * gap_s)
    found.add(found.start[jumped], int(Quality.JUMP))


def _flag_inner_jumps(found: _Found, decoded: Decoded, chosen: Ints, max_rate: Floats) -> None:
    columns, clocks = decoded.columns, decoded.clocks
    rows = columns.rows[chosen]
    values, start, places = found.values(chosen)
    times = _times(clocks, columns.clock[chosen], rows)
    rate = np.repeat(max_rate[chosen], rows)
    first = np.zeros(len(values), np.bool_)
    first[start] = True
    fast = np.zeros(len(values), np.bool_)
    with np.errstate(invalid="ignore"):
        fast[1:] = np.abs(np.diff(values)) > rate[1:] * np.diff(times) / 1e6
        fast &= ~first
        # back to where it was: the sample before jumped, and from the one before that there is no jump to this one
        returned = np.zeros(len(values), np.bool_)
        returned[2:] = np.abs(values[2:] - values[:-2]) <= rate[2:] * (times[2:] - times[:-2]) / 1e6
    second = np.append(False, first[:-1])
    returned &= np.append(False, fast[:-1]) & ~first & ~second
    found.add(places[fast & ~returned], int(Quality.JUMP))


def _times(clocks: Any, clock: Ints, rows: Ints) -> Ints:
    """Instants of these clocks end to end."""
    row = spans(np.zeros_like(rows), rows)
    times: Ints = np.repeat(clocks.first_us[clock], rows) + row * np.repeat(clocks.step_us[clock], rows)
    offset = np.repeat(clocks.offset[clock], rows)
    listed = offset >= 0
    times[listed] = clocks.times_us[offset[listed] + row[listed]]
    return times


def _flag_stuck(
    found: _Found, decoded: Decoded, rules: Rules, rows: NDArray[np.int32], spread: Spread, prior: Prior
) -> None:
    """Samples that repeat a value for longer than the signal's limit while the vehicle moves (speed in the same batch)."""
    columns, clocks = decoded.columns, decoded.clocks
    limit = rules.stuck_us[rows]
    last_us, first_us = clocks.last_us[columns.clock], clocks.first_us[columns.clock]
    since = np.where(spread.first == prior.value, np.minimum(prior.changed_us, first_us), first_us)
    constant = spread.low == spread.high
    suspect = np.isfinite(limit) & (last_us - np.where(constant, since, first_us) > limit)
    if not suspect.any():
        return
    moving = np.zeros(len(decoded.index), np.bool_)
    fast = (columns.signal == rules.speed) & (spread.high > MOVING_KMH)
    moving[columns.batch[fast]] = True
    for column in np.flatnonzero(suspect & moving[columns.batch]).tolist():
        values, _, _ = found.values(np.array([column]))
        times = clocks.times_of(int(columns.clock[column]))
        changed = np.append(True, values[1:] != values[:-1])
        held_since = np.where(changed, times, 0)
        held_since[0] = since[column]
        held_since = np.maximum.accumulate(held_since)
        found.add_rows(column, np.flatnonzero(times - held_since > limit[column]), int(Quality.STUCK))
