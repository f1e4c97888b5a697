"""OCPP-J messages: text <-> typed value. CALL [2, id, action, payload], CALLRESULT [3, id, payload], CALLERROR [4, id, kind,
text, details]; 2.1 adds an error to a result [5, ...] and a message nobody answers, SEND [6, id, action, payload].

Refuses (`Malformed`, with the id it may be answered under) whatever is not exactly one of these. Source: OCPP-J 1.6 and 2.0.1
part 4; 2.1 part 4.
"""

from __future__ import annotations

from typing import Any

import msgspec

from rocade.doors.ocpp.contract import Version

CALL, RESULT, ERROR, RESULT_ERROR, SEND = 2, 3, 4, 5, 6
MOST_ID = 36
MOST_ACTION = 64
UNKNOWN_ID = "-1"
"""The id under which what cannot be read is answered (OCPP 2.0.1 part 4, 4.2.3)."""
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Call(msgspec.Struct, frozen=True, gc=False):
    id: str
    action: str
    payload: dict[str, Any]
    wants_answer: bool = True


class Result(msgspec.Struct, frozen=True, gc=False):
    id: str
    payload: dict[str, Any]


class Error(msgspec.Struct, frozen=True, gc=False):
    id: str
    kind: str
    text: str


class Malformed(Exception):
    """`kind` is an error code of OCPP. No RocadeError: it never leaves the door."""

    def __init__(self, id: str, kind: str, text: str) -> None:
        super().__init__(text)
        self.id, self.kind, self.text = id, kind, text


def read(text: bytes | bytearray | memoryview, version: Version) -> Call | Result | Error:
    """Raises: Malformed."""
    framework = "ProtocolError" if version == "1.6" else "RpcFrameworkError"
    if b"\\u0000" in bytes(text):  # no database takes it
        raise Malformed(UNKNOWN_ID, framework, "text may not hold NUL")
    try:
        found = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed(UNKNOWN_ID, framework, "this is no JSON") from None
    if type(found) is not list or len(found) < 3 or type(found[0]) is not int or type(found[1]) is not str:
        raise Malformed(UNKNOWN_ID, framework, "a message is an array of type, id and more")
    kind, id = found[0], found[1]
    if not 0 < len(id) <= MOST_ID:
        raise Malformed(UNKNOWN_ID, framework, "a message's id has 1 to 36 characters")
    if kind == CALL or (kind == SEND and version == "2.1"):
        if len(found) != 4 or type(found[2]) is not str or type(found[3]) is not dict or len(found[2]) > MOST_ACTION:
            raise Malformed(id, formation(version), "a call is [2, id, action, object]")
        return Call(id, found[2], found[3], kind == CALL)
    if kind == RESULT:
        if len(found) != 3 or type(found[2]) is not dict:
            raise Malformed(id, formation(version), "a result is [3, id, object]")
        return Result(id, found[2])
    if kind in {ERROR, RESULT_ERROR}:
        if type(found[2]) is not str:
            raise Malformed(id, formation(version), "an error is [4, id, code, text, object]")
        about = found[3] if len(found) > 3 and type(found[3]) is str else ""
        return Error(id, found[2][:64], about[:255])
    raise Malformed(id, "ProtocolError" if version == "1.6" else "MessageTypeNotSupported", "an unknown message type")


def write_call(id: str, action: str, payload: dict[str, Any]) -> bytes:
    return _encode((CALL, id, action, payload))


def write_result(id: str, payload: dict[str, Any]) -> bytes:
    return _encode((RESULT, id, payload))


def write_error(id: str, kind: str, text: str, code: str) -> bytes:
    return _encode((ERROR, id, kind, text[:255], {"code": code} if code else {}))


def formation(version: Version) -> str:
    """1.6 and 2.x spell this error differently."""
    return "FormationViolation" if version == "1.6" else "FormatViolation"
