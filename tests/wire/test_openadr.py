"""OpenADR 3 events: limits come out as they were meant, everything else is refused with its own code or named as ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.wire.openadr import ENDLESS_US, Limit, duration_us, read_events

NOW_US = 1_800_000_000_000_000
HOUR_US = 3_600_000_000


def event(**changes: Any) -> dict[str, Any]:
    return {
        "id": "ev-1", "objectType": "EVENT", "programID": "grid", "eventName": "evening",
        "payloadDescriptors": [{"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"}],
        "intervalPeriod": {"start": "2027-01-15T17:00:00Z", "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [42.5]}]}],
        **changes,
    }  # fmt: skip


def read(document: Any) -> list[Any]:
    return read_events(json.dumps(document).encode(), NOW_US)


def test_an_event_is_one_limit_from_its_start_for_its_duration() -> None:
    (found,) = read(event())
    start_us = 1_800_000_000_000_000 + 9 * HOUR_US
    assert found.limits == (Limit("ev-1", 42.5, start_us, start_us + HOUR_US),)
    assert (found.id, found.name, found.is_over, found.ignored) == ("ev-1", "evening", False, ())


def test_intervals_follow_one_another_unless_they_have_a_period_of_their_own() -> None:
    def interval(at: int, kw: float, **more: Any) -> dict[str, Any]:
        return {"id": at, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [kw]}], **more}

    own = {"start": "2027-01-15T22:00:00+01:00", "duration": "PT30M"}
    (found,) = read(event(intervals=[interval(0, 10), interval(1, 20), interval(2, 30, intervalPeriod=own)]))
    hours = [((one.from_us - NOW_US) / HOUR_US, (one.until_us - NOW_US) / HOUR_US) for one in found.limits]
    assert hours == [(9, 10), (10, 11), (13, 13.5)]
    assert [one.signal for one in found.limits] == ["ev-1.0", "ev-1.1", "ev-1.2"]


@pytest.mark.parametrize(("units", "value", "kw"), [("KW", 11, 11.0), ("W", 4_200, 4.2), ("MW", 1.5, 1_500.0)])
def test_units_are_converted(units: str, value: float, kw: float) -> None:
    made = event(intervals=[{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [value]}]}])
    made["payloadDescriptors"][0]["units"] = units
    assert read(made)[0].limits[0].limit_kw == pytest.approx(kw)


def test_what_has_no_meaning_here_is_named() -> None:
    payloads = [{"type": "PRICE", "values": [0.3]}, {"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}]
    period = {"start": "0001-01-01T00:00:00Z", "duration": "PT1H", "randomizeStart": "PT5M"}
    (found,) = read(event(intervals=[{"payloads": payloads}], targets=["depot"], intervalPeriod=period))
    assert found.ignored == ("PRICE", "randomizeStart", "targets")
    assert found.limits[0].from_us == NOW_US, "the year 1 means now"


def test_a_notification_carries_its_event_and_a_deletion_ends_it() -> None:
    (found,) = read({"objectType": "EVENT", "operation": "DELETE", "object": event(intervals=[])})
    assert found.is_over
    (found,) = read({"objectType": "EVENT", "operation": "PUT", "object": event()})
    assert not found.is_over
    assert len(found.limits) == 1


BAD: list[tuple[str, Any, str]] = [
    ("no event", {"hello": 1}, "openadr.shape"),
    ("a number", 7, "openadr.shape"),
    ("another notification", {"objectType": "PROGRAM", "operation": "POST", "object": event()}, "openadr.shape"),
    ("no id", event(id=""), "openadr.id"),
    ("an id with blanks", event(id="a b"), "openadr.id"),
    ("a long id", event(id="x" * 101), "openadr.id"),
    ("prices only", event(intervals=[{"payloads": [{"type": "PRICE", "values": [1]}]}]), "openadr.payload"),
    ("no intervals", event(intervals=[]), "openadr.payload"),
    (
        "two values",
        event(intervals=[{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [1, 2]}]}]),
        "openadr.payload",
    ),
    (
        "a word",
        event(intervals=[{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": ["5"]}]}]),
        "openadr.payload",
    ),
    ("true", event(intervals=[{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [True]}]}]), "openadr.payload"),
    (
        "below nothing",
        event(intervals=[{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [-1]}]}]),
        "openadr.payload",
    ),
    ("amperes", event(payloadDescriptors=[{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "AMPS"}]), "openadr.units"),
    ("no duration", event(intervalPeriod={"start": "2027-01-15T17:00:00Z"}), "openadr.duration"),
    ("no time at all", event(intervalPeriod={"start": "2027-01-15T17:00:00Z", "duration": "PT0S"}), "openadr.duration"),
    ("months", event(intervalPeriod={"start": "2027-01-15T17:00:00Z", "duration": "P1M"}), "openadr.duration"),
    ("a start in words", event(intervalPeriod={"start": "tomorrow", "duration": "PT1H"}), "openadr.start"),
    ("too many events", [event()] * 1_001, "openadr.size"),
    ("too many intervals", event(intervals=event()["intervals"] * 1_001), "openadr.size"),
]


@pytest.mark.parametrize(
    ("document", "code"), [(document, code) for _, document, code in BAD], ids=[name for name, _, _ in BAD]
)
def test_what_is_no_limit_is_refused_by_its_reason(document: Any, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read(document)
    assert refused.value.code == code


@pytest.mark.parametrize("text", ["NaN", "Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    body = json.dumps(event()).replace("42.5", text).encode()
    with pytest.raises(Refused):
        read_events(body, NOW_US)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT15M", 900), ("PT2H30M", 9_000), ("P1D", 86_400), ("P2W", 1_209_600), ("P1DT1S", 86_401), ("PT0.5S", 0.5)],
)
def test_durations_of_fixed_length(text: str, seconds: float) -> None:
    assert duration_us(text) == seconds * 1e6
    assert duration_us("P9999Y") == ENDLESS_US


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["id", "programID", "intervals", "payloads", "type", "values", "operation", "object",
                                       "intervalPeriod", "start", "duration"]), inner, max_size=5), max_leaves=20,
).map(lambda one: json.dumps(one).encode())))  # fmt: skip
def test_any_bytes_are_an_event_or_refused(body: bytes) -> None:
    found, code = [], "openadr."
    try:
        found = read_events(body, NOW_US)
    except Refused as refused:
        code = refused.code
    assert code.startswith("openadr.")
    assert all(one.limits or one.is_over for one in found)
