"""The keys part: what opens a backup, kept apart from it and for a short time.

    manifest.json           signed, names every file with its SHA-256; written last
    clear/rocade.toml       configuration, and clear/trust.pem, the region's root certificate
    clear/custody/<n>.key   the region key, only if it lies inside DIR: a key held by another party is his to keep
    tables/<name>           rows of seal_*: wrapped keys, useless without the region key
    numbers                 of vehicles that an erasure gave a new reference, sealed (store.py)
    chunks/<name>           private keys and what else stands in DIR, sealed with the region's BACKUP key

Flow: whose it is -> one snapshot of the key tables -> private files -> manifest -> older parts go: those past their days, at once
those that a puncture has made useless, and what a kill has left of one an hour ago or more. A puncture calls this before it destroys the old region key (`keep_after_puncture`), so that
at every instant some keys part opens everything that is not erased.
Refuses: `backup.keys.missing`, `backup.keys.foreign`; Corrupt `backup.keys.changed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography import x509

from rocade import __version__
from rocade.app.backup import store, trees
from rocade.app.backup.chunks import Cutter, Sealer, read_sealed
from rocade.app.backup.model import FORMAT, KEYS_TYPE, Chunk, KeyFile, KeysManifest, origin_of, read, sign
from rocade.app.backup.place import Place, open_place
from rocade.app.configuration import Configuration
from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.ports import Clock
from rocade.fabric.database.dump import Cut, Rows
from rocade.trust.authority.sealing import REGION, Group, RegionCustody

DAY_US = 86_400_000_000
ABANDONED_US = 3_600_000_000
"""A part without a manifest that began so long ago is nobody's work any more, and holds keys."""
OWN = (REGION, int(Group.BACKUP))
"""The key of private files."""
ROOT_KEY = "trust/root"
"""Belongs offline; never copied."""
ELSEWHERE = frozenset({"postgres", "history", "blobs", "archive", "logs", "run", "erasures"})
"""Engines, what is copied with the backup itself, what is of the moment, and the ledger that stays apart."""
AUDIT = "trust/audit"
AUDIT_KEYS = frozenset({"key.pem", "key.json"})
NUMBERS = "numbers"
TRUST = "clear/trust.pem"
PIECE_BYTES = 32 << 20


def is_key_table(table: Rows) -> bool:
    return table.schema == "public" and table.name.startswith("seal_")


def stamp(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y%m%dT%H%M%S.%fZ")


class KeysPart(msgspec.Struct, frozen=True):
    """A keys part that was found and checked."""

    folder: str
    manifest: KeysManifest
    root: x509.Certificate


async def keep(
    configuration: Configuration,
    url: str,
    custody: RegionCustody,
    place: Place,
    clock: Clock,
    keep_days: float,
    sealing: bytes | None,
) -> str:
    """Write a keys part of now; the name of its folder. Parts older than `keep_days` (0 = whatever their age) or than the last
    puncture go.

    `sealing`: the key of `OWN`; without it private files are taken over, sealed as they are, from the part before.
    Raises: Unavailable `custody.*`, `database.*`, `backup.full`, `backup.place`, `backup.keys.first`.
    """
    at_us = clock.now_us()
    folder = f"keys-{stamp(at_us)}"
    files = list[KeyFile]()

    async def put(name: str, content: bytes) -> None:
        await asyncio.to_thread(place.put, f"{folder}/{name}", content)
        files.append(KeyFile(name, sha256(content).hexdigest()))

    await put(
        TRUST, (configuration.trust / "trust.pem").read_bytes()
    )  # first: what is left of a part tells whose it is
    cut = await Cut.open(url, is_key_table)
    try:
        for table in cut.tables:
            await _put_rows(cut, table, put)
        version = await cut.highest("seal_bucket", "version")
    finally:
        await cut.close()
    await put(NUMBERS, msgspec.msgpack.encode(await store.read_renewed(url)))
    await put("clear/rocade.toml", (configuration.root / "rocade.toml").read_bytes())
    if not Path(configuration.custody.directory).is_absolute():
        for path in custody.files():
            if path.stem == str(version):
                await put(f"clear/{path.relative_to(configuration.root).as_posix()}", path.read_bytes())
    if sealing is None:
        private = await asyncio.to_thread(_take_over_private, place, folder)
    else:
        private = await _put_private(configuration, Sealer(place, folder, REGION, sealing))
    origin = origin_of(
        configuration.region, configuration.trust_domain, (configuration.trust / "trust.pem").read_bytes()
    )
    manifest = KeysManifest(FORMAT, origin, at_us, __version__, version, cut.tables, tuple(files), private)
    signed = sign(KEYS_TYPE, manifest, configuration.trust / "audit")
    await asyncio.to_thread(place.put, f"{folder}/manifest.json", signed)
    await asyncio.to_thread(_forget, place, folder, manifest, keep_days)
    return folder


def keep_after_puncture(
    configuration: Configuration, url: str, custody: RegionCustody, clock: Clock, held: Callable[[], bytes | None]
) -> Callable[[], Awaitable[object]]:
    """What a puncture awaits before it destroys the old region key: nothing without `[backup] keys_to`.

    `held`: the key of `OWN` if it is in memory; a puncture that is ended at a start may not ask for one.
    """

    async def kept() -> None:
        settings = configuration.backup
        if settings.keys_to:
            place = open_place(placed(configuration, settings.keys_to))
            await keep(configuration, url, custody, place, clock, settings.keep_keys_days, held())

    return kept


def placed(configuration: Configuration, target: str) -> str:
    """A place of the configuration: folders are relative to DIR."""
    return target if "://" in target else str(configuration.root / target)


def newest(place: Place) -> KeysPart:
    """The newest whole keys part. Raises: Refused `backup.keys.missing`; Corrupt `backup.keys.changed`, `backup.manifest`."""
    folders = sorted(
        name.split("/")[0] for name in place.names() if name.startswith("keys-") and name.endswith("/manifest.json")
    )
    if not folders:
        raise Refused("backup.keys.missing", "no keys part is there: name the place that `--keys-to` wrote to")
    return open_part(place, folders[-1])


def open_part(place: Place, folder: str) -> KeysPart:
    trust = place.get(f"{folder}/{TRUST}")
    signed = place.get(f"{folder}/manifest.json")
    try:
        root = x509.load_pem_x509_certificate(trust or b"")
    except ValueError:
        raise Corrupt("backup.keys.changed", "the root certificate of the keys part is missing or changed") from None
    manifest = read(KEYS_TYPE, signed or b"", KeysManifest, root)
    return KeysPart(folder, manifest, root)


def content(place: Place, part: KeysPart, name: str) -> bytes:
    """A file of the part, checked. Raises: Corrupt `backup.keys.changed`."""
    wanted = {file.name: file.sha256 for file in part.manifest.files}
    found = place.get(f"{part.folder}/{name}")
    if found is None or sha256(found).hexdigest() != wanted.get(name):
        raise Corrupt(
            "backup.keys.changed", f"{name} of the keys part is missing or not what was written; take another"
        )
    return found


async def rows(place: Place, part: KeysPart, table: Rows) -> AsyncIterator[bytes]:
    for file in part.manifest.files:
        if file.name.startswith(f"tables/{table.name}."):
            yield await asyncio.to_thread(content, place, part, file.name)


async def _put_rows(cut: Cut, table: Rows, put: Callable[[str, bytes], Awaitable[None]]) -> None:
    gathered, number = bytearray(), 0

    async def add(piece: bytes) -> None:
        nonlocal number
        gathered.extend(piece)
        if len(gathered) >= PIECE_BYTES:
            await put(f"tables/{table.name}.{number:04}", bytes(gathered))
            gathered.clear()
            number += 1

    await cut.rows(table, add)
    await put(f"tables/{table.name}.{number:04}", bytes(gathered))


async def _put_private(configuration: Configuration, sealer: Sealer) -> tuple[Chunk, ...]:
    """What stands in DIR besides engines, custody and the root's key, sealed."""
    skip = {*ELSEWHERE, "rocade.toml", configuration.custody.directory.split("/")[0]}
    sources = [
        source
        for source in trees.below(configuration.root, skip=skip)
        if not source.name.startswith((f"{ROOT_KEY}/", ".")) and not source.name.endswith(".pmtiles")
        and (not source.name.startswith(f"{AUDIT}/") or source.path.name in AUDIT_KEYS)
    ]  # fmt: skip
    async with Cutter(sealer, lambda _: None) as cutter:
        await trees.send(sources, cutter)
        return await cutter.finish()


def _take_over_private(place: Place, folder: str) -> tuple[Chunk, ...]:
    try:
        before = newest(place)
    except Refused:
        raise Unavailable("backup.keys.first", "no keys part is there yet: run `rocade backup` once") from None
    for chunk in before.manifest.private:
        place.put(f"{folder}/chunks/{chunk.name}", read_sealed(place, before.folder, chunk))
    return before.manifest.private


def _forget(place: Place, kept: str, manifest: KeysManifest, keep_days: float) -> None:
    """Remove parts of this region that are too old, wrapped by a region key that a puncture destroys, or never finished."""
    oldest, abandoned = (f"keys-{stamp(manifest.at_us - age_us)}" for age_us in (int(keep_days * DAY_US), ABANDONED_US))
    names, trust = place.names(), place.get(f"{kept}/{TRUST}") or b""
    root = x509.load_pem_x509_certificate(trust)
    for folder in sorted({name.split("/")[0] for name in names if name.startswith("keys-")} - {kept}):
        if place.get(f"{folder}/{TRUST}") != trust:
            continue  # another region's
        try:
            found = read(KEYS_TYPE, place.get(f"{folder}/manifest.json") or b"", KeysManifest, root)
            is_over = (keep_days > 0 and folder < oldest) or found.region_key < manifest.region_key
        except (Refused, Corrupt):
            is_over = folder < abandoned
        if is_over:
            place.remove([name for name in names if name.startswith(f"{folder}/")])
