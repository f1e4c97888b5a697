"""One simulated vehicle as a machine that obeys: each act switches `Controls`, or is refused with what stands against it.

Refuses: `command.vehicle.unsupported` (the brand's file says no, or the machine lacks it), `.unplugged`, `.full`, `.low`, `.driving`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rocade.agents.vehicle.simulation.fleet import Fleet
from rocade.agents.vehicle.simulation.models import Model
from rocade.core.catalogue import Brand
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.wire.commands import Command, Limit, Precondition, Schedule, Seconds, Timer, check

LOWEST_FOR_CLIMATE = 15.0
_WALK_MPS = 1.0


class Machine:
    """Vehicle `place` of a fleet. `changed` is called after something was switched: telemetry should tell it at once."""

    def __init__(
        self, fleet: Fleet, place: int, brand: Brand | None, clock: Clock, changed: Callable[[], None]
    ) -> None:
        self._fleet, self._place, self._clock, self._changed = fleet, place, clock, changed
        self._model = fleet.models[place]
        self._brand = brand
        self._versions: dict[str, int] = {}

    def is_awake(self) -> bool:
        return self._fleet.controls.is_awake(self._place, self._clock.now_us())

    def done(self, lane: str) -> int:
        return self._versions.get(lane, 0)

    def apply(self, command: Command) -> None:
        """Raises: Refused `command.vehicle.*`."""
        if not self._can(command.act):
            raise Refused("command.vehicle.unsupported", "this vehicle cannot do that", act=command.act)
        parameters = check(command.act, command.parameters, 0)
        match parameters:
            case Limit(percent=percent, current_a=current_a):
                self._fleet.controls.limit[self._place] = percent
                if current_a is not None:
                    self._fleet.controls.current_a[self._place] = current_a
            case Schedule(slots=slots):
                wish = self._fleet.controls.wish(self._place)
                wish.slots, wish.slots_us = slots, command.issued_us
            case Timer(departure_us=departure_us, target_percent=target):
                wish = self._fleet.controls.wish(self._place)
                wish.departure_us, wish.target_percent, wish.timer_us = departure_us, target, command.issued_us
            case Precondition(temperature_c=celsius, until_us=until_us):
                self._warm(celsius, until_us)
            case Seconds(seconds=seconds):
                self._call(command.act, seconds)
            case _:
                _SIMPLE[command.act](self, command)
        self._versions[command.lane] = command.version
        self._changed()

    def _can(self, act: str) -> bool:
        model = self._model
        known = self._brand.commands.can(act, model.model) if self._brand else "unknown"
        return known != "no" and _NEEDS[act.split(".", 1)[0]](model)

    def _start(self, command: Command) -> None:
        fleet, place = self._fleet, self._place
        if not fleet.controls.is_plugged[place]:
            raise Refused("command.vehicle.unplugged", "no charging cable is connected")
        if fleet.energy.charge[place] >= fleet.controls.limit[place]:
            raise Refused("command.vehicle.full", "the battery is at its charge limit")
        self._power(command)

    def _power(self, command: Command) -> None:
        wish = self._fleet.controls.wish(self._place)
        wish.power, wish.power_us = command.act == "charge.start", command.issued_us

    def _warm(self, celsius: float, until_us: int) -> None:
        if self._model.battery_kwh > 3 and self._fleet.energy.charge[self._place] < LOWEST_FOR_CLIMATE:
            raise Refused("command.vehicle.low", "the battery is too low for that")
        self._fleet.controls.warm(self._place, celsius, until_us)

    def _cool_down(self, _command: Command) -> None:
        self._fleet.controls.cool_down(self._place)

    def _call(self, act: str, seconds: int) -> None:
        self._check_standing()
        until_us = self._clock.now_us() + seconds * 1_000_000
        if act == "attention.horn":
            self._fleet.controls.sound(self._place, until_us)
        else:
            self._fleet.controls.flash(self._place, until_us)

    def _doors(self, command: Command) -> None:
        self._check_standing()
        self._fleet.controls.is_locked[self._place] = command.act == "doors.lock"

    def _report(self, _command: Command) -> None:
        """Being awake and heard is all that is asked."""

    def _check_standing(self) -> None:
        if self._fleet.traffic.speed[self._place] > _WALK_MPS:
            raise Refused("command.vehicle.driving", "the vehicle is being driven")


_NEEDS: Mapping[str, Callable[[Model], bool]] = {
    "charge": lambda model: model.battery_kwh > 3,
    "climate": lambda model: model.has_cabin,
    "doors": lambda model: model.powertrain != "muscle",
    "attention": lambda model: model.powertrain != "muscle",
    "location": lambda _model: True,
    "power": lambda _model: True,
}
_SIMPLE: Mapping[str, Callable[[Machine, Command], None]] = {
    "charge.start": Machine._start,
    "charge.stop": Machine._power,
    "climate.stop": Machine._cool_down,
    "doors.lock": Machine._doors,
    "doors.unlock": Machine._doors,
    "location.report": Machine._report,
    "power.wake": Machine._report,
}
