"""How much a battery still holds: total least squares over its segments, with Huber's weights, a drift that only goes down, an interval.

Both sides of a segment are uncertain: the swing of charge (two rounded readings) and the energy. So a residual is
(energy - capacity x swing) over sqrt(energy's variance + capacity^2 x swing's variance), which is total least squares for a
line through the origin: plain least squares would read low, since noise in the swing pulls its line down. Huber's loss
keeps single bad segments from deciding. Capacity is a line over the window that never rises with age (slope >= 0, expected
at the rules' drift); the noise is read from the segments themselves. The answer is the posterior over a grid of health now x slope x
noise, then spread by the gain of the current sensor, which is the same in all segments and which nothing here can average out.
No extrapolation: segments are long by rule, and with a known new capacity the answer lies within 0 and 100 percent. Where the
segments insist on more than that, or on less than a third, the state is `doubtful` and there is no percentage.
Refuses (by `state`): fewer usable segments than the rules' minimum, a pack without reference, a capacity that cannot be this pack's.
Source: docs/decisions/0053-battery-and-grid.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.services.battery.model import (
    CHARGE,
    DOUBTFUL,
    KNOWN,
    SILENT,
    UNRELATED,
    WAITING,
    Finding,
    Interval,
    Pack,
    Rules,
    Seen,
    Segment,
)

type Floats = NDArray[np.float64]

HUBER = 1.345
"""Keeps 95 % of least squares' sharpness where noise is normal."""
ODD = 4.0
"""Robust standard deviations from the plain fit beyond which a segment is no measurement of this pack but a fault."""
YEAR_US = 365.25 * 86_400e6
DAY_US = 86_400_000_000
_GRID = np.arange(0.300, 1.1501, 0.0025)
_SLOPES = np.array([0.0, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12])
_NOISES = np.geomspace(0.35, 5.0, 10)
_NOISE_SD = 0.7
"""Of the logarithm of the noise, before the segments speak."""
_NEARLY_FULL = 97.0
LEAST_LEFT, MOST_LEFT = 0.32, 1.12
"""Shares of new beyond which the plain fit says that the figure of the new pack is another pack's."""
_ABOVE_NEW = 1.03
_UNTEMPERED = 1.3
"""How much less a segment is trusted whose temperature nobody knows."""


def estimate(segments: Sequence[Segment], pack: Pack, seen: Seen, as_of_us: int, rules: Rules = Rules()) -> Finding:  # noqa: B008 - frozen
    """What the segments of the window before `as_of_us` say of the battery at that instant. Cost: some 10 ms."""
    window = [
        one for one in segments
        if not one.left_out and one.swing >= rules.least_swing
        and as_of_us - rules.window_days * DAY_US <= one.end_us <= as_of_us
    ][-rules.most_segments :]  # fmt: skip
    flags = _flags(pack, seen)
    if not window and (not seen.charge_from or not seen.energy_from):
        return Finding(SILENT, 0, rules.least_segments, as_of_us, flags=flags)
    charges = sum(one.kind == CHARGE for one in window)
    counts: dict[str, Any] = {
        "charges": charges,
        "drives": len(window) - charges,
        "from_us": window[0].start_us if window else 0,
        "flags": flags,
    }
    used, needed = len(window), rules.least_segments
    if used < needed:
        return Finding(WAITING, used, needed, as_of_us, **counts)
    swing, energy = np.array([one.swing / 100 for one in window]), np.array([one.energy_kwh for one in window])
    swing_sd, energy_sd = noise_of(window, pack, rules)
    fit_kwh = total_least_squares(swing, energy, swing_sd, energy_sd)
    fits = _fitting((energy - fit_kwh * swing) / np.hypot(energy_sd, fit_kwh * swing_sd))
    reference = pack.new_kwh or fit_kwh / 0.9
    if not LEAST_LEFT <= fit_kwh / reference <= MOST_LEFT:
        return Finding(DOUBTFUL, used, needed, as_of_us, fit_kwh=round(fit_kwh, 3), **counts)
    age = np.array([(as_of_us - (one.start_us + one.end_us) / 2) / YEAR_US for one in window])
    weight = posterior(
        energy[fits] / reference, swing[fits], energy_sd[fits] / reference, swing_sd[fits], age[fits], fit_kwh / reference,
        rules,
    )  # fmt: skip
    measured = weight.sum((1, 2))
    true = _ungained(measured, rules.gain_sd, is_bounded=pack.new_kwh is not None)
    share = _interval(true, rules.level)
    if pack.new_kwh is not None and _quantile(measured, (1 - rules.level) / 2) > _ABOVE_NEW:
        return Finding(DOUBTFUL, used, needed, as_of_us, fit_kwh=round(fit_kwh, 3), **counts)
    percent = Interval(*(round(100 * one, 2) for one in share)) if pack.new_kwh else None
    return Finding(
        KNOWN if percent else UNRELATED,
        used,
        needed,
        as_of_us,
        percent,
        Interval(*(round(reference * one, 3) for one in share)),
        round(100 * float(weight.sum((0, 2)) @ _SLOPES), 2),
        round(fit_kwh, 3),
        round(float(np.exp(weight.sum((0, 1)) @ np.log(_NOISES))), 2),
        odd=int((~fits).sum()),
        **counts,
    )


def noise_of(segments: Sequence[Segment], pack: Pack, rules: Rules) -> tuple[Floats, Floats]:
    """Standard deviation of each segment's swing (share of the whole) and energy (kWh), as the rules expect them."""
    swing_sd = list[float]()
    for one in segments:
        ends = 0.0
        for percent in (one.from_percent, one.to_percent):
            is_flat = pack.is_flat and percent < _NEARLY_FULL
            ends += (rules.flat_reading_sd if is_flat else rules.reading_sd) ** 2 + one.rounding**2 / 12
        swing_sd.append(np.sqrt(ends) / 100 * (1.0 if one.temperature_c is not None else _UNTEMPERED))
    energy = np.array([one.energy_kwh for one in segments])
    return np.array(swing_sd), rules.energy_sd * energy + 1e-3


def total_least_squares(swing: Floats, energy: Floats, swing_sd: Floats, energy_sd: Floats) -> float:
    """The capacity (energy at full swing) by total least squares with Huber's loss; no prior, no drift."""
    middle = float(np.median(energy / swing))
    trial = middle * np.linspace(0.7, 1.3, 601)[:, None]
    loss = _huber((energy - trial * swing) / np.sqrt(energy_sd**2 + (trial * swing_sd) ** 2)).sum(1)
    at = int(np.clip(np.argmin(loss), 1, len(loss) - 2))
    before, here, after = loss[at - 1 : at + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(trial[at, 0] + shift * (trial[1, 0] - trial[0, 0]))


def _fitting(residual: Floats) -> NDArray[np.bool_]:
    """Which segments lie so near the plain fit that they can be measurements of the same pack at all."""
    spread = max(1.4826 * float(np.median(np.abs(residual))), 0.5)
    return np.asarray(np.abs(residual) <= ODD * spread)


def posterior(
    energy: Floats, swing: Floats, energy_sd: Floats, swing_sd: Floats, age: Floats, about: float, rules: Rules
) -> NDArray[np.float64]:
    """Probability over health as measured x slope x noise. Energies are shares of the reference; ages years before now.

    `about`: the plain fit; what lies far from it is not computed. Shape: (grid, slopes, noises).
    """
    near = (
        (about - 0.3 <= _GRID) & (about + 0.15 >= _GRID)
        if _GRID[0] < about < _GRID[-1]
        else np.full(len(_GRID), fill_value=True)
    )
    capacity = _GRID[near, None, None] + _SLOPES[:, None] * age
    spread = np.sqrt(energy_sd**2 + (capacity * swing_sd) ** 2)
    residual = (energy - capacity * swing) / spread
    log = np.full((len(_GRID), len(_SLOPES), len(_NOISES)), -np.inf)
    size = np.abs(residual)
    plain, whole, held = np.log(spread).sum(-1), size.sum(-1), np.empty_like(size)
    for at, noise in enumerate(_NOISES):  # Huber's loss of size / noise, without an array for each step of it
        np.minimum(size, HUBER * noise, out=held)
        squares = np.einsum("...i,...i", held, held)
        loss = 0.5 * squares / noise**2 + HUBER * (whole - held.sum(-1)) / noise
        log[near, :, at] = -loss - plain - len(age) * np.log(noise)
    log -= _SLOPES[:, None] * 100 / rules.drift_per_year
    log += np.log(_widths(_SLOPES))[:, None]
    log -= 0.5 * (np.log(_NOISES) / _NOISE_SD) ** 2
    weight = np.exp(log - log.max())
    return np.asarray(weight / weight.sum())


def _ungained(measured: Floats, gain_sd: float, *, is_bounded: bool) -> Floats:
    """From health as the car's sensors count it to health: spread by their gain; within the new capacity where that is known."""
    shift = (_GRID[:, None] - _GRID) / (gain_sd * np.maximum(_GRID[:, None], 0.1))
    kernel = np.exp(-0.5 * shift**2)
    true = np.asarray(kernel @ measured)
    if is_bounded:
        true = np.where(_GRID <= 1.0 + 1e-9, true, 0.0)
    total = true.sum()
    if total <= 0:
        true = np.where(np.isclose(_GRID, 1.0), 1.0, 0.0)
        total = 1.0
    return np.asarray(true / total)


def _huber(residual: Floats) -> Floats:
    size = np.abs(residual)
    return np.asarray(np.where(size <= HUBER, 0.5 * size**2, HUBER * (size - 0.5 * HUBER)))


def _widths(points: Floats) -> Floats:
    return np.asarray(np.gradient(points))


def _interval(weight: Floats, level: float) -> tuple[float, float, float]:
    return (
        _quantile(weight, 0.5),
        _quantile(weight, (1 - level) / 2),
        _quantile(weight, (1 + level) / 2),
    )


def _quantile(weight: Floats, share: float) -> float:
    held = weight > 0
    return float(np.interp(share, np.cumsum(weight[held]) - weight[held] / 2, _GRID[held]))


def _flags(pack: Pack, seen: Seen) -> tuple[str, ...]:
    """What a reader of the answer has to know beside it."""
    said = {
        "flat_voltage": pack.is_flat,
        "chemistry_unknown": not pack.chemistry,
        "temperature_unknown": bool(seen.charge_from) and not seen.has_temperature,
        "charge_as_shown": seen.charge_from == "shown",
        "resistance_unknown": bool(seen.energy_from) and seen.resistance_mohm is None,
    }
    return tuple(name for name, is_said in said.items() if is_said)
