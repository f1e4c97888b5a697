"""Records of the log -> values with their quality, the twin's changes and history chunks: a pure function of the
records and of the committed state, so that a block repeated after a crash gives the same rows again.

Flow: JSON becomes binary -> another owner's time leaves (`apportioning`) -> decode many batches in one pass -> numbers (duplicates leave, new epochs are noted) ->
samples in time order -> quality -> twin slots -> chunks for history, short ones joined.
A record that fails leaves with its reason (quarantine) and the others go on. No wall clock is read here: arrival stands
in the record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.signals import Quality
from rocade.fabric.log import Record
from rocade.services.telemetry import chunks as history
from rocade.services.telemetry import gaps, joining
from rocade.services.telemetry.apportioning import Renewals, apportion
from rocade.services.telemetry.model import BAD_BATCH, BATCH, JSON, UNNAMED_FROM, Held, Unknown, unnamed_id
from rocade.services.telemetry.quality import Doubts, Floats, Ints, Prior, Rules, Spread, assess, spread_of
from rocade.services.vehicles import twin
from rocade.wire.batch import CODES, Decoded, check_many, decode_many, json_form, pack
from rocade.wire.batch.decoding import POWER, spans
from rocade.wire.batch.layout import BITS

PASS_RECORDS = 512
"""Records decoded at once: enough to make numpy's calls cheap, few enough for the processor's caches."""
MAX_PASS_POINTS = 4_000_000
"""Values unfolded at once; bounds memory whatever small batches claim to hold."""
_VOID = int(
    Quality.ZERO_POSITION | Quality.IMPOSSIBLE_POSITION | Quality.OUT_OF_RANGE | Quality.NOT_FINITE | Quality.JUMP
)
"""Flags that keep a position or speed off the map."""


class State:
    """What a worker knows of its vehicles; everything in it is committed, or is thrown away as a whole."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.rules = Rules(catalogue)
        self.clear()

    def clear(self) -> None:
        """Forget all vehicles; they are read again from the database when they next appear."""
        self.sequences = gaps.Sequences()
        self.twins = twin.Twins()
        self.brands: dict[int, str] = {}

    def unknown_of(self, refs: set[int]) -> set[int]:
        """Those of these vehicles that must be loaded first."""
        return {ref for ref in refs if ref not in self.twins}


@dataclass(slots=True)
class Outcome:
    """What one block of records comes to."""

    rows: list[pa.Table] = field(default_factory=list)
    """Rows for history, a table per pass, and one for all short messages."""
    twins: list[twin.Row] = field(default_factory=list)
    numbers: list[gaps.Row] = field(default_factory=list)
    opened: list[gaps.Opened] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    unknown: list[Unknown] = field(default_factory=list)
    forwarded: list[Record] = field(default_factory=list)
    """Records of another owner's time, for the log again."""
    renewals: Renewals = field(default_factory=Renewals)
    """Changes of owner that were known when this block was taken apart."""
    batches: int = 0
    points: int = 0
    duplicates: int = 0
    erased: int = 0
    flagged: int = 0
    arrived_us: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """When each record arrived."""


def digest(
    records: Sequence[Record], state: State, erased: frozenset[int] = frozenset(), renewals: Renewals | None = None
) -> Outcome:
    """Process one block; `state` moves on with it. Every vehicle of the block must be loaded in `state`."""
    outcome = Outcome()
    names: dict[int, str] = {}
    kept: list[Record] = []
    for record in records:
        if record.key in erased:
            outcome.erased += 1
        elif record.kind == BATCH:
            kept.append(record)
        else:
            _add_other(record, state, kept, outcome, names)
    if renewals:
        kept, outcome.forwarded = apportion(kept, renewals)
    seen: dict[int, tuple[int, int]] = {}
    short: list[history.Chunks] = []
    for part, decoded in _passes(kept, state, outcome):
        _digest_pass(part, decoded, state, outcome, names, seen, short)
    if short:
        outcome.rows.append(history.rows_from(joining.join(short)))
    outcome.twins = _twin_rows(state, seen)
    outcome.numbers = [numbers.row() for _, numbers in sorted(state.sequences.changed.items())]
    outcome.opened = state.sequences.opened
    state.sequences.changed, state.sequences.opened = {}, []
    outcome.arrived_us = np.array([record.arrived_us for record in records], np.int64)
    return outcome


def _add_other(record: Record, state: State, kept: list[Record], outcome: Outcome, names: dict[int, str]) -> None:
    """JSON becomes a binary batch in its place; what the gateway found bad is held."""
    try:
        if record.kind == JSON:
            batch = json_form.to_batch(json_form.parse(record.body), _Naming(state, record.key, names))
            kept.append(Record(record.partition, record.key, BATCH, record.arrived_us, pack(batch, compress=False)))
            return
        if record.kind == BAD_BATCH:
            reason = check_many([record.body], state.rules.positions).reasons[0] or "batch.vehicle"
            raise Refused(reason, CODES.get(reason, "the batch names another vehicle than its certificate"))
        json_form.parse(record.body)
        raise Refused("batch.vehicle", "the batch names another vehicle than its certificate")
    except Refused as error:
        outcome.held.append(_held(record, error.code, error.message))


class _Naming:
    """Names of signals in a JSON batch -> ids; a name nobody knows gets an id of its own and is reported."""

    def __init__(self, state: State, ref: int, names: dict[int, str]) -> None:
        self._catalogue, self._brand, self._names = state.catalogue, state.brands.get(ref, ""), names

    def __call__(self, name: str) -> json_form.Meaning:
        found = self._catalogue.find(name, self._brand)
        if found is None:
            signal = unnamed_id(name)
            self._names[signal] = name[:256]
            return json_form.Meaning(signal)
        return json_form.Meaning(int(found.signal.id), found.factor, found.offset)


def _passes(kept: list[Record], state: State, outcome: Outcome) -> Iterator[tuple[list[Record], Decoded]]:
    """Decode in passes of bounded size; only batches that are sound and new come out, with their records."""
    while kept:
        decoded = decode_many([record.body for record in kept[:PASS_RECORDS]], state.rules.positions, MAX_PASS_POINTS)
        now, kept = kept[: decoded.taken], kept[decoded.taken :]
        for record, reason in zip(now, decoded.reasons, strict=True):
            if reason is not None:
                outcome.held.append(_held(record, reason, CODES[reason]))
        part = [now[place] for place in decoded.index.tolist()]
        fresh = _take_numbers(part, decoded, state, outcome)
        if not all(fresh):
            part = [record for record, is_fresh in zip(part, fresh, strict=True) if is_fresh]
            decoded = decode_many([record.body for record in part], state.rules.positions)
        if part:
            yield part, decoded


def _take_numbers(part: list[Record], decoded: Decoded, state: State, outcome: Outcome) -> list[bool]:
    take, fresh = state.sequences.take, []
    epochs, numbers = decoded.epoch.view(np.int64).tolist(), decoded.sequence.tolist()
    for record, epoch, number in zip(part, epochs, numbers, strict=True):
        try:
            is_new = take(record.key, epoch, number, record.arrived_us)
            outcome.duplicates += not is_new
        except Refused as error:
            outcome.held.append(_held(record, error.code, error.message))
            is_new = False
        fresh.append(is_new)
    return fresh


def _digest_pass(
    part: list[Record],
    decoded: Decoded,
    state: State,
    outcome: Outcome,
    names: Mapping[int, str],
    seen: dict[int, tuple[int, int]],
    short: list[history.Chunks],
) -> None:
    """One pass; its rows go to `outcome`, or wait in `short` to be joined with those of other passes."""
    refs = [record.key for record in part]
    arrived_us = np.array([record.arrived_us for record in part], np.int64)
    outcome.batches += len(part)
    outcome.points += int(decoded.points.sum())
    seen.update(zip(refs, zip(arrived_us.tolist(), decoded.sent_at_us.tolist(), strict=True), strict=True))
    columns = decoded.columns
    if not len(columns.rows):
        for ref in refs:
            state.twins.places([ref], [b""])
        return
    in_time_order(decoded)
    rows = state.rules.rows(columns.signal)
    spread = spread_of(decoded)
    texts = _intern_texts(decoded, state.twins, spread)
    place = state.twins.places(refs, decoded.signals)[columns.order]
    series = _Series(decoded, state.twins, place, spread)
    doubts = assess(decoded, arrived_us, state.rules, rows, spread, series.prior)
    outcome.flagged += len(doubts.at)
    series.update(decoded, texts, doubts)
    _report_unknown(decoded, rows == 0, part, outcome, names)
    vehicle = np.array(refs, np.uint64)[columns.batch]
    made = _chunks(decoded, vehicle, arrived_us[columns.batch], doubts)
    if joining.is_short(made):
        short.append(made)
    else:
        outcome.rows.append(history.rows_from(made))


def in_time_order(decoded: Decoded) -> None:
    """Sort samples of clocks that run backwards, with their values and marks; most batches have none."""
    clocks, columns = decoded.clocks, decoded.columns
    if not len(clocks.times_us):
        return
    back = np.flatnonzero(np.diff(clocks.times_us) < 0) + 1
    listed = np.flatnonzero(clocks.offset >= 0)
    listed = listed[np.argsort(clocks.offset[listed])]
    back = back[~np.isin(back, clocks.offset[listed])]
    for clock in np.unique(listed[np.searchsorted(clocks.offset[listed], back, "right") - 1]).tolist():
        times = clocks.times_of(clock)
        order = np.argsort(times, kind="stable")
        times[:] = times[order]
        clocks.first_us[clock], clocks.last_us[clock] = times[0], times[-1]
        place = np.argsort(order)
        for column in np.flatnonzero(columns.clock == clock).tolist():
            flat = columns.ints if column < columns.integer_count else columns.floats
            cut = slice(int(columns.offset[column]), int(columns.offset[column] + columns.rows[column]))
            flat[cut] = flat[cut][order]
            marked = decoded.mark_column == column
            decoded.mark_row[marked] = place[decoded.mark_row[marked]]


def _intern_texts(decoded: Decoded, twins: twin.Twins, spread: Spread) -> Ints:
    """Text columns; their first and last values become indexes of the twins' texts, so that they can be compared."""
    columns = decoded.columns
    texts = np.flatnonzero(columns.is_text)
    for values, at in (
        (spread.first, columns.offset[texts]),
        (spread.last, (columns.offset + columns.rows - 1)[texts]),
    ):
        values[texts] = [twins.text_index(columns.words[word]) for word in columns.ints[at].tolist()]
    return texts


class _Series:
    """Columns of the same vehicle and signal in order of time: what came before each, and what the twin keeps."""

    def __init__(self, decoded: Decoded, twins: twin.Twins, place: Ints, spread: Spread) -> None:
        columns, clocks = decoded.columns, decoded.clocks
        self._twins, self._place, self._spread = twins, place, spread
        first_us, self._last_us = clocks.first_us[columns.clock], clocks.last_us[columns.clock]
        order = np.lexsort((first_us, place))
        same = np.zeros(len(order), np.bool_)
        same[1:] = place[order[1:]] == place[order[:-1]]
        before, after = order[:-1][same[1:]], order[1:][same[1:]]
        slots = twins.slots[place]
        self.prior = Prior(
            time_us=slots["time_us"].copy(),
            value=_numbers(slots),
            quality=slots["quality"].copy(),
            changed_us=slots["changed_us"].copy(),
        )
        self.prior.time_us[after] = self._last_us[before]
        self.prior.value[after] = spread.last[before]
        self.prior.quality[after] = 0
        never = self.prior.time_us == twin.NEVER_US
        constant = spread.low == spread.high
        changed_us = np.where(constant, first_us, self._last_us)
        held = constant & (spread.first == self.prior.value) & ~never
        changed_us[held] = self.prior.changed_us[held]
        # a run of unchanged columns takes the instant of the last one that changed; a series' first column always has one
        source = np.where(held[order] & same, -1, np.arange(len(order)))
        self._changed_us = np.empty_like(changed_us)
        self._changed_us[order] = changed_us[order[np.maximum.accumulate(source)]]
        self.prior.changed_us[after] = self._changed_us[before]
        self._newest = order[~np.append(same[1:], False)]
        if (self._last_us[before] > self._last_us[after]).any():  # a clock was set back
            order = np.lexsort((self._last_us, place))
            self._newest = order[np.append(place[order[1:]] != place[order[:-1]], True)]

    def update(self, decoded: Decoded, texts: Ints, doubts: Doubts) -> None:
        """Write the newest value of each series into its slot, unless the slot has a newer one."""
        columns = decoded.columns
        chosen = self._newest[self._last_us[self._newest] >= self._twins.slots["time_us"][self._place[self._newest]]]
        slots = np.zeros(len(columns.rows), twin.SLOT)
        ends, count = columns.offset + columns.rows - 1, columns.integer_count
        slots["signal"] = columns.signal
        slots["value"][:count] = columns.ints[ends[:count]]
        slots["value"][count:] = columns.floats[ends[count:]].view(np.int64)
        slots["value"][texts] = self._spread.last[texts].astype(np.int64)
        slots["form"][count:] = twin.FLOAT
        slots["form"][columns.kind == BITS] = twin.BOOLEAN
        slots["form"][texts] = twin.TEXT
        slots["exponent"][:count] = columns.exponent[:count]
        slots["time_us"], slots["changed_us"] = self._last_us, self._changed_us
        slots["quality"] = doubts.last
        self._twins.slots[self._place[chosen]] = slots[chosen]


def _numbers(slots: Any) -> Floats:
    """Values of twin slots as numbers (a text's is its index)."""
    exponent = slots["exponent"].astype(np.int64)
    values: Floats = slots["value"] / POWER[np.maximum(-exponent, 0)] * POWER[np.maximum(exponent, 0)]
    is_float = slots["form"] == twin.FLOAT
    values[is_float] = slots["value"][is_float].view(np.float64)
    return values


def _chunks(decoded: Decoded, vehicle: Any, arrived_us: Ints, doubts: Doubts) -> history.Chunks:
    columns, clocks = decoded.columns, decoded.clocks
    kind = np.full(len(columns.rows), history.INTEGER, np.uint8)
    kind[columns.integer_count :] = history.FLOAT
    kind[columns.is_text] = history.TEXT
    step_us = clocks.step_us[columns.clock]
    step_us[columns.rows == 1] = 1
    irregular = step_us < 0
    clock = columns.clock[irregular]
    places = spans(clocks.offset[clock], columns.rows[irregular])
    offsets_us = clocks.times_us[places] - np.repeat(clocks.first_us[clock], columns.rows[irregular])
    step_us[irregular] = 0
    ints, words = columns.ints, pa.array([], pa.string())
    text = np.flatnonzero(columns.is_text)
    if len(text):
        at = spans(columns.offset[text], columns.rows[text])
        words = pa.array(columns.words, pa.string()).take(pa.array(ints[at]))
        is_number = np.ones(len(ints), np.bool_)
        is_number[at] = False
        ints = ints[is_number]
    return history.Chunks(
        vehicle=vehicle,
        signal=columns.signal,
        arrived_us=arrived_us,
        start_us=clocks.first_us[columns.clock],
        step_us=step_us,
        rows=columns.rows,
        kind=kind,
        exponent=np.where(kind == history.INTEGER, columns.exponent, np.int8(0)),
        ints=ints,
        floats=columns.floats,
        words=words,
        offsets_us=offsets_us,
        doubt_at=doubts.at,
        doubt_flags=doubts.flags,
    )


def _report_unknown(
    decoded: Decoded, is_unknown: Any, part: list[Record], outcome: Outcome, names: Mapping[int, str]
) -> None:
    if not is_unknown.any():
        return
    columns = decoded.columns
    signals, first, count = np.unique(columns.signal[is_unknown], return_index=True, return_counts=True)
    batches = columns.batch[is_unknown][first]
    for signal, batch, many in zip(signals.tolist(), batches.tolist(), count.tolist(), strict=True):
        record = part[batch]
        name = names.get(signal, "") if signal >= UNNAMED_FROM else ""
        outcome.unknown.append(Unknown(signal, name, record.key, record.arrived_us, many))


def _twin_rows(state: State, seen: Mapping[int, tuple[int, int]]) -> list[twin.Row]:
    """One row per vehicle of the block, `seen` holding arrival and sending of its last batch."""
    twins, rules = state.twins, state.rules
    latitude, longitude, speed = (
        _map_values(twins, [twins.slot_of(ref, signal) for ref in seen])
        for signal in (rules.latitude, rules.longitude, rules.speed)
    )
    return [
        twin.Row(ref, arrived_us, sent_at_us - arrived_us, *twins.seen_at(ref, lat, lon, kmh), twins.row(ref), flags)
        for (ref, (arrived_us, sent_at_us)), lat, lon, kmh, flags in zip(
            seen.items(), latitude, longitude, speed, twins.doubts(list(seen)), strict=True
        )
    ]


def _map_values(twins: twin.Twins, at: list[int]) -> list[float | None]:
    slots = twins.slots[np.array(at, np.int64)]
    good = (slots["signal"] > 0) & (slots["quality"] & _VOID == 0) & (slots["form"] != twin.TEXT)
    good &= np.array(at, np.int64) > 0
    values = _numbers(slots).tolist()
    return [value if is_good else None for value, is_good in zip(values, good.tolist(), strict=True)]


def _held(record: Record, reason: str, detail: str) -> Held:
    return Held(record.key, record.arrived_us, record.kind, reason, detail, record.body)
