"""The demo fleet's physics, written apart from all this, as a test bench: its packs' true health is found again from what they send.

Voltage that sags, regeneration, taper, readings rounded as the agents round them.
"""

from __future__ import annotations

import numpy as np
import pytest

from rocade.agents.vehicle.simulation.controls import Controls
from rocade.agents.vehicle.simulation.energy import Energy
from rocade.agents.vehicle.simulation.models import MODELS
from rocade.services.battery import Pack, estimate, find_segments
from rocade.services.telemetry import Series

STEP_S = 5.0
STEPS = 30_000
CARS = 6


@pytest.mark.slow
def test_the_health_of_simulated_packs_is_found_within_its_interval() -> None:
    random = np.random.default_rng(11)
    model = next(one for one in MODELS if one.key == "electric_car")
    models = [model] * CARS
    controls = Controls(models, random, 1e12)
    energy = Energy(models, 20.0, random, controls)
    names = ("charge", "volts", "amperes", "battery_w", "battery_c")
    said = {name: np.zeros((STEPS, CARS)) for name in names}
    speed, acceleration = np.zeros(CARS), np.zeros(CARS)
    controls.limit[:] = controls.stop_at[:] = 90.0
    is_home = energy.charge < 30
    for step in range(STEPS):
        is_home = np.where(is_home, energy.charge < 89.5, energy.charge < 25)
        controls.is_plugged = is_home
        wanted = np.where(
            is_home, 0.0, (12 + 8 * np.sin(step / 40 + np.arange(CARS)) + random.normal(0, 2, CARS)).clip(0)
        )
        acceleration = (wanted - speed) / STEP_S
        speed = wanted
        energy.step(STEP_S, speed, np.where(is_home, 0.0, acceleration), np.zeros(CARS), 20.0)
        for name in names:
            said[name][step] = getattr(energy, name)
    at_us = 1_700_000_000_000_000 + np.arange(STEPS) * int(STEP_S * 1e6)
    off = []
    for car in range(CARS):
        series = {
            "charge": Series(at_us, np.round(said["charge"][:, car], 0)),
            "power": Series(at_us, -np.round(said["battery_w"][:, car], 0)),
            "volts": Series(at_us, np.round(said["volts"][:, car], 1)),
            "amperes": Series(at_us, -np.round(said["amperes"][:, car], 1)),
            "temperature": Series(at_us, np.round(said["battery_c"][:, car], 1)),
        }
        segments, seen = find_segments(series)
        found = estimate(segments, Pack(model.battery_kwh, "NMC"), seen, int(at_us[-1]))
        assert found.used >= 10
        assert found.percent is not None
        assert seen.resistance_mohm == pytest.approx(1000 * model.battery_ohm, rel=0.1)
        assert found.percent.low <= energy.health[car] <= found.percent.high
        off.append(found.percent.value - energy.health[car])
    print(np.round(off, 2))
    assert np.mean(np.abs(off)) < 0.8
