"""What a command says, as it is stored: parameters, result and signed envelope open with the vehicle's key alone (group COMMAND).

The envelope names the vehicle as its certificate does. Each part is bound to vehicle, command and column. JSON never begins as a
seal does, so rows from before sealing are read as they are. Of an erased owner's commands, should one be left, nothing is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rocade.core.errors import Refused
from rocade.trust.authority.sealing import Group, Keys, Name, aad, open_sealed, seal_many

COMMAND = int(Group.COMMAND)
PARAMETERS, RESULT, ENVELOPE = 1, 2, 3
_COLUMNS = {"parameters": PARAMETERS, "result": RESULT, "sealed": ENVELOPE}
_STREAM = "command"


async def keys_for(keys: Keys, refs: Iterable[int]) -> dict[Name, bytes]:
    """Keys to seal with. Raises: Unavailable `custody.down`, `custody.refused`, `database.down`."""
    return await keys.ensure((ref, COMMAND) for ref in refs)


def seal_parts(keys: Mapping[Name, bytes], part: int, plains: Iterable[tuple[int, bytes, bytes]]) -> list[bytes]:
    """This part of each (vehicle, id, plain). Raises: Refused `vehicles.unknown`: the owner was erased at this moment."""
    try:
        return seal_many([(keys[ref, COMMAND], plain, _place(ref, id, part)) for ref, id, plain in plains])
    except KeyError:
        raise Refused("vehicles.unknown", "no vehicle with this id is registered here; enrol it first") from None


async def opened(keys: Keys, rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows with `id` and `ref`, their sealed columns in clear. Raises: Corrupt `seal.broken`; as `keys_for`."""
    found = [dict(row) for row in rows]
    wanted = {row["ref"] for row in found if any(_is_sealed(row.get(name)) for name in _COLUMNS)}
    held = await keys.fetch((ref, COMMAND) for ref in wanted) if wanted else {}
    for row in found:
        for name, part in _COLUMNS.items():
            if _is_sealed(row.get(name)):
                row[name] = _open(held.get((row["ref"], COMMAND)), row["ref"], row["id"], part, row[name])
    return found


def seal_stored(keys: Mapping[Name, bytes], row: Mapping[str, Any]) -> list[bytes]:
    """The three columns of a stored row, sealed where they are not; nothing stays nothing."""
    return [
        seal_parts(keys, part, [(row["ref"], row["id"], row[name])])[0]
        if row[name] and not _is_sealed(row[name])
        else row[name]
        for name, part in _COLUMNS.items()
    ]


def _is_sealed(stored: bytes | None) -> bool:
    return bool(stored) and stored[:1] == b"\x01"  # type: ignore[index]  # not None, or it would be false


def _open(key: bytes | None, ref: int, id: bytes, part: int, stored: bytes) -> bytes:
    if key is None:
        return b"{}" if part == PARAMETERS else b""
    return open_sealed(key, stored, _place(ref, id, part))


def _place(ref: int, id: bytes, part: int) -> bytes:
    return aad(ref, _STREAM, part, int.from_bytes(id[:8]))
