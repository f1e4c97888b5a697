"""Signals: what a vehicle can say, with stable numeric ids, types, units and plausible ranges; and quality flags.

Names follow COVESA VSS 6.0; our numeric ids never change and are never reused. Brand overlays add signals of their own
(ids from 65,536 up) and aliases. `Catalogue` is an immutable value; `rocade.core.catalogue` builds it from package data.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NewType

import msgspec

SignalId = NewType("SignalId", int)
BRAND_SIGNALS_FROM = 65_536


class Quality(IntFlag):
    """Why a stored value deserves doubt; 0 is good. Stored beside each value (8 bits) and never changed later."""

    GOOD = 0
    OUT_OF_RANGE = 1
    JUMP = 2
    STUCK = 4
    CLOCK = 8
    """Sample later than its batch's `sent_at`, or a clock that disagrees with arrival."""
    ZERO_POSITION = 16
    IMPOSSIBLE_POSITION = 32
    TIME_REPAIRED = 64
    NOT_FINITE = 128


class Signal(msgspec.Struct, frozen=True):
    """One signal. `datatype` is VSS's (`float`, `uint8`, `boolean`, `string`, ...); `unit` VSS's unit name or ''."""

    id: SignalId
    name: str
    datatype: str
    unit: str = ""
    min: float | None = None
    max: float | None = None
    kind: str = "sensor"
    max_rate: float | None = None
    """Largest plausible change per second, in `unit`; None = not checked."""
    stuck_after_s: float | None = None
    """Seconds without any change, while the vehicle moves, that count as stuck; None = not checked."""
    exponent: int | None = None
    """Values are usually exact multiples of 10**exponent in `unit`: the scale a packer tries first; None = unknown."""
    brand: str = ""
    allowed: tuple[str, ...] = ()
    data_class: str = ""
    """Whose consent it needs (`core.data_classes`); the catalogue fills in what its file leaves out."""

    @property
    def is_text(self) -> bool:
        return self.datatype.startswith("string")

    @property
    def is_position(self) -> bool:
        return self.name in {"Vehicle.CurrentLocation.Latitude", "Vehicle.CurrentLocation.Longitude"}
