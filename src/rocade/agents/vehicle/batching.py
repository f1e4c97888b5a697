"""Series -> batches, one per stretch of time (a minute unless told otherwise).

Flow: series that share their instants share a clock -> all clocks are cut at the same minute borders -> a stretch with
more points than a batch may hold is cut in half until it fits. Epoch and sequence are filled in by the journal.
A sample whose time was repaired carries the mark `TIME_REPAIRED`, so that the platform stores the doubt beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.series import Series
from rocade.core.signals import Quality
from rocade.wire.batch import Batch, Clock, Column, Mark

MINUTE_US = 60_000_000
MOST_POINTS = 50_000
"""Far below what a batch may hold, so that one lost message costs little."""


@dataclass(frozen=True)
class _Group:
    """Series with the same instants."""

    at_us: NDArray[np.int64]
    series: list[Series]
    repaired: NDArray[np.bool_] | None


def cut(series: Sequence[Series], step_us: int = MINUTE_US, most_points: int = MOST_POINTS) -> list[tuple[Batch, int]]:
    """Batches in time order, each with its number of points."""
    groups = _groups(series)
    if not groups:
        return []
    stretches = np.unique(np.concatenate([group.at_us // step_us for group in groups]))
    batches: list[tuple[Batch, int]] = []
    for stretch in stretches.tolist():
        batches += _stretch(groups, stretch * step_us, (stretch + 1) * step_us, most_points)
    return batches


def _groups(series: Sequence[Series]) -> list[_Group]:
    found: dict[tuple[int, int], _Group] = {}
    for one in series:
        if len(one):
            key = (id(one.at_us), id(one.repaired))
            found.setdefault(key, _Group(one.at_us, [], one.repaired)).series.append(one)
    return list(found.values())


def _stretch(groups: Sequence[_Group], low_us: int, high_us: int, most_points: int) -> Iterator[tuple[Batch, int]]:
    bounds = [np.searchsorted(group.at_us, (low_us, high_us)).tolist() for group in groups]
    points = sum((high - low) * len(group.series) for group, (low, high) in zip(groups, bounds, strict=True))
    if points > most_points and high_us - low_us > 1:
        middle = (low_us + high_us) // 2
        yield from _stretch(groups, low_us, middle, most_points)
        yield from _stretch(groups, middle, high_us, most_points)
    elif points:
        yield _batch(groups, bounds), points


def _batch(groups: Sequence[_Group], bounds: Sequence[Sequence[int]]) -> Batch:
    clocks: list[Clock] = []
    columns: list[Column] = []
    marks: list[Mark] = []
    for group, (low, high) in zip(groups, bounds, strict=True):
        if low == high:
            continue
        if group.repaired is not None:
            rows = np.flatnonzero(group.repaired[low:high]).tolist()
            marks += [Mark(row=row, flags=int(Quality.TIME_REPAIRED), clock=len(clocks)) for row in rows]
        columns += [_column(one, low, high, len(clocks)) for one in group.series]
        clocks.append(Clock(group.at_us[low:high]))
    return Batch(epoch=0, sequence=0, sent_at_us=0, clocks=clocks, columns=columns, marks=marks)


def _column(series: Series, low: int, high: int, clock: int) -> Column:
    values, decimals = series.values[low:high], None
    if series.exponent is not None and series.exponent < 0 and isinstance(values, np.ndarray):
        values, decimals = values / 10.0**-series.exponent, -series.exponent
    return Column(signal=series.signal.id, clock=clock, values=values, decimals=decimals)
