"""A made vehicle that drives and charges: what its battery does, as the signals it would send."""

from __future__ import annotations

import numpy as np

from rocade.services.telemetry import Series

DAY_US = 86_400_000_000
NOW_US = 1_790_000_000_000_000 // DAY_US * DAY_US


def days(
    count: int, *, new_kwh: float = 64.0, health: float = 90.0, ohm: float = 0.08, first_us: int = NOW_US - 40 * DAY_US,
    rounding: float = 0.5, celsius: float = 22.0, step_s: int = 10, seed: int = 5, power_from: str = "power",
) -> dict[str, Series]:  # fmt: skip
    """One drive from 85 % to 30 % and one charge back, each day; health in percent of `new_kwh`, open-circuit energy."""
    random = np.random.default_rng(seed)
    capacity_j = new_kwh * 3.6e6 * health / 100
    open_v = 350.0
    time_us, charge, watts, volts, amperes = (list[np.ndarray]() for _ in range(5))
    soc = 85.0
    for day in range(count):
        for kind, hour in (("drive", 8), ("charge", 18)):
            drawn = []
            while (soc > 30) if kind == "drive" else (soc < 85):
                current = -random.uniform(-40, 140) if kind == "drive" else 28.0
                soc += 100 * open_v * current * step_s / capacity_j
                drawn.append((soc, current))
            level, current = np.array(drawn).T
            at_us = first_us + day * DAY_US + hour * 3_600_000_000 + np.arange(len(drawn)) * step_s * 1_000_000
            time_us.append(at_us)
            charge.append(level)
            amperes.append(current)
            volts.append(open_v + current * ohm)
            watts.append((open_v + current * ohm) * current)
    times = np.concatenate(time_us).astype(np.int64)
    series = {
        "charge": Series(times, np.round(np.concatenate(charge) / rounding) * rounding),
        "temperature": Series(times[::30], np.full(len(times[::30]), celsius)),
    }
    if power_from == "power":
        series |= {"power": Series(times, np.concatenate(watts))}
    series |= {"volts": Series(times, np.concatenate(volts)), "amperes": Series(times, np.concatenate(amperes))}
    return series
