"""Profiles in each version's words, what several come to, which way is tried first, and what a meter value shows. All pure."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.doors.ocpp import schemas
from rocade.doors.ocpp.contract import Version
from rocade.services.charging.stations import dialect, profiles, reading
from rocade.services.charging.stations.dialect import Dialect, Way
from rocade.services.charging.stations.model import Limit, Sample, Slot
from rocade.services.charging.stations.profiles import Held

S = 1_000_000
NOW = 1_800_000_000 * S
WAYS = [Way(purpose, unit) for purpose in dialect.PURPOSES for unit in ("A", "W")]
VERSIONS: tuple[Version, ...] = ("1.6", "2.0.1", "2.1")
slots = st.lists(st.floats(0, 350), min_size=1, max_size=96).map(
    lambda powers: Limit(
        tuple(Slot(NOW + at * 900 * S, kw) for at, kw in enumerate(powers)), NOW + len(powers) * 900 * S
    )
)


@pytest.mark.parametrize("version", VERSIONS)
@given(limit=slots, way=st.sampled_from(WAYS), late=st.integers(0, 3600), most=st.sampled_from([0, 1, 5]))
@settings(max_examples=25, deadline=None)
def test_what_is_sent_is_valid_says_what_was_meant_and_ends(
    version: Version, limit: Limit, way: Way, late: int, most: int
) -> None:
    """Never more than wanted, at no instant; exactly what was wanted where there is room for every slot."""
    now_us = min(NOW + late * S, limit.until_us - S)
    begin_us, rows = dialect.periods(limit, way.unit, 3, 230.0, now_us, most)
    assert rows[0][0] == 0
    assert most == 0 or len(rows) <= most
    payload = profiles.set_profile(version, 1, way, begin_us, limit.until_us, rows, 3, "17", 1)
    assert schemas.check_call(version, "SetChargingProfile", payload) is None
    sent = payload["csChargingProfiles" if version == "1.6" else "chargingProfile"]
    held = profiles.read_profile(version, sent, now_us)
    assert held.until_us == limit.until_us
    assert profiles.is_ours(held.id)
    per_unit = 690.0 if way.unit == "A" else 1.0
    for at_us in range(now_us, limit.until_us, 450 * S):
        wanted_w = (limit.kw_at(at_us) or 0.0) * 1000
        said = held.limit_at(at_us)
        assert said is not None
        assert said * per_unit <= wanted_w + 1e-6
        if not most:
            assert said * per_unit >= wanted_w - (6 * 690 if way.unit == "A" else 1)
    assert held.limit_at(limit.until_us) is None


def test_a_limit_that_begins_later_is_a_schedule_that_begins_later() -> None:
    limit = Limit((Slot(NOW + 600 * S, 5.0), Slot(NOW + 1200 * S, 0.0)), NOW + 1800 * S)
    begin_us, rows = dialect.periods(limit, "W", 3, 230.0, NOW, 0)
    assert (begin_us, rows) == (NOW + 600 * S, [(0, 5000.0), (600, 0.0)])


AMPERES = [
    (0, 3, 0.0),
    (1.0, 3, 0.0),
    (4.14, 3, 6.0),
    (4.2, 3, 6.0),
    (11.0, 3, 15.9),
    (7.4, 1, 32.1),
    (1.38, 1, 6.0),
    (1.37, 1, 0.0),
]


@pytest.mark.parametrize(("kw", "phases", "wanted"), AMPERES)
def test_power_becomes_amperes_rounded_down_and_a_pause_below_six(kw: float, phases: int, wanted: float) -> None:
    assert dialect.amperes(kw, phases, 230.0) == wanted


def held(purpose: profiles.Purpose, limit: float, *, stack: int = 0, from_s: int = 0, until_s: int = 3600) -> Held:
    return Held(1, purpose, stack, "A", NOW + from_s * S, NOW + until_s * S, ((NOW + from_s * S, limit),))


COMPOSITES = [
    ("nothing", [], []),
    ("one", [held("tx_default", 16)], [(0, 16), (3600, float("inf"))]),
    ("a transaction's own stands for the default", [held("tx_default", 16), held("tx", 32)], [(0, 32), (3600, float("inf"))]),
    ("the station's maximum bounds", [held("tx", 32), held("station_max", 20)], [(0, 20), (3600, float("inf"))]),
    ("the maximum alone", [held("station_max", 20)], [(0, 20), (3600, float("inf"))]),
    ("the highest level counts", [held("tx", 10, stack=1), held("tx", 32, stack=2)], [(0, 32), (3600, float("inf"))]),
    ("a level that has ended gives way", [held("tx", 10), held("tx", 32, stack=1, until_s=600)], [(0, 32), (600, 10), (3600, float("inf"))]),
    ("one that has not begun yet", [held("tx", 10), held("tx", 6, stack=1, from_s=900)], [(0, 10), (900, 6), (3600, float("inf"))]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "several", "wanted"), COMPOSITES, ids=[case[0] for case in COMPOSITES])
def test_what_several_profiles_come_to(what: str, several: list[Held], wanted: list[tuple[int, float]]) -> None:
    found = profiles.composite(several, NOW, NOW + 7200 * S)
    assert [((at_us - NOW) // S, limit) for at_us, limit in found] == wanted


def test_ways_are_tried_from_the_narrowest_and_what_failed_last() -> None:
    memory = Dialect(units=("W", "A"))
    tried = dialect.ways(memory, has_transaction=True, may_limit_station=True, now_us=NOW)
    assert tried == [Way(purpose, unit) for purpose in dialect.PURPOSES for unit in ("W", "A")]
    memory.note(Way("tx", "W"), "rejected", NOW)
    memory.note(Way("tx_default", "W"), "ignored", NOW)
    tried = dialect.ways(memory, has_transaction=True, may_limit_station=True, now_us=NOW)
    assert tried[0] == Way("tx", "A")
    assert set(tried[-2:]) == {Way("tx", "W"), Way("tx_default", "W")}
    later = dialect.ways(memory, has_transaction=True, may_limit_station=True, now_us=NOW + dialect.RETRY_US)
    assert later[0] == Way("tx", "W"), "after a week it is worth another try"
    assert not [way for way in dialect.ways(memory, has_transaction=False, may_limit_station=False, now_us=NOW)
                if way.purpose != "tx_default"]  # fmt: skip


JUDGED = [
    ("it fell", 4.0, 11_000, 3_990, 30, "proven"),
    ("it stayed", 4.0, 11_000, 11_000, 30, "over"),
    ("too early to say", 4.0, 11_000, 11_000, 5, "open"),
    ("it was low before", 4.0, 2_000, 2_000, 30, "kept"),
    ("nobody knows what was before", 4.0, None, 3_990, 30, "kept"),
    ("a pause kept", 0.0, 7_400, 20, 30, "proven"),
    ("a pause not kept", 0.0, 7_400, 1_400, 30, "over"),
    ("before it was sent", 4.0, 11_000, 3_990, -5, "open"),
]


@pytest.mark.parametrize(
    ("what", "limit", "before", "drawn", "after_s", "wanted"), JUDGED, ids=[one[0] for one in JUDGED]
)
def test_what_a_meter_value_shows(
    what: str, limit: float, before: float | None, drawn: float, after_s: int, wanted: str
) -> None:
    sample = Sample(at_us=NOW + after_s * S, power_w=drawn)
    assert dialect.judge(limit, before, sample, NOW) == wanted


def test_power_that_is_not_said_comes_from_currents() -> None:
    assert Sample(at_us=1, current_a=(10.0, 10.0, 10.0)).watts == pytest.approx(6900)
    assert Sample(at_us=1, current_a=(10.0,), voltage_v=(240.0,)).watts == pytest.approx(2400)
    assert Sample(at_us=1).watts is None


READINGS = [
    ({"value": "7.2", "measurand": "Power.Active.Import", "unit": "kW"}, "power_w", 7200.0),
    ({"value": "12.5", "unit": "kWh"}, "energy_wh", 12500.0),
    ({"value": "64", "measurand": "SoC", "unit": "Percent", "location": "EV"}, "soc_percent", 64.0),
    ({"value": "16", "measurand": "Current.Import", "phase": "L2"}, "current_a", (0.0, 16.0)),
    ({"value": "231", "measurand": "Voltage", "phase": "L1-N"}, "voltage_v", (231.0,)),
    ({"value": "32", "measurand": "Current.Offered"}, "offered_a", 32.0),
    ({"value": "21", "measurand": "Temperature", "unit": "Celcius"}, "other", {"Temperature": 21.0}),
    ({"value": "5", "location": "Inlet"}, "other", {"Energy.Active.Import.Register@Inlet": 5.0}),
]


@pytest.mark.parametrize(("value", "name", "wanted"), READINGS)
def test_a_sampled_value_of_1_6_is_read(value: dict[str, str], name: str, wanted: object) -> None:
    fact = reading.read("1.6", "MeterValues", {"connectorId": 1, "meterValue": [
        {"timestamp": "2026-11-01T00:00:00Z", "sampledValue": [value]}]}, NOW)  # fmt: skip
    assert isinstance(fact, reading.Metered)
    assert getattr(fact.samples[0], name) == wanted


def test_a_sampled_value_of_2_has_a_unit_and_a_power_of_ten() -> None:
    one = {"value": 12.5, "unitOfMeasure": {"unit": "Wh", "multiplier": 3}}
    fact = reading.read("2.0.1", "MeterValues", {"evseId": 1, "meterValue": [
        {"timestamp": "2026-11-01T00:00:00Z", "sampledValue": [one]}]}, NOW)  # fmt: skip
    assert isinstance(fact, reading.Metered)
    assert fact.samples[0].energy_wh == 12500


TIMES = [
    ("2026-11-01T00:00:00Z", 1_793_491_200 * S), ("2026-11-01T01:00:00+01:00", 1_793_491_200 * S),
    ("2026-11-01T00:00:00", 1_793_491_200 * S), ("2026-11-01T00:00:00.250Z", 1_793_491_200 * S + 250_000),
    ("yesterday", NOW), ("2090-01-01T00:00:00Z", NOW), ("0001-01-01T00:00:00", NOW),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), TIMES)
def test_a_time_is_read_or_replaced_by_the_arrival(text: str, wanted: int) -> None:
    assert reading.instant(text, NOW) == wanted
