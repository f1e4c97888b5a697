"""Whatever a station sends is read or refused with a reason: bytes, arrays, valid messages bent out of shape, absurd numbers."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.doors.ocpp import frames, schemas
from rocade.doors.ocpp.contract import Asked, Problem, Version
from rocade.services.charging.stations import intake, reading

NOW = 1_800_000_000_000_000
VERSIONS: tuple[Version, ...] = ("1.6", "2.0.1", "2.1")
TIME = "2026-11-01T00:00:00Z"
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=40)
values = st.recursive(
    scalars,
    lambda one: st.lists(one, max_size=4) | st.dictionaries(st.text(max_size=8), one, max_size=4),
    max_leaves=12,
)
SAMPLED_16 = {"value": "1", "measurand": "Current.Import", "phase": "L1", "unit": "A"}
SAMPLED_2 = {"value": 1.0, "measurand": "SoC", "unitOfMeasure": {"unit": "Wh", "multiplier": 3}}
EXAMPLES: list[tuple[Version, str, dict[str, Any]]] = [
    ("1.6", "BootNotification", {"chargePointVendor": "V", "chargePointModel": "M"}),
    ("1.6", "StatusNotification", {"connectorId": 1, "errorCode": "NoError", "status": "Charging", "timestamp": TIME}),
    ("1.6", "StartTransaction", {"connectorId": 1, "idTag": "A", "meterStart": 1, "timestamp": TIME}),
    ("1.6", "StopTransaction", {"transactionId": 1, "meterStop": 1, "timestamp": TIME, "idTag": "A",
                                "transactionData": [{"timestamp": TIME, "sampledValue": [SAMPLED_16]}]}),
    ("1.6", "MeterValues", {"connectorId": 1, "transactionId": 1, "meterValue": [{"timestamp": TIME, "sampledValue": [SAMPLED_16]}]}),
    ("1.6", "SecurityEventNotification", {"type": "x", "timestamp": TIME}),
    ("2.0.1", "TransactionEvent", {"eventType": "Started", "timestamp": TIME, "triggerReason": "Authorized", "seqNo": 0,
        "transactionInfo": {"transactionId": "t"}, "evse": {"id": 1, "connectorId": 1}, "idToken": {"idToken": "A", "type": "Central"},
        "meterValue": [{"timestamp": TIME, "sampledValue": [SAMPLED_2]}]}),
    ("2.1", "MeterValues", {"evseId": 1, "meterValue": [{"timestamp": TIME, "sampledValue": [SAMPLED_2]}]}),
    ("2.0.1", "ReportChargingProfiles", {"requestId": 1, "chargingLimitSource": "CSO", "evseId": 1, "chargingProfile": [
        {"id": 1, "stackLevel": 0, "chargingProfilePurpose": "TxProfile", "chargingProfileKind": "Absolute", "chargingSchedule": [
            {"id": 1, "chargingRateUnit": "A", "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}]}]}]}),
]  # fmt: skip


@given(
    data=st.binary(max_size=200) | values.map(lambda one: msgspec.json.encode(str(one))),
    version=st.sampled_from(VERSIONS),
)
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_message_or_malformed(data: bytes, version: Version) -> None:
    with contextlib.suppress(frames.Malformed):
        frames.read(data, version)


@given(found=st.lists(values, max_size=6), kind=st.integers(-1, 9), version=st.sampled_from(VERSIONS))
@settings(max_examples=60, deadline=None)
def test_any_array_is_a_message_or_malformed(found: list[Any], kind: int, version: Version) -> None:
    text = json.dumps([kind, "id", *found]).encode("utf-8", "surrogatepass")
    try:
        message = frames.read(text, version)
    except frames.Malformed:
        return
    if isinstance(message, frames.Call):
        schemas.check_call(version, message.action, message.payload)


def bent(draw: st.DrawFn, payload: Any) -> Any:
    """The payload with one value of it, anywhere, replaced by another."""
    if isinstance(payload, dict) and payload and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(payload)))
        return {**payload, key: bent(draw, payload[key])}
    if isinstance(payload, list) and payload and draw(st.integers(0, 4)):
        return [bent(draw, payload[0]), *payload[1:]]
    return draw(values)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Version, str, dict[str, Any]]:
    version, action, payload = draw(st.sampled_from(EXAMPLES))
    for _ in range(draw(st.integers(0, 3))):
        found = bent(draw, payload)
        payload = found if isinstance(found, dict) else payload
    return version, action, payload


@given(message=messages())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_the_schema_lets_through_is_read_or_refused_with_a_reason(
    message: tuple[Version, str, dict[str, Any]],
) -> None:
    version, action, payload = message
    if schemas.check_call(version, action, payload) is not None:
        return
    fact = intake._read(Asked(None, version, action, payload, NOW))
    if isinstance(fact, Problem):
        assert fact.code in {"stations.meter", "stations.message"}
    elif isinstance(fact, (reading.Turn, reading.Metered)):
        for sample in fact.samples:
            numbers = [sample.energy_wh, sample.power_w, sample.soc_percent, *sample.current_a, *sample.other.values()]
            assert all(math.isfinite(one) for one in numbers if one is not None)


@pytest.mark.parametrize(("version", "action", "payload"), EXAMPLES, ids=[f"{one[0]} {one[1]}" for one in EXAMPLES])
def test_the_messages_that_are_bent_are_good_as_they_stand(
    version: Version, action: str, payload: dict[str, Any]
) -> None:
    assert schemas.check_call(version, action, payload) is None
    assert not isinstance(intake._read(Asked(None, version, action, payload, NOW)), Problem)


ABSURD = ["NaN", "Infinity", "-Infinity", "1e16", "0x10", "", "1,5", "ten"]


@pytest.mark.parametrize("text", ABSURD)
def test_a_number_no_meter_shows_is_refused(text: str) -> None:
    payload = {"connectorId": 1, "meterValue": [{"timestamp": TIME, "sampledValue": [{"value": text}]}]}
    with pytest.raises(Refused) as caught:
        reading.read("1.6", "MeterValues", payload, NOW)
    assert caught.value.code == "stations.meter"
