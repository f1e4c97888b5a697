"""`rocade restore`: a region from its backup, in a folder that nobody serves until everything is done.

Flow: what can be checked is checked (checking.py) -> beside the target: configuration, region key, database with the key
tables of the keys part, and so the backup's key -> private files, rows, parts, blobs -> indexes, migrations -> engines are started,
on local sockets alone -> every erasure that the ledger holds since the backup is done again -> the audit log is verified ->
engines are stopped, the ledger is put in, and the folder is moved into place. `rocade serve` finds a region only then.

Broken off, the next run goes on after the last whole item. A restore that was refused is written down beside the target and
enters the audit log with the one that succeeds. What somebody else has put beside the target is neither read nor written.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import stat
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import msgspec

from rocade.app import configuration as settings
from rocade.app import wiring
from rocade.app.archiving import archive_of, lies_inside
from rocade.app.backup import keeping, store, trees
from rocade.app.backup.checking import Asked, Checked, check, check_chunks
from rocade.app.backup.chunks import Sealer, pieces
from rocade.app.backup.frozen import history_of
from rocade.app.backup.model import Item
from rocade.app.backup.place import Place, open_place
from rocade.app.backup.progress import Progress
from rocade.app.configuration import Configuration
from rocade.app.custodies import custody_of
from rocade.app.erasing import erase_again
from rocade.app.supervisor import MIGRATED
from rocade.core.errors import Corrupt, Misconfigured, Refused, RocadeError, Unavailable
from rocade.core.ports import AuditEntry, Clock, SystemClock, SystemRandom
from rocade.fabric.database import Database, EmbeddedPostgres, migrate
from rocade.fabric.database.dump import Filling
from rocade.trust.authority import AuditLog
from rocade.trust.authority.erasure import Entry
from rocade.trust.authority.people.model import person_number
from rocade.trust.authority.sealing import REGION, Group, Keyring
from rocade.trust.authority.verification import Report, verify
from rocade.trust.identity.directory import load_root
from rocade.trust.identity.keys import write_private

STATE = ".restore.json"
SEALING = "rocade.trust.authority.sealing"


class State(msgspec.Struct):
    """What stands already in a folder that is being filled, and from which backup and keys."""

    origin: str
    done: set[str] = msgspec.field(default_factory=set)


class Restored(msgspec.Struct, frozen=True):
    """What came back. `erased`: erasures done again; `audit`: of the log as it stands now; `absent`: objects of the archive that
    must be there and are not.
    """

    checked: Checked
    erased: int
    audit: Report | None
    absent: tuple[str, ...] = ()


async def restore(asked: Asked, progress: Progress, clock: Clock | None = None) -> Restored:
    """Raises: as checking.py and chunks.py; Unavailable `backup.full`; Corrupt `audit.*`; Refused `database.filled`."""
    clock = clock or SystemClock()
    try:
        place, keys = open_place(asked.source), open_place(asked.keys)
        checked = await asyncio.to_thread(check, asked, place, keys)
        if asked.dry_run:
            await asyncio.to_thread(check_chunks, checked, place, keys, progress)
            return Restored(checked, len(checked.erasures), None)
        return await _Filler(asked, checked, place, keys, progress, clock).run()
    except RocadeError as error:
        _write_down(asked, error, clock)
        raise
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        full = Unavailable("backup.full", "the disk is full; make room and run the command again, it goes on")
        _write_down(asked, full, clock)
        raise full from error


class _Filler:
    def __init__(
        self, asked: Asked, checked: Checked, place: Place, keys: Place, progress: Progress, clock: Clock
    ) -> None:
        self._asked = asked
        self._checked = checked
        self._place = place
        self._keys = keys
        self._progress = progress
        self._clock = clock
        self._building = asked.into.absolute().parent / f".{asked.into.name}.restoring"
        self._state = State("")

    async def run(self) -> Restored:
        self._resume()
        self._progress.expect(self._checked.manifest.size_bytes)
        await asyncio.to_thread(self._put_clear)
        configuration = settings.load(self._building)
        async with _server(configuration) as url:
            configuration = msgspec.structs.replace(configuration, database_url=url)
            filling = await Filling.open(url)
            try:
                await self._fill_keys(filling, configuration)
                await self._check_ledger_knows(url)
                async with _connected(configuration, self._clock) as (database, keyring):
                    await self._fill(filling, keyring)
                    await asyncio.to_thread(migrate, url, MIGRATED)
                    restored = await self._settle(configuration, database, keyring)
            finally:
                await filling.close()
        await asyncio.to_thread(self._put_in_place)
        return restored

    def _resume(self) -> None:
        """Go on in the folder of an attempt with the same backup and keys; another one's is removed."""
        origin = sha256(msgspec.json.encode((self._checked.manifest, self._checked.keys.manifest))).hexdigest()
        if self._building.is_symlink() or (self._building.exists() and self._building.stat().st_uid != os.geteuid()):
            raise Misconfigured("backup.into", f"{self._building} is somebody else's; restore into another folder")
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            self._state = msgspec.json.decode((self._building / STATE).read_bytes(), type=State)
        if self._state.origin != origin:
            shutil.rmtree(self._building, ignore_errors=True)
            self._building.mkdir(mode=0o700, parents=True)
            self._state = State(origin)
            self._note()

    def _note(self, done: str = "") -> None:
        if done:
            self._state.done.add(done)
        write_private(self._building / STATE, msgspec.json.encode(self._state))

    def _put_clear(self) -> None:
        """Configuration and region key. A key that a puncture of the restored region has replaced does not come back."""
        if "clear" in self._state.done:
            return
        for file in self._checked.keys.manifest.files:
            kind, _, name = file.name.partition("/")
            if kind == "clear" and name != "trust.pem":
                path = trees.inside(self._building, name)
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, keeping.content(self._keys, self._checked.keys, file.name))
        self._note("clear")

    async def _fill_keys(self, filling: Filling, configuration: Configuration) -> None:
        """The tables, empty, and the keys in theirs. Their definitions are sealed with one of those keys: so the keys are first
        put in alone, the definitions opened, and then everything is made as it was.
        """
        if "keys" in self._state.done:
            return
        if "begun" not in self._state.done:
            await filling.check_empty()
            self._note("begun")
        await filling.clear()
        await asyncio.to_thread(migrate, configuration.database_url, (SEALING,))
        await self._fill_key_tables(filling)
        async with _connected(configuration, self._clock) as (_, keyring):
            sealer = await self._sealer(keyring)
        await filling.clear()
        for item in self._checked.manifest.items:
            if (item.kind, item.name) == ("schema", "pre-data"):
                await filling.schema(await self._content(sealer, item))
        await self._fill_key_tables(filling)
        self._note("keys")

    async def _fill_key_tables(self, filling: Filling) -> None:
        for table in self._checked.keys.manifest.tables:
            await filling.rows(table, keeping.rows(self._keys, self._checked.keys, table))

    async def _check_ledger_knows(self, url: str) -> None:
        """Whom the keys part, which may be younger than the ledger given, knows to be erased, the ledger must know too.

        Raises: Refused `backup.ledger.older`.
        """
        known = {_number_of(entry) for entry in self._checked.ledger.entries}
        if unknown := await store.destroyed_since(url, self._checked.manifest.at_us) - known:
            raise Refused(
                "backup.ledger.older",
                f"the keys part knows of {len(unknown)} erasures that this ledger does not: what was erased would come back; bring"
                " the region's newest ledger",
            )

    async def _sealer(self, keyring: Keyring) -> Sealer:
        """Raises: Corrupt `backup.key`: the keys part does not know this backup."""
        number = self._checked.manifest.number
        name = (number, int(Group.BACKUP))
        key = (await keyring.fetch([name])).get(name)
        if key is None:
            raise Corrupt(
                "backup.key", "the keys part has no key of this backup; name the one written with it, or later"
            )
        return await asyncio.to_thread(Sealer, self._place, self._checked.folder, number, key)

    async def _content(self, sealer: Sealer, item: Item) -> bytes:
        return b"".join([piece async for piece in pieces(sealer, item.chunks, self._progress.moved)])

    async def _fill(self, filling: Filling, keyring: Keyring) -> None:
        """Everything else, an item at a time; private files first, since the audit key is one of them."""
        sealer = await self._sealer(keyring)
        if "private" not in self._state.done:
            await self._fill_private(keyring)
            self._note("private")
        for item in self._checked.manifest.items:
            label = f"{item.kind}:{item.name}"
            if item.kind == "schema":
                continue
            if label in self._state.done:
                self._progress.moved(item.size_bytes)
                continue
            self._progress.begin(item.name)
            stream = pieces(sealer, item.chunks, self._progress.moved)
            if item.rows is not None:
                await filling.rows(item.rows, stream)
            else:
                await trees.receive(stream, self._building / "history" if item.kind == "history" else self._building)
            self._note(label)
        if "indexes" not in self._state.done:
            self._progress.begin("indexes")
            for item in self._checked.manifest.items:
                if (item.kind, item.name) == ("schema", "post-data"):
                    await filling.schema(await self._content(sealer, item))
            await filling.sequences(self._checked.manifest.sequences)
            self._note("indexes")

    async def _fill_private(self, keyring: Keyring) -> None:
        sealer = await asyncio.to_thread(
            Sealer, self._keys, self._checked.keys.folder, REGION, (await keyring.fetch([keeping.OWN]))[keeping.OWN]
        )
        await trees.receive(pieces(sealer, self._checked.keys.manifest.private, lambda _: None), self._building)

    async def _settle(self, configuration: Configuration, database: Database, keyring: Keyring) -> Restored:
        """Erase again, write down what was done, verify."""
        self._progress.begin("erasures")
        await asyncio.to_thread(self._put_ledger)
        erased, archive = 0, archive_of(configuration, database)
        is_inside = lies_inside(configuration)
        await archive.give_up(self._checked.manifest.removed if is_inside else None)
        audit = AuditLog(database, configuration.trust / "audit", self._clock)
        try:
            if self._checked.erasures:
                if self._asked.take_over:
                    keyring.keep = keeping.keep_after_puncture(
                        configuration, database.url, keyring.custody, self._clock, lambda: keyring.held(*keeping.OWN)
                    )
                parts = wiring.Common(configuration, self._clock, SystemRandom(), database, audit, keyring)
                async with history_of(configuration, keyring):
                    erased = await erase_again(parts, await self._orders(database, keyring))
            absent = (await archive.check()).absent if is_inside else []
            self._progress.begin("audit")
            for entry in _written_down(self._asked):
                await audit.record(entry)
            facts: dict[str, str | int | float] = {
                "at_us": self._checked.manifest.at_us,
                "erased": erased,
                "ledger": len(self._checked.ledger.entries),
                "absent": len(absent),
            }
            subject = f"backup:{self._checked.manifest.number}"
            await audit.record(AuditEntry(self._clock.now_us(), _actor(), "backup.restored", subject, facts=facts))
        finally:
            await audit.close()
        root = load_root(configuration.trust / "trust.pem")
        report = await verify(database, configuration.trust / "audit", root)
        return Restored(self._checked, erased, report, tuple(absent))

    async def _orders(self, database: Database, keyring: Keyring) -> list[Entry]:
        """The erasures with the reference each vehicle has in the end: those between are gone, with their keys."""
        content = keeping.content(self._keys, self._checked.keys, keeping.NUMBERS)
        numbers = msgspec.msgpack.decode(content, type=dict[int, bytes])
        follows = {entry.subject: entry.renewed for entry in self._checked.erasures if entry.renewed}
        orders = list[Entry]()
        for entry in self._checked.erasures:
            last = entry.renewed
            while (following := follows.get(f"vehicle:{last}")) is not None:
                last = following
            if last in numbers:
                await store.put_number(database.pool, int(entry.subject.partition(":")[2]), numbers[last])
            elif last and not await keyring.fetch([(int(entry.subject.partition(":")[2]), int(Group.IDENTITY))]):
                last = 0  # its number is nowhere any more: the vehicle was taken out of the register since
            orders.append(msgspec.structs.replace(entry, renewed=last))
        return orders

    def _put_ledger(self) -> None:
        """The ledger goes on in the restored region where the living one left it."""
        target = self._building / "erasures"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(mode=0o700)
        for file in self._asked.ledger.iterdir():
            if file.is_file() and file.name != "lock":
                write_private(target / file.name, file.read_bytes())

    def _put_in_place(self) -> None:
        """The last step: before it there is no region at the target, after it a whole one."""
        (self._building / STATE).unlink()
        os.sync()
        if self._asked.into.exists():
            self._asked.into.rmdir()
        self._building.rename(self._asked.into.absolute())
        with contextlib.suppress(OSError):
            _refusals(self._asked).unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _server(configuration: Configuration) -> AsyncIterator[str]:
    """The database that the configuration names; else one of our own, reached over its local socket alone."""
    if configuration.database_url:
        yield configuration.database_url
        return
    server = EmbeddedPostgres(configuration.root / "postgres")
    try:
        yield await asyncio.to_thread(server.start)
    finally:
        await asyncio.to_thread(server.stop)


@contextlib.asynccontextmanager
async def _connected(configuration: Configuration, clock: Clock) -> AsyncIterator[tuple[Database, Keyring]]:
    """With a keyring whose punctures write no keys part: the settings' place may be that of a region which lives."""
    database = await Database.connect(configuration.database_url, max_connections=8)
    try:
        lease_s = configuration.custody.lease_s
        database.keyring = keyring = await Keyring.open(database, custody_of(configuration), clock, lease_s=lease_s)
        try:
            yield database, keyring
        finally:
            await keyring.close()
    finally:
        await database.close()


def _number_of(entry: Entry) -> int:
    kind, _, number = entry.subject.partition(":")
    return int(number) if kind == "vehicle" else person_number(entry.subject)


def _actor() -> str:
    return f"local:uid-{os.geteuid()}"


def _refusals(asked: Asked) -> Path:
    return asked.into.absolute().parent / f".{asked.into.name}.refused"


def _write_down(asked: Asked, error: RocadeError, clock: Clock) -> None:
    """A region that does not exist has no audit log: its next one takes this over."""
    entry = AuditEntry(clock.now_us(), _actor(), "backup.restored", "backup", "refused", error.code)
    with contextlib.suppress(OSError), _ours(_refusals(asked), os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
        file.write(msgspec.json.encode(entry) + b"\n")


def _written_down(asked: Asked) -> list[AuditEntry]:
    """The refusals; a line that was cut off is none."""
    found = list[AuditEntry]()
    with contextlib.suppress(OSError), _ours(_refusals(asked), os.O_RDONLY) as file:
        for line in file.read().splitlines():
            with contextlib.suppress(msgspec.MsgspecError):
                found.append(msgspec.json.decode(line, type=AuditEntry))
    return [one for one in found if (one.action, one.outcome) == ("backup.restored", "refused")]


def _ours(path: Path, flags: int) -> BinaryIO:
    """A file of our own: the folder may be one where others write too. Raises: OSError."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(descriptor)
        raise PermissionError(errno.EPERM, "it is somebody else's")
    return os.fdopen(descriptor, "rb" if flags & os.O_ACCMODE == os.O_RDONLY else "ab")
