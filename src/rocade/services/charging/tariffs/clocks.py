"""Times as tariff files write them -> microseconds UTC, over both changes of the clocks.

ISO 8601 (with offset, Z, or local) and day-first dates (22.11.2026 or 22/11/2026); `(CET)` or `(CEST)` behind a time counts as its
offset. A local hour that the clocks pass twice is the first pass until the rows before it have been through it, then the second: files
list time in order. A local time that the clocks leap over is none.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from rocade.services.charging.planning.slots import instant_us
from rocade.services.charging.tariffs import errors

OFFSETS_H = {"UTC": 0, "GMT": 0, "Z": 0, "WET": 0, "WEST": 1, "BST": 1, "CET": 1, "CEST": 2, "EET": 2, "EEST": 3}
_CLOCK = r"(\d{2}):(\d{2})(?::(\d{2})(?:\.\d{1,9})?)?"
_ISO = re.compile(
    rf"(\d{{4}})-(\d{{2}})-(\d{{2}})(?:[T ]{_CLOCK})?\s*(Z|UTC|[+-]\d{{2}}:?\d{{2}})?\s*(?:\((\w{{1,4}})\))?"
)
_DAY_FIRST = re.compile(
    rf"(\d{{1,2}})[./](\d{{1,2}})[./](\d{{4}})(?:[T ]{_CLOCK})?\s*(Z|UTC|[+-]\d{{2}}:?\d{{2}})?\s*(?:\((\w{{1,4}})\))?"
)
FIRST, LAST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2190, 1, 1, tzinfo=UTC)


class Leapt(Exception):
    """The clocks leap over this local time."""


def read_interval(start: str, end: str, clock: ZoneInfo | None, line: int, before_us: int | None) -> tuple[int, int]:
    """Both ends of an interval. Where clocks are turned back within it, it lasts as long as its local times say.

    Raises: Leapt if its start does not exist; an end that does not is 0. Refused `charging.file.*`.
    """
    begin_us = read(start, clock, line, before_us)
    try:
        end_us = read(end, clock, line, begin_us)
    except Leapt:  # 01:00 - 02:00 in the night that 02:00 does not exist: some write it so
        return begin_us, 0
    (from_local, offset), (to_local, _) = _parts(start.strip(), line), _parts(end.strip(), line)
    if offset is None and to_local > from_local:
        end_us = min(end_us, begin_us + (to_local - from_local) // timedelta(microseconds=1))
    if end_us <= begin_us:
        raise errors.tariff("interval", line)
    return begin_us, end_us


def read(text: str, clock: ZoneInfo | None, line: int, before_us: int | None) -> int:
    """One time; `before_us` is the row before it. Raises: Leapt; Refused `charging.file.time`, `.clock`, `.order`."""
    local, offset = _parts(text.strip(), line)
    try:
        if offset is not None:
            return _within(local.replace(tzinfo=offset), line)
        if clock is None:
            raise errors.tariff("clock", line, text)
        passes = sorted({local.replace(tzinfo=clock, fold=fold).astimezone(UTC) for fold in (0, 1)})
        real = [at for at in passes if at.astimezone(clock).replace(tzinfo=None) == local]
    except OverflowError:
        raise errors.tariff("time", line, text) from None
    if not real:
        raise Leapt
    if len(real) == 1:
        return _within(real[0], line)
    first, second = (_within(at, line) for at in real)
    if before_us is None or before_us < first:
        return first
    if before_us < second:
        return second
    raise errors.tariff("order", line, text)


def _parts(text: str, line: int) -> tuple[datetime, timezone | None]:
    if found := _ISO.fullmatch(text):
        year, month, day, *rest = found.groups()
    elif found := _DAY_FIRST.fullmatch(text):
        day, month, year, *rest = found.groups()
    else:
        raise errors.tariff("time", line, text)
    hour, minute, second, offset, abbreviation = rest
    try:
        day_of = date(int(year), int(month), int(day))
        local = datetime.combine(day_of, time(int(hour or 0), int(minute or 0), int(second or 0)))
        return local, _offset(offset, abbreviation)
    except (ValueError, KeyError):
        raise errors.tariff("time", line, text) from None


def _offset(offset: str | None, abbreviation: str | None) -> timezone | None:
    """Raises: KeyError for an abbreviation that could mean several clocks, ValueError for an impossible offset."""
    if offset and offset not in OFFSETS_H:
        sign = -1 if offset[0] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[-2:])))
    if offset or abbreviation:
        return timezone(timedelta(hours=OFFSETS_H[offset or str(abbreviation).upper()]))
    return None


def _within(at: datetime, line: int) -> int:
    if not FIRST <= at < LAST:
        raise errors.tariff("time", line, "the year")
    return instant_us(at)
