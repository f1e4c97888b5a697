"""Times of a log: texts in, microseconds out, and the one repair that is allowed.

A row whose date cannot be (month 90, day 00, before `not_before`, after tomorrow) but whose time of day can be read is
placed at that time of day on the day of its nearest valid neighbour (the earlier one when both are as near); it is
marked, and its raw text goes into the account. Nothing else is ever repaired.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.mapping import Time

DAY_US = 86_400_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_OF_DAY = re.compile(r"(?:^|[ T])(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?")
_UNIX = {"unix_s": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
_NEVER = np.iinfo(np.int64).min


def to_us(instant: datetime) -> int:
    return (instant - _EPOCH) // timedelta(microseconds=1)


def read_times(
    texts: Sequence[str], time: Time, now_us: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """(at_us, is_readable, is_repaired) of each text; `at_us` means nothing where not readable."""
    zone = time.timezone
    at_us = np.array([_read(text, time.formats, zone) for text in texts], np.int64)
    earliest = to_us(datetime.fromisoformat(time.not_before).replace(tzinfo=UTC))
    valid = (at_us >= earliest) & (at_us <= now_us + DAY_US)
    repaired = np.zeros(len(texts), bool)
    if time.repair == "nearest_day" and valid.any() and not valid.all():
        neighbours = nearest(valid)
        for row in np.flatnonzero(~valid).tolist():
            found = _at_day_of(texts[row], int(at_us[neighbours[row]]), zone)
            if found is not None:
                at_us[row], repaired[row] = found, True
    return at_us, valid | repaired, repaired


def nearest(valid: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Row number of the nearest valid row for each row; the earlier one on a tie. At least one must be valid."""
    good = np.flatnonzero(valid)
    rows = np.arange(len(valid))
    after = np.searchsorted(good, rows)
    left, right = good[np.maximum(after - 1, 0)], good[np.minimum(after, len(good) - 1)]
    return np.where(np.abs(rows - left) <= np.abs(right - rows), left, right)


def _read(text: str, formats: Sequence[str], zone: tzinfo) -> int:
    """Microseconds since 1970, or a number far below any limit."""
    text = text.strip()
    for form in formats:
        try:
            if form in _UNIX:
                whole, _, fraction = text.partition(".")
                return int(whole) * _UNIX[form] + (int(float("0." + fraction) * _UNIX[form]) if fraction else 0)
            instant = datetime.fromisoformat(text) if form == "iso" else datetime.strptime(text, form)  # noqa: DTZ007 - zone follows
            return to_us(instant if instant.tzinfo else instant.replace(tzinfo=zone))
        except (ValueError, OverflowError):
            continue
    return _NEVER


def _at_day_of(text: str, neighbour_us: int, zone: tzinfo) -> int | None:
    match = _TIME_OF_DAY.search(text)
    if not match:
        return None
    hour, minute, second = (int(match[place] or 0) for place in (1, 2, 3))
    if hour > 23 or minute > 59 or second > 59:
        return None
    day = (_EPOCH + timedelta(microseconds=neighbour_us)).astimezone(zone)
    fraction_us = int((match[4] or "0").ljust(6, "0"))
    return to_us(day.replace(hour=hour, minute=minute, second=second, microsecond=fraction_us))
