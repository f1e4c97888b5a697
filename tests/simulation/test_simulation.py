"""Worlds of vehicles, gateways and workers from seeds: everything acknowledged is in the history once, twins are the newest.

Here a dozen worlds, slowly some hundred with one of a thousand vehicles; all 10,000: benchmarks/proof_simulation.py --full.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from world import Broken, World, live

from rocade.services.telemetry import gaps
from rocade.services.telemetry.intake import TelemetryIntake

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "proof_simulation.py"


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    """Thousands of failures are wanted here; none needs a line."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_an_older_journal_that_arrives_last_does_not_end_the_one_of_now() -> None:
    live(3812, 10)


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_world_in_trouble_loses_nothing_and_doubles_nothing(seed: int) -> None:
    world = live(seed, 8)
    assert any(car.acknowledged for car in world.cars)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_hundreds_of_worlds_and_one_of_a_thousand_vehicles() -> None:
    print("seeds 1000 to 1299, 10 vehicles each; seed 1 with 1,000")
    for seed in range(1000, 1300):
        live(seed, 10)
    assert len(live(1, 1000).cars) == 1000


def test_the_same_seed_is_the_same_run_in_another_process_too() -> None:
    once, again = live(7, 6), live(7, 6)
    assert once.loop.trace == again.loop.trace
    command = [sys.executable, str(BENCHMARK), "--seed", "7", "--vehicles", "6"]
    said = subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True, text=True, check=True
    ).stdout
    assert f"trace {once.loop.trace:08x}" in said


def _acknowledge_early(change: Any) -> Any:
    """A gateway that says yes before the log has it."""
    accept = TelemetryIntake.accept

    async def early(self: TelemetryIntake, publishes: Any) -> Any:
        try:
            return await accept(self, publishes)
        except Exception:
            return [None] * len(publishes)

    return change.setattr(TelemetryIntake, "accept", early)


def _forget_numbers(change: Any) -> Any:
    """A worker that takes every number for a new one."""
    return change.setattr(gaps.Sequences, "take", lambda *_args: True)


@pytest.mark.parametrize(
    ("break_it", "says"), [(_acknowledge_early, "not in the history"), (_forget_numbers, "more often")]
)
def test_broken_code_is_found_and_its_seed_is_printed(
    break_it: Callable[[Any], Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_it(monkeypatch)
    with mock.patch("world.PATIENCE_S", 600.0), pytest.raises(Broken, match=r"seed [0-9]+") as found:
        for seed in range(1, 60):
            live(seed, 8)
    assert says in str(found.value) or "no calm" in str(found.value)
    assert "--seed" in str(found.value)


def test_time_costs_nothing() -> None:
    world = World(3, 1)
    world.loop.run_until_complete(world.live())
    assert world.loop.time() > 20
    world.end()
