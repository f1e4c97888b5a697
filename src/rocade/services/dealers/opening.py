"""Opening hours as dealers write them: `Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00; 2026-12-25 off`.

A rule names days (or one date) and spans of that day, or `off`; a date beats a week day. The days are those of
https://schema.org/openingHours, so that the same text stands in a page's markup. Times are local to the point of sale;
on a night when clocks change they mean what the wall clock shows. Refused (`dealers.invalid`) is what cannot be read.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo

import msgspec

from rocade.core.errors import Refused
from rocade.services.dealers import errors

DAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
LIMIT = 400
_RULE = re.compile(r"(?P<days>[A-Z][a-z](?:[-,][A-Z][a-z])*|\d{4}-\d{2}-\d{2}) (?P<spans>off|[0-9:,-]+)\Z")
_SPAN = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)\Z")

type Span = tuple[int, int]
"""From, until: minutes after midnight."""


class Hours(msgspec.Struct, frozen=True):
    """Spans of each week day, Monday first, and of single dates."""

    week: tuple[tuple[Span, ...], ...]
    dates: dict[date, tuple[Span, ...]]

    def on(self, day: date) -> tuple[Span, ...]:
        return self.dates.get(day, self.week[day.weekday()])

    def is_open(self, at_us: int, timezone: str) -> bool:
        """Whether the door is open at an instant."""
        local = datetime.fromtimestamp(at_us / 1e6, UTC).astimezone(zone(timezone))
        minute = local.hour * 60 + local.minute
        return any(start <= minute < end for start, end in self.on(local.date()))


@lru_cache(8_192)
def parse(text: str) -> Hours:
    """Raises: Refused `dealers.invalid`."""
    week: list[tuple[Span, ...]] = [()] * 7
    dates: dict[date, tuple[Span, ...]] = {}
    if len(text) > LIMIT:
        raise errors.invalid("opening_hours", f"at most {LIMIT} characters")
    for rule in filter(None, map(str.strip, text.split(";"))):
        match = _RULE.match(rule)
        if match is None:
            raise _unreadable(rule)
        spans = () if match["spans"] == "off" else tuple(map(_span, match["spans"].split(",")))
        if any(later[0] < earlier[1] for earlier, later in pairwise(spans)):
            raise errors.invalid("opening_hours", f"spans of {rule!r} overlap or are out of order")
        if match["days"][0].isdigit():
            dates[_date(match["days"])] = spans
        else:
            for day in _days(match["days"]):
                week[day] = spans
    return Hours(tuple(week), dates)


@lru_cache(512)
def zone(name: str) -> ZoneInfo:
    """Raises: Refused `dealers.invalid`."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise errors.invalid("timezone", "a time zone is named as Europe/Paris is") from None


def midnight_us(day: str, timezone: str) -> int:
    """The instant a day (ISO 8601) begins at a place. Raises: Refused `dealers.invalid`."""
    return int(datetime.combine(_date(day), time(), zone(timezone)).timestamp()) * 1_000_000


def day_of(at_us: int, timezone: str) -> str:
    """The day (ISO 8601) an instant falls on at a place."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(zone(timezone)).date().isoformat()


def _days(text: str) -> list[int]:
    days: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise _unreadable(part)
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days += [day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)]
    return days


def _span(text: str) -> Span:
    match = _SPAN.match(text)
    hours = tuple(map(int, match.groups())) if match else (25, 0, 0, 0)
    start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if hours[1] > 59 or hours[3] > 59 or not start < end <= 24 * 60:
        raise _unreadable(text)
    return start, end


def _date(text: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise errors.invalid("date", "a date is written as 2026-12-25 is") from None
    if not 1900 <= found.year < 2200:
        raise errors.invalid("date", "a date lies between 1900 and 2199")
    return found


def _unreadable(part: str) -> Refused:
    return errors.invalid("opening_hours", f"{part!r} is not like `Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00`")
