"""Commands to vehicles and what vehicles answer: a signed desired state with a deadline, and reports of what became of it.

Down, topic tail `down/command`: `{"command": <DSSE envelope of a Command, type COMMAND_TYPE>, "chain": "<PEM of the signing service>"}`.
Up, topic tail `up/command`: one `Report`, repeated until it is acknowledged (PUBACK after it is durable).
`ACTS` says of each act: in which lane it counts, what its parameters may be, what right it needs, and by which telemetry it is
proven (`proof`). Within a lane of a vehicle the newest version counts; a version never goes back, not even when the vehicle gets
another reference or a database is restored: whoever issues takes `max(last + 1, issued_us)` (`next_version`).
Refuses: `command.malformed`, `command.act.unknown`, `command.parameters.malformed`, `.time`, `.slots`; unknown fields are refused,
because what is signed must be understood whole. Source: docs/decisions/0048-vehicle-commands.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec

from rocade.core.errors import Refused

COMMAND_TYPE = "application/vnd.rocade.command+json"
SERVICE = "commands"
"""Id of the service whose certificate signs commands."""
MOST_BYTES = 64 << 10
MOST_LIFE_US = 7 * 86_400_000_000
"""Between `issued_us` and `expires_us`."""
MOST_SLOTS = 400

INTERRUPTED = Refused(
    "command.interrupted", "power was lost while it was done; whether it was cannot be known, and it is not done again"
)
"""Not raised: its code stands in the report of a moment (a horn) of which nobody knows whether it happened."""
USED = Refused("command.version.used", "another command had this version of its lane before")
"""Not raised: its code stands in the report of the second command of one version."""

type Value = bool | int | float | str
type State = Literal["accepted", "waking", "applied", "rejected", "superseded", "expired"]

_BATTERY = "Vehicle.Powertrain.TractionBattery."
IS_CHARGING = f"{_BATTERY}Charging.IsCharging"
CHARGE_LIMIT = f"{_BATTERY}Charging.ChargeLimit"
CHARGE_CURRENT_LIMIT = f"{_BATTERY}Charging.MaximumChargingCurrent.Phase1"
TIMER_MODE = f"{_BATTERY}Charging.Timer.Mode"
TIMER_TIME = f"{_BATTERY}Charging.Timer.Time"
CLIMATE = "Vehicle.Cabin.HVAC.IsAirConditioningActive"
CLIMATE_C = "Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature"
IS_LOCKED = "Vehicle.Body.IsLocked"
HORN = "Vehicle.Body.Horn.IsActive"
LIGHTS = "Vehicle.Body.Lights.Hazard.IsSignaling"
LATITUDE = "Vehicle.CurrentLocation.Latitude"


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is signed. `vehicle`: the agent's id as in its certificate. An act must not begin at or after `expires_us`."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    vehicle: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    lane: Annotated[str, msgspec.Meta(max_length=32)]
    version: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    act: Annotated[str, msgspec.Meta(max_length=64)]
    parameters: dict[str, Any] = {}
    issued_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    not_before_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)] = 0
    expires_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Report(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a vehicle says of a command. `code`: why, of rejected; `result` of superseded: `newest`, the version that counts."""

    id: Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
    version: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    state: State
    at_us: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    """The vehicle's own clock."""
    code: Annotated[str, msgspec.Meta(max_length=100, pattern=r"\A[a-z0-9_.]*\Z")] = ""
    result: dict[str, Value] = {}


class Condition(msgspec.Struct, frozen=True):
    """One thing telemetry must say, measured after the act. `is`: equal; `near`: within `within`; `one_of`: among `value`;
    `fresh`: any value, only new.
    """

    signal: str
    how: Literal["is", "near", "one_of", "fresh"]
    value: Value | tuple[str, ...] = True
    within: float = 0.0

    def holds(self, value: Value) -> bool:
        match self.how:
            case "is":
                return bool(value) == self.value if isinstance(self.value, bool) else value == self.value
            case "near":
                if isinstance(value, str) or isinstance(self.value, str | tuple):
                    return False
                return abs(float(value) - float(self.value)) <= self.within
            case "one_of":
                return isinstance(self.value, tuple) and value in self.value
        return True


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


type _Instant = Annotated[int, msgspec.Meta(gt=0, lt=1 << 62)]
type _Seconds = Annotated[int, msgspec.Meta(ge=1, le=30)]
type _Power = Annotated[float, msgspec.Meta(gt=0, le=1000)]


class Nothing(_Strict, frozen=True):
    """No parameters."""


class Limit(_Strict, frozen=True):
    percent: Annotated[int, msgspec.Meta(ge=20, le=100)]
    current_a: Annotated[float, msgspec.Meta(ge=6, le=500)] | None = None
    """A phase; 6 A is the least a station may offer."""


class Schedule(_Strict, frozen=True):
    slots: Annotated[tuple[tuple[_Instant, _Instant, _Power], ...], msgspec.Meta(max_length=MOST_SLOTS)]
    """(start_us, end_us, power_kw) in order of time; no slots = no schedule."""


class Timer(_Strict, frozen=True):
    departure_us: _Instant
    target_percent: Annotated[int, msgspec.Meta(ge=20, le=100)]


class Precondition(_Strict, frozen=True):
    temperature_c: Annotated[float, msgspec.Meta(ge=14, le=30)]
    until_us: _Instant


class Seconds(_Strict, frozen=True):
    seconds: _Seconds


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """What an act is. `is_goal`: it states a lasting state, so doing it again changes nothing; otherwise it is a moment."""

    name: str
    lane: str
    control: str
    """The class of right it needs."""
    needs_touch: bool = False
    is_goal: bool = True
    shape: type[_Strict] = Nothing
    opposite: str = ""
    proof: Callable[[Any], tuple[Condition, ...]]
    """From the checked parameters."""


def utc_text(at_us: int) -> str:
    """As timers tell their time: whole seconds, UTC."""
    return datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is(signal: str, value: Value) -> Callable[[Any], tuple[Condition, ...]]:
    return lambda _parameters: (Condition(signal, "is", value),)


def _fresh(signal: str) -> Callable[[Any], tuple[Condition, ...]]:
    return lambda _parameters: (Condition(signal, "fresh"),)


def _limit(limit: Limit) -> tuple[Condition, ...]:
    percent = Condition(CHARGE_LIMIT, "near", limit.percent, 0.5)
    if limit.current_a is None:
        return (percent,)
    return percent, Condition(CHARGE_CURRENT_LIMIT, "near", limit.current_a, 0.5)


def _schedule(schedule: Schedule) -> tuple[Condition, ...]:
    """The vehicle names the slot that runs or comes next as its timer."""
    if not schedule.slots:
        return (Condition(TIMER_MODE, "one_of", ("INACTIVE", "END_TIME")),)
    starts = tuple(utc_text(start_us) for start_us, _, _ in schedule.slots)
    return Condition(TIMER_MODE, "is", "START_TIME"), Condition(TIMER_TIME, "one_of", starts)


def _timer(timer: Timer) -> tuple[Condition, ...]:
    return Condition(TIMER_MODE, "is", "END_TIME"), Condition(TIMER_TIME, "is", utc_text(timer.departure_us))


def _precondition(wanted: Precondition) -> tuple[Condition, ...]:
    return Condition(CLIMATE, "is", True), Condition(CLIMATE_C, "near", wanted.temperature_c, 0.5)


ACTS: Mapping[str, Act] = {
    act.name: act
    for act in (
        Act(name="charge.start", lane="charging.power", control="control.charging", opposite="charge.stop", proof=_is(IS_CHARGING, True)),
        Act(name="charge.stop", lane="charging.power", control="control.charging", opposite="charge.start", proof=_is(IS_CHARGING, False)),
        Act(name="charge.limit", lane="charging.limit", control="control.charging", shape=Limit, proof=_limit),
        Act(name="charge.schedule", lane="charging.schedule", control="control.charging", shape=Schedule, proof=_schedule),
        Act(name="charge.timer", lane="charging.timer", control="control.charging", shape=Timer, proof=_timer),
        Act(name="climate.precondition", lane="climate", control="control.comfort", shape=Precondition, opposite="climate.stop", proof=_precondition),
        Act(name="climate.stop", lane="climate", control="control.comfort", opposite="climate.precondition", proof=_is(CLIMATE, False)),
        Act(name="doors.lock", lane="doors", control="control.access", opposite="doors.unlock", proof=_is(IS_LOCKED, True)),
        Act(name="doors.unlock", lane="doors", control="control.access", needs_touch=True, opposite="doors.lock", proof=_is(IS_LOCKED, False)),
        Act(name="attention.horn", lane="attention", control="control.location", needs_touch=True, is_goal=False, shape=Seconds, proof=_is(HORN, True)),
        Act(name="attention.lights", lane="attention", control="control.location", needs_touch=True, is_goal=False, shape=Seconds, proof=_is(LIGHTS, True)),
        Act(name="location.report", lane="location", control="control.location", needs_touch=True, is_goal=False, proof=_fresh(LATITUDE)),
        Act(name="power.wake", lane="power", control="control.charging", is_goal=False, proof=_fresh("")),
    )
}  # fmt: skip
"""By name. The proof of `power.wake` is any telemetry at all (signal '')."""


def check(act: str, parameters: Mapping[str, Any], now_us: int) -> _Strict:
    """The parameters of an act in their own type, if they can be meant at this instant.

    Raises: Refused `command.act.unknown`, `command.parameters.malformed`, `.time`, `.slots`.
    """
    known = ACTS.get(act)
    if known is None:
        raise Refused("command.act.unknown", f"no act is called {act[:64]!r}; known are {', '.join(ACTS)}")
    try:
        checked = msgspec.convert(parameters, known.shape)
    except msgspec.ValidationError as error:
        raise Refused("command.parameters.malformed", f"parameters of {act}: {error}") from None
    match checked:
        case Timer(departure_us=at_us) | Precondition(until_us=at_us) if at_us <= now_us:
            raise Refused("command.parameters.time", f"the instant given to {act} lies in the past; give a later one")
        case Schedule(slots=slots):
            _check_slots(slots, now_us)
    return checked


def _check_slots(slots: Sequence[tuple[int, int, float]], now_us: int) -> None:
    end_us = 0
    for start_us, next_end_us, _ in slots:
        if start_us < end_us or next_end_us <= start_us:
            raise Refused(
                "command.parameters.slots", "slots stand in order of time, each ends after it starts, none overlaps"
            )
        end_us = next_end_us
    if slots and end_us <= now_us:
        raise Refused("command.parameters.time", "the whole schedule lies in the past; give later slots")


def proof(act: str, parameters: Mapping[str, Any]) -> tuple[Condition, ...]:
    """What telemetry must say for a command that was checked when it was given."""
    known = ACTS[act]
    return known.proof(msgspec.convert(parameters, known.shape))


def next_version(last: int, issued_us: int) -> int:
    """A version that is newer than all of this lane, also than those of databases that were lost."""
    return max(last + 1, issued_us)


def encode(command: Command) -> bytes:
    """What is to be sealed as COMMAND_TYPE."""
    return msgspec.json.encode(command)


def read_command(payload: bytes) -> Command:
    """Structure only: the act may be of a newer hub; `check` judges it. Raises: Refused `command.malformed`."""
    return _read(payload, _COMMAND)


class _Down(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    command: msgspec.Raw
    chain: str


def encode_down(sealed: bytes, chain_pem: str) -> bytes:
    """The body that goes down: the sealed command and the certificate chain of its signer."""
    return msgspec.json.encode(_Down(msgspec.Raw(sealed), chain_pem))


def read_down(body: bytes) -> tuple[bytes, str]:
    """(envelope, PEM chain). Raises: Refused `command.malformed`."""
    down = _read(body, _DOWN)
    return bytes(down.command), down.chain


def encode_report(report: Report) -> bytes:
    return msgspec.json.encode(report)


def read_report(body: bytes) -> Report:
    """Raises: Refused `command.malformed`."""
    return _read(body, _REPORT)


_COMMAND = msgspec.json.Decoder(Command)
_DOWN = msgspec.json.Decoder(_Down)
_REPORT = msgspec.json.Decoder(Report)


def _read[T](body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    if len(body) > MOST_BYTES:
        raise Refused("command.malformed", f"a command or report may have {MOST_BYTES} bytes")
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("command.malformed", f"not a command or report of this version: {error}") from None
