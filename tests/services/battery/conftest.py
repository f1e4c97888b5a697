"""A registry and a real history store for battery health, with made drives and charges put into it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
from tests.clocks import TurnedClock
from tests.services.telemetry.conftest import history, store_url

from rocade.core import catalogue
from rocade.core.ports import SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.services.battery import ROLES, Batteries
from rocade.services.telemetry import Series, store
from rocade.services.telemetry.chunks import FLOAT, Chunks
from rocade.services.vehicles import Registry, Vehicle

__all__ = ["history", "store_url"]

_numbers = itertools.count(1)


class Garage:
    """Vehicles of one database with what they said in one history."""

    def __init__(self, database: Database, history: History) -> None:
        self.database, self.history, self.clock = database, history, TurnedClock()
        self.registry = Registry(database, SystemRandom(), self.clock)
        self.batteries = Batteries(database, history, self.registry, catalogue.standard(), self.clock)

    async def vehicle(self, brand: str = "hyundai", model: str = "Kona", powertrain: str = "electric") -> Vehicle:
        return await self.registry.add(
            f"VF1BTTRY{next(_numbers):09}", "car", brand, model, powertrain, "eu"
        )  # fmt: skip

    async def say(self, ref: int, series: Mapping[str, Series]) -> None:
        """Put series into the history; between pauses of more than an hour their step is even."""
        for role, one in series.items():
            signal = int(catalogue.standard().by_name(ROLES[role][0]).id)
            pauses = np.flatnonzero(np.diff(one.time_us) > 3_600_000_000) + 1
            begins, ends = np.append(0, pauses), np.append(pauses, len(one.time_us))
            await store.insert(self.history, _chunks(ref, signal, one, begins, ends), f"{ref}-{role}-{one.time_us[0]}")


def _chunks(ref: int, signal: int, series: Series, begins: np.ndarray, ends: np.ndarray) -> Chunks:
    count = len(begins)
    step = [
        int(series.time_us[b + 1] - series.time_us[b]) if e - b > 1 else 1_000_000
        for b, e in zip(begins, ends, strict=True)
    ]
    whole = np.zeros(count, np.int64)
    return Chunks(
        vehicle=np.full(count, ref, np.uint64), signal=np.full(count, signal, np.uint32),
        arrived_us=np.full(count, int(series.time_us[-1])), start_us=series.time_us[begins], step_us=np.array(step),
        rows=ends - begins, kind=np.full(count, FLOAT, np.uint8), exponent=whole.astype(np.int8), ints=np.zeros(0, np.int64),
        floats=series.value.astype(float), doubt_at=np.zeros(0, np.int64), doubt_flags=np.zeros(0, np.uint8),
    )  # fmt: skip


@pytest.fixture
def garage(database: Database, history: History) -> Garage:
    return Garage(database, history)
