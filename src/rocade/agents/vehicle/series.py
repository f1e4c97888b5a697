"""What a source gives: one `Series` per signal, and an account of every row it read.

Values stay exact: whole numbers times a power of ten wherever the source wrote decimals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rocade.core.signals import Signal

type Values = NDArray[np.int64] | NDArray[np.float64] | NDArray[np.bool_] | Sequence[str]


@dataclass(frozen=True)
class Series:
    """Values of one signal in time order.

    Shape: `at_us` may be shared (the same object) by series that were sampled together; `repaired` marks samples whose
    time was repaired, None = none. Units: value = `values` * 10**exponent when `exponent` is not None.
    """

    signal: Signal
    at_us: NDArray[np.int64]
    values: Values
    exponent: int | None = None
    repaired: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.at_us)


@dataclass
class Account:
    """Rows of one log: `read` = `sent` + `repaired` + the sum of `refused`; each row counts once.

    `sent` rows went out as they were, `repaired` ones with another time than they claimed. `cells_refused` counts
    unreadable cells of rows that were sent without them. `notes` keeps the raw text of what was repaired or refused.
    """

    read: int = 0
    sent: int = 0
    repaired: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    cells_refused: Counter[str] = field(default_factory=Counter)
    notes: list[Note] = field(default_factory=list)

    @property
    def adds_up(self) -> bool:
        return self.read == self.sent + self.repaired + self.refused.total()

    def add(self, other: Account) -> None:
        self.read += other.read
        self.sent += other.sent
        self.repaired += other.repaired
        self.refused += other.refused
        self.cells_refused += other.cells_refused
        self.notes += other.notes


@dataclass(frozen=True)
class Note:
    """One remark: `line` of the file (1 = header), what was done, and the raw text."""

    file: str
    line: int
    what: str
    raw: str


@dataclass(frozen=True)
class Reading:
    """What a source made of one log."""

    series: list[Series]
    account: Account

    @property
    def points(self) -> int:
        return sum(len(series) for series in self.series)
