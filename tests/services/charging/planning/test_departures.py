"""When the car has to be ready: weekly times over changes of clocks, and calendars as people export them or attackers write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning.departures import (
    EVENT_LIMIT,
    SIZE_LIMIT,
    check_calendar,
    next_in_calendar,
    next_weekly,
)

WEEKDAYS_AT_SEVEN = [(day, 420) for day in range(5)]


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def shown(at_us: int | None) -> str:
    return datetime.fromtimestamp((at_us or 0) / 1e6, UTC).isoformat(timespec="minutes").removesuffix("+00:00")


@pytest.mark.parametrize(
    ("times", "after", "expected"),
    [
        (WEEKDAYS_AT_SEVEN, "2026-11-22T20:00+01:00", "2026-11-23T06:00"),  # Sunday evening -> Monday
        (WEEKDAYS_AT_SEVEN, "2026-11-23T06:59+01:00", "2026-11-23T06:00"),
        (WEEKDAYS_AT_SEVEN, "2026-11-23T07:00+01:00", "2026-11-24T06:00"),  # at the very minute: the next one
        (WEEKDAYS_AT_SEVEN, "2026-11-27T12:00+01:00", "2026-11-30T06:00"),  # over the weekend
        (WEEKDAYS_AT_SEVEN, "2026-10-23T12:00+02:00", "2026-10-26T06:00"),  # clocks went back: an hour later in UTC
        ([(6, 150)], "2026-03-28T12:00+01:00", "2026-03-29T01:30"),  # 02:30 that night is 03:30
        ([(6, 150)], "2026-10-24T12:00+02:00", "2026-10-25T00:30"),  # of two 02:30 the first
        ([(2, 0)], "2026-11-24T23:30+01:00", "2026-11-24T23:00"),
    ],
)
def test_the_next_weekly_departure_follows_the_local_clock(
    times: list[tuple[int, int]], after: str, expected: str
) -> None:
    assert shown(next_weekly(times, "Europe/Paris", us(after))) == expected


def test_a_week_without_departures_has_none_and_wrong_times_are_refused() -> None:
    assert next_weekly([], "Europe/Paris", us("2026-11-22T00:00Z")) is None
    for wrong in [(7, 0), (-1, 0), (0, 1440), (0, -1)]:
        with pytest.raises(Refused) as refused:
            next_weekly([wrong], "Europe/Paris", 0)
        assert refused.value.code == "charging.departure.weekly"


ZONE = """BEGIN:VTIMEZONE
TZID:{name}
BEGIN:STANDARD
DTSTART:20001029T030000
RRULE:{rule}
TZOFFSETFROM:{summer}
TZOFFSETTO:{winter}
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:20000326T020000
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
TZOFFSETFROM:{winter}
TZOFFSETTO:{summer}
END:DAYLIGHT
END:VTIMEZONE
"""
YEARLY = "FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10"


def calendar(*events: str, before: str = "") -> str:
    body = "".join(f"BEGIN:VEVENT\nUID:{n}\nSUMMARY:Work\n{event}\nEND:VEVENT\n" for n, event in enumerate(events))
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:test\n{before}{body}END:VCALENDAR\n".replace("\n", "\r\n")


NOW = us("2026-11-22T12:00Z")  # a Sunday


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (calendar("DTSTART:20261123T063000Z"), "2026-11-23T06:30"),
        (calendar("DTSTART;TZID=Europe/Paris:20261123T073000"), "2026-11-23T06:30"),
        (calendar("DTSTART;TZID=W. Europe Standard Time:20261123T073000"), "2026-11-23T06:30"),
        (calendar("DTSTART:20261123T073000"), "2026-11-23T12:30"),  # no zone: the goal's, New York
        (calendar("DTSTART:20261123T073000", before="X-WR-TIMEZONE:Europe/Paris\n"), "2026-11-23T06:30"),
        (calendar("DTSTART;TZID=Works:20261123T073000", before=ZONE.format(name="Works", rule=YEARLY, winter="+0300", summer="+0400")),
         "2026-11-23T04:30"),
        (calendar("DTSTART;TZID=Works:20261123T073000", before=ZONE.format(name="Works", rule=YEARLY, winter="-0800", summer="-0700")),
         "2026-11-23T15:30"),  # the same name, another calendar
        (calendar("DTSTART;TZID=Europe/Paris:20200106T073000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU,WE"), "2026-11-23T06:30"),
        (calendar("DTSTART;TZID=Europe/Paris:20200106T073000\nRRULE:FREQ=WEEKLY;BYDAY=MO,TU\nEXDATE;TZID=Europe/Paris:20261123T073000"),
         "2026-11-24T06:30"),
        (calendar("DTSTART;TZID=Europe/Paris:20200106T073000\nRRULE:FREQ=WEEKLY\nUID:a",
                  "RECURRENCE-ID;TZID=Europe/Paris:20261123T073000\nDTSTART;TZID=Europe/Paris:20261123T101500\nUID:a").replace("UID:0\r\n", "").replace("UID:1\r\n", ""),
         "2026-11-23T09:15"),  # that week moved to a quarter past ten
        (calendar("DTSTART;TZID=Europe/Paris:20260901T180000\nRRULE:FREQ=MONTHLY;BYDAY=4WE"), "2026-11-25T17:00"),
        (calendar("DTSTART;TZID=Europe/Paris:20260902T180000\nRRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-4"), "2026-11-25T17:00"),
        (calendar("DTSTART:20261124\nRRULE:FREQ=DAILY", "DTSTART:20261126T060000Z"), "2026-11-26T06:00"),  # whole days are none
        (calendar("DTSTART:20261123T063000Z\nSTATUS:CANCELLED", "DTSTART:20261124T063000Z"), "2026-11-24T06:30"),
        (calendar("DTSTART:20261122T110000Z\nDTEND:20261122T140000Z", "DTSTART:20261124T063000Z"), "2026-11-24T06:30"),  # began already
    ],
)  # fmt: skip
def test_the_next_event_of_a_calendar_is_the_departure(text: str, expected: str) -> None:
    assert shown(next_in_calendar(text, "America/New_York", NOW)) == expected


def test_only_events_with_the_word_count_and_far_ones_are_not_known_yet() -> None:
    text = calendar("DTSTART:20261123T063000Z\nLOCATION:Home", "DTSTART:20261124T063000Z\nLOCATION:Office, Lyon")
    assert shown(next_in_calendar(text, "UTC", NOW, "office")) == "2026-11-24T06:30"
    assert next_in_calendar(text, "UTC", NOW, "airport") is None
    assert next_in_calendar(calendar("DTSTART:20270124T063000Z"), "UTC", NOW) is None
    assert next_in_calendar(calendar(), "UTC", NOW) is None


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY;INTERVAL=0",  # the library would go round for ever
        "FREQ=SECONDLY",
        "FREQ=HOURLY",
        "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",  # never true: to the year 9999
        "FREQ=DAILY;BYHOUR=1,2,3;BYMINUTE=1,2,3,4",
        "FREQ=WEEKLY;BYSECOND=1,2",
        "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
        "FREQ=YEARLY;BYWEEKNO=53;BYDAY=SU",
        "FREQ=MONTHLY;BYDAY=2MO;BYSETPOS=3",
        "FREQ=DAILY;INTERVAL=7;BYDAY=TU",
        "FREQ=MONTHLY;BYMONTHDAY=99",
        "FREQ=WEEKLY;INTERVAL=100000",
    ],
)
def test_rules_that_could_run_for_ever_are_left_out_and_counted(rule: str) -> None:
    text = calendar(f"DTSTART:19800105T063000Z\nRRULE:{rule}", "DTSTART:20261124T063000Z")
    report = check_calendar(text, "UTC", NOW)
    assert (report.left_out, shown(report.next_us)) == (1, "2026-11-24T06:30")
    assert report.events == 1


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "malformed"),
        ("hello", "malformed"),
        ("BEGIN:VEVENT\r\nEND:VEVENT\r\n", "malformed"),
        ("BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n", "malformed"),
        ("\x00\x01", "malformed"),
        ("BEGIN:VCALENDAR\r\nBEGIN:VTIMEZONE\r\nTZID:x\r\nEND:VCALENDAR\r\n", "malformed"),
        ("x" * (SIZE_LIMIT + 1), "large"),
        (calendar(*["DTSTART:20261124T063000Z"] * (EVENT_LIMIT + 1)), "large"),
        (calendar(*["DTSTART:19800105T063000Z\nRRULE:FREQ=DAILY"] * 200), "large"),
        (calendar("DTSTART:20261124T063000Z", before=ZONE.format(name="A", rule="FREQ=SECONDLY", winter="+0100", summer="+0200")), "zone"),
        (calendar("DTSTART:20261124T063000Z", before=ZONE.format(name="A", rule="FREQ=YEARLY;INTERVAL=0", winter="+0100", summer="+0200")),
         "zone"),
        (calendar("DTSTART:20261124T063000Z", before=ZONE.format(name="A", rule="FREQ=\r\n SECONDLY", winter="+0100", summer="+0200")),
         "zone"),
    ],
)  # fmt: skip
def test_what_is_no_calendar_or_too_much_of_one_is_refused(text: str, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_calendar(text, "UTC", NOW)
    assert refused.value.code == f"charging.calendar.{code}"
