"""A depot's report: energy, money, CO2 and the peak against `charged at once`, from sessions as they were measured."""

from __future__ import annotations

import csv
import io

import pytest
from tests.services.charging.conftest import HOUR_US, TODAY_US, Stand

from rocade.core.errors import Refused
from rocade.services.charging import ChargeSite, LimitNode, Session, ledger, store
from rocade.services.charging.grid import as_csv, report

BEGIN_US, END_US = TODAY_US - 12 * HOUR_US, TODAY_US


async def a_depot(stand: Stand) -> None:
    await stand.charging.put_site(
        ChargeSite("nord", "Depot Nord", "Europe/Paris", (LimitNode("root", "", 40.0),)), "operator:x"
    )


async def put(
    stand: Stand, ref: int, begin_h: float, end_h: float, drawn: list[tuple[float, float, float]], **more: object
) -> Session:
    """A session from `begin_h` to `end_h` hours after BEGIN_US, with what it drew: (from, until, kW)."""
    stand.measured.of[ref] = [(BEGIN_US + int(a * HOUR_US), BEGIN_US + int(b * HOUR_US), kw) for a, b, kw in drawn]
    energy = sum((b - a) * kw for a, b, kw in drawn)
    made = Session(
        f"cs-{ref}", ref, BEGIN_US + int(begin_h * HOUR_US), BEGIN_US + int(end_h * HOUR_US), "nord", energy_kwh=energy,
        peak_kw=max(kw for _, _, kw in drawn), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    async with store.transaction(stand.database) as connection:
        await ledger.put_session(connection, stand.charging.columns, made, TODAY_US)
    return made


async def test_what_waiting_saved_is_the_difference_to_charging_at_once(stand: Stand) -> None:
    """Two cars come at 0 h and charge 10 kW for two hours each: one after the other, not both at once."""
    await a_depot(stand)
    money = {"currency": "EUR", "cost_minor": 300, "at_once_minor": 800, "co2_g": 2_000, "at_once_g": 5_000}
    await put(stand, 1, 0, 8, [(2, 4, 10.0)], **money)
    await put(stand, 2, 0, 8, [(4, 6, 10.0)], **money)
    found = await report(stand.charging, "nord", BEGIN_US, END_US)
    assert (found.sessions, found.vehicles, found.energy_kwh) == (2, 2, 40.0)
    assert [(one.currency, one.cost_minor, one.avoided_minor) for one in found.money] == [("EUR", 600, 1_000)]
    assert (found.co2_g, found.avoided_g) == (4_000, 6_000)
    assert (found.peak_kw, found.at_once_peak_kw, found.avoided_peak_kw) == (
        pytest.approx(10, rel=0.02), pytest.approx(20, rel=0.02), pytest.approx(10, rel=0.04),
    )  # fmt: skip
    assert found.at_once_peak_us == BEGIN_US
    assert found.unmeasured == 0


async def test_currencies_are_never_added(stand: Stand) -> None:
    await a_depot(stand)
    await put(stand, 1, 0, 3, [(0, 1, 5.0)], currency="EUR", cost_minor=100, at_once_minor=90)
    await put(stand, 2, 0, 3, [(1, 2, 5.0)], currency="CHF", cost_minor=50, at_once_minor=80)
    await put(stand, 3, 0, 3, [(2, 3, 5.0)])
    found = await report(stand.charging, "nord", BEGIN_US, END_US)
    assert [(one.currency, one.avoided_minor) for one in found.money] == [("CHF", 30), ("EUR", -10)], (
        "what cost more says so"
    )
    assert found.energy_kwh == 15.0


async def test_a_session_across_the_edge_counts_by_what_lies_inside(stand: Stand) -> None:
    await a_depot(stand)
    await put(
        stand, 1, -2, 2, [(-2, 2, 5.0)], currency="EUR", cost_minor=400, at_once_minor=400, co2_g=800, at_once_g=800
    )
    found = await report(stand.charging, "nord", BEGIN_US, END_US)
    assert found.energy_kwh == pytest.approx(10, rel=0.02)
    assert found.money[0].cost_minor == pytest.approx(200, abs=5)


async def test_power_that_nobody_measured_is_said_to_be_so(stand: Stand) -> None:
    await a_depot(stand)
    await put(stand, 1, 0, 4, [(0, 4, 5.0)])
    stand.measured.of.clear()
    found = await report(stand.charging, "nord", BEGIN_US, END_US)
    assert (found.unmeasured, found.energy_kwh) == (1, 20.0)
    assert found.peak_kw == pytest.approx(5.0)


async def test_an_empty_period_is_a_report_of_nothing(stand: Stand) -> None:
    await a_depot(stand)
    found = await report(stand.charging, "nord", BEGIN_US, END_US)
    assert (found.sessions, found.energy_kwh, found.peak_kw, found.money) == (0, 0.0, 0.0, ())


@pytest.mark.parametrize(("site", "hours", "code"), [
    ("nowhere", 12, "charging.site.unknown"), ("nord", 0, "charging.report.period"), ("nord", -1, "charging.report.period"),
    ("nord", 24 * 401, "charging.report.period"),
])  # fmt: skip
async def test_a_report_of_no_depot_or_no_period_is_refused(stand: Stand, site: str, hours: float, code: str) -> None:
    await a_depot(stand)
    with pytest.raises(Refused) as refused:
        await report(stand.charging, site, END_US - int(hours * HOUR_US), END_US)
    assert refused.value.code == code


async def test_the_table_is_read_by_any_table_program(stand: Stand) -> None:
    await a_depot(stand)
    await put(stand, 1, 0, 3, [(0, 1, 5.0)], currency="EUR", cost_minor=100, at_once_minor=190)
    lines = list(csv.reader(io.StringIO(as_csv(await report(stand.charging, "nord", BEGIN_US, END_US)))))
    assert lines[0] == ["figure", "value", "unit"]
    assert {len(line) for line in lines} == {3}
    by_name = {line[0]: line[1:] for line in lines}
    assert by_name["cost avoided"] == ["90", "EUR minor units"]
    assert by_name["energy"] == ["5.000", "kWh"]
