"""The JSON schemas of OCPP 1.6, 2.0.1 and 2.1 from the package `ocpp`, compiled once, checked by `jsonschema_rs`.

A payload is checked before anybody reads it; our own calls are checked before they are sent. 1.6 wants at most one decimal in
some numbers, which binary floats cannot say: those numbers are rounded before they are sent and accepted as they come.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs

from rocade.doors.ocpp.contract import Problem, Version
from rocade.doors.ocpp.frames import formation

_FOLDERS: dict[Version, str] = {"1.6": "v16", "2.0.1": "v201", "2.1": "v21"}
_KINDS = {
    "type": "TypeConstraintViolation",
    "required": "OccurenceConstraintViolation",
    "minItems": "OccurenceConstraintViolation",
    "maxItems": "OccurenceConstraintViolation",
}
"""Which OCPP error says what is wrong, by the schema's keyword; anything else violates a property's constraint."""


@cache
def actions(version: Version) -> frozenset[str]:
    """Every message of this version."""
    names = (entry.name for entry in (files("ocpp") / _FOLDERS[version] / "schemas").iterdir())
    stems = {name.removesuffix(".json") for name in names if name.endswith(".json")}
    if version != "1.6":
        return frozenset(stem.removesuffix("Request") for stem in stems if stem.endswith("Request")) | {
            stem for stem in stems if not stem.endswith(("Request", "Response"))
        }
    return frozenset(stem for stem in stems if not stem.endswith("Response"))


def check_call(version: Version, action: str, payload: dict[str, Any]) -> Problem | None:
    """What is wrong with a call's payload; None = nothing."""
    if action not in actions(version):
        return Problem("NotImplemented", "ocpp.action", "this action is not part of the version agreed on")
    return _check(version, action, payload, is_answer=False)


def check_answer(version: Version, action: str, payload: dict[str, Any]) -> Problem | None:
    return _check(version, action, payload, is_answer=True)


def _check(version: Version, action: str, payload: dict[str, Any], *, is_answer: bool) -> Problem | None:
    is_valid, explain = _validator(version, action, is_answer)
    if is_valid(payload):
        return None
    error = explain(payload)
    path = [part for part in error.schema_path if isinstance(part, str)]
    keyword = path[-1] if path else ""
    kind = (
        formation(version) if keyword == "additionalProperties" else _KINDS.get(keyword, "PropertyConstraintViolation")
    )
    if version != "1.6" and kind == "OccurenceConstraintViolation":
        kind = "OccurrenceConstraintViolation"
    place = "/".join(str(part) for part in error.instance_path)[:100]
    return Problem(kind, "ocpp.schema", f"/{place} breaks the schema's rule {keyword or 'false'}")


@cache
def _validator(version: Version, action: str, is_answer: bool) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    folder = files("ocpp") / _FOLDERS[version] / "schemas"
    if is_answer:
        name = f"{action}Response"
    else:  # a message nobody answers has no "Request" in its name
        name = action if version == "1.6" or (folder / f"{action}.json").is_file() else f"{action}Request"
    schema = _without_decimals(json.loads((folder / f"{name}.json").read_text(encoding="utf-8-sig")))
    compiled = jsonschema_rs.validator_for(schema)
    return compiled.is_valid, lambda payload: next(iter(compiled.iter_errors(payload)))


def _without_decimals(schema: Any) -> Any:
    """The schema without `multipleOf`."""
    if isinstance(schema, dict):
        return {key: _without_decimals(value) for key, value in schema.items() if key != "multipleOf"}
    return [_without_decimals(value) for value in schema] if isinstance(schema, list) else schema
