"""Settings that are not those of the last start: told by name, and written into the audit log, so that one nobody changed is seen.

People edit `rocade.toml`, so nothing can seal it, and a turned bit may leave a readable setting. What was in force is therefore kept in
`DIR/settings.last` (mode 0600, under a digest of its own). Flow at each start of a region or a role: the file's settings, defaults among
them, are held against the kept ones -> each that differs is logged (`mqtt.port 8883 -> 8882`) -> recorded -> kept. The environment is
left out: no bit of a disk turns there. Settings that may hold a password are kept as digests under a key of the record's own, and told
by name alone. A first start keeps them and says nothing; a setting that an update brought is compared with its default.
Refuses nothing: a damaged record is told like a change (`app.settings.record`) and written anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from rocade.app import configuration as settings
from rocade.core.errors import Corrupt
from rocade.core.ports import Audit, AuditEntry, Clock, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority import AuditLog
from rocade.trust.identity.records import read_record, write_record

FILE = "settings.last"
ACTION = "settings.change"
SECRET = frozenset({"database_url", "history_url", "log.url", "blobs.url", "backup.to", "backup.keys_to"})
"""URLs, which may hold a password."""
_log = logging.getLogger("rocade.app")


class Change(NamedTuple):
    """A setting and what it reads, as JSON; both are empty where it may hold a secret."""

    name: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.name} {self.old} -> {self.new}" if self.old else f"{self.name} (not shown)"


class _Record(msgspec.Struct, frozen=True):
    key: bytes
    settings: dict[str, str]


def changed(root: Path) -> list[Change]:
    """What the file says otherwise than at the last start; nothing before the first one.

    Raises: Corrupt `app.settings.record`; Misconfigured `app.configuration.*`.
    """
    record = _read(root / FILE)
    if record is None:
        return []
    now = settings.load(root, environment={})
    default = settings.Configuration(now.region, now.trust_domain)
    old = dict(_values(default, record.key)) | record.settings
    return [
        Change(name, *(("", "") if name in SECRET else (old[name], value)))
        for name, value in _values(now, record.key)
        if old[name] != value
    ]


def tell(root: Path) -> list[Change] | Corrupt:
    """Log what changed, before anything runs by it; to be handed to `keep`."""
    try:
        found = changed(root)
    except Corrupt as damage:
        _log.error(damage.message, extra={"facts": {"code": damage.code}})
        return damage
    for change in found:
        _log.warning("setting changed since the last start: %s", change)
    return found


async def settle(configuration: settings.Configuration, url: str, found: list[Change] | Corrupt) -> None:
    """`keep` for who has no audit log open; the usual start, where nothing changed, opens none."""
    if not found and (configuration.root / FILE).exists():
        return
    database, clock = await Database.connect(url, max_connections=1), SystemClock()
    audit = AuditLog(database, configuration.trust / "audit", clock)
    try:
        await keep(configuration.root, found, audit, clock)
    finally:
        await audit.close()
        await database.close()


async def keep(root: Path, found: list[Change] | Corrupt, audit: Audit, clock: Clock) -> None:
    """Record what was told, then take these settings for known."""
    now_us, actor = clock.now_us(), f"local:uid-{os.geteuid()}"
    if isinstance(found, Corrupt):
        await audit.record(AuditEntry(now_us, actor, ACTION, "settings", "refused", found.code))
    else:
        for name, old, new in found:
            facts: dict[str, str | int | float] = {"old": old, "new": new} if old else {}
            await audit.record(AuditEntry(now_us, actor, ACTION, f"setting:{name}", facts=facts))
    if found or not (root / FILE).exists():
        _write(root)


def _write(root: Path) -> None:
    key = SystemRandom().bits(256).to_bytes(32)
    body = msgspec.json.encode(_Record(key, dict(_values(settings.load(root, environment={}), key))))
    try:
        write_record(root / FILE, body)
    except OSError as error:  # a folder that this role may only read: it tells the same again
        _log.warning("the settings of this start were not kept: %s", error.strerror)


def _read(path: Path) -> _Record | None:
    try:
        body = read_record(path)
    except ValueError:
        raise Corrupt(
            "app.settings.record",
            f"{path.name} is not what the last start wrote: settings that changed since cannot be told; look through rocade.toml",
        ) from None
    return None if body is None else msgspec.json.decode(body, type=_Record)


def _values(configuration: settings.Configuration, key: bytes) -> Iterator[tuple[str, str]]:
    for name, value in _leaves(configuration):
        text = msgspec.json.encode(value)
        yield name, blake2b(text, key=key, digest_size=16).hexdigest() if name in SECRET else text.decode()


def _leaves(table: msgspec.Struct, above: str = "") -> Iterator[tuple[str, object]]:
    """Each setting by its name; where the file stands is none."""
    for field in table.__struct_fields__:
        value = getattr(table, field)
        if isinstance(value, msgspec.Struct):
            yield from _leaves(value, f"{above}{field}.")
        elif field != "directory" or above:
            yield above + field, value
