"""Power at the plug over time, from the signal history: what sessions are reckoned from."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.core.catalogue import Catalogue
from rocade.fabric.history import History
from rocade.services.charging.seeing import Signals
from rocade.services.telemetry import store


class Power(msgspec.Struct, frozen=True):
    """Samples of power. `is_at_plug`: measured there; else into the battery, which is less."""

    time_us: NDArray[np.int64]
    kw: NDArray[np.float64]
    is_at_plug: bool


class HistoryMeters:
    """Of any vehicle, from the history."""

    def __init__(self, history: History, catalogue: Catalogue) -> None:
        self._history = history
        self._signals = Signals(catalogue)

    async def power(self, ref: int, from_us: int, until_us: int) -> Power:
        """At the plug where the car says it, else at the battery."""
        for signal, scale in ((self._signals.plug_kw, 1.0), (self._signals.battery_w, 1e-3)):
            found = await store.series(self._history, ref, signal, from_us, until_us)
            if len(found.time_us):
                return Power(found.time_us, np.asarray(found.value, np.float64) * scale, scale == 1.0)
        return Power(np.zeros(0, np.int64), np.zeros(0), is_at_plug=True)
