"""What `rocade backup` and `rocade restore` do, as plain functions: from settings and arguments to what is said at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from rocade.app.backup import keeping
from rocade.app.backup.checking import Asked
from rocade.app.backup.making import make, unfinished
from rocade.app.backup.place import open_place
from rocade.app.backup.progress import Progress
from rocade.app.backup.restoring import restore
from rocade.app.configuration import Configuration
from rocade.app.local import Hand, act
from rocade.core.errors import Misconfigured
from rocade.fabric.database.dump import Cut

__all__ = ["Asked", "Wanted", "back_up", "plan", "put_back", "wanted"]


class Wanted(msgspec.Struct, frozen=True):
    """Where a backup and its keys go, and how long earlier ones stay. `to` '' = keys alone."""

    to: str
    keys_to: str
    keep_days: float
    keep_keys_days: float


def wanted(
    configuration: Configuration,
    to: str | None,
    keys_to: str | None,
    keep_days: float | None,
    keep_keys_days: float | None,
    *,
    keys_only: bool = False,
) -> Wanted:
    """Arguments, else settings. Raises: Misconfigured `backup.to`, `backup.apart`."""
    settings = configuration.backup
    to = to or (keeping.placed(configuration, settings.to) if settings.to else "")
    keys_to = keys_to or (keeping.placed(configuration, settings.keys_to) if settings.keys_to else "")
    if not keys_to or not (to or keys_only):
        raise Misconfigured(
            "backup.to", "say where the backup goes and where its keys go: TO and --keys-to, or [backup] to and keys_to"
        )
    if to and not _are_apart(to, keys_to):
        raise Misconfigured(
            "backup.apart", "a backup and its keys in one place protect nothing: give --keys-to another"
        )
    return Wanted(
        "" if keys_only else to,
        keys_to,
        settings.keep_days if keep_days is None else keep_days,
        settings.keep_keys_days if keep_keys_days is None else keep_keys_days,
    )


def _are_apart(to: str, keys_to: str) -> bool:
    """Whether neither place is the other, or lies in it."""
    one, other = (
        f"{place.rstrip('/')}/" if "://" in place and not place.startswith("file://")
        else f"{Path(place.removeprefix('file://')).resolve()}/"
        for place in (to, keys_to)
    )  # fmt: skip
    return not one.startswith(other) and not other.startswith(one)


def back_up(configuration: Configuration, asked: Wanted, progress: Progress) -> list[str]:
    """Do it; what to say of it. Raises: as `making.make` and `keeping.keep`."""

    async def work(hand: Hand) -> list[str]:
        if not asked.to:
            folder = await _keep(hand, asked)
            return [f"keys part {folder} in {asked.keys_to}"]
        made = await make(
            hand,
            open_place(asked.to),
            open_place(asked.keys_to),
            progress,
            keep_days=asked.keep_days,
            keep_keys_days=asked.keep_keys_days,
        )
        size, stored = made.manifest.size_bytes / 1e6, made.manifest.stored_bytes / 1e6
        return [
            f"backup {made.folder} in {asked.to}",
            f"{size:,.1f} MB in {made.chunks} chunks, {stored:,.1f} MB sealed, {made.kept} of them from an earlier attempt",
            f"keys part {made.keys_folder} in {asked.keys_to}",
            f"workers waited {made.held_back_ms:.0f} ms; keep a copy of {hand.configuration.root / 'erasures'} apart",
            *_gone(made.manifest.absent),
        ]

    return act(configuration, work)


def plan(configuration: Configuration, asked: Wanted) -> Iterator[str]:
    """What `back_up` would copy, a line each."""

    async def work(hand: Hand) -> list[str]:
        cut = await Cut.open(hand.database.url)
        await cut.close()
        rows = sum(table.size_bytes for table in cut.tables)
        root = configuration.root
        files = sum(path.stat().st_size for path in (root / "history").rglob("*") if path.is_file())
        lines = [
            f"database: {len(cut.tables)} tables, {rows / 1e6:,.1f} MB",
            f"history: {files / 1e6:,.1f} MB",
            f"to {asked.to or '(keys alone)'}, keys apart to {asked.keys_to}, kept {asked.keep_keys_days:g} days",
        ]
        if asked.to and (broken := await asyncio.to_thread(unfinished, open_place(asked.to))):
            lines.append(f"{broken[-1]} was broken off; it would be gone on with")
        return lines

    yield from act(configuration, work)


def put_back(asked: Asked, progress: Progress) -> list[str]:
    """Do it, or with `dry_run` check it; what to say of it. Raises: as `restoring.restore`."""
    done = asyncio.run(restore(asked, progress))
    manifest = done.checked.manifest
    lines = [
        f"{done.checked.folder}: region {manifest.origin.region}, {manifest.size_bytes / 1e6:,.1f} MB",
        f"erasures since then: {len(done.checked.erasures)}",
    ]
    if done.audit is None:
        return [*lines, "everything is whole; nothing was written"]
    return [
        *lines,
        f"audit log verified: {done.audit.entries} entries",
        *_gone(done.absent),
        f"restored into {asked.into}: rocade serve --config {asked.into}",
    ]


def _gone(names: Sequence[str]) -> list[str]:
    """What is said of objects of the archive that must be there and are not."""
    return [f"archive.absent: {len(names):,} objects of the archive are gone: rocade archive check"] if names else []


async def _keep(hand: Hand, asked: Wanted) -> str:
    sealing = (await hand.keyring.ensure([keeping.OWN]))[keeping.OWN]
    await hand.record("backup.keys", "backup:keys")
    return await keeping.keep(
        hand.configuration, hand.database.url, hand.keyring.custody, open_place(asked.keys_to), hand.clock,
        asked.keep_keys_days, sealing,
    )  # fmt: skip
