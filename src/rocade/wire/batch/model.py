"""A batch as its maker sees it: clocks (when), columns (what), marks (doubts the source itself has)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

type Values = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.bool_] | Sequence[str]


@dataclass(frozen=True, slots=True)
class Clock:
    """The instants that one or more columns share, microseconds since 1970 UTC; they may be irregular."""

    times_us: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Column:
    """Values of one signal at the instants of `clock` (index into Batch.clocks).

    Shape: as many values as the clock has instants; where `present` is given, only the rows it marks true travel, and
    `values` at the others are ignored. `decimals` = digits after the point the source really has; None = find out.
    """

    signal: int
    clock: int
    values: Values
    present: NDArray[np.bool_] | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Quality flags (core.signals.Quality) the source gives to one row: of a column, or of a clock (all its columns)."""

    row: int
    flags: int
    column: int | None = None
    clock: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One message of a vehicle. A batch without columns is valid: it says that its number is spent."""

    epoch: int
    sequence: int
    sent_at_us: int
    clocks: Sequence[Clock] = ()
    columns: Sequence[Column] = ()
    marks: Sequence[Mark] = ()
    scheme: int = 0
    scheme_version: int = 0
    vehicle_id: str = ""
    start_us: int | None = field(default=None)
    """What instants are written relative to; None = the first instant."""
