"""Segments of charging and driving: found where they are, cut where nothing was said, marked when they cannot count."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from tests.services.battery.driving import DAY_US, NOW_US, days

from rocade.services.battery import Rules, find_segments, resistance
from rocade.services.telemetry import Series


def test_each_drive_and_each_charge_is_one_segment_of_the_right_energy() -> None:
    found, seen = find_segments(days(4, new_kwh=64, health=90))
    assert [one.kind for one in found] == ["drive", "charge"] * 4
    assert (seen.charge_from, seen.energy_from, seen.has_temperature) == ("charge", "power", True)
    for one in found:
        assert one.swing >= 50
        assert one.capacity_kwh == pytest.approx(64 * 0.9, rel=0.012), one
        assert one.temperature_c == pytest.approx(22)


def test_what_the_pack_itself_turned_into_heat_is_told_apart() -> None:
    """Without it a charge would show more than the pack holds and a drive less: by the current times the resistance."""
    made = days(3, ohm=0.2)
    ohm, steps = resistance(made)
    assert ohm == pytest.approx(0.2, rel=0.02)
    assert steps > 30
    found, seen = find_segments(made)
    assert seen.resistance_mohm == pytest.approx(200, rel=0.02)
    drives, charges = ([one.capacity_kwh for one in found if one.kind == kind] for kind in ("drive", "charge"))
    assert np.mean(drives) == pytest.approx(np.mean(charges), rel=0.01)
    blind, _ = find_segments({role: one for role, one in made.items() if role not in {"amperes", "volts"}})
    gap = [np.mean([one.capacity_kwh for one in blind if one.kind == kind]) for kind in ("drive", "charge")]
    assert gap[1] - gap[0] > 1.0


@pytest.mark.parametrize("roles", [("volts", "amperes"), ("taken", "given")])
def test_energy_comes_from_what_the_vehicle_has(roles: tuple[str, str]) -> None:
    made = days(3)
    power = made.pop("power")
    if roles == ("taken", "given"):
        kwh = power.value * np.append(np.diff(power.time_us), 0).clip(0, 60_000_000) / 3.6e12
        made["taken"] = Series(power.time_us, np.cumsum(kwh.clip(0, None)))
        made["given"] = Series(power.time_us, np.cumsum((-kwh).clip(0, None)))
        del made["volts"], made["amperes"]
    found, seen = find_segments(made)
    assert seen.energy_from == {"volts": "volts_amperes", "taken": "counters"}[roles[0]]
    assert len(found) >= 4
    assert np.median([one.capacity_kwh for one in found]) == pytest.approx(57.6, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "why"),
    [({"celsius": 2.0}, "cold"), ({"celsius": 51.0}, "hot")],
)
def test_a_cold_or_hot_pack_is_found_and_left_out(changes: dict[str, float], why: str) -> None:
    found, _ = find_segments(days(2, **changes))
    assert found
    assert {one.left_out for one in found} == {why}


def test_charging_that_nobody_saw_is_no_segment() -> None:
    """The power is silent while the charge goes on by 30 %: a ratio of the rest would be nonsense."""
    made = days(1)
    charge, power = made["charge"], made["power"]
    begin = NOW_US - 40 * DAY_US + 18 * 3_600_000_000
    dark = (power.time_us > begin + 3_600_000_000) & (power.time_us < begin + 5 * 3_600_000_000)
    made["power"] = Series(power.time_us[~dark], power.value[~dark])
    found, _ = find_segments(made)
    for one in (one for one in found if one.kind == "charge"):
        assert not one.start_us < begin + 2 * 3_600_000_000 < one.end_us
        assert one.capacity_kwh == pytest.approx(57.6, rel=0.03)
    assert len(charge.time_us) == len(made["charge"].time_us)


def test_a_parked_car_between_two_drives_does_not_end_a_segment() -> None:
    made = days(1)
    at_us, half = made["charge"].time_us, 600
    pause = np.where(np.arange(len(at_us)) >= half, 7 * 3_600_000_000, 0)
    pushed = {
        role: Series(one.time_us + np.interp(one.time_us, at_us, pause).astype(np.int64), one.value)
        for role, one in made.items()
    }
    found, _ = find_segments(pushed)
    drive = next(one for one in found if one.kind == "drive")
    assert drive.swing > 50
    assert drive.capacity_kwh == pytest.approx(57.6, rel=0.02)


def test_short_swings_and_missing_signals_give_nothing_and_say_so() -> None:
    made = days(2)
    assert find_segments(made, msgspec.structs.replace(Rules(), least_swing=80.0))[0] == []
    no_power = {role: one for role, one in made.items() if role in {"charge", "temperature"}}
    found, seen = find_segments(no_power)
    assert (found, seen.charge_from, seen.energy_from) == ([], "charge", "")
    found, seen = find_segments({"power": made["power"]})
    assert (found, seen.charge_from) == ([], "")
    assert find_segments({})[0] == []


def test_a_run_that_has_not_ended_is_read_again_from_its_beginning() -> None:
    made = days(2)
    cut_us = int(made["charge"].time_us[-200])
    half = {
        role: Series(one.time_us[one.time_us < cut_us], one.value[one.time_us < cut_us]) for role, one in made.items()
    }
    found, seen = find_segments(half)
    whole, _ = find_segments(made)
    assert seen.open_from_us is not None
    assert seen.open_from_us <= whole[-1].start_us
    assert seen.open_from_us >= found[-2].end_us - 60_000_000
