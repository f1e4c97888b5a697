"""The demo's charging: who stands plugged in, prices of the right shape, plans for all of them from the first minute."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.notebook import Notebook

from rocade.agents.vehicle.convoy import Seat
from rocade.agents.vehicle.simulation.fleet import draw_models
from rocade.app import demo_charging, wiring
from rocade.app.charging import charging_of
from rocade.app.configuration import Configuration
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.vehicles import Registry
from rocade.trust.authority.sealing import Keyring


@pytest.mark.parametrize("count", [13, 60, 500])
def test_who_stands_plugged_in_is_electric_and_leaves_the_first_car_driving(count: int) -> None:
    models = draw_models(count, 1)
    seats = [Seat(f"id-{at}", one.key, str(Path("x"))) for at, one in enumerate(models)]
    changed, home, depot = demo_charging.plugged(seats, models)
    first = next(at for at, one in enumerate(models) if one.powertrain == "electric" and one.kind == "car")
    assert not changed[first].is_plugged
    assert home not in depot
    assert len(depot) <= demo_charging.DEPOT_CARS
    assert {at for at, seat in enumerate(changed) if seat.is_plugged} == {home, *depot}
    assert {models[at].powertrain for at in (home, *depot)} == {"electric"}


async def test_the_demo_has_a_plan_for_everybody_at_once(database: Database, keyring: Keyring, tmp_path: Path) -> None:
    clock, random_ = SystemClock(), SystemRandom()
    registry = Registry(database, random_, clock)
    models = [one for one in draw_models(60, 1) if one.powertrain == "electric" and one.battery_kwh > 20][:4]
    refs = [
        int((await registry.add(f"DEMO-{at}", "moped", one.brand, one.model, "electric", "eu")).ref)
        for at, one in enumerate(models)
    ]
    settings = Configuration("demo", "rocade.local", str(tmp_path))
    for _ in range(2):  # a second start finds what the first one made
        await demo_charging.settle(settings, database, Notebook(), refs[0], refs[1:], models)  # type: ignore[arg-type]  # notes are enough
    charging = charging_of(wiring.Common(settings, clock, random_, database, Notebook(), keyring), None)  # type: ignore[arg-type]
    home = await charging.standing(refs[0])
    assert home.plan is not None
    assert home.plan.currency == "EUR"
    assert min(home.plan.price) > 0
    assert home.goal is not None
    assert home.goal.version == 1, "an owner's own wish is not overwritten"
    board = await charging.board(demo_charging.SITE)
    assert len(board.cars) == 3
    assert len(board.dimmings) >= 1
    prices = await charging.series(demo_charging.PRICE)
    assert prices is not None
    assert prices.is_forecast.any()
    assert not prices.is_forecast.all()
