"""Settings of `dealer.toml` that are not those of the last start: told by name and value, so that one nobody changed is seen.

People edit the file, so nothing can seal it, and a turned bit may leave a readable setting. What was in force is kept in `DIR/settings.last`
(mode 0600, below its digest). At each start of the agent what differs is logged and noted among the troubles on the page
(`dealer.settings.changed`), as is a record that is not what was kept (`dealer.settings.record`); then these settings are kept.
A first start keeps them and says nothing. As at a region (`app.last_settings`), without secrets: this file has none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec

from rocade.agents.dealer.settings import Settings
from rocade.core.errors import Corrupt, Misconfigured, RocadeError
from rocade.trust.identity.records import read_record, write_record

FILE = "settings.last"
NONE = "(none)"
_log = logging.getLogger(__name__)


def changed(place: Path, settings: Settings) -> list[str]:
    """What is otherwise than at the last start, each as `lan.port 8743 -> 8742`; nothing before the first one.

    Raises: Corrupt `dealer.settings.record`.
    """
    old, now = _read(place / FILE), dict(_values(msgspec.to_builtins(settings)))
    if old is None:
        return []
    names = sorted(old.keys() | now.keys())
    return [
        f"{name} {old.get(name, NONE)} -> {now.get(name, NONE)}" for name in names if old.get(name) != now.get(name)
    ]


def tell(place: Path, settings: Settings) -> list[RocadeError]:
    """Log what changed, each setting as an error of its own for the page, and take these settings for known."""
    found: list[RocadeError]
    try:
        found = [Misconfigured("dealer.settings.changed", text) for text in changed(place, settings)]
    except Corrupt as damage:
        found = [damage]
    for one in found:
        _log.warning("setting changed since the last start: %s", one.message, extra={"facts": {"code": one.code}})
    if found or not (place / FILE).exists():
        body = msgspec.json.encode(dict(_values(msgspec.to_builtins(settings))))
        write_record(place / FILE, body)
    return found


def _read(path: Path) -> dict[str, str] | None:
    try:
        body = read_record(path)
    except ValueError:
        raise Corrupt(
            "dealer.settings.record",
            f"{path.name} is not what the last start wrote: what changed since cannot be told; look through dealer.toml",
        ) from None
    return None if body is None else msgspec.json.decode(body, type=dict[str, str])


def _values(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Each setting by its name as JSON; a table in a list by the name it has itself, or its place."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _values(one, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        for place, one in enumerate(value):
            yield from _values(one, f"{name}.{one.get('name', place)}")
    else:
        yield name, msgspec.json.encode(value).decode()
