"""Segments of charging and driving, found in a vehicle's own history: between two readings of charge, so much energy.

Flow: readings of charge -> instants at which they change (a reading that changes is right at that instant, whatever it is
rounded to) -> runs up and down, a turn counting from `REVERSAL` on -> cut where power is silent while the charge goes on ->
energy = integral of power at the pack's terminals, less what its own resistance turned into heat (`resistance`) -> segments
of at least the rules' swing, marked with what speaks against using them.
Energy comes from power, else voltage times current, else the pack's own counters of energy in and out. The car's figure of
stored energy (`CurrentEnergy`) is never used: it is made from the charge reading, so it would prove whatever the car believes.
Refuses nothing: a history without charge or energy gives no segments, and `Seen` says which was missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from types import MappingProxyType

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.services.battery.model import CHARGE, DRIVE, Rules, Seen, Segment
from rocade.services.telemetry import Series

type Floats = NDArray[np.float64]

_BATTERY = "Vehicle.Powertrain.TractionBattery."
ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "charge": (f"{_BATTERY}StateOfCharge.Current",),
        "shown": (f"{_BATTERY}StateOfCharge.Displayed",),
        "power": (f"{_BATTERY}CurrentPower",),
        "volts": (f"{_BATTERY}CurrentVoltage",),
        "amperes": (f"{_BATTERY}CurrentCurrent",),
        "taken": (f"{_BATTERY}AccumulatedChargedEnergy",),
        "given": (f"{_BATTERY}AccumulatedConsumedEnergy",),
        "temperature": (f"{_BATTERY}Temperature.Average", f"{_BATTERY}Temperature.Min"),
        "own": (f"{_BATTERY}StateOfHealth",),
    }
)
"""Which signals play which part; into the battery is positive (VSS)."""
REVERSAL = 2.0
"""Percent of charge: braking gives some back without ending a drive."""
HOLD_S = {CHARGE: 900.0, DRIVE: 60.0}
"""How long two readings of power may lie apart: charging is steady, driving is not."""
STILL = 0.6
"""Percent the charge may change while power is silent: a parked car."""
STEP_S, STEP_SHARE, LEAST_STEPS = 10.0, 0.05, 30


def find_segments(series: Mapping[str, Series], rules: Rules = Rules()) -> tuple[list[Segment], Seen]:  # noqa: B008 - frozen
    """Segments in order of time, and what there was to see."""
    charge_from = next((role for role in ("charge", "shown") if role in series), "")
    power, energy_from = _power(series)
    ohm, steps = resistance(series)
    own = series.get("own")
    seen = Seen(
        charge_from=charge_from,
        energy_from=energy_from,
        has_temperature="temperature" in series,
        resistance_mohm=None if ohm is None else round(1000 * ohm, 2),
        steps=steps,
        reported_percent=float(own.value[-1]) if own is not None and len(own.value) else None,
    )
    if not charge_from:
        return [], seen
    charge = _changes(series[charge_from])
    pivots = _pivots(charge.value)
    open_from_us = int(charge.time_us[pivots[-2]]) if len(pivots) > 1 else None
    seen = msgspec.structs.replace(seen, open_from_us=open_from_us)
    if power is None:
        return [], seen
    rounding = _rounding(charge.value)
    found = list[Segment]()
    for begin, end in pairwise(pivots):
        kind = CHARGE if charge.value[end] > charge.value[begin] else DRIVE
        for first, last in _pieces(charge, begin + 1, end, power, HOLD_S[kind] * 1e6):
            swing = abs(charge.value[last] - charge.value[first])
            if swing >= rules.least_swing:
                found.append(_segment(kind, charge, first, last, power, ohm, series, rounding, rules))
    return [one for one in found if one.energy_kwh > 0], seen


def resistance(series: Mapping[str, Series]) -> tuple[float | None, int]:
    """Ohm of the whole pack, from how far the voltage goes with a quick change of current; None below `LEAST_STEPS` changes."""
    volts, amperes = series.get("volts"), series.get("amperes")
    if volts is None or amperes is None:
        return None, 0
    time_us, ours, theirs = np.intersect1d(volts.time_us, amperes.time_us, return_indices=True)
    if len(time_us) < 2:
        return None, 0
    change_a, change_v = np.diff(amperes.value[theirs]), np.diff(volts.value[ours])
    large = STEP_SHARE * float(np.quantile(np.abs(amperes.value), 0.99)) + 0.5
    quick = (np.diff(time_us) <= STEP_S * 1e6) & (np.abs(change_a) >= large)
    if (steps := int(quick.sum())) < LEAST_STEPS:
        return None, steps
    ohm = float(np.median(change_v[quick] / change_a[quick]))
    return (ohm if ohm > 0 else None), steps


def _power(series: Mapping[str, Series]) -> tuple[Series | None, str]:
    """Power at the terminals in W by the best of what there is, and what that was."""
    if "power" in series:
        return series["power"], "power"
    volts, amperes = series.get("volts"), series.get("amperes")
    if volts is not None and amperes is not None and len(volts.value):
        at = np.clip(np.searchsorted(volts.time_us, amperes.time_us, "right") - 1, 0, None)
        near = np.abs(amperes.time_us - volts.time_us[at]) <= HOLD_S[DRIVE] * 1e6
        return Series(amperes.time_us[near], amperes.value[near] * volts.value[at][near]), "volts_amperes"
    taken, given = series.get("taken"), series.get("given")
    if taken is not None and given is not None:
        return _from_counters(taken, given), "counters"
    return None, ""


def _from_counters(taken: Series, given: Series) -> Series:
    """Mean power between readings of the energy counters; a counter that went back was reset, that stretch says nothing."""
    time_us = np.union1d(taken.time_us, given.time_us)
    net_kwh = _held(taken, time_us) - _held(given, time_us)
    went_back = (np.diff(_held(taken, time_us)) < 0) | (np.diff(_held(given, time_us)) < 0)
    hours = np.diff(time_us) / 3.6e9
    power = np.where(went_back, np.nan, np.diff(net_kwh) / hours * 1000)
    middle = (time_us[:-1] + time_us[1:]) // 2
    good = np.isfinite(power)
    return Series(middle[good], power[good])


def _held(series: Series, time_us: NDArray[np.int64]) -> Floats:
    return series.value[np.clip(np.searchsorted(series.time_us, time_us, "right") - 1, 0, None)]


def _changes(charge: Series) -> Series:
    """The first reading and every one that differs from the one before."""
    keep = np.append(True, np.diff(charge.value) != 0) if len(charge.value) else np.zeros(0, bool)
    return Series(charge.time_us[keep], charge.value[keep])


def _pivots(value: Floats) -> list[int]:
    """Places of the turns of a line, its ends included; a turn counts from `REVERSAL` on."""
    if not len(value):
        return []
    pivots, low, high, is_up = [0], 0, 0, None
    for place, one in enumerate(value.tolist()):
        if is_up is not False and one >= value[high]:
            high = place
        if is_up is not True and one <= value[low]:
            low = place
        if is_up is not False and value[high] - one >= REVERSAL:
            pivots += [high] * (high > pivots[-1])
            is_up, low = False, place
        elif is_up is not True and one - value[low] >= REVERSAL:
            pivots += [low] * (low > pivots[-1])
            is_up, high = True, place
    last = len(value) - 1 if is_up is None else high if is_up else low
    return pivots + [last] * (last > pivots[-1])


def _pieces(charge: Series, begin: int, end: int, power: Series, hold_us: float) -> Iterator[tuple[int, int]]:
    """The run from `begin` to `end` cut where power was silent while the charge went on."""
    if end <= begin:
        return
    from_us, until_us = int(charge.time_us[begin]), int(charge.time_us[end])
    inside = power.time_us[(power.time_us >= from_us) & (power.time_us <= until_us)]
    edges = np.concatenate([[from_us], inside, [until_us]])
    silent = np.flatnonzero(np.diff(edges) > hold_us)
    first = begin
    for at in silent.tolist():
        before = int(np.searchsorted(charge.time_us, edges[at], "right")) - 1
        after = int(np.searchsorted(charge.time_us, edges[at + 1], "right")) - 1
        if abs(charge.value[after] - charge.value[before]) > STILL:
            if min(before, end) > first:
                yield first, min(before, end)
            first = after + 1
    if end > first:
        yield first, end


def _segment(
    kind: str, charge: Series, first: int, last: int, power: Series, ohm: float | None, series: Mapping[str, Series],
    rounding: float, rules: Rules,
) -> Segment:  # fmt: skip
    start_us, end_us = int(charge.time_us[first]), int(charge.time_us[last])
    hold_us = HOLD_S[kind] * 1e6
    terminal_kwh = abs(_integral(power, start_us, end_us, hold_us)) / 3.6e6
    loss_kwh = 0.0
    if ohm is not None:
        amperes = series["amperes"]
        loss_kwh = ohm * _integral(Series(amperes.time_us, amperes.value**2), start_us, end_us, hold_us) / 3.6e6
    net_kwh = terminal_kwh - loss_kwh if kind == CHARGE else terminal_kwh + loss_kwh
    temperature = _mean(series.get("temperature"), start_us, end_us)
    left_out = ""
    if temperature is not None and not rules.coldest_c <= temperature <= rules.hottest_c:
        left_out = "cold" if temperature < rules.coldest_c else "hot"
    if end_us - start_us > rules.longest_h * 3.6e9:
        left_out = "long"
    return Segment(
        kind, start_us, end_us, float(charge.value[first]), float(charge.value[last]), round(net_kwh, 4), round(loss_kwh, 4),
        None if temperature is None else round(temperature, 1), rounding, left_out, int(charge.time_us[first - 1]),
    )  # fmt: skip


def _integral(rate: Series, start_us: int, end_us: int, hold_us: float) -> float:
    """Integral over seconds by straight lines between readings; where they lie too far apart a parked car used nothing."""
    inside = (rate.time_us > start_us) & (rate.time_us < end_us)
    time_us = np.concatenate([[start_us], rate.time_us[inside], [end_us]])
    value = np.concatenate([[_at(rate, start_us)], rate.value[inside], [_at(rate, end_us)]])
    width_us = np.diff(time_us)
    return float(np.sum((value[1:] + value[:-1]) / 2 * np.where(width_us <= hold_us, width_us, 0)) / 1e6)


def _at(rate: Series, instant_us: int) -> float:
    return float(np.interp(instant_us, rate.time_us, rate.value))


def _mean(series: Series | None, start_us: int, end_us: int) -> float | None:
    if series is None:
        return None
    inside = (series.time_us >= start_us) & (series.time_us <= end_us)
    return float(series.value[inside].mean()) if inside.any() else None


def _rounding(value: Floats) -> float:
    steps = np.abs(np.diff(value))
    return float(np.clip(np.quantile(steps, 0.1), 0.01, 5.0)) if len(steps) else 1.0
