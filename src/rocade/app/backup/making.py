"""`rocade backup`: one instant of a region, while it runs.

Flow: the audit log's own files, which grow -> new blocks of the worker are held back for some milliseconds, while a snapshot
of the database is opened and the history's parts are linked -> tables, parts and blobs go out in sealed chunks -> the keys part
goes to its own place -> the manifest, signed, ends the backup. It names the objects of the archive that the rows
note and the copy has not: removed on purpose meanwhile, or gone. Intake, reads and erasures go on all the time.
An attempt that was broken off is gone on with: its number and so its key stand in `draft.json`, and what it wrote and is still
so is not written again. Every attempt is a snapshot of its own; nothing of two instants is mixed.
Refuses: a history that another machine runs (`history.freeze.remote`), a worker that does not end its block, a place without
room (`backup.full`). Each beginning, end and failure stands in the audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import msgspec

from rocade import __version__
from rocade.app.archiving import archive_of, lies_inside
from rocade.app.backup import keeping, trees
from rocade.app.backup.chunks import Cutter, Sealer
from rocade.app.backup.frozen import Frozen, alone, history_of
from rocade.app.backup.model import FORMAT, MANIFEST_TYPE, Item, Kind, Manifest, Origin, origin_of, read, sign
from rocade.app.backup.place import Place
from rocade.app.backup.progress import Progress
from rocade.app.local import Hand
from rocade.core.errors import Corrupt, Refused, RocadeError
from rocade.core.ports import AuditEntry
from rocade.fabric.database.dump import Cut, Rows
from rocade.fabric.history import History
from rocade.services.telemetry import Ledger
from rocade.trust.authority.erasure import LedgerFiles, read_ledger
from rocade.trust.authority.sealing import Group
from rocade.trust.identity.directory import load_root

DRAFT, MANIFEST = "draft.json", "manifest.json"
BLOBS = "blobs"


class Draft(msgspec.Struct, frozen=True):
    """A backup that is not finished: under which number it began."""

    folder: str
    number: int
    origin: Origin


class Made(msgspec.Struct, frozen=True):
    """A backup that was finished. `kept`: chunks that an earlier attempt had written already."""

    folder: str
    keys_folder: str
    manifest: Manifest
    chunks: int
    kept: int
    held_back_ms: float
    """How long the worker's blocks waited."""


async def make(
    hand: Hand, place: Place, keys: Place, progress: Progress, *, keep_days: float, keep_keys_days: float
) -> Made:
    """Raises: Unavailable `backup.*`, `database.*`, `history.*`, `custody.*`, `telemetry.blocks.pending`; what is named above."""
    with alone(hand.configuration.root / "history"):
        return await _make(hand, place, keys, progress, keep_days, keep_keys_days)


async def _make(
    hand: Hand, place: Place, keys: Place, progress: Progress, keep_days: float, keep_keys_days: float
) -> Made:
    draft = await _begin(hand, place)
    subject = f"backup:{draft.number}"
    await hand.record("backup.begun", subject)
    try:
        made = await _Making(hand, place, keys, progress, draft).run(keep_keys_days)
    except BaseException as error:
        place_failed = "backup.place" if isinstance(error, OSError) else "backup.unfinished"
        reason = error.code if isinstance(error, RocadeError) else place_failed
        hand.audit.note(AuditEntry(hand.clock.now_us(), hand.actor, "backup.failed", subject, "refused", reason))
        raise
    old = await asyncio.to_thread(_forget, hand, place, made, keep_days)
    async with hand.database.pool.acquire() as connection, connection.transaction():
        await hand.keyring.destroy(connection, old)  # whoever has kept a copy of them has noise
    facts = {"at_us": made.manifest.at_us, "bytes": made.manifest.size_bytes, "chunks": made.chunks}
    await hand.record("backup.made", subject, **facts, absent=len(made.manifest.absent))
    return made


class _Making:
    """One attempt."""

    def __init__(self, hand: Hand, place: Place, keys: Place, progress: Progress, draft: Draft) -> None:
        self._hand = hand
        self._place = place
        self._keys = keys
        self._progress = progress
        self._draft = draft
        self._root = hand.configuration.root
        self._items = list[Item]()
        self._sealer: Sealer

    async def run(self, keep_keys_days: float) -> Made:
        hand, draft, trust = self._hand, self._draft, self._hand.configuration.trust
        name = (draft.number, int(Group.BACKUP))
        key = (await hand.keyring.ensure([name]))[name]
        self._sealer = await asyncio.to_thread(Sealer, self._place, draft.folder, draft.number, key)
        ledger = LedgerFiles(self._root / "erasures", trust / "audit", hand.clock)
        await asyncio.to_thread(ledger.beat)
        await self._files("audit", _audit_sources(hand), squeeze=True)  # before the rows: it may lag them, never lead
        at_us = hand.clock.now_us()
        frozen = Frozen(self._root / "history", f"backup_{draft.number}")
        async with history_of(hand.configuration, hand.keyring) as history:
            try:
                cut, held_back_ms = await self._cut(history, frozen)
                try:
                    entries, last = read_ledger(self._root / "erasures", load_root(trust / "trust.pem")).newest
                    await asyncio.to_thread(ledger.beat)
                    sequences = await self._database(cut)
                    noted = await cut.texts("telemetry_archive", "name")
                finally:
                    await cut.close()
                await self._files("history", frozen.sources(), kind="history", squeeze=False, may_go=False)
            finally:
                await asyncio.to_thread(frozen.release)
        removed, absent = await self._compare(noted, await self._blobs())
        keys_folder = await keeping.keep(
            hand.configuration, hand.database.url, hand.keyring.custody, self._keys, hand.clock, keep_keys_days,
            (await hand.keyring.ensure([keeping.OWN]))[keeping.OWN],
        )  # fmt: skip
        manifest = Manifest(
            FORMAT,
            draft.number,
            draft.origin,
            at_us,
            hand.clock.now_us(),
            __version__,
            entries,
            last,
            sequences,
            tuple(self._items),
            removed,
            absent,
        )
        signed = await asyncio.to_thread(sign, MANIFEST_TYPE, manifest, trust / "audit")
        await asyncio.to_thread(self._place.put, f"{draft.folder}/{MANIFEST}", signed)
        await asyncio.to_thread(self._end, manifest)
        return Made(draft.folder, keys_folder, manifest, len(manifest.chunks), self._sealer.kept, held_back_ms)

    async def _blobs(self) -> set[str]:
        """Copy them, and what an erasure wrote anew meanwhile instead of one that was listed; their names."""
        copied, turn = set[str](), 0
        while fresh := [each for each in trees.below(self._root / BLOBS, BLOBS) if each.name not in copied]:
            turn += 1
            await self._files(BLOBS if turn == 1 else f"{BLOBS} {turn}", fresh, squeeze=False)
            copied |= {each.name for each in fresh}
        return {name.removeprefix(f"{BLOBS}/") for name in copied}

    async def _compare(self, noted: frozenset[str], copied: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Objects of the archive that the rows note and that are not there: removed on purpose since, and gone."""
        if not lies_inside(self._hand.configuration):
            return (), ()
        still = await archive_of(self._hand.configuration, self._hand.database).noted()
        return tuple(sorted(noted - still)), tuple(sorted((noted & still) - copied))

    async def _cut(self, history: History, frozen: Frozen) -> tuple[Cut, float]:
        """Database and history at one instant."""
        async with Ledger(self._hand.database).still():
            begun_s = self._hand.clock.monotonic_s()
            cut = await Cut.open(self._hand.database.url, lambda table: not keeping.is_key_table(table))
            try:
                await frozen.hold(history)
            except BaseException:
                await cut.close()
                raise
            return cut, (self._hand.clock.monotonic_s() - begun_s) * 1000

    async def _database(self, cut: Cut) -> dict[str, int]:
        self._progress.expect(sum(table.size_bytes for table in cut.tables))
        for section in ("pre-data", "post-data"):
            async with self._cutter(squeeze=True) as cutter:
                await cutter.add(await cut.schema(section))
                await self._add("schema", section, cutter)
        for table in cut.tables:
            self._progress.begin(table.name)
            async with self._cutter(squeeze=True) as cutter:
                await cut.rows(table, cutter.add)
                await self._add("table", f"{table.schema}.{table.name}", cutter, table)
        return await cut.sequences()

    async def _files(
        self, name: str, sources: Sequence[trees.Source], *, kind: Kind = "files", squeeze: bool, may_go: bool = True
    ) -> None:
        self._progress.expect(trees.total_bytes(sources))
        self._progress.begin(name)
        async with self._cutter(squeeze=squeeze) as cutter:
            await trees.send(sources, cutter, may_go=may_go)
            await self._add(kind, name, cutter)

    async def _add(self, kind: Kind, name: str, cutter: Cutter, rows: Rows | None = None) -> None:
        chunks = await cutter.finish()
        self._items.append(Item(kind, name, cutter.size_bytes, chunks, rows))

    def _cutter(self, *, squeeze: bool) -> Cutter:
        return Cutter(self._sealer, self._progress.moved, squeeze=squeeze)

    def _end(self, manifest: Manifest) -> None:
        """What belongs to an earlier attempt alone goes."""
        below = f"{self._draft.folder}/chunks/"
        names = self._place.names(f"{self._draft.folder}/chunks")
        left = [name for name in names if name.removeprefix(below) not in manifest.chunks]
        self._place.remove([*left, f"{self._draft.folder}/{DRAFT}"])


def finished(place: Place) -> list[str]:
    """Folders of whole backups, oldest first."""
    return sorted(name.split("/")[0] for name in place.names() if name.count("/") == 1 and name.endswith(f"/{MANIFEST}")
                  and name.startswith("backup-"))  # fmt: skip


def unfinished(place: Place) -> list[str]:
    whole = set(finished(place))
    return sorted({name.split("/")[0] for name in place.names() if name.startswith("backup-")} - whole)


async def _begin(hand: Hand, place: Place) -> Draft:
    """Go on with the newest attempt of this region that was broken off, or begin one."""
    configuration = hand.configuration
    trust = (configuration.trust / "trust.pem").read_bytes()
    origin = origin_of(configuration.region, configuration.trust_domain, trust)
    for folder in reversed(await asyncio.to_thread(unfinished, place)):
        found = await asyncio.to_thread(place.get, f"{folder}/{DRAFT}")
        with contextlib.suppress(msgspec.MsgspecError):
            draft = msgspec.json.decode(found or b"", type=Draft)
            if draft.origin == origin and draft.folder == folder:
                return draft
    draft = Draft(f"backup-{keeping.stamp(hand.clock.now_us())}", hand.random.bits(62) + 1, origin)
    await asyncio.to_thread(place.put, f"{draft.folder}/{DRAFT}", msgspec.json.encode(draft))
    return draft


def _audit_sources(hand: Hand) -> list[trees.Source]:
    return trees.below(hand.configuration.trust / "audit", keeping.AUDIT, skip={*keeping.AUDIT_KEYS})


def _forget(hand: Hand, place: Place, made: Made, keep_days: float) -> list[int]:
    """Remove this region's backups older than `keep_days`; 0 = none, and never the one just made. Their numbers."""
    root = load_root(hand.configuration.trust / "trust.pem")
    oldest_us = made.manifest.at_us - int(keep_days * keeping.DAY_US)
    gone = list[int]()
    for folder in finished(place) if keep_days else ():
        try:
            found = read(MANIFEST_TYPE, place.get(f"{folder}/{MANIFEST}") or b"", Manifest, root)
        except (Refused, Corrupt):
            continue  # not ours to remove
        if found.at_us < oldest_us and folder != made.folder:
            place.remove([f"{folder}/{MANIFEST}"])  # first: a backup without its chunks must not count as whole
            place.remove(place.names(folder))
            gone.append(found.number)
    return gone
