"""Resources as JSON: an array of objects with the field names of the schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rocade.core.errors import Refused
from rocade.wire.resources.schema import Resource


def to_json(rows: Iterable[Any]) -> bytes:
    return msgspec.json.encode(list(rows))


def from_json(content: bytes, resource: Resource) -> Sequence[Any]:
    """Raises: Refused `formats.json`."""
    try:
        return msgspec.json.decode(content, type=list[resource.struct])  # type: ignore[name-defined]  # a class by table
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused("formats.json", f"these are no {resource.name} objects in JSON: {str(error)[:200]}") from None
