"""Files of prices and CO2 become series that plans rest on: ENTSO-E's XML, CSV of both kinds; one file, one version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rocade.services.charging import CarFacts, Tariff

if TYPE_CHECKING:
    from tests.services.charging.conftest import Stand

HOUR_US = 3_600_000_000
DESK, OWNER = "operator:x", "person:01"
POINTS = "".join(
    f"<Point><position>{at + 1}</position><price.amount>{100 - 10 * (at % 10)}</price.amount></Point>"
    for at in range(24)
)
XML = f"""<?xml version="1.0" encoding="UTF-8"?>
<Publication_MarketDocument xmlns="urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3"><mRID>1</mRID><type>A44</type>
<TimeSeries><mRID>1</mRID><in_Domain.mRID codingScheme="A01">10YFR-RTE------C</in_Domain.mRID>
<out_Domain.mRID codingScheme="A01">10YFR-RTE------C</out_Domain.mRID><currency_Unit.name>EUR</currency_Unit.name>
<price_Measure_Unit.name>MWH</price_Measure_Unit.name><curveType>A01</curveType>
<Period><timeInterval><start>2027-01-14T23:00Z</start><end>2027-01-15T23:00Z</end></timeInterval>
<resolution>PT60M</resolution>{POINTS}</Period></TimeSeries></Publication_MarketDocument>"""
CSV = "start;carbon [g/kWh]\n" + "".join(f"2027-01-15T{hour:02}:00Z;{400 - 10 * hour}\n" for hour in range(24))


async def test_prices_of_a_market_and_co2_of_a_grid_become_what_a_plan_weighs(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "France", "price", "EUR", "Europe/Paris", "FR"), DESK)
    await stand.charging.add_tariff(Tariff("grid", "Grid", "co2", "", "Europe/Paris"), DESK)
    prices = await stand.charging.import_file("fr", XML.encode(), DESK)
    carbon = await stand.charging.import_file("grid", CSV.encode(), DESK)
    assert (prices.values, prices.tariff.version, carbon.values) == (24, 1, 24)
    assert prices.tariff.known_us == prices.tariff.until_us
    car = await stand.car()
    await stand.charging.set_car(
        car.ref, CarFacts(capacity_kwh=50, max_kw=10, efficiency=1.0, taper_from_percent=100), OWNER
    )
    await stand.says(car, soc=40.0, cable=True)
    costs = []
    for share in (0.0, 1.0):
        goal = stand.goal(12, 60, tariff="fr", carbon="grid", share_co2=share)
        plan = await stand.charging.preview(car.ref, goal)
        costs.append((plan.cost_minor, plan.co2_g))
    (cheap, its_carbon), (dear, green) = costs
    assert cheap < dear
    assert green < its_carbon
    assert cheap == pytest.approx(10, abs=3), "the cheapest hour is 10 EUR/MWh"


async def test_the_same_file_again_is_a_new_version_of_the_same_values(stand: Stand) -> None:
    await stand.charging.add_tariff(Tariff("fr", "France", "price", "EUR", "Europe/Paris", "FR"), DESK)
    first = await stand.charging.import_file("fr", XML.encode(), DESK)
    again = await stand.charging.import_file("fr", XML.encode(), DESK)
    assert again.tariff.version == 2
    assert (again.tariff.from_us, again.tariff.until_us) == (first.tariff.from_us, first.tariff.until_us)
    assert len(await stand.charging.values("fr", again.tariff.from_us, again.tariff.until_us)) == 24
