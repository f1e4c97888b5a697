"""What a session cost, and what it would have cost charged at once: energy over time, laid over prices and CO2.

Energy comes as a register that grows (a station's meter) or as power samples (a car's telemetry): each counts until the next,
at most `HOLD_S`, so that a gap is not filled with invention. `charged at once` is the same energy from plug-in on, at the highest
power that was seen or the car takes, whichever is more. Money is rounded once, at the end.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocade.core.money import MINOR_DIGITS
from rocade.services.charging.planning import OnSlots, Series, Slots
from rocade.services.charging.planning.slots import SECOND_US, Floats

type Ints = NDArray[np.int64]

HOLD_S = 300.0
STEP_S = 300
"""Prices and CO2 do not change within it."""
_HOUR_US = 3_600 * SECOND_US


class Register(msgspec.Struct, frozen=True):
    """Energy at the plug since a beginning, over time. Shape: both [n], in order; straight lines between."""

    time_us: Ints
    kwh: Floats
    peak_kw: float = 0.0

    @property
    def total_kwh(self) -> float:
        return float(self.kwh[-1] - self.kwh[0]) if len(self.kwh) else 0.0


class Account(msgspec.Struct, frozen=True):
    energy_kwh: float = 0.0
    cost_minor: int = 0
    co2_g: int = 0
    at_once_minor: int = 0
    at_once_g: int = 0
    peak_kw: float = 0.0
    is_forecast: bool = False


def register_of_power(time_us: ArrayLike, kw: ArrayLike, until_us: int) -> Register:
    """From samples of power; what is negative or no number counts as nothing."""
    at = np.asarray(time_us, np.int64)
    power = np.nan_to_num(np.asarray(kw, np.float64), nan=0.0, posinf=0.0, neginf=0.0).clip(0.0)
    if not len(at):
        return Register(np.zeros(0, np.int64), np.zeros(0))
    held = np.minimum(np.diff(np.append(at, max(until_us, int(at[-1])))), int(HOLD_S * SECOND_US)).clip(0)
    knots = np.empty(2 * len(at), np.int64)
    knots[::2], knots[1::2] = at, at + held
    kwh = np.zeros(2 * len(at))
    kwh[1::2] = np.cumsum(power * held / _HOUR_US)
    kwh[2::2] = kwh[1:-1:2]
    return Register(knots, kwh, round(float(power.max()), 3))


def register_of_meter(time_us: ArrayLike, kwh: ArrayLike) -> Register:
    """From readings of a meter, which never run backwards: one that does is left out."""
    at, values = np.asarray(time_us, np.int64), np.asarray(kwh, np.float64)
    if len(at) < 2:
        return Register(np.zeros(0, np.int64), np.zeros(0))
    grown = np.maximum.accumulate(values)
    hours = np.diff(at) / _HOUR_US
    power = np.divide(np.diff(grown), hours, out=np.zeros(len(hours)), where=hours > 1 / 120)
    return Register(at, grown - grown[0], round(float(power.max(initial=0.0)), 3))


def account(
    register: Register, began_us: int, ended_us: int, price: Series | None, carbon: Series | None, max_kw: float
) -> Account:
    """Energy, cost and CO2 of a session, and of the same energy charged at once."""
    total = register.total_kwh
    if total <= 0:
        return Account(peak_kw=register.peak_kw)
    power = max(register.peak_kw, max_kw, 0.1)
    done_us = began_us + round(total / power * _HOUR_US)
    slots = Slots.over(began_us, max(ended_us, done_us) + 1, STEP_S)
    edges = np.append(slots.start_us, slots.end_us[-1:])
    energy = np.diff(np.interp(edges, register.time_us, register.kwh))
    energy[0] += total - energy.sum()  # what was measured a moment before the cable was seen
    at_once = np.diff(np.interp(edges, [began_us, done_us], [0.0, total]))
    cost, once_cost, is_guessed = _weigh(price, slots, energy, at_once)
    gram, once_gram, _ = _weigh(carbon, slots, energy, at_once)
    digits = MINOR_DIGITS.get(price.currency, 2) if price else 2
    return Account(
        round(total, 4), round(cost * 10**digits), round(gram), round(once_cost * 10**digits), round(once_gram),
        register.peak_kw, is_guessed,
    )  # fmt: skip


def _weigh(series: Series | None, slots: Slots, energy: Floats, at_once: Floats) -> tuple[float, float, bool]:
    """Both energies at the values of a series, and whether any of it rests on a forecast or on nothing."""
    if series is None or not len(series):
        return 0.0, 0.0, False
    found: OnSlots = series.on(slots)
    known = np.isfinite(found.value)
    usual = float(series.value.mean())
    value = np.where(known, found.value, usual)
    guessed = (found.is_forecast | ~known) & (energy > 1e-6)
    return float(energy @ value), float(at_once @ value), bool(guessed.any())
