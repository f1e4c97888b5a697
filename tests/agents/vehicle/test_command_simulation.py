"""Simulated vehicles do what they are told, show it in what they measure, and go on by themselves when nobody tells them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rocade.agents.vehicle.simulation import MODELS, Fleet, build
from rocade.agents.vehicle.simulation.controls import USUAL_LIMIT
from rocade.agents.vehicle.simulation.machine import Machine
from rocade.core.catalogue import standard
from rocade.core.errors import Refused
from rocade.wire.batch import Batch
from rocade.wire.commands import ACTS, Command, proof, utc_text

KEYS = tuple(model.key for model in MODELS)
MINUTE_US = 60_000_000
TOWN = build(7)


class Yard:
    """One vehicle of each model, plugged in where it can be, and time that passes when told."""

    def __init__(self, *, plugged: bool = True, charge: float = 50.0, sleep_after_s: float = float("inf")) -> None:
        self.at_us = 1_795_000_000_000_000
        self.fleet = Fleet(MODELS, TOWN, standard(), 3, sleep_after_s=sleep_after_s)
        self.changed = 0
        self.machines = {
            key: Machine(self.fleet, place, standard().brands[self.fleet.models[place].brand], self, self._note)
            for place, key in enumerate(KEYS)
        }
        self.fleet.energy.charge[:] = charge
        if plugged:
            for place in range(len(KEYS)):
                self.fleet.controls.plug(place)
            self.fleet.controls.is_plugged[:] = True
            self.fleet.traffic.speed[:] = 0
        self.pass_time(3)

    def _note(self) -> None:
        self.changed += 1

    def now_us(self) -> int:
        return self.at_us

    def monotonic_s(self) -> float:
        return self.at_us / 1e6

    def pass_time(self, seconds: int, step_s: int = 1) -> None:
        for _ in range(seconds // step_s):
            self.at_us += step_s * 1_000_000
            self.fleet.step(self.at_us, step_s)

    def until(self, condition: Callable[[], bool], step_s: int = 1) -> None:
        for _ in range(2000):
            if condition():
                return
            self.pass_time(step_s, step_s)
        pytest.fail("it never happened")

    def tell(self, key: str, act: str, **parameters: Any) -> Command:
        command = Command(
            id="a" * 32, vehicle="v", lane=ACTS[act].lane, version=self.at_us, act=act, parameters=parameters,
            issued_us=self.at_us, expires_us=self.at_us + MINUTE_US,
        )  # fmt: skip
        self.machines[key].apply(command)
        return command

    def place(self, key: str) -> int:
        return KEYS.index(key)

    def shows(self, key: str) -> dict[str, Any]:
        """What it says of itself at once."""
        return said(self.fleet.sample(self.place(key), self.at_us)[0])

    def charging(self, key: str) -> bool:
        return bool(self.fleet.energy.is_charging[self.place(key)])

    def charge(self, key: str) -> float:
        return float(self.fleet.energy.charge[self.place(key)])


def said(batch: Batch) -> dict[str, Any]:
    return {standard().by_id(column.signal).name: column.values[-1] for column in batch.columns}


def parameters(act: str, now_us: int) -> dict[str, Any]:
    return {
        "charge.limit": {"percent": 70, "current_a": 10.0},
        "charge.schedule": {"slots": [[now_us, now_us + 60 * MINUTE_US, 7.0]]},
        "charge.timer": {"departure_us": now_us + 600 * MINUTE_US, "target_percent": 80},
        "climate.precondition": {"temperature_c": 22.5, "until_us": now_us + 10 * MINUTE_US},
        "attention.horn": {"seconds": 3},
        "attention.lights": {"seconds": 3},
    }.get(act, {})


@pytest.mark.parametrize("act", ACTS)
def test_every_act_is_proven_by_what_the_vehicle_says_at_once(act: str) -> None:
    yard = Yard()
    if act == "doors.lock":
        yard.tell("electric_car", "doors.unlock")
    if act == "charge.start":
        yard.tell("electric_car", "charge.stop")
    done = yard.tell("electric_car", act, **parameters(act, yard.now_us()))
    shown = yard.shows("electric_car")
    assert yard.changed
    for condition in proof(act, done.parameters):
        assert not condition.signal or condition.holds(shown[condition.signal]), condition
    assert yard.machines["electric_car"].done(done.lane) == done.version


def test_a_vehicle_that_nobody_tells_charges_by_itself_and_leaves_when_full() -> None:
    yard = Yard(plugged=False, charge=11.0)
    place = yard.place("electric_moped")
    yard.until(lambda: yard.charging("electric_moped"))
    yard.until(lambda: not yard.fleet.controls.is_plugged[place], 20)
    assert yard.charge("electric_moped") == pytest.approx(USUAL_LIMIT, abs=0.5)
    yard.until(lambda: yard.fleet.traffic.speed[place] > 2)


def test_a_stop_holds_until_a_start_or_until_the_cable_is_out() -> None:
    yard = Yard()
    assert yard.charging("electric_car")
    yard.tell("electric_car", "charge.stop")
    yard.pass_time(600, 10)
    assert not yard.charging("electric_car")
    assert yard.shows("electric_car")["Vehicle.Powertrain.TractionBattery.Charging.AveragePower"] == 0
    yard.tell("electric_car", "charge.start")
    yard.pass_time(10)
    assert yard.charging("electric_car")
    yard.tell("electric_car", "charge.stop")
    yard.fleet.controls.unplug(yard.place("electric_car"))
    yard.fleet.controls.plug(yard.place("electric_car"))
    yard.pass_time(60)
    assert yard.charging("electric_car")


def test_charging_ends_at_the_limit_and_keeps_to_the_current() -> None:
    yard = Yard()
    yard.tell("electric_car", "charge.limit", percent=52, current_a=6.0)
    yard.pass_time(5)
    power_kw = yard.shows("electric_car")["Vehicle.Powertrain.TractionBattery.Charging.AveragePower"]
    assert power_kw == pytest.approx(6 * 230 * 3 / 1000, abs=0.01)
    yard.pass_time(3600, 30)
    assert not yard.charging("electric_car")
    assert yard.charge("electric_car") == pytest.approx(52, abs=1)


def test_a_schedule_charges_in_its_slots_with_their_power_and_no_longer() -> None:
    yard = Yard()
    now_us = yard.now_us()
    slots = [
        [now_us + 10 * MINUTE_US, now_us + 20 * MINUTE_US, 5.0],
        [now_us + 40 * MINUTE_US, now_us + 50 * MINUTE_US, 11.0],
    ]
    yard.tell("electric_car", "charge.schedule", slots=slots)
    seen = []
    for _ in range(11):
        shown = yard.shows("electric_car")
        seen.append((yard.charging("electric_car"), shown["Vehicle.Powertrain.TractionBattery.Charging.Timer.Time"]))
        yard.pass_time(300, 10)
    first, second = utc_text(slots[0][0]), utc_text(slots[1][0])
    assert [on for on, _ in seen] == [False, False, True, True, False, False, False, False, True, True, True]
    assert [time for _, time in seen[:10]] == [first] * 4 + [second] * 6
    yard.tell("electric_car", "charge.schedule", slots=[])
    assert yard.shows("electric_car")["Vehicle.Powertrain.TractionBattery.Charging.Timer.Mode"] == "INACTIVE"


def test_a_stop_after_a_schedule_stands_and_a_newer_schedule_takes_over() -> None:
    yard = Yard()
    yard.tell("electric_car", "charge.schedule", slots=[[yard.now_us(), yard.now_us() + 90 * MINUTE_US, 7.0]])
    yard.pass_time(10)
    assert yard.charging("electric_car")
    yard.tell("electric_car", "charge.stop")
    yard.pass_time(60)
    yard.tell("electric_car", "charge.schedule", slots=[])
    yard.pass_time(60)
    assert not yard.charging("electric_car")
    yard.tell("electric_car", "charge.schedule", slots=[[yard.now_us(), yard.now_us() + 30 * MINUTE_US, 7.0]])
    yard.pass_time(10)
    assert yard.charging("electric_car")


def test_a_timer_charges_late_and_is_ready_in_time() -> None:
    yard = Yard(charge=40.0)
    departure_us = yard.now_us() + 180 * MINUTE_US
    yard.tell("electric_car", "charge.timer", departure_us=departure_us, target_percent=70)
    yard.pass_time(3600, 30)
    assert not yard.charging("electric_car")
    yard.pass_time(7100, 20)
    assert yard.charge("electric_car") == pytest.approx(70, abs=1)


def test_the_cabin_is_warm_when_it_was_asked_for_and_only_as_long() -> None:
    yard = Yard()
    warm = yard.fleet.energy.cabin_c
    yard.tell("electric_car", "climate.precondition", temperature_c=28.0, until_us=yard.now_us() + 20 * MINUTE_US)
    yard.pass_time(1190, 10)
    warm = float(yard.fleet.energy.cabin_c[yard.place("electric_car")])
    assert warm == pytest.approx(28, abs=0.5)
    yard.pass_time(900, 10)
    assert yard.fleet.energy.cabin_c[yard.place("electric_car")] < warm - 4
    assert not yard.shows("electric_car")["Vehicle.Cabin.HVAC.IsAirConditioningActive"]


def test_horn_and_lights_end_by_themselves() -> None:
    yard = Yard()
    yard.tell("electric_car", "attention.horn", seconds=2)
    yard.tell("electric_car", "attention.lights", seconds=5)
    yard.pass_time(3)
    assert (yard.fleet.controls.horn.any(), yard.fleet.controls.lights.any()) == (False, True)
    yard.pass_time(3)
    assert not yard.fleet.controls.lights.any()


@pytest.mark.parametrize(
    ("key", "act", "charge", "plugged", "code"),
    [
        ("bicycle", "doors.lock", 50, True, "unsupported"),
        ("e_bike", "charge.start", 50, True, "unsupported"),
        ("petrol_car", "charge.stop", 50, True, "unsupported"),
        ("electric_moped", "climate.stop", 50, True, "unsupported"),
        ("electric_car", "charge.start", 50, False, "unplugged"),
        ("electric_car", "charge.start", 90, True, "full"),
        ("electric_car", "climate.precondition", 13, False, "low"),
    ],
)
def test_what_a_vehicle_cannot_do_it_refuses(key: str, act: str, charge: float, plugged: bool, code: str) -> None:
    yard = Yard(plugged=plugged, charge=charge)
    with pytest.raises(Refused, match=rf"command\.vehicle\.{code}"):
        yard.tell(key, act, **parameters(act, yard.now_us()))
    assert yard.changed == 0


def test_doors_are_left_to_the_driver_while_it_moves() -> None:
    yard = Yard(plugged=False)
    yard.fleet.traffic.speed[:] = 10.0
    for act in ("doors.unlock", "attention.horn"):
        with pytest.raises(Refused, match=r"command\.vehicle\.driving"):
            yard.tell("electric_car", act, **parameters(act, yard.now_us()))


def test_an_idle_vehicle_sleeps_says_little_and_takes_seconds_to_wake_up() -> None:
    yard = Yard(charge=85.0, sleep_after_s=30)
    place, machine = yard.place("electric_car"), yard.machines["electric_car"]
    yard.pass_time(60)
    assert yard.fleet.controls.asleep[place]
    steps = yard.fleet.steps
    yard.pass_time(120)
    sleeping = yard.fleet.batch(place, steps)
    assert sleeping is not None
    assert len(sleeping[0].clocks[0].times_us) == 2
    assert not machine.is_awake()
    yard.pass_time(2)
    assert not machine.is_awake()
    yard.pass_time(6)
    assert machine.is_awake()
    steps = yard.fleet.steps
    yard.pass_time(20)
    awake = yard.fleet.batch(place, steps)
    assert awake is not None
    assert len(awake[0].clocks[0].times_us) == 20
