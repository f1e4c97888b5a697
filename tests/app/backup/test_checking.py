"""What a restore refuses: a typed error each, nothing written at the target, an entry for the audit log of the next region."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.app.backup.conftest import Place

from rocade.app import backing_up, initialise
from rocade.app.backup import checking, keeping, model, restoring
from rocade.app.backup.place import open_place
from rocade.app.backup.progress import Progress
from rocade.core.errors import Corrupt, Misconfigured, Refused, RocadeError, Unavailable
from rocade.core.ports import AuditEntry, SystemClock
from rocade.trust.authority.erasure import LedgerFiles


class Copy:
    """Everything of yesterday in a folder of its own, to be harmed."""

    def __init__(self, place: Place, home: Path) -> None:
        self.place, self.home = place, home
        for name, source in (("backups", place.backups), ("keys", place.keys), ("ledger", place.ledger)):
            shutil.copytree(source, home / name)
        self.changed: dict[str, object] = {}

    @property
    def folder(self) -> Path:
        return max((self.home / "backups").iterdir())

    @property
    def part(self) -> Path:
        return max((self.home / "keys").iterdir())

    @property
    def asked(self) -> backing_up.Asked:
        plain = backing_up.Asked(
            str(self.home / "backups"), str(self.home / "keys"), self.home / "ledger", self.home / "into"
        )
        return msgspec.structs.replace(plain, **self.changed)

    def age_ledger(self, signing: Path, now_us: int) -> None:
        shutil.rmtree(self.home / "ledger")
        clock = SystemClock()
        clock.now_us = lambda: now_us  # type: ignore[method-assign]  # a clock that stands still
        LedgerFiles(self.home / "ledger", signing, clock).beat()


def flip(path: Path, at: int = -10) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def other_region(copy: Copy) -> Path:
    initialise.create(copy.home / "other", "other", "test.rocade")
    return copy.home / "other"


def foreign_keys(copy: Copy) -> None:
    """A keys part that another region signed."""
    other = other_region(copy) / "trust"
    part = keeping.newest(open_place(str(copy.home / "keys")))
    origin = model.origin_of("other", "test.rocade", (other / "trust.pem").read_bytes())
    files = [file for file in part.manifest.files if file.name != "clear/trust.pem"]
    trust = (other / "trust.pem").read_bytes()
    (copy.part / "clear/trust.pem").write_bytes(trust)
    forged = msgspec.structs.replace(part.manifest, origin=origin, files=tuple(files))
    (copy.part / "manifest.json").write_bytes(model.sign(model.KEYS_TYPE, forged, other / "audit"))


def foreign_ledger(copy: Copy) -> None:
    shutil.rmtree(copy.home / "ledger")
    LedgerFiles(copy.home / "ledger", other_region(copy) / "trust" / "audit", SystemClock()).beat()


def older_ledger(copy: Copy) -> None:
    copy.age_ledger(copy.place.configuration.trust / "audit", 1_000)


def forked_ledger(copy: Copy) -> None:
    """As long as it has to be and signed, but not the one the backup knew."""
    manifest = copy.folder / "manifest.json"
    root = checking.load_root(copy.place.configuration.trust / "trust.pem")
    found = model.read(model.MANIFEST_TYPE, manifest.read_bytes(), model.Manifest, root)
    known = msgspec.structs.replace(found, ledger_entries=0, ledger_hash="of another")
    manifest.write_bytes(model.sign(model.MANIFEST_TYPE, known, copy.place.configuration.trust / "audit"))


def newer_format(copy: Copy) -> None:

    manifest = copy.folder / "manifest.json"
    root = checking.load_root(copy.place.configuration.trust / "trust.pem")
    found = model.read(model.MANIFEST_TYPE, manifest.read_bytes(), model.Manifest, root)
    manifest.write_bytes(
        model.sign(
            model.MANIFEST_TYPE, msgspec.structs.replace(found, format=9), copy.place.configuration.trust / "audit"
        )
    )


def into_a_region(copy: Copy) -> None:
    (copy.home / "into").mkdir()
    (copy.home / "into" / "rocade.toml").touch()


def another_root(copy: Copy) -> None:
    copy.changed["trust"] = other_region(copy) / "trust" / "trust.pem"


def held_elsewhere(copy: Copy) -> None:

    part = keeping.newest(open_place(str(copy.home / "keys")))
    files = tuple(file for file in part.manifest.files if "custody" not in file.name)
    without = msgspec.structs.replace(part.manifest, files=files)
    signed = model.sign(model.KEYS_TYPE, without, copy.place.configuration.trust / "audit")
    (copy.part / "manifest.json").write_bytes(signed)


HARM: dict[str, tuple[Callable[[Copy], object], type[RocadeError], str]] = {
    "keys of another region": (foreign_keys, Refused, "backup.foreign"),
    "not the root that was named": (another_root, Refused, "backup.foreign"),
    "half written": (lambda c: (c.folder / "manifest.json").unlink(), Refused, "backup.unfinished"),
    "no backup": (lambda c: shutil.rmtree(c.folder), Refused, "backup.missing"),
    "a backup that is not there": (lambda c: c.changed.update(name="backup-of-never"), Refused, "backup.missing"),
    "a changed manifest": (lambda c: flip(c.folder / "manifest.json", 900), Corrupt, "backup.manifest"),
    "a manifest cut off": (lambda c: (c.folder / "manifest.json").write_bytes(b"{}"), Corrupt, "backup.manifest"),
    "a newer format": (newer_format, Refused, "backup.format"),
    "no keys": (lambda c: shutil.rmtree(c.home / "keys"), Refused, "backup.keys.missing"),
    "keys half written": (
        lambda c: [one.unlink() for one in c.home.glob("keys/*/manifest.json")],
        Refused,
        "backup.keys.missing",
    ),
    "keys whose manifest was changed": (lambda c: flip(c.part / "manifest.json"), Corrupt, "backup.manifest"),
    "keys without root": (lambda c: (c.part / "clear/trust.pem").unlink(), Corrupt, "backup.keys.changed"),
    "a changed key table": (lambda c: flip(c.part / "tables/seal_key.0000"), Corrupt, "backup.keys.changed"),
    "a region key held by somebody else": (held_elsewhere, Refused, "backup.keys.held"),
    "no ledger": (lambda c: shutil.rmtree(c.home / "ledger"), Unavailable, "erasure.ledger.missing"),
    "a ledger of another region": (foreign_ledger, Corrupt, "erasure.ledger.broken"),
    "an older ledger": (older_ledger, Refused, "backup.ledger.older"),
    "a fork of the ledger": (forked_ledger, Refused, "backup.ledger.other"),
    "a flipped bit in a chunk": (lambda c: flip(max((c.folder / "chunks").iterdir())), Corrupt, "backup.chunk"),
    "a missing chunk": (lambda c: max((c.folder / "chunks").iterdir()).unlink(), Corrupt, "backup.chunk"),
    "a region that is there": (into_a_region, Misconfigured, "backup.into"),
}


@pytest.mark.parametrize("what", HARM)
def test_bad_input_of_a_restore_is_refused_before_anything_is_written(
    yesterday: Place, tmp_path: Path, what: str
) -> None:
    copy = Copy(yesterday, tmp_path)
    harm, family, code = HARM[what]
    harm(copy)
    asked = msgspec.structs.replace(copy.asked, dry_run=True)
    with pytest.raises(family) as refusal:
        backing_up.put_back(asked, Progress())
    assert refusal.value.code == code
    assert not (tmp_path / ".into.restoring").exists()
    entry = msgspec.json.decode((tmp_path / ".into.refused").read_bytes(), type=AuditEntry)
    assert (entry.action, entry.outcome, entry.reason) == ("backup.restored", "refused", code)
    assert (tmp_path / ".into.refused").stat().st_mode & 0o077 == 0


def test_a_whole_backup_with_its_keys_and_ledger_passes(yesterday: Place, tmp_path: Path) -> None:
    copy = Copy(yesterday, tmp_path)
    copy.changed["trust"] = yesterday.configuration.trust / "trust.pem"
    said = backing_up.put_back(msgspec.structs.replace(copy.asked, dry_run=True), Progress())
    assert any("nothing was written" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "keys", "ledger"]


def test_what_somebody_else_put_beside_the_target_is_left_alone(yesterday: Place, tmp_path: Path) -> None:
    copy, victim = Copy(yesterday, tmp_path), tmp_path / "victim"
    victim.write_bytes(b"root's\n")
    victim.chmod(0o644)
    (tmp_path / ".into.refused").symlink_to(victim)
    asked = msgspec.structs.replace(copy.asked, name="backup-of-nobody")
    with pytest.raises(Refused):
        backing_up.put_back(asked, Progress())
    assert (victim.read_bytes(), victim.stat().st_mode & 0o777) == (b"root's\n", 0o644)
    (tmp_path / ".into.restoring").symlink_to(yesterday.home)
    with pytest.raises(Misconfigured, match="somebody else's"):
        backing_up.put_back(copy.asked, Progress())


def test_only_refusals_are_taken_over_into_the_next_log(yesterday: Place, tmp_path: Path) -> None:
    asked, path = Copy(yesterday, tmp_path).asked, tmp_path / ".into.refused"
    with pytest.raises(Refused):
        backing_up.put_back(msgspec.structs.replace(asked, name="backup-of-nobody"), Progress())
    forged = msgspec.json.encode(AuditEntry(1, "operator:ada", "telemetry.erased", "vehicle:7"))
    path.write_bytes(path.read_bytes() + forged + b"\n" + b'{"at_us":1,"act')
    assert [one.reason for one in restoring._written_down(asked)] == ["backup.missing"]


def test_a_disk_without_room_is_known_before(yesterday: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Copy(yesterday, tmp_path)
    monkeypatch.setattr(checking.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(Unavailable) as refusal:
        backing_up.put_back(copy.asked, Progress())
    assert refusal.value.code == "backup.full"


def test_no_key_no_name_and_no_number_is_in_the_backup(yesterday: Place) -> None:
    searched = [b"VF1CARA000000000", b"PRIVATE KEY", yesterday.configuration.database_url.encode()]
    found = [
        (path.name, word)
        for path in yesterday.backups.rglob("*")
        if path.is_file()
        for word in searched
        if word in path.read_bytes()
    ]
    assert found == []
    private = [path for path in yesterday.keys.rglob("*") if path.is_file() and b"PRIVATE KEY" in path.read_bytes()]
    assert private == [], "private keys are sealed in the keys part too"
