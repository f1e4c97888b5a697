"""The form of messages that vehicles of Peugeot, Citroen, DS and Opel are told things with, as public clients of their back end show it.

A request names service, vehicle, token and a correlation id: the command's id and the instant of sending, so that an answer finds
its command even after a restart. Answers carry the correlation id and either a process code (on the way) or a return code (the
end). Stopping means: charge at an hour of the day that has just passed. Refuses: `command.maker.unsupported`.
Source: flobz/psa_car_controller as read (reference in docs/decisions/0048-vehicle-commands.md); nothing was tried on a vehicle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from rocade.core.errors import Refused
from rocade.wire.commands import Command

_ID_LETTERS = 32


class Answer(msgspec.Struct, frozen=True):
    """What the back end said. `code` of the way (`is_end` False) or of the end."""

    command_id: str
    correlation_id: str
    code: str
    is_end: bool
    reason: str = ""


class _Said(msgspec.Struct, frozen=True):
    correlation_id: str
    process_code: str | None = None
    return_code: str | None = None
    reason: str = ""


class Psa:
    """Requests and answers as JSON documents."""

    def request(self, command: Command, token: str, now_us: int) -> tuple[str, str, bytes]:
        """(service, correlation id, body). Raises: Refused `command.maker.unsupported`."""
        make = _REQUESTS.get(command.act)
        if make is None:
            raise Refused("command.maker.unsupported", "this maker's back end has no such order", act=command.act)
        at = datetime.fromtimestamp(now_us / 1e6, UTC)
        service, parameters = make(command.parameters, at)
        correlation_id = command.id + at.strftime("%Y%m%d%H%M%S%f")[:-3]
        body = {
            "access_token": token, "correlation_id": correlation_id, "req_date": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "vin": command.vehicle, "req_parameters": parameters,
        }  # fmt: skip
        return service, correlation_id, msgspec.json.encode(body)

    def read(self, body: bytes) -> Answer | None:
        """None = not about a command."""
        try:
            said = msgspec.json.decode(body, type=_Said)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        code = said.return_code or said.process_code
        if code is None or len(said.correlation_id) < _ID_LETTERS:
            return None
        command_id = said.correlation_id[:_ID_LETTERS]
        return Answer(command_id, said.correlation_id, code, said.return_code is not None, said.reason[:200])


type _Make = Callable[[Mapping[str, Any], datetime], tuple[str, dict[str, Any]]]

_OFF = {"day": [0] * 7, "hour": 0, "minute": 0, "on": 0}


def _charge(kind: str) -> _Make:
    def make(_parameters: Mapping[str, Any], at: datetime) -> tuple[str, dict[str, Any]]:
        passed = at - timedelta(minutes=1)
        return "/VehCharge", {"program": {"hour": passed.hour, "minute": passed.minute}, "type": kind}

    return make


def _climate(asap: str) -> _Make:
    programs = {f"program{number}": _OFF for number in range(1, 5)}
    return lambda _parameters, _at: ("/ThermalPrecond", {"asap": asap, "programs": programs})


def _doors(action: str) -> _Make:
    return lambda _parameters, _at: ("/Doors", {"action": action})


_REQUESTS: Mapping[str, _Make] = {
    "charge.start": _charge("immediate"),
    "charge.stop": _charge("delayed"),
    "climate.precondition": _climate("activate"),
    "climate.stop": _climate("deactivate"),
    "doors.lock": _doors("lock"),
    "doors.unlock": _doors("unlock"),
    "attention.horn": lambda parameters, _at: ("/Horn", {"nb_horn": parameters["seconds"], "action": "activate"}),
    "attention.lights": lambda parameters, _at: ("/Lights", {"duration": parameters["seconds"], "action": "activate"}),
    "power.wake": lambda _parameters, _at: ("/VehCharge/state", {"action": "state"}),
}
