"""When the car has to be ready: once, every week at local times, or as the events of a calendar begin.

A weekly time that the clocks leap over that night counts from the clock before (02:30 -> 03:30), one they pass twice is the first:
the car is ready early, never late. A calendar is iCalendar text (RFC 5545): repetitions with their exceptions, zones and moved events
are the library's business; times without a zone are taken in the calendar's or the goal's. Cancelled events and whole days are no
departures. The library trusts its input, so this file does not: an interval of 0, a rule by the second or one that never comes true would run
for ever or to the year 9999. Rules of other shapes than people's calendars have are left out and counted (`check_calendar`); a text too
large, or running for too long, is refused. Its cache of zones is emptied before each text: one calendar's "Work" zone is not the next one's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from threading import Lock
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events

from rocade.core.errors import Refused
from rocade.services.charging.planning import errors
from rocade.services.charging.planning.slots import instant_us, zone_of

SIZE_LIMIT = 256 * 1024
EVENT_LIMIT = 2_000
STEP_LIMIT = 100_000
"""How often all rules together may have come true until now: what expanding them costs, 4 us each."""
HORIZON = timedelta(days=14)
_OLDEST = date(1970, 1, 1)
_PARTS = {
    "DAILY": {"BYDAY"},
    "WEEKLY": {"BYDAY"},
    "MONTHLY": {"BYDAY", "BYMONTHDAY", "BYSETPOS"},
    "YEARLY": {"BYMONTH", "BYMONTHDAY", "BYDAY"},
}
_ALWAYS = {"FREQ", "INTERVAL", "COUNT", "UNTIL", "WKST"}
_EVERY_DAYS = {"DAILY": 1, "WEEKLY": 1, "MONTHLY": 5, "YEARLY": 5}
"""A rule's cost, as days for one step; months and years are searched day by day."""
_EVENT = re.compile(r"^BEGIN:VEVENT\s*$", re.MULTILINE | re.IGNORECASE)
_ZONE = re.compile(r"^BEGIN:VTIMEZONE\s*$.*?^END:VTIMEZONE\s*$", re.MULTILINE | re.IGNORECASE | re.DOTALL)
_ZONE_RULE = re.compile(
    r"FREQ=YEARLY(;(BYMONTH=\d{1,2}|BYDAY=[+-]?[1-5]?[A-Z]{2}|BYMONTHDAY=[\d,-]{1,40}|UNTIL=[0-9TZ]{8,16}|WKST=[A-Z]{2}))*",
    re.IGNORECASE,
)
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, OverflowError, IndexError, RecursionError, OSError)
_parsing = Lock()
_forget_zones: Callable[[], None] = icalendar.use_zoneinfo


class CalendarReport(NamedTuple):
    """What a calendar holds. `left_out`: repeating events whose rule is of no usual shape."""

    events: int
    left_out: int
    next_us: int | None


def next_weekly(times: Sequence[tuple[int, int]], zone: str, after_us: int) -> int | None:
    """The first of (weekday from Monday = 0, minute of the local day) after an instant; None if there are none.

    Raises: Refused `charging.zone`, `charging.departure.weekly`.
    """
    clock = zone_of(zone)
    if any(not (0 <= weekday < 7 and 0 <= minute < 1440) for weekday, minute in times):
        raise errors.weekly()
    today = datetime.fromtimestamp(after_us / 1e6, UTC).astimezone(clock).date()
    days = [today + timedelta(days=ahead) for ahead in range(-1, 9)]
    found = [
        instant_us(datetime.combine(day, time(minute // 60, minute % 60), clock).astimezone(UTC))
        for day in days
        for weekday, minute in times
        if day.weekday() == weekday
    ]
    return min((at for at in found if at > after_us), default=None)


def next_in_calendar(text: str, zone: str, after_us: int, word: str = "") -> int | None:
    """The first event of a calendar that begins after an instant and within 14 days; `word` must stand in its title or place.

    Raises: Refused `charging.calendar.*`, `charging.zone`.
    """
    return check_calendar(text, zone, after_us, word).next_us


def check_calendar(text: str, zone: str, after_us: int, word: str = "") -> CalendarReport:
    """The same, and what of the calendar counts. Raises: Refused `charging.calendar.*`, `charging.zone`."""
    own, begin = zone_of(zone), datetime.fromtimestamp(after_us / 1e6, UTC)
    _check_text(text)
    with _parsing:
        _forget_zones()
        try:
            calendar: Any = icalendar.Calendar.from_ical(text)
            clock = _clock(calendar, own)
            left_out = _leave_out(calendar, (begin + HORIZON).date())
            events = [event for event in calendar.subcomponents if event.name == "VEVENT"]
            found = recurring_ical_events.of(calendar, skip_bad_series=True).between(begin, begin + HORIZON)
            starts = [_begins(event, clock) for event in found if _counts(event, word)]
        except Refused:
            raise
        except _MALFORMED:
            raise errors.calendar("malformed") from None
    next_us = min((at for at in starts if at is not None and at > after_us), default=None)
    return CalendarReport(len(events), left_out, next_us)


def _check_text(text: str) -> None:
    """Size, count, and the rules of the zones it defines: these run while the text is parsed."""
    if len(text) > SIZE_LIMIT or len(_EVENT.findall(text)) > EVENT_LIMIT:
        raise errors.calendar("large")
    unfolded = re.sub(r"\r?\n[ \t]", "", text)
    for zone in _ZONE.findall(unfolded):
        for line in zone.splitlines():
            name, _, value = line.strip().partition(":")
            if name.upper().startswith("RRULE") and not _ZONE_RULE.fullmatch(value):
                raise errors.calendar("zone")
    if len(_ZONE.findall(unfolded)) != len(re.findall(r"^BEGIN:VTIMEZONE", unfolded, re.MULTILINE | re.IGNORECASE)):
        raise errors.calendar("malformed")


def _clock(calendar: Any, own: ZoneInfo) -> ZoneInfo:
    """The zone of times that name none: what the calendar says of itself, else the goal's."""
    named = calendar.pop("X-WR-TIMEZONE", None)
    try:
        return zone_of(str(named)) if named else own
    except Refused:
        return own


def _leave_out(calendar: Any, until: date) -> int:
    """Take whole days, and events whose rules are not of a usual shape, out of the calendar; how many of the latter.

    Raises: Refused `charging.calendar.large`.
    """
    kept: list[Any] = []
    left_out = steps = 0
    for event in calendar.subcomponents:
        if event.name != "VEVENT":
            continue
        start = event.get("DTSTART")
        if start is None or not isinstance(start.dt, datetime):
            continue
        rules = event.get("RRULE") or []
        rules = rules if isinstance(rules, list) else [rules]
        if any(not _is_usual(rule) for rule in rules) or (rules and start.dt.date() < _OLDEST) or "EXRULE" in event:
            left_out += 1
            continue
        days = max(0, (until - start.dt.date()).days)
        steps += sum(1 + days // _EVERY_DAYS[str(rule["FREQ"][0]).upper()] for rule in rules)
        kept.append(event)
    if steps > STEP_LIMIT:
        raise errors.calendar("large")
    calendar.subcomponents = kept
    return left_out


def _is_usual(rule: Any) -> bool:
    """Whether a rule comes true again and again by construction, so that looking for its next day ends."""
    parts = {str(name).upper(): values if isinstance(values, list) else [values] for name, values in rule.items()}
    frequency = str(parts.get("FREQ", [""])[0]).upper()
    if frequency not in _PARTS or parts.keys() - _ALWAYS - _PARTS[frequency]:
        return False
    interval = int(parts.get("INTERVAL", [1])[0])
    days = [int(day) for day in parts.get("BYMONTHDAY", [])]
    if not 1 <= interval <= 366 or any(not 1 <= abs(day) <= 31 for day in days):
        return False
    if frequency == "DAILY" and "BYDAY" in parts and interval != 1:
        return False
    if "BYDAY" in parts and "BYMONTHDAY" in parts:
        return False
    ordinal = any(str(day)[0] in "+-0123456789" for day in parts.get("BYDAY", []))
    if "BYSETPOS" in parts:
        return "BYDAY" in parts and not ordinal and all(1 <= abs(int(at)) <= 4 for at in parts["BYSETPOS"])
    if frequency == "YEARLY":
        return "BYMONTHDAY" not in parts or min(abs(day) for day in days) <= 28
    return frequency == "MONTHLY" or not ordinal


def _counts(event: Any, word: str) -> bool:
    if str(event.get("STATUS", "")).upper() == "CANCELLED":
        return False
    said = f"{event.get('SUMMARY', '')} {event.get('LOCATION', '')}".casefold()
    return word.casefold() in said


def _begins(event: Any, clock: ZoneInfo) -> int | None:
    at = event["DTSTART"].dt
    if not isinstance(at, datetime):
        return None
    return instant_us((at if at.tzinfo else at.replace(tzinfo=clock)).astimezone(UTC))
