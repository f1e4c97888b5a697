"""Capacity limits in events of OpenADR 3: the JSON a grid operator's server sends, as plain limits over time.

Flow: `read_events(body)` takes an event, a list of events, or a notification that carries one (`operation` POST, PUT, DELETE) ->
each interval with a payload `IMPORT_CAPACITY_LIMIT` becomes one `Limit`. An interval without a period of its own follows the one
before with the event's duration. A start of year 1 means now, as the specification says; a duration of 9999 years means without end.
What an event says besides (prices, targets, a random start) is named in `ignored`, never dropped in silence.
Refuses (`openadr.*`): no JSON of that shape, no capacity limit in it, units that are no power, a period that is none, more than
`MOST_INTERVALS`. Source: OpenADR 3.0.1 and 3.1.0, object event; ISO 8601.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from rocade.core.errors import Refused

LIMIT = "IMPORT_CAPACITY_LIMIT"
MOST_INTERVALS = 1_000
MOST_BYTES = 1 << 20
ENDLESS_US = 1 << 62
_KW = {"KW": 1.0, "W": 1e-3, "MW": 1e3}
_DURATION = re.compile(
    r"P(?:(?P<years>\d{1,4})Y)?(?:(?P<weeks>\d{1,4})W)?(?:(?P<days>\d{1,5})D)?"
    r"(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,7})M)?(?:(?P<seconds>\d{1,9}(?:\.\d{1,6})?)S)?)?\Z"
)
_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3_600, "minutes": 60, "seconds": 1}
_NAME = re.compile(r"[!-~]{1,100}")


class Limit(msgspec.Struct, frozen=True):
    """One limit over a time; `signal`: the event's id, with the interval's number where it has several.

    `is_now`: its beginning is when it came, so that the same told again has other instants and is the same all the same.
    """

    signal: str
    limit_kw: float
    from_us: int
    until_us: int
    is_now: bool = False


class Event(msgspec.Struct, frozen=True):
    """What one event asks. `is_over`: it was taken back, its limits are no more; then `limits` may be empty."""

    id: str
    name: str
    limits: tuple[Limit, ...]
    is_over: bool = False
    ignored: tuple[str, ...] = ()


class _Period(msgspec.Struct, rename="camel"):
    start: str = ""
    duration: str = ""
    randomize_start: str = ""


class _Payload(msgspec.Struct):
    type: str
    values: list[Any] = []


class _Interval(msgspec.Struct, rename="camel"):
    payloads: list[_Payload]
    id: int = 0
    interval_period: _Period | None = None


class _Descriptor(msgspec.Struct, rename="camel"):
    payload_type: str = ""
    units: str | None = None


class _Event(msgspec.Struct, rename="camel"):
    program_id: str = msgspec.field(name="programID")
    intervals: list[_Interval] = []
    id: str = ""
    event_name: str | None = None
    interval_period: _Period | None = None
    payload_descriptors: list[_Descriptor] | None = None
    targets: list[Any] | None = None


class _Notification(msgspec.Struct, rename="camel"):
    object_type: str
    operation: str
    object: _Event


def read_events(body: bytes, now_us: int) -> list[Event]:
    """Every event of a body. Raises: Refused `openadr.*`."""
    if len(body) > MOST_BYTES:
        raise Refused("openadr.size", "send at most 1 MiB of events at once")
    try:
        document = msgspec.json.decode(body)
        if isinstance(document, Mapping) and "operation" in document:
            note = msgspec.convert(document, _Notification)
            if note.object_type != "EVENT":
                raise Refused("openadr.shape", "only notifications of events are taken here")
            return [_event(note.object, now_us, is_over=note.operation.upper() == "DELETE")]
        found = document if isinstance(document, Sequence) and not isinstance(document, str) else [document]
        if len(found) > MOST_INTERVALS:
            raise Refused("openadr.size", f"send at most {MOST_INTERVALS} events at once")
        return [_event(msgspec.convert(one, _Event), now_us, is_over=False) for one in found]
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("openadr.shape", f"this is no OpenADR 3 event: {str(error)[:120]}") from error


def _event(event: _Event, now_us: int, *, is_over: bool) -> Event:
    if not _NAME.fullmatch(event.id):
        raise Refused("openadr.id", "an event has an id of 1 to 100 printable characters without blanks")
    if len(event.intervals) > MOST_INTERVALS:
        raise Refused("openadr.size", f"an event has at most {MOST_INTERVALS} intervals")
    unit = _unit(event.payload_descriptors or [])
    ignored = {"targets"} if event.targets else set[str]()
    default = event.interval_period or _Period()
    at_us: int | None = None
    is_now = False
    limits = list[Limit]()
    for place, interval in enumerate(event.intervals):
        period = interval.interval_period or _Period()
        if period.start or at_us is None:
            begin = period.start or default.start
            is_now = not begin or begin.startswith("0001-")
            at_us = now_us if is_now else _instant_us(begin)
        from_us = at_us
        if period.randomize_start.strip("PTDHMS0.") or default.randomize_start.strip("PTDHMS0."):
            ignored.add("randomizeStart")
        at_us = min(from_us + duration_us(period.duration or default.duration), ENDLESS_US)
        ignored |= {one.type[:64] for one in interval.payloads if one.type != LIMIT}
        values = [one.values for one in interval.payloads if one.type == LIMIT]
        if values:
            signal = event.id if len(event.intervals) == 1 else f"{event.id}.{place}"
            limits.append(Limit(signal, _kilowatts(values[-1], unit), from_us, at_us, is_now))
    if not limits and not is_over:
        raise Refused("openadr.payload", f"none of the event's intervals has a payload {LIMIT}")
    return Event(event.id, (event.event_name or "")[:128], tuple(limits), is_over, tuple(sorted(ignored)))


def duration_us(text: str) -> int:
    """An ISO 8601 duration of fixed length. Raises: Refused `openadr.duration`."""
    found = _DURATION.match(text)
    if not found or text in {"P", "PT"} or text.endswith("T"):
        raise Refused("openadr.duration", "write a duration as PT15M, PT2H or P1D")
    if years := int(found["years"] or 0):
        if years == 9_999:
            return ENDLESS_US
        raise Refused("openadr.duration", "years have no fixed length; write days")
    total = sum(float(found[name] or 0) * seconds for name, seconds in _SECONDS.items())
    if total <= 0:
        raise Refused("openadr.duration", "an interval lasts longer than nothing")
    return min(round(total * 1e6), ENDLESS_US)


def _unit(descriptors: Sequence[_Descriptor]) -> float:
    units = next((one.units for one in descriptors if one.payload_type == LIMIT and one.units), "KW")
    if units not in _KW:
        raise Refused("openadr.units", f"a capacity limit comes in {', '.join(_KW)}, not in {units[:16]!r}")
    return _KW[units]


def _kilowatts(values: Sequence[Any], unit: float) -> float:
    if len(values) != 1 or isinstance(values[0], bool) or not isinstance(values[0], int | float):
        raise Refused("openadr.payload", f"{LIMIT} has one number")
    if not math.isfinite(values[0]) or not 0 <= values[0] * unit <= 1e6:
        raise Refused("openadr.payload", f"{LIMIT} lies between 0 and 1,000,000 kW")
    return float(values[0] * unit)


def _instant_us(text: str) -> int:
    """Raises: Refused `openadr.start`."""
    try:
        moment = datetime.fromisoformat(text)
        whole = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused("openadr.start", "write a start as 2026-11-22T17:00:00Z") from error
    return (whole.days * 86_400 + whole.seconds) * 1_000_000 + whole.microseconds
