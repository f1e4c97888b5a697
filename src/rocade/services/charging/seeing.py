"""What the twin says of a vehicle's battery and plug, in the words of charging.

Cars say the same in several ways: a cable at one of seven ports, power as kW at the plug or W at the battery, a capacity in
kWh or none. The freshest that fits counts; what nobody told is assumed and named (`CarFacts.assumed`), so that whoever reads
a plan sees what it rests on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.services.charging.model import CarFacts, Now
from rocade.services.vehicles import twin

_BATTERY = "Vehicle.Powertrain.TractionBattery."
_CHARGING = f"{_BATTERY}Charging."
_PORTS = ("FrontLeft", "FrontMiddle", "FrontRight", "RearLeft", "RearMiddle", "RearRight", "AnyPosition")
DRAWS_KW = 0.2
"""From this power on a standing battery is taken as charging."""
MOVES_KMH = 3.0
USUAL = CarFacts()


class Signals:
    """Ids of the signals that charging reads."""

    def __init__(self, catalogue: Catalogue) -> None:
        def ids(*names: str) -> tuple[int, ...]:
            return tuple(int(catalogue.by_name(name).id) for name in names)

        self.soc = ids(f"{_BATTERY}StateOfCharge.Displayed", f"{_BATTERY}StateOfCharge.Current")
        self.cable = ids(*(f"{_CHARGING}ChargingPort.{port}.IsChargingCableConnected" for port in _PORTS))
        (self.is_charging,) = ids(f"{_CHARGING}IsCharging")
        (self.plug_kw,) = ids(f"{_CHARGING}AveragePower")
        (self.battery_w,) = ids(f"{_BATTERY}CurrentPower")
        (self.max_kw,) = ids(f"{_CHARGING}MaxPower")
        (self.speed,) = ids("Vehicle.Speed")
        self.capacity = ids(f"{_BATTERY}NetCapacity", f"{_BATTERY}GrossCapacity")
        self.all = frozenset(
            (*self.soc, *self.cable, self.is_charging, self.plug_kw, self.battery_w, self.max_kw, self.speed,
             *self.capacity)
        )  # fmt: skip

    def pick(self, reported: Mapping[int, twin.Value]) -> dict[int, twin.Value]:
        """Those of a twin's values that matter here."""
        return {signal: reported[signal] for signal in self.all & reported.keys()}


class Seen(msgspec.Struct, frozen=True):
    """What a twin says: the state now, and what it tells of the car itself."""

    now: Now
    capacity_kwh: float = 0.0
    max_kw: float = 0.0


def read(one: twin.Twin | None, ref: int, signals: Signals) -> Seen:
    """The words of charging in a twin; of a vehicle that never sent anything, nothing is known."""
    if one is None:
        return Seen(Now(ref))
    values = signals.pick(one.reported)
    soc = max((values[s] for s in signals.soc if s in values), key=lambda v: v.time_us, default=None)
    speed = _number(values, signals.speed)
    is_moving = speed is not None and speed > MOVES_KMH
    power_kw = _power_kw(values, signals)
    says_charging = values.get(signals.is_charging)
    draws = power_kw >= DRAWS_KW and not is_moving
    is_charging = bool(says_charging.value) if says_charging else draws
    cable = [values[s] for s in signals.cable if s in values]
    if cable:
        is_plugged = any(bool(v.value) for v in cable)
        plugged_us = max((v.changed_us for v in cable if bool(v.value) == is_plugged), default=0)
    else:
        is_plugged, plugged_us = _guessed_cable(values, signals, is_charging, one.arrived_us)
    now = Now(
        ref,
        soc_percent=float(soc.value) if soc and not isinstance(soc.value, str) else None,
        soc_us=soc.time_us if soc else 0,
        is_plugged=is_plugged and not is_moving,
        plugged_us=max(plugged_us, 0),
        is_charging=is_charging and not is_moving,
        power_kw=round(power_kw, 3) if is_charging and not is_moving else 0.0,
        seen_us=one.arrived_us,
        is_moving=is_moving,
    )
    capacity = next((found for s in signals.capacity if (found := _number(values, s))), 0.0)
    return Seen(now, capacity, _number(values, signals.max_kw) or 0.0)


def _guessed_cable(
    values: Mapping[int, twin.Value], signals: Signals, is_charging: bool, arrived_us: int
) -> tuple[bool, int]:
    """Of a car that says nothing of its cable: it hangs there since it first charged after it last stopped."""
    says, speed = values.get(signals.is_charging), values.get(signals.speed)
    if says is None:
        return is_charging, arrived_us
    stopped_us = speed.changed_us if speed is not None and not _float(speed) else 0
    return is_charging or bool(stopped_us and says.changed_us > stopped_us), stopped_us or says.changed_us


def facts_of(told: CarFacts | None, seen: Seen, new_kwh: float = 0.0) -> CarFacts:
    """What was told of a car counts; then what it says itself; then its model's capacity when new; then what is usual."""
    if told is not None:
        return told
    found: dict[str, Any] = {}
    if capacity := seen.capacity_kwh or new_kwh:
        found["capacity_kwh"] = capacity
    if seen.max_kw > 0:
        found["max_kw"] = seen.max_kw
    missing = tuple(name for name in ("capacity_kwh", "max_kw") if name not in found)
    return msgspec.structs.replace(USUAL, **found, assumed=(*missing, "min_kw", "phases", "efficiency"))


def _power_kw(values: Mapping[int, twin.Value], signals: Signals) -> float:
    """Into the battery; of the two ways to say it the one that was measured last."""
    plug, battery = values.get(signals.plug_kw), values.get(signals.battery_w)
    if plug is not None and (battery is None or plug.time_us >= battery.time_us):
        return max(_float(plug), 0.0)
    return max(_float(battery) / 1000, 0.0) if battery is not None else 0.0


def _number(values: Mapping[int, twin.Value], signal: int) -> float | None:
    found = values.get(signal)
    return _float(found) if found is not None else None


def _float(value: twin.Value) -> float:
    return 0.0 if isinstance(value.value, str) else float(value.value)
