"""Commands and reports as bytes: what is signed is read whole or refused, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.catalogue import standard
from rocade.core.errors import Refused
from rocade.wire import commands
from rocade.wire.commands import ACTS, Command, Condition, Report

NOW_US = 1_790_000_000_000_000
HOUR_US = 3_600_000_000
GOOD: dict[str, dict[str, Any]] = {
    "charge.limit": {"percent": 80, "current_a": 10.0},
    "charge.schedule": {"slots": [[NOW_US, NOW_US + HOUR_US, 7.4], [NOW_US + 2 * HOUR_US, NOW_US + 3 * HOUR_US, 11]]},
    "charge.timer": {"departure_us": NOW_US + 8 * HOUR_US, "target_percent": 80},
    "climate.precondition": {"temperature_c": 21.5, "until_us": NOW_US + HOUR_US},
    "attention.horn": {"seconds": 2},
    "attention.lights": {"seconds": 5},
}


def command(**more: Any) -> Command:
    fields: dict[str, Any] = {
        "id": "0" * 31 + "a", "vehicle": "VF3DEMCX000000001", "lane": "charging.limit", "version": 7, "act": "charge.limit",
        "parameters": {"percent": 80}, "issued_us": NOW_US, "expires_us": NOW_US + HOUR_US,
    }  # fmt: skip
    return Command(**(fields | more))


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except Refused as error:
        return error.code
    return ""


def test_a_command_and_its_way_down_are_read_as_they_were_written() -> None:
    one = command()
    assert commands.read_command(commands.encode(one)) == one
    sealed = b'{"payload":"x","payloadType":"t","signatures":[]}'
    assert commands.read_down(commands.encode_down(sealed, "PEM")) == (sealed, "PEM")


def test_a_report_is_read_as_it_was_written() -> None:
    one = Report(id="a" * 32, version=3, state="superseded", at_us=NOW_US, result={"newest": 4})
    assert commands.read_report(commands.encode_report(one)) == one


@pytest.mark.parametrize("act", ACTS)
def test_every_act_has_parameters_that_hold_and_a_proof_in_the_catalogue(act: str) -> None:
    parameters = GOOD.get(act, {})
    commands.check(act, parameters, NOW_US)
    for condition in commands.proof(act, parameters):
        assert not condition.signal or standard().by_name(condition.signal)
    opposite = ACTS[act].opposite
    assert not opposite or (ACTS[opposite].opposite, ACTS[opposite].lane) == (act, ACTS[act].lane)


@pytest.mark.parametrize(
    ("act", "parameters", "code"),
    [
        ("charge.discharge", {}, "command.act.unknown"),
        ("charge.start", {"percent": 80}, "command.parameters.malformed"),
        ("charge.limit", {}, "command.parameters.malformed"),
        ("charge.limit", {"percent": 101}, "command.parameters.malformed"),
        ("charge.limit", {"percent": 5}, "command.parameters.malformed"),
        ("charge.limit", {"percent": "80"}, "command.parameters.malformed"),
        ("charge.limit", {"percent": 80, "current_a": 0}, "command.parameters.malformed"),
        ("charge.limit", {"percent": 80, "current_a": float("nan")}, "command.parameters.malformed"),
        ("charge.schedule", {"slots": [[NOW_US, NOW_US + 1, 0.0]]}, "command.parameters.malformed"),
        ("charge.schedule", {"slots": [[NOW_US, NOW_US + 1]]}, "command.parameters.malformed"),
        ("charge.schedule", {"slots": [[NOW_US + 9, NOW_US + 8, 7.0]]}, "command.parameters.slots"),
        (
            "charge.schedule",
            {"slots": [[NOW_US, NOW_US + 9, 7.0], [NOW_US + 8, NOW_US + 20, 7.0]]},
            "command.parameters.slots",
        ),
        ("charge.schedule", {"slots": [[NOW_US - 9, NOW_US, 7.0]]}, "command.parameters.time"),
        ("charge.timer", {"departure_us": NOW_US, "target_percent": 80}, "command.parameters.time"),
        ("climate.precondition", {"temperature_c": 21, "until_us": NOW_US - 1}, "command.parameters.time"),
        ("climate.precondition", {"temperature_c": 60, "until_us": NOW_US + 1}, "command.parameters.malformed"),
        ("attention.horn", {"seconds": 31}, "command.parameters.malformed"),
    ],
)
def test_parameters_that_cannot_be_meant_are_refused(act: str, parameters: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as refused:
        commands.check(act, parameters, NOW_US)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "change",
    [{"id": "A" * 32}, {"id": "a" * 31}, {"version": 0}, {"issued_us": -1}, {"vehicle": ""}, {"more": 1}, {"act": 3}],
)
def test_a_command_that_is_not_understood_whole_is_refused(change: dict[str, Any]) -> None:
    written = msgspec.to_builtins(command()) | change
    with pytest.raises(Refused, match=r"command\.malformed"):
        commands.read_command(msgspec.json.encode(written))


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        (Condition("s", "is", True), True, True),
        (Condition("s", "is", True), 1.0, True),
        (Condition("s", "is", False), True, False),
        (Condition("s", "is", "END_TIME"), "END_TIME", True),
        (Condition("s", "near", 80, 0.5), 80.4, True),
        (Condition("s", "near", 80, 0.5), 81.0, False),
        (Condition("s", "near", 80, 0.5), "80", False),
        (Condition("s", "one_of", ("a", "b")), "b", True),
        (Condition("s", "one_of", ("a", "b")), "c", False),
        (Condition("s", "fresh"), 0.0, True),
    ],
)
def test_conditions_judge_what_telemetry_says(condition: Condition, value: commands.Value, holds: bool) -> None:
    assert condition.holds(value) is holds


def test_a_version_never_goes_back_even_when_the_last_one_was_forgotten() -> None:
    first = commands.next_version(0, NOW_US)
    second = commands.next_version(first, NOW_US)
    assert second > first
    assert commands.next_version(0, NOW_US + 1_000_000) > second


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for read in (commands.read_command, commands.read_down, commands.read_report):
        assert refusal(lambda read=read: read(body)) in ("", "command.malformed")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(ACTS)), st.sampled_from(["slots", "percent", "seconds", "until_us", "x"]), JSON)
def test_any_parameters_are_checked_or_refused(act: str, name: str, value: Any) -> None:
    parameters = GOOD.get(act, {}) | {name: value}
    code = refusal(lambda: commands.check(act, parameters, NOW_US))
    assert code.startswith("command.parameters.") or commands.proof(act, parameters)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_flipped_byte_is_refused_or_another_command_never_an_accident(data: st.DataObject) -> None:
    whole = bytearray(commands.encode(command()))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255))
    assert refusal(lambda: commands.read_command(bytes(whole))) in ("", "command.malformed")


def test_brands_speak_of_acts_that_exist() -> None:
    for brand in standard().brands.values():
        named = {*brand.commands.acts}.union(*brand.commands.models.values())
        assert named <= ACTS.keys(), brand.brand
