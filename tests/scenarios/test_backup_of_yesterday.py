"""A backup of yesterday, an erasure of today, a lost machine: the restored region serves, and 0 readable records came back.

The small form, without ports, runs by default: tests/app/backup/test_whole_region.py.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.app.conftest import BEGIN, MAPPING, ROWS
from tests.app.stand import Region, rocade

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SIGNAL = "Vehicle.Speed"


def drive_of(folder: Path, begin: datetime, rows: int, step_s: float) -> tuple[Path, Path]:
    lines = ["time,speed,charge,range,weather"]
    for row in range(rows):
        time = (begin + timedelta(seconds=row * step_s)).isoformat()
        lines.append(f"{time},{30 + row % 20}.5,{80 - row / 100:.2f},{200_000 - row},sun")
    folder.mkdir()
    (folder / "drive.csv").write_text("\n".join(lines) + "\n")
    (folder / "drive.toml").write_text(MAPPING)
    return folder / "drive.csv", folder / "drive.toml"


@pytest.fixture
def drive(tmp_path: Path) -> tuple[Path, Path]:
    return drive_of(tmp_path / "drive", BEGIN, ROWS, 1)


def drive_off(region: Region, vin: str, drive: tuple[Path, Path], *, is_new: bool = True) -> None:
    identity = region.directory.parent / vin
    if is_new:
        region.enrol(vin, identity, "--brand", "renault", "--model", "Zoe")
    region.rocade("replay", drive[0], "--identity", identity, "--mapping", drive[1])
    region.settled()


def points(region: Region, vin: str) -> int:
    return len(region.rocade("history", vin, "--signal", SIGNAL).splitlines()) - 1


def test_yesterdays_backup_does_not_bring_back_what_was_erased_today(tmp_path: Path, drive: tuple[Path, Path]) -> None:
    region = Region(tmp_path / "eu")
    region.init()
    settings = (region.directory / "rocade.toml").read_text()
    (region.directory / "rocade.toml").write_text(
        settings.replace('# keys_to = ""', f'keys_to = "{tmp_path / "keys"}"')
    )
    gone, stays = "VF1CARA0000000001", "VF1CARA0000000002"
    with region.serving():
        for vin in (gone, stays):
            drive_off(region, vin, drive)
        assert points(region, gone) == points(region, stays) == ROWS

        coming = threading.Thread(target=drive_off, args=(region, stays, drive), kwargs={"is_new": False})
        coming.start()  # a backup is made while vehicles send
        said = region.rocade("backup", tmp_path / "bk")
        coming.join()
        assert "backup-" in said
        assert "keys part" in said

        before = (json.loads(region.rocade("twin", gone, "--json")))["signals"]
        assert before
        region.rocade("erase", gone, "--yes", "--physical")
        assert points(region, gone) == 0
        region.rocade(
            "erase", gone, "--yes", "--physical"
        )  # twice: between the backup's reference and the last one lies another
        ledger = tmp_path / "ledger"
        wait_for_ledger(region, ledger)

    shutil.rmtree(region.directory)  # the machine is lost
    dry = rocade(
        "restore",
        tmp_path / "bk",
        "--keys",
        tmp_path / "keys",
        "--ledger",
        ledger,
        "--into",
        region.directory,
        "--dry-run",
    )
    assert "nothing was written" in dry
    assert not region.directory.exists()
    said = rocade(
        "restore", tmp_path / "bk", "--keys", tmp_path / "keys", "--ledger", ledger, "--into", region.directory
    )
    assert "audit log verified" in said

    back = Region(region.directory)
    with back.serving():
        assert points(back, gone) == 0, "readable records of an erased vehicle came back"
        assert points(back, stays) >= ROWS
        assert json.loads(back.rocade("twin", gone, "--json"))["signals"] == []
        assert json.loads(back.rocade("audit", "verify"))["ok"] is True
        entries = [json.loads(line) for line in back.rocade("audit", "tail", "-n", "200").splitlines()]
        assert "backup.restored" in {entry["action"] for entry in entries}
        assert gone in back.rocade("vehicles"), "the vehicle itself is not lost"
        drive_off(back, gone, drive, is_new=False)
        assert points(back, gone) == 0, "what was measured before the erasure stays erased, whenever it arrives"
        drive_off(back, gone, drive_of(tmp_path / "later", datetime.now(UTC), 20, 0.1), is_new=False)
        assert points(back, gone) == 20, "the vehicle drives on, by the certificate it has"


def wait_for_ledger(region: Region, copy: Path) -> None:
    """The erasures are physically done; then take the copy that lies elsewhere."""
    end_s = time.monotonic() + 120
    while (region.directory / "erasures/ledger").read_bytes().count(b"\n") < 4:
        assert time.monotonic() < end_s, "two erasures were ordered and are not done"
        time.sleep(0.3)
    shutil.copytree(region.directory / "erasures", copy)
