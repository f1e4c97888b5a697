"""Battery health from a real history: read once, read on, kept, refused below the minimum, erased."""

from __future__ import annotations

import msgspec
import pytest
from tests.services.battery.conftest import Garage
from tests.services.battery.driving import DAY_US, NOW_US, days

from rocade.services.battery import Batteries, Rules
from rocade.services.battery.api import said, view
from rocade.services.telemetry import Series


def part(series: dict[str, Series], from_us: int, until_us: int) -> dict[str, Series]:
    return {
        role: Series(one.time_us[keep], one.value[keep])
        for role, one in series.items()
        if (keep := (one.time_us >= from_us) & (one.time_us < until_us)).any()
    }


async def test_health_is_found_in_the_history_with_its_interval_and_how(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, days(12, health=88, rounding=1.0))
    health = await garage.batteries.health(vehicle.ref)
    assert health.found.state == "known"
    percent = health.found.percent
    assert percent
    assert percent.low < 88 < percent.high
    assert abs(percent.value - 88) < 2
    assert (health.found.charges, health.found.drives) == (12, 12)
    shown = view(health, await garage.batteries.points(vehicle.ref), await garage.batteries.segments(vehicle.ref), 0.9)
    assert shown.how.energy_from == "power"
    assert shown.pack.new_kwh == 64
    assert len(shown.segments) == 24
    assert len(shown.history) == 1
    assert msgspec.json.decode(msgspec.json.encode(shown))["state"] == "known"


async def test_below_the_minimum_it_says_how_many_are_there(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, days(3))
    health = await garage.batteries.health(vehicle.ref)
    assert health.found.percent is None
    assert health.found.capacity_kwh is None
    assert said(health) == "not enough data yet: 6 of 10 segments"


async def test_reading_on_finds_what_reading_at_once_finds(garage: Garage) -> None:
    """Cut at any instant, a drive in two halves included."""
    made = days(12, health=91, seed=9)
    at_once, piecewise = await garage.vehicle(), await garage.vehicle()
    await garage.say(at_once.ref, made)
    await garage.batteries.health(at_once.ref)
    begin = NOW_US - 40 * DAY_US
    for first, last in ((0.0, 2.35), (2.35, 5.76), (5.76, 5.79), (5.79, 13.0)):
        await garage.say(piecewise.ref, part(made, begin + int(first * DAY_US), begin + int(last * DAY_US)))
        await garage.batteries.read_on(piecewise.ref)
    wanted, got = [await garage.batteries.segments(one.ref) for one in (at_once, piecewise)]
    assert got == wanted
    assert (await garage.batteries.health(piecewise.ref)).found == (await garage.batteries.health(at_once.ref)).found


async def test_a_long_history_with_holes_is_read_to_its_end_and_gives_one_answer_a_month(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    for months_ago, health in ((12, 95.0), (8, 93.0), (4, 91.0), (1, 90.0)):
        await garage.say(
            vehicle.ref, days(8, health=health, first_us=NOW_US - months_ago * 30 * DAY_US, seed=months_ago)
        )
    assert await garage.batteries.read_on(vehicle.ref)
    found = (await garage.batteries.health(vehicle.ref)).found
    assert found.percent
    assert found.used == 64
    assert found.percent.low < 90 < found.percent.high
    points = await garage.batteries.points(vehicle.ref)
    assert len(points) >= 8
    assert [one.as_of_us for one in points] == sorted(one.as_of_us for one in points)
    assert points[0].percent > points[-1].percent
    assert await garage.batteries.read_on(vehicle.ref)
    assert await garage.batteries.points(vehicle.ref) == points


@pytest.mark.parametrize(
    ("brand", "model", "state", "words"),
    [
        ("other", "Homebuilt", "unrelated", "what this battery held when new is not known"),
        ("peugeot", "e-208", "doubtful", "do not fit what this model holds when new"),
        ("ds", "DS 7", "doubtful", "do not fit what this model holds when new"),
    ],
)
async def test_without_a_figure_to_relate_to_or_against_it_there_is_no_percentage(
    garage: Garage, brand: str, model: str, state: str, words: str
) -> None:
    vehicle = await garage.vehicle(brand, model)
    await garage.say(vehicle.ref, days(6, new_kwh=64, health=97))
    health = await garage.batteries.health(vehicle.ref)
    assert (health.found.state, health.found.percent) == (state, None)
    assert words in said(health)


async def test_a_vehicle_that_reports_no_power_is_told_so(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, {role: one for role, one in days(6).items() if role == "charge"})
    health = await garage.batteries.health(vehicle.ref)
    assert health.found.state == "silent"
    assert "has not reported power" in said(health)


async def test_a_vehicle_that_never_said_how_full_it_is_is_told_so(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    health = await garage.batteries.health(vehicle.ref)
    assert (health.found.state, health.found.used) == ("silent", 0)
    assert said(health).startswith("this vehicle has not reported how full it is")


async def test_a_question_that_may_not_wait_reads_nothing_and_the_next_one_reads_on(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, days(30, first_us=NOW_US - 60 * DAY_US))
    assert (await garage.batteries.health(vehicle.ref, most_windows=0)).made_us == 0
    first = await garage.batteries.health(vehicle.ref, most_windows=1)
    assert first.is_behind
    assert 0 < first.found.used < 60
    whole = await garage.batteries.health(vehicle.ref)
    assert not whole.is_behind
    assert whole.found.used == 60


async def test_the_fleet_is_kept_up_once_and_not_again_before_its_time(garage: Garage) -> None:
    vehicles = [await garage.vehicle() for _ in range(3)]
    await garage.vehicle("opel", "Astra", "diesel")
    await garage.say(vehicles[0].ref, days(6))
    assert await garage.batteries.sweep(DAY_US) == 3
    assert await garage.batteries.sweep(DAY_US) == 0
    garage.clock.ahead_us = DAY_US + 1
    assert await garage.batteries.sweep(DAY_US) == 3


async def test_what_is_kept_is_answered_while_the_history_is_away(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, days(6))
    kept = await garage.batteries.health(vehicle.ref)
    blind = Batteries(garage.database, None, garage.registry, garage.batteries._catalogue, garage.clock, Rules())
    assert await blind.health(vehicle.ref) == kept


async def test_an_erased_vehicle_leaves_nothing_of_its_battery(garage: Garage) -> None:
    vehicle = await garage.vehicle()
    await garage.say(vehicle.ref, days(6))
    await garage.batteries.health(vehicle.ref)
    async with garage.database.pool.acquire() as connection, connection.transaction():
        await garage.batteries.forget(connection, vehicle.ref)
    assert await garage.batteries.segments(vehicle.ref) == []
    assert await garage.batteries.points(vehicle.ref) == []
    rows = await garage.database.pool.fetchval("SELECT count(*) FROM battery_health WHERE ref = $1", int(vehicle.ref))
    assert rows == 0
