"""Bad and odd input to charge control: a typed answer for each, nothing silently dropped, no plan that breaks a limit."""

from __future__ import annotations

import asyncio
from datetime import date
from typing import Any

import pytest
from tests.services.charging.conftest import HOUR_US, OWNER, Stand

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.services.charging import (
    CarFacts,
    ChargeSite,
    Departure,
    LimitNode,
    Place,
    SeriesValue,
    Tariff,
    WeeklyTime,
)
from rocade.services.charging.acting import AtStation
from rocade.services.charging.planning import local_day
from rocade.services.charging.replanning import Replanner

DRIVER, DESK = "person:02", "operator:x"


@pytest.fixture(name="stand")
def a_stand(database: Database) -> Stand:
    return Stand(database)


async def test_two_who_command_at_once_are_both_answered_and_the_later_counts(stand: Stand) -> None:
    car = await stand.plugged_car()
    answers = await asyncio.gather(
        *(stand.charging.set_goal(car.ref, stand.goal(5, 50 + at), [OWNER, DRIVER][at % 2]) for at in range(6))
    )
    standing = await stand.charging.standing(car.ref)
    assert standing.goal.version == 6
    assert {one.goal.version for one in answers} <= set(range(1, 7))
    assert standing.plan.goal_version == 6
    assert standing.plan.target_percent == standing.goal.target_percent
    done = [entry for entry in stand.audit.entries if entry.action == "charging.goal"]
    assert len(done) == 6, "each of them stands in the audit log"


BATTERIES: list[dict[str, Any]] = [
    {"efficiency": -0.9}, {"efficiency": 0.0}, {"efficiency": 1.1}, {"capacity_kwh": 0.0}, {"max_kw": 0.0},
    {"capacity_kwh": float("nan")}, {"max_kw": float("inf")}, {"min_kw": 99.0}, {"phases": 4}, {"taper_to_kw": 0.0},
]  # fmt: skip


async def test_a_battery_that_cannot_be_is_refused(stand: Stand) -> None:
    vehicle = await stand.car()
    for car in BATTERIES:
        with pytest.raises(Refused) as refused:
            await stand.charging.set_car(vehicle.ref, CarFacts(**car), OWNER)
        assert refused.value.code == "charging.car", car
        assert refused.value.facts["field"] in car


TREES: list[tuple[tuple[LimitNode, ...], str]] = [
    ((), "charging.site.tree"),
    ((LimitNode("a"),), "charging.site.unlimited"),
    ((LimitNode("a", limit_kw=10), LimitNode("b", limit_kw=10)), "charging.site.tree"),
    ((LimitNode("a", limit_kw=10), LimitNode("b", "c"), LimitNode("c", "b")), "charging.site.tree"),
    ((LimitNode("a", limit_kw=10), LimitNode("b", "nowhere")), "charging.site.tree"),
    ((LimitNode("a", limit_kw=10), LimitNode("a", "a")), "charging.site.nodes"),
    ((LimitNode("a", limit_kw=-1),), "charging.site.limit"),
    ((LimitNode("a", limit_kw=float("nan")),), "charging.site.limit"),
    ((LimitNode("~charging", limit_kw=1),), "charging.id"),
]


async def test_limits_that_form_no_tree_are_refused(stand: Stand) -> None:
    for nodes, code in TREES:
        with pytest.raises(Refused) as refused:
            await stand.charging.put_site(ChargeSite("d", "D", "Europe/Paris", nodes), DESK)
        assert refused.value.code == code, nodes


async def test_a_limit_of_0_kw_charges_nothing_and_says_so(stand: Stand) -> None:
    car = await stand.plugged_car()
    site = ChargeSite("d", "D", "Europe/Paris", (LimitNode("a", limit_kw=20),))
    await stand.charging.put_site(site, DESK)
    await stand.charging.put_place(Place("d", car.ref), DESK)
    await stand.charging.set_goal(car.ref, stand.goal(4, 60), OWNER)
    now_us = stand.clock.at_us
    await stand.charging.dim("d", 0.0, now_us, now_us + 8 * HOUR_US, "all off")
    await Replanner(stand.charging).turn()
    plan = (await stand.charging.standing(car.ref)).plan
    assert (plan.pieces, plan.reason) == ((), "charging.plan.shared")
    assert plan.shortfall_kwh == pytest.approx(10.0, abs=0.1)


async def test_a_building_that_takes_more_than_the_limit_leaves_nothing_and_breaks_nothing(stand: Stand) -> None:
    car = await stand.plugged_car()
    site = ChargeSite("d", "D", "Europe/Paris", (LimitNode("a", limit_kw=20),), building_kw=35)
    await stand.charging.put_site(site, DESK)
    await stand.charging.put_place(Place("d", car.ref), DESK)
    await stand.charging.set_goal(car.ref, stand.goal(4, 60), OWNER)
    await Replanner(stand.charging).turn()
    board = await stand.charging.board("d")
    assert set(board.limit_kw) == {0.0}
    assert set(board.planned_kw) == {0.0}
    await stand.charging.set_load("d", 5, 0)
    await Replanner(stand.charging).turn()
    assert max((await stand.charging.board("d")).planned_kw) > 0


FILES = [
    ("", "charging.file.empty"),
    ("start;price [USD/MWh]\n2027-01-15T08:00Z;100\n2027-01-15T09:00Z;100\n", "charging.file.currency"),
    ("start;zone;price [EUR/MWh]\n2027-01-15T08:00Z;DE-LU;100\n2027-01-15T09:00Z;DE-LU;1\n", "charging.file.zone"),
    ("start;price [EUR/MWh]\n2027-01-15T08:00Z;cheap\n", "charging.file.number"),
    ("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "xml.*"),
]


async def test_a_file_that_is_not_for_this_tariff_changes_nothing(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "FR", "price", "EUR", "Europe/Paris", "FR"), DESK)
    for content, code in FILES:
        with pytest.raises(Refused) as refused:
            await stand.charging.import_file("fr", content.encode(), DESK)
        assert refused.value.code.startswith(code.rstrip("*")), refused.value.code
    assert (await stand.charging.tariff("fr")).version == 0


async def test_days_of_92_96_and_100_quarters_are_taken_whole(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "FR", "price", "EUR", "Europe/Paris"), DESK)
    quarter_us = HOUR_US // 4
    for day, quarters in ((date(2027, 3, 28), 92), (date(2027, 10, 31), 100), (date(2027, 6, 1), 96)):
        slots = local_day(day, "Europe/Paris")
        assert len(slots) == quarters
        begin = int(slots.start_us[0])
        values = [SeriesValue(begin + at * quarter_us, begin + (at + 1) * quarter_us, 0.1) for at in range(quarters)]
        await stand.charging.put_values("fr", values, DESK)
        assert len(await stand.charging.values("fr", begin, begin + quarters * quarter_us)) == quarters


async def test_published_prices_take_the_place_of_forecasts_and_never_the_other_way_round(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "FR", "price", "EUR", "Europe/Paris"), DESK)
    now_us = stand.clock.at_us
    known = SeriesValue(now_us, now_us + HOUR_US, 0.1)
    guess = SeriesValue(now_us, now_us + HOUR_US, 0.9, is_forecast=True, low=0.5, high=1.5)
    for values in ([guess], [known], [guess]):
        await stand.charging.put_values("fr", values, DESK)
    stored = await stand.charging.values("fr", now_us, now_us + HOUR_US)
    assert (stored.value.tolist(), stored.is_forecast.tolist()) == ([0.1], [False])


async def test_overlapping_values_and_numbers_that_are_none_are_refused(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "FR", "price", "EUR", "Europe/Paris"), DESK)
    for values in (
        [SeriesValue(0, HOUR_US, 0.1), SeriesValue(HOUR_US // 2, 2 * HOUR_US, 0.1)],
        [SeriesValue(HOUR_US, 0, 0.1)],
        [SeriesValue(0, HOUR_US, float("nan"))],
    ):
        with pytest.raises(Refused) as refused:
            await stand.charging.put_values("fr", values, DESK)
        assert refused.value.code == "charging.tariff.values"


async def test_a_vehicle_that_changes_its_plug_ends_one_session_and_begins_another(stand: Stand) -> None:
    class Plugs:
        at: dict[int, AtStation] = {}  # noqa: RUF012 - one for the test

        async def connectors_of(self, refs: list[int]) -> dict[int, AtStation]:
            return {ref: one for ref, one in self.at.items() if ref in refs}

        async def set_limit(self, *_: object) -> None: ...
        async def energy(self, *_: object) -> list[tuple[int, float]]:
            return []

        async def match(self, *_: object) -> list[int]:
            return []

        async def heard_of(self) -> list[int]:
            return []

    plugs = Plugs()
    stand.charging = stand.another(stations=plugs)
    replanner = Replanner(stand.charging)
    car = await stand.plugged_car()
    plugs.at[car.ref] = AtStation("CP-1/1/1", at_us=stand.clock.at_us, began_us=stand.clock.at_us)
    await stand.charging.set_goal(car.ref, stand.goal(8, 80), OWNER)
    await replanner.turn()
    stand.clock.move(hours=1)
    plugs.at[car.ref] = AtStation("CP-2/1/1", at_us=stand.clock.at_us, began_us=stand.clock.at_us)
    await stand.says(car, soc=45.0, cable=True, charging=False)
    await replanner.turn()
    found = (await stand.charging.sessions(car.ref)).sessions
    assert [one.station for one in found] == ["CP-2/1/1", "CP-1/1/1"]
    assert found[1].ended_us == stand.clock.at_us


async def test_a_calendar_with_nothing_to_come_and_a_weekly_goal_that_never_is_are_refused(stand: Stand) -> None:
    car = await stand.car()
    empty = "BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:x\nEND:VCALENDAR\n"
    for departure, code in (
        (Departure("calendar", "Europe/Paris", calendar=empty), "charging.departure.never"),
        (Departure("weekly", "Europe/Paris", weekly=(WeeklyTime(9, 0),)), "charging.departure.weekly"),
    ):
        with pytest.raises(Refused) as refused:
            await stand.charging.set_goal(car.ref, stand.goal(departure=departure), OWNER)
        assert refused.value.code == code
