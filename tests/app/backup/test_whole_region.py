"""A backup of yesterday, an erasure of today, a restore: the region is back and nothing of the erased vehicle is in it."""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from tests.app.backup.conftest import START_US, Place, empty_database, erase, in_region, make_place, points_of

from rocade.app import backing_up, wiring
from rocade.app import configuration as settings
from rocade.app.archiving import archive_of
from rocade.app.backup import checking, frozen, keeping, making, trees
from rocade.app.backup.chunks import Cutter
from rocade.app.backup.place import Folder
from rocade.app.backup.progress import Progress
from rocade.core.errors import RocadeError, Unavailable
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.fabric.log import Record
from rocade.services.vehicles import Registry
from rocade.trust.authority.erasure import LedgerFiles
from rocade.trust.authority.people.model import person_number
from rocade.trust.authority.sealing import Group, Keyring
from rocade.trust.authority.store import read_entries


@pytest.fixture
def target(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database a region is restored into."""
    url = empty_database(postgres_url, "restored")
    monkeypatch.setenv("ROCADE_DATABASE_URL", url)
    return url


async def archived(place: Place, *refs: int) -> list[str]:
    """An object of the archive for each of them."""
    database = await Database.connect(place.configuration.database_url)
    try:
        archive = archive_of(place.configuration, database)
        return [
            await archive.add(partition_of(VehicleRef(ref)), [Record(partition_of(VehicleRef(ref)), ref, 1, START_US, b"")])
            for ref in refs
        ]  # fmt: skip
    finally:
        await database.close()


def removing(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention removes an object after the backup's rows were read, before its files are listed."""
    release = frozen.Frozen.release

    async def remove() -> None:
        database = await Database.connect(place.configuration.database_url)
        await archive_of(place.configuration, database).remove([name])
        await database.close()

    def then(self: frozen.Frozen) -> None:
        with ThreadPoolExecutor(1) as apart:  # the backup's own loop is running
            apart.submit(asyncio.run, remove()).result()
        release(self)

    monkeypatch.setattr(frozen.Frozen, "release", then)


def writing_anew(place: Place, name: str, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An erasure writes an object anew, under another name, when the backup has listed it and not yet copied it."""
    send = trees.send

    async def then(sources: list[trees.Source], cutter: Cutter, *, may_go: bool = True) -> None:
        if f"blobs/{name}" in {source.name for source in sources}:
            await asyncio.to_thread(asyncio.run, archived(place, kept))
            database = await Database.connect(place.configuration.database_url)
            await archive_of(place.configuration, database).remove([name])
            await database.close()
        await send(sources, cutter, may_go=may_go)

    monkeypatch.setattr(trees, "send", then)


async def actions(parts: wiring.Common) -> list[str]:
    async with parts.database.pool.acquire() as connection, connection.transaction():
        return [body.decode() async for _, body in read_entries(connection)]


@pytest.mark.timeout(240)
def test_what_was_erased_since_the_backup_is_not_in_the_restored_region(
    tmp_path: Path, postgres_url: str, template: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place(tmp_path, postgres_url, template, "again")
    gone, stays = place.refs
    objects = asyncio.run(archived(place, gone, stays, stays + 1, stays + 2, stays + 3))
    (place.configuration.root / "blobs" / objects[2]).unlink()
    with monkeypatch.context() as meanwhile:
        removing(place, objects[3], meanwhile)
        writing_anew(place, objects[4], stays + 4, meanwhile)
        assert "archive.absent: 1 objects of the archive are gone: rocade archive check" in place.back_up()
    keys_before = keeping.newest(Folder(place.keys)).manifest
    erase(place, gone)

    keys = Folder(place.keys)
    assert len({name.split("/")[0] for name in keys.names()}) == 1, (
        "the puncture wrote a new keys part, the old one went"
    )
    assert keeping.newest(keys).manifest.region_key == keys_before.region_key + 1
    told = list[int]()
    asked = place.asked("back")
    said = backing_up.put_back(asked, Progress(lambda done, *_: told.append(done)))
    assert any("erasures since then: 1" in line for line in said)
    assert any(line.startswith("archive.absent: 1 objects") for line in said), "lost before, and still missed"
    assert told == sorted(told)

    restored = settings.load(tmp_path / "back")
    assert restored.database_url == target

    async def look(parts: wiring.Common, history: History) -> None:
        assert await points_of(history, gone) == 0
        assert await points_of(history, stays) == 60
        names = [(gone, int(group)) for group in Group]
        assert await parts.keyring.fetch(names) == {}
        registry = Registry(parts.database, parts.random, parts.clock)
        assert await registry.by_refs([gone]) == {}
        found = await registry.resolve("VF1CARA0000000002")
        assert int(found.ref) == stays
        moved = await registry.resolve("VF1CARA0000000001")
        assert int(moved.ref) != gone
        archive = archive_of(parts.configuration, parts.database)
        held = [record.key async for record in archive.records(stays + 4, 0, 1 << 62)]
        assert held == [stays + 4], "written anew while its file was to be copied"
        checked = await archive.check()
        assert (checked.objects, checked.absent, checked.damaged) == (2, [objects[2]], [])
        entries = await actions(parts)
        assert any("backup.restored" in one and '"absent":1' in one for one in entries)
        assert any("backup.begun" in one for one in entries)

    in_region(restored, look)
    rows = list((tmp_path / "back/history").rglob("data.bin"))
    assert rows
    assert not (tmp_path / ".back.restoring").exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_ledger_that_does_not_know_an_erasure_the_keys_know_is_older(
    tmp_path: Path, postgres_url: str, template: str, target: str
) -> None:
    place = make_place(tmp_path, postgres_url, template, "behind")
    place.back_up()
    shutil.copytree(place.ledger, tmp_path / "ledger")  # signed after the backup, and before the erasure
    person = "person:00000000000000aa"
    destroy(place, person_number(person))
    with pytest.raises(RocadeError) as refusal:
        backing_up.put_back(place.asked("back", ledger=tmp_path / "ledger"), Progress())
    assert refusal.value.code == "backup.ledger.older"
    assert not (tmp_path / "back").exists()
    LedgerFiles(tmp_path / "ledger", place.configuration.trust / "audit", SystemClock()).append("ordered", "e", person)
    checked = checking.check(place.asked("back", ledger=tmp_path / "ledger"), *map(Folder, (place.backups, place.keys)))
    assert [entry.subject for entry in checked.erasures] == [person]


def destroy(place: Place, owner: int) -> None:
    """The keys of an owner, and of the backup before, which is no erasure; and a keys part from after that."""

    async def work(parts: wiring.Common, _: History) -> None:
        keyring: Keyring = parts.keyring
        await keyring.ensure([(owner, Group.PERSON), (4711, Group.BACKUP)])
        async with parts.database.pool.acquire() as connection, connection.transaction():
            await keyring.destroy(connection, [owner, 4711])

    in_region(place.configuration, work)
    wanted = backing_up.wanted(place.configuration, None, None, None, None, keys_only=True)
    backing_up.back_up(place.configuration, wanted, Progress())


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_region_key_held_by_another_party_is_in_no_copy_and_is_taken_over(
    tmp_path: Path, postgres_url: str, template: str, target: str
) -> None:
    held = tmp_path / "elsewhere"
    place = make_place(tmp_path, postgres_url, template, "held", str(held))
    place.back_up()
    key = (held / "1.key").read_bytes()
    copies = [path for folder in (place.backups, place.keys) for path in folder.rglob("*") if path.is_file()]
    assert [path for path in copies if key in path.read_bytes()] == []
    gone, stays = place.refs
    erase(place, gone)
    assert not (held / "1.key").exists()
    with pytest.raises(RocadeError) as refusal:
        backing_up.put_back(place.asked("back"), Progress())
    assert refusal.value.code == "backup.keys.held"
    backing_up.put_back(place.asked("back", take_over=True), Progress())
    assert not (held / "2.key").exists(), "the erasure, done again, has punctured the keys of the region that goes on"

    async def look(parts: wiring.Common, history: History) -> None:
        assert [await points_of(history, ref) for ref in (gone, stays)] == [0, 60]

    in_region(settings.load(tmp_path / "back"), look)
    newest = keeping.newest(Folder(place.keys)).manifest
    assert newest.region_key == 3, "and its keys part is the newest"
    backing_up.put_back(place.asked("checked", take_over=True, dry_run=True), Progress())


@pytest.mark.timeout(240)
def test_a_restore_that_was_broken_off_goes_on(yesterday: Place, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from rocade.app.backup import restoring

    seen = list[str]()
    receive = restoring.trees.receive

    async def fail(*arguments: object) -> int:
        seen.append("files")
        if len(seen) == 3:
            raise OSError(28, "No space left on device")
        return await receive(*arguments)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(restoring.trees, "receive", fail)
    asked = yesterday.asked("broken")
    with pytest.raises(Unavailable) as refusal:
        backing_up.put_back(asked, Progress())
    assert refusal.value.code == "backup.full"
    assert not asked.into.exists()
    before = len(seen)
    monkeypatch.setattr(restoring, "erase_again", None)  # nothing to erase: it must not be asked
    said = backing_up.put_back(asked, Progress())
    assert any("audit log verified" in line for line in said)
    assert len(seen) < 2 * before + 3

    async def look(parts: wiring.Common, history: History) -> None:
        assert [await points_of(history, ref) for ref in yesterday.refs] == [60, 60]
        entries = await actions(parts)
        assert any("backup.restored" in one and "backup.full" in one for one in entries), (
            "the refusal is in the audit log"
        )

    in_region(settings.load(asked.into), look)
    shutil.rmtree(asked.into)


def test_a_backup_that_was_broken_off_goes_on_under_its_number(
    yesterday: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = backing_up.wanted(yesterday.configuration, str(tmp_path / "to"), None, None, None)
    put, left = Folder.put, [3]

    failure: list[Exception] = [RuntimeError("a mistake in the code")]

    def fill(self: Folder, name: str, content: bytes) -> None:
        if "/chunks/" in name:
            left[0] -= 1
        if left[0] < 0:
            raise failure[0]
        put(self, name, content)

    monkeypatch.setattr(Folder, "put", fill)
    with pytest.raises(RuntimeError):
        backing_up.back_up(yesterday.configuration, wanted, Progress())
    left[0], failure[0] = 13, Unavailable("backup.full", "no room")
    with pytest.raises(Unavailable, match="no room"):
        backing_up.back_up(yesterday.configuration, wanted, Progress())
    (folder,) = (tmp_path / "to").iterdir()
    assert (folder / "draft.json").exists()
    assert not (folder / "manifest.json").exists()
    assert any("gone on with" in line for line in backing_up.plan(yesterday.configuration, wanted))
    with pytest.raises(RocadeError) as refusal:
        backing_up.put_back(yesterday.asked("none", source=str(tmp_path / "to"), dry_run=True), Progress())
    assert refusal.value.code == "backup.unfinished"

    async def failed(parts: wiring.Common, _: History) -> list[bool]:
        said = [one for one in await actions(parts) if "backup.failed" in one]
        return [any(reason in one for one in said) for reason in ("backup.unfinished", "backup.full")]

    assert in_region(yesterday.configuration, failed) == [True, True], "each failure stands in the audit log"

    left[0] = 1_000_000
    said = backing_up.back_up(yesterday.configuration, wanted, Progress())
    assert [path.name for path in (tmp_path / "to").iterdir()] == [folder.name]
    assert int(next(line for line in said if "sealed" in line).split(", ")[2].split()[0]) > 5
    assert not (folder / "draft.json").exists()
    backing_up.put_back(yesterday.asked("none", source=str(tmp_path / "to"), dry_run=True), Progress())

    def kill(self: Folder, names: list[str]) -> None:
        remove(self, names)
        if names[0].startswith(folder.name):
            raise KeyboardInterrupt

    remove = Folder.remove
    monkeypatch.setattr(Folder, "remove", kill)
    with pytest.raises(KeyboardInterrupt):
        backing_up.back_up(yesterday.configuration, msgspec.structs.replace(wanted, keep_days=1e-9), Progress())
    assert folder.name not in making.finished(Folder(tmp_path / "to")), "half removed, it does not count as whole"


async def test_an_erasure_waits_for_a_backup_and_lets_go_what_a_killed_one_holds(tmp_path: Path) -> None:
    left = tmp_path / "sealed/shadow/backup_7/store/abc"
    left.mkdir(parents=True)
    (left / "data.bin").write_bytes(b"values")
    with frozen.alone(tmp_path):
        assert not left.exists(), "nobody holds it any more"
        left.mkdir(parents=True)
        with pytest.raises(Unavailable) as refusal:
            await frozen.HeldParts(tmp_path).forget([5])
        assert refusal.value.code == "backup.running"
        with pytest.raises(Unavailable), frozen.alone(tmp_path):
            pass
        assert left.exists()
    assert await frozen.HeldParts(tmp_path).forget([5]) == 0
    assert not left.exists()


def test_a_place_that_is_no_other_place_is_refused(yesterday: Place) -> None:
    with pytest.raises(RocadeError) as refusal:
        backing_up.wanted(yesterday.configuration, str(yesterday.keys), None, None, None)
    assert refusal.value.code == "backup.apart"
    for to, keys_to in (("b", "./b"), ("b", "file://" + str(Path("b").resolve())), ("b", "b/keys"), ("k/b", "k"),
                        ("s3://one/b", "s3://one/b/"), ("s3://one/b", "s3://one/b/keys")):  # fmt: skip
        with pytest.raises(RocadeError) as refusal:
            backing_up.wanted(yesterday.configuration, to, keys_to, None, None)
        assert refusal.value.code == "backup.apart", (to, keys_to)
    for to, keys_to in (("b", "bk"), ("s3://one/b", "s3://two/b"), ("s3://one/b", "b")):
        assert backing_up.wanted(yesterday.configuration, to, keys_to, None, None).to == to
    with pytest.raises(RocadeError) as refusal:
        bare = msgspec.structs.replace(yesterday.configuration, backup=settings.Backup())
        backing_up.wanted(bare, "somewhere", None, None, None)
    assert refusal.value.code == "backup.to"
