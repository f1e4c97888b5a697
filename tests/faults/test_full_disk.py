"""A region on a disk that is really full: first its guard stops intake, then not a byte is left, then there is room again.

The harmless form of this fault, without root: tests/scenarios/test_bad_input.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.region import Car, driving, eventually, running


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    """A file system of its own, of this size; only root may make one."""
    with tempfile.TemporaryDirectory(prefix="rocade-d-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
async def test_a_disk_that_is_really_full_loses_nothing() -> None:
    with small_disk(900) as place:
        async with running(place=place) as region:
            cars = [await region.car("VF1FXLLDX00000001", 5), await region.car("VF1FXLLDX00000002", 4)]
            ballast = place / "ballast"
            async with driving(cars):
                await asyncio.sleep(1)
                fill(ballast, leave_bytes=200_000_000)
                await asyncio.sleep(1.5)
                before = [len(car.acknowledged) for car in cars]
                await asyncio.sleep(1.5)
                assert [len(car.acknowledged) for car in cars] == before, "intake has stopped"
                fill(ballast, leave_bytes=0)
                await asyncio.sleep(5)
                ballast.unlink()
                await eventually(lambda: _more(cars, before), 40)
            for car in cars:
                await region.settles(car.vehicle_id, limit_s=40)


async def _more(cars: list[Car], before: list[int]) -> bool:
    return all(len(car.acknowledged) > count + 3 for car, count in zip(cars, before, strict=True))


def fill(path: Path, leave_bytes: int) -> None:
    """Write a file until only so much is left."""
    with path.open("ab") as file, contextlib.suppress(OSError):
        while (free := shutil.disk_usage(path.parent).free) > leave_bytes:
            file.write(bytes(min(1 << 20, max(free - leave_bytes, 1))))
            file.flush()
