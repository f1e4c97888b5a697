"""One running region for all tests of the command line, and one car that has driven."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.app.stand import CHARGE, Region, mapping_of

BEGIN = datetime(2026, 11, 20, 8, 0, 0, tzinfo=UTC)
ROWS = 300
MAPPING = mapping_of(
    speed="Vehicle.Speed",
    charge=CHARGE,
    range="Vehicle.Powertrain.TractionBattery.Range",
    weather="Vehicle.Exterior.Weather",
)


@dataclass(frozen=True)
class Car:
    vin: str
    identity: Path
    log: Path
    mapping: Path
    said: str
    """What the replay printed."""


def speed(row: int) -> float:
    return 30 + row % 20 + 0.5


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A log of five minutes with one impossible date and one row without a readable time; its mapping."""
    folder = tmp_path_factory.mktemp("drive")
    lines = ["time,speed,charge,range,weather"]
    for row in range(ROWS):
        time = (BEGIN + timedelta(seconds=row)).isoformat()
        time = {100: time.replace("2026-11-20", "2026-90-20"), 200: "no time"}.get(row, time)
        lines.append(
            f"{time},{speed(row)},{80 - row / 100:.2f},{200_000 - row},{'"rain, hail"' if row < 10 else 'sun'}"
        )
    (folder / "drive.csv").write_text("\n".join(lines) + "\n")
    (folder / "drive.toml").write_text(MAPPING)
    return folder / "drive.csv", folder / "drive.toml"


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    region = Region(tmp_path_factory.mktemp("cli") / "eu")
    region.said = region.init(is_fresh=True)
    with region.serving():
        yield region


@pytest.fixture(scope="session")
def car(region: Region, drive: tuple[Path, Path]) -> Car:
    return make_car(region, drive, "VF1CARA0000000001")


def make_car(region: Region, drive: tuple[Path, Path], vin: str) -> Car:
    """Enrol a car and let it send its log."""
    identity = region.directory.parent / vin
    region.enrol(vin, identity, "--brand", "renault", "--model", "Zoe")
    said = region.rocade("replay", drive[0], "--identity", identity, "--mapping", drive[1])
    region.settled()
    return Car(vin, identity, drive[0], drive[1], said)
