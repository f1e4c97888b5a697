"""Which columns of a table hold its time, and in which format: told by what can be read, month and day by evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.mapping import Time
from rocade.agents.vehicle.times import read_times

_NOW_US = 4_000_000_000_000_000
_SAMPLE = 4000
_DATES = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y%m%d",
    "%d/%m/%y",
    "%m/%d/%y",
    "%Y年%m月%d日",
)
_TIMES = ("%H:%M:%S", "%H:%M:%S.%f", "%H:%M", "%I:%M:%S %p", "%H%M%S")
_WHOLE = ("iso", *(f"{date} {time}" for date in _DATES for time in _TIMES[:4]), "%Y%m%d%H%M%S")
_UNIX = (("unix_s", 1e9, 4e9), ("unix_ms", 1e12, 4e12), ("unix_us", 1e15, 4e15))


class TimeGuess(msgspec.Struct, frozen=True):
    """Time columns, formats to try in this order, and why. `at_s`: seconds of each row (unreadable ones interpolated)."""

    columns: tuple[str, ...]
    formats: tuple[str, ...]
    confidence: float
    why: str
    at_s: NDArray[np.float64]


def find(columns: Mapping[str, Sequence[str]]) -> TimeGuess | None:
    """The time columns of a table given as name -> cells; None when there are none."""
    best: TimeGuess | None = None
    for name, cells in columns.items():
        one = _whole(name, cells)
        best = one if one and (best is None or one.confidence > best.confidence) else best
    return best or _pair(columns)


def _whole(name: str, cells: Sequence[str]) -> TimeGuess | None:
    """One column with date and time, or a Unix time."""
    sample = [cell for cell in cells if cell][:_SAMPLE]
    if len(sample) < 2:
        return None
    for form, low, high in _UNIX:
        numbers = np.array([float(cell) if cell.replace(".", "", 1).isdigit() else 0.0 for cell in sample])
        if ((numbers >= low) & (numbers < high)).mean() > 0.9:
            return _made((name,), (form,), cells, 0.9, "numbers of a Unix clock")
    if not any(sign in sample[0] for sign in ":-/年"):
        return None
    return _best(_WHOLE, sample, cells, (name,)) if ":" in sample[0] or len(sample[0]) >= 14 else None


def _pair(columns: Mapping[str, Sequence[str]]) -> TimeGuess | None:
    """A date column and a time-of-day column."""
    times = [
        name
        for name, cells in columns.items()
        if _share(cells, [f"%Y-%m-%d {form}" for form in _TIMES], "2020-01-01 ") > 0.8
    ]
    for time in times:
        for date, cells in columns.items():
            if date != time and _share(cells, [f"{form} %H:%M:%S" for form in _DATES], "", " 00:00:00") > 0.5:
                joined = [f"{day} {clock}" for day, clock in zip(cells, columns[time], strict=True)]
                found = _best(
                    [f"{day} {clock}" for day in _DATES for clock in _TIMES], joined[:_SAMPLE], joined, (date, time)
                )
                if found:
                    return found
    return None


def _share(cells: Sequence[str], forms: Sequence[str], before: str = "", after: str = "") -> float:
    sample = [before + cell + after for cell in cells if cell][:200]
    return max((_readable(sample, form).mean() for form in forms), default=0.0) if sample else 0.0


def _readable(texts: Sequence[str], form: str) -> NDArray[np.bool_]:
    return read_times(texts, Time(formats=(form,), repair="refuse"), _NOW_US)[1]


def _best(
    forms: Sequence[str], sample: Sequence[str], cells: Sequence[str], names: tuple[str, ...]
) -> TimeGuess | None:
    """The format that reads most; among equals the one whose days stay closest together, then custom."""
    first = [form for form in forms if _readable(sample[:40], form).mean() > 0.5]
    scored = []
    for form in first:
        at_us, readable, _ = read_times(sample, Time(formats=(form,), repair="refuse"), _NOW_US)
        if readable.mean() > 0.5:
            spread = float(np.abs(np.diff(at_us[readable])).max(initial=0)) / 1e6
            scored.append((-round(float(readable.mean()), 3), spread, _custom(form, sample[0]), form))
    if not scored:
        return None
    scored.sort()
    share, spread, _, form = scored[0]
    rivals = [other for other in scored[1:] if other[0] == share and _order(other[3]) != _order(form)]
    if not rivals:
        why, confidence = "only this order of day and month can be read", 0.98
    elif any(other[1] > spread * 1.5 for other in rivals) and all(other[1] > spread * 1.5 for other in rivals):
        why, confidence = "this order keeps the rows together", 0.85
    else:
        why, confidence = "day and month could be the other way round: check", 0.5
    return _made(names, (form,), cells, confidence * -share, why)


def _order(form: str) -> str:
    return "Ymd" if form == "iso" else "".join(letter for letter in form if letter in "dmyY")


def _custom(form: str, text: str) -> int:
    """Lowest for what is usual: ISO, then month first with slashes and no padding, else day first."""
    if form == "iso":
        return -1
    month_first = _order(form).startswith("md")
    padded = all(len(part) != 1 for part in text.split(" ", 1)[0].split("/")) if "/" in text else True
    return int(month_first == padded)


def _made(
    names: tuple[str, ...], forms: tuple[str, ...], cells: Sequence[str], confidence: float, why: str
) -> TimeGuess:
    at_us, readable, _ = read_times(cells, Time(formats=forms), _NOW_US)
    rows = np.arange(len(cells))
    at_s = np.interp(rows, rows[readable], at_us[readable] / 1e6) if readable.any() else rows.astype(float)
    return TimeGuess(names, forms, round(min(confidence, 1.0), 2), why, at_s)
