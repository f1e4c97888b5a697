"""The demo's charging: an electric car of the owner's that stands plugged in with a goal, a depot of cars under one limit, prices.

Prices and CO2 are invented: a shape of every day's own, cheap at night and at noon, dear in the evening; published until the end
of today, or of tomorrow from two in the afternoon on, and a forecast beyond, as day-ahead prices are. They are made anew at every
start, and so are the depot's departures: some of its cars have hours to spare, some hardly any. In a while the grid asks the
depot to draw less. Everything else is real: the same plans, commands and proofs as anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from rocade.agents.vehicle.convoy import Seat
from rocade.agents.vehicle.simulation.models import Model
from rocade.app import wiring
from rocade.app.charging import charging_of
from rocade.app.configuration import Configuration
from rocade.app.custodies import open_keyring
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.charging import (
    CarFacts,
    ChargeSite,
    Charging,
    Departure,
    Goal,
    LimitNode,
    Place,
    SeriesValue,
    Tariff,
    WeeklyTime,
)
from rocade.trust.authority import AuditLog

ACTOR = "service:demo"
PRICE, CARBON, SITE = "demo-day-ahead", "demo-co2", "demo-depot"
CENTS = (17.2, 15.8, 14.6, 13.9, 14.1, 16.0, 20.4, 26.1, 27.3, 22.8, 17.5, 13.6, 9.4, 8.1, 10.7, 15.9, 21.7, 28.6, 33.9, 32.4,
         27.2, 23.5, 20.6, 18.7)  # fmt: skip
"""EUR cents per kWh by hour of the day. Invented."""
GRAMS = (48, 45, 42, 41, 42, 47, 58, 66, 61, 49, 38, 31, 27, 26, 30, 41, 57, 74, 86, 84, 74, 65, 58, 52)
"""Grams of CO2 per kWh by hour of the day. Invented."""
QUARTER_US, HOUR_US = 900_000_000, 3_600_000_000
PLUG_KW, HOME_PERCENT, TARGET_PERCENT, EFFICIENCY = 11.0, 38.0, 80.0, 0.9
LIMIT_KW, BUILDING_KW, SOLAR_KW = 70.0, 14.0, 5.5
DIMMED_KW, DIMMED_IN_US, DIMMED_FOR_US = 35.0, 20 * 60_000_000, 45 * 60_000_000
DEPOT_CARS = 10
SPARE_H = (0.35, 0.8, 2.2, 3.0, 4.2, 5.0, 6.5, 8.0, 9.5, 11.0)
"""How long each of the depot's cars can wait."""
PERCENTS = (52.0, 31.0, 44.0, 23.0, 61.0, 38.0, 27.0, 49.0, 35.0, 57.0)
SEED = 20_261_123


def plugged(seats: Sequence[Seat], models: Sequence[Model]) -> tuple[list[Seat], int, list[int]]:
    """The fleet with the cars that stand plugged in; the places of the owner's and of the depot's among them.

    The first electric car goes on driving: the pages of owners show it on its way.
    """
    fit = [at for at, one in enumerate(models) if one.powertrain == "electric" and one.battery_kwh > 20][1:]
    home, depot = fit[0], fit[1 : 1 + DEPOT_CARS]
    charge = {home: HOME_PERCENT} | {at: PERCENTS[number] for number, at in enumerate(depot)}
    changed = [
        msgspec.structs.replace(seat, is_plugged=True, charge_percent=charge[at]) if at in charge else seat
        for at, seat in enumerate(seats)
    ]
    return changed, home, depot


async def settle(
    configuration: Configuration,
    database: Database,
    audit: AuditLog,
    home: int,
    depot: Sequence[int],
    models: Sequence[Model],
) -> None:
    """Prices, the owner's goal, the depot. `home`, `depot`: references; `models`: of home and depot, in this order."""
    clock = SystemClock()
    async with open_keyring(configuration, database, clock) as keyring:
        await _settle(
            wiring.Common(configuration, clock, SystemRandom(), database, audit, keyring), home, depot, models
        )


async def _settle(parts: wiring.Common, home: int, depot: Sequence[int], models: Sequence[Model]) -> None:
    charging, zone = charging_of(parts, None), local_zone()
    await _publish(charging, zone)
    for ref, model in zip((home, *depot), models, strict=True):
        await charging.set_car(
            ref,
            CarFacts(
                capacity_kwh=model.battery_kwh, max_kw=PLUG_KW, phases=3, efficiency=EFFICIENCY, taper_from_percent=85.0
            ),
            ACTOR,
        )
    daily = Departure("weekly", zone, weekly=tuple(WeeklyTime(day, 7 * 60) for day in range(7)))
    goal = Goal(home, 80.0, daily, 20.0, 0.5, care=True, tariff=PRICE, carbon=CARBON)
    if await charging.goal(home) is None:
        await charging.set_goal(home, goal, ACTOR)
    await _open_depot(charging, zone, depot, models[1:])


async def _publish(charging: Charging, zone: str) -> None:
    """The day before, today and three days more, by the quarter of an hour."""
    now = datetime.now(ZoneInfo(zone))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    known_us = _us(midnight + timedelta(days=2 if now.hour >= 14 else 1))
    first_us, last_us = _us(midnight - timedelta(days=1)), _us(midnight + timedelta(days=4))
    dice = random.Random(f"{SEED} {midnight:%Y-%m-%d}")
    known = {one.id for one in await charging.tariffs()}
    for id, name, kind, unit, shape in (
        (PRICE, "Day-ahead (invented)", "price", 0.01, CENTS), (CARBON, "CO2 (invented)", "co2", 1.0, GRAMS),
    ):  # fmt: skip
        if id not in known:
            await charging.add_tariff(Tariff(id, name, kind, "EUR" if kind == "price" else "", zone), ACTOR)  # type: ignore[arg-type]  # one of the kinds
        values = []
        for at_us in range(first_us, last_us, QUARTER_US):
            value = unit * (_between(shape, at_us, zone) + dice.uniform(-0.4, 0.4))
            band = 0.04 * value * ((at_us - known_us) / (24 * HOUR_US) + 2) if at_us >= known_us else None
            bounds = (None, None) if band is None else (value - band, value + band)
            values.append(SeriesValue(at_us, at_us + QUARTER_US, round(value, 5), band is not None, *bounds))
        await charging.put_values(id, values, ACTOR)


async def _open_depot(charging: Charging, zone: str, refs: Sequence[int], models: Sequence[Model]) -> None:
    now_us = charging.clock.now_us()
    limits = (LimitNode("grid", limit_kw=LIMIT_KW),)
    depot = ChargeSite(
        SITE, "Demo depot", zone, limits, tariff=PRICE, carbon=CARBON, building_kw=BUILDING_KW, solar_kw=SOLAR_KW
    )
    await charging.put_site(depot, ACTOR)
    for number, (ref, model) in enumerate(zip(refs, models, strict=True)):
        await charging.put_place(Place(SITE, ref, priority=1 if number == 0 else 0), ACTOR)
        needs_h = (TARGET_PERCENT - PERCENTS[number]) / 100 * model.battery_kwh / EFFICIENCY / PLUG_KW
        leaves = Departure("once", zone, at_us=now_us + round((needs_h + SPARE_H[number]) * HOUR_US))
        goal = Goal(ref, TARGET_PERCENT, leaves, 30.0, 0.2, tariff=PRICE, carbon=CARBON)
        await charging.set_goal(ref, goal, ACTOR)
    from_us = now_us + DIMMED_IN_US
    await charging.dim(SITE, DIMMED_KW, from_us, from_us + DIMMED_FOR_US, f"demo-{now_us}", ACTOR)


def local_zone() -> str:
    """The machine's time zone by its name, UTC where it has none: goals say hours of somebody's day."""
    name = str(Path("/etc/localtime").resolve()).rpartition("zoneinfo/")[2]
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return "UTC"


def _between(shape: Sequence[float], at_us: int, zone: str) -> float:
    """A shape by hours, at an instant between two of them."""
    at = datetime.fromtimestamp(at_us / 1e6, ZoneInfo(zone))
    share = at.minute / 60
    return shape[at.hour] * (1 - share) + shape[(at.hour + 1) % 24] * share


def _us(at: datetime) -> int:
    return round(at.timestamp()) * 1_000_000
