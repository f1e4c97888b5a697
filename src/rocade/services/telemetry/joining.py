"""Short messages become few rows: chunks of one vehicle and signal that arrived within one second are joined.

A vehicle that sends single samples would cost a row of history for each. Later, `hourly`, all chunks of a past hour become
one (condensing.py). Flow: the chunks of several passes end to end ->
in order of vehicle, signal, second of arrival and time -> neighbours that do not overlap become one chunk, with a step
where their instants have one, else with an offset for each sample. Values and quality flags move with their samples.
A pure function of the chunks, so that a block repeated after a crash gives the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rocade.services.telemetry.chunks import FLOAT, HOUR_US, INTEGER, TEXT, Chunks, Ints
from rocade.wire.batch.decoding import spans

SHORT_ROWS = 8
"""Samples a chunk, on average, below which joining pays."""
_SECOND_US = 1_000_000
_LONGEST_STEP_US = (1 << 32) - 1
_NARROW, _WIDE = (-(1 << 15), 127 * 256 + 127), (-(1 << 31), (1 << 31) - 1)
"""Differences that two bytes hold (chunks.py), and those that four hold."""


def is_short(chunks: Chunks) -> bool:
    return int(chunks.rows.sum()) < SHORT_ROWS * len(chunks.rows)


def join(parts: Sequence[Chunks], *, hourly: bool = False) -> Chunks:
    """One Chunks of all parts, joined; no chunk may be empty. Cost: some 0.3 us a sample.

    `hourly`: whatever lies in one hour is joined, unless the differences would need wider numbers than before. A joined
    chunk bears the newest arrival of its parts.
    """
    whole = _end_to_end(parts)
    rows = whole.rows
    begin = np.cumsum(rows) - rows
    within = np.arange(int(rows.sum())) - np.repeat(begin, rows)
    times_us = np.repeat(whole.start_us, rows) + within * np.repeat(whole.step_us, rows)
    listed = np.repeat(whole.step_us == 0, rows)
    times_us[listed] += whole.offsets_us
    span = whole.start_us // HOUR_US if hourly else whole.arrived_us // _SECOND_US
    order = np.lexsort((whole.start_us, span, whole.exponent, whole.kind, whole.signal, whole.vehicle))
    is_same = whole.start_us[order[1:]] >= times_us[begin + rows - 1][order[:-1]]
    for key in (whole.vehicle, whole.signal, whole.kind, whole.exponent, span):
        is_same &= key[order[1:]] == key[order[:-1]]
    if hourly:
        is_same &= _stays_narrow(whole, order)
    first = np.flatnonzero(np.concatenate(([True], ~is_same)))
    head, sample = order[first], spans(begin[order], rows[order])
    rows = np.add.reduceat(rows[order], first)
    begin = np.cumsum(rows) - rows
    times_us = times_us[sample]
    start_us = times_us[begin]
    step_us = np.where(rows > 1, times_us[np.minimum(begin + 1, len(times_us) - 1)] - start_us, 1)
    within = np.arange(len(times_us)) - np.repeat(begin, rows)
    is_off = times_us != np.repeat(start_us, rows) + within * np.repeat(step_us, rows)
    is_steady = (step_us > 0) & (step_us <= _LONGEST_STEP_US) & ~np.logical_or.reduceat(is_off, begin)
    flags = np.zeros(len(times_us), np.uint8)
    flags[whole.doubt_at] = whole.doubt_flags
    flags = flags[sample]
    doubt_at = np.flatnonzero(flags)
    ints, floats, words = (_places(whole, kind, sample) for kind in (INTEGER, FLOAT, TEXT))
    return Chunks(
        vehicle=whole.vehicle[head],
        signal=whole.signal[head],
        arrived_us=np.maximum.reduceat(whole.arrived_us[order], first),
        start_us=start_us,
        step_us=np.where(is_steady, step_us, 0),
        rows=rows,
        kind=whole.kind[head],
        exponent=whole.exponent[head],
        ints=whole.ints[ints],
        floats=whole.floats[floats],
        words=_words(whole).take(pa.array(words)),
        offsets_us=(times_us - np.repeat(start_us, rows))[np.repeat(~is_steady, rows)],
        doubt_at=doubt_at,
        doubt_flags=flags[doubt_at],
    )


def _stays_narrow(whole: Chunks, order: Ints) -> NDArray[np.bool_]:
    """Which neighbours can be one chunk without wider differences: one wide chunk would make a whole hour wide."""
    size = len(whole.rows)
    first, last, is_wide = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, bool)
    mine = np.flatnonzero(whole.kind == INTEGER)
    if len(mine):
        rows = whole.rows[mine]
        begin = np.cumsum(rows) - rows
        steps = np.diff(whole.ints, prepend=whole.ints[:1])
        steps[begin] = 0
        first[mine], last[mine] = whole.ints[begin], whole.ints[begin + rows - 1]
        is_wide[mine] = np.logical_or.reduceat((steps < _NARROW[0]) | (steps > _NARROW[1]), begin)
    jump, wide = first[order[1:]] - last[order[:-1]], is_wide[order]
    fits = (jump >= np.where(wide[1:], _WIDE[0], _NARROW[0])) & (jump <= np.where(wide[1:], _WIDE[1], _NARROW[1]))
    return np.asarray(fits & (wide[1:] == wide[:-1]))


def _end_to_end(parts: Sequence[Chunks]) -> Chunks:
    names = [name for name in Chunks.__slots__ if name not in {"words", "doubt_at"}]
    samples = [int(part.rows.sum()) for part in parts]
    shifts = np.cumsum([0, *samples[:-1]])
    return Chunks(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        words=pa.concat_arrays([_words(part) for part in parts]),
        doubt_at=np.concatenate([part.doubt_at + shift for part, shift in zip(parts, shifts, strict=True)]),
    )


def _words(part: Chunks) -> pa.Array:
    return part.words if isinstance(part.words, pa.Array) else pa.array(part.words, pa.string())


def _places(chunks: Chunks, kind: int, sample: Ints) -> Ints:
    """Where the samples of this kind, taken in the order `sample`, stand in the flat array of their kind."""
    is_kind = np.repeat(chunks.kind == kind, chunks.rows)
    place = np.cumsum(is_kind) - 1
    return np.asarray(place[sample[is_kind[sample]]])
