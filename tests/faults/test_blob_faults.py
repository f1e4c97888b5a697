"""Blobs and the raw batch archive on disks that write half, fail to flush, turn bits, lose files; writers that are killed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from tests.faults.blob_writer import body_of

from rocade.core.errors import Corrupt, Refused
from rocade.fabric.blobs import open_blobs
from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.services.telemetry.archive import Archive

SCRIPT = Path(__file__).with_name("blob_writer.py")
SYNC_FAILS = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:error=EIO:when=20+")
RECORDS = [Record(7, 7 + 64 * n % 640, 1, 1_700_000_000_000_000 + n, bytes([n]) * 40) for n in range(50)]


async def kept(folder: Path) -> dict[str, bytes]:
    blobs = open_blobs(f"file://{folder}")
    return {one.name: await blobs.get(one.name) async for one in blobs.list()}


@pytest.mark.parametrize(
    ("command", "mode", "code"),
    [pytest.param((), "short", "blobs.full", id="short write"), pytest.param(SYNC_FAILS, "sync", "blobs.down", id="fsync error")],
)  # fmt: skip
async def test_an_object_whose_write_or_flush_fails_is_refused_and_none_is_half_there(
    tmp_path: Path, command: tuple[str, ...], mode: str, code: str
) -> None:
    run = [*command, sys.executable, str(SCRIPT), str(tmp_path / "blobs"), mode]
    done = await asyncio.to_thread(subprocess.run, run, stdout=subprocess.PIPE, check=True, text=True)
    *told, refused = done.stdout.split("\n")[:-1]
    assert refused == f"refused {code}"
    assert len(told) >= 3
    found = await kept(tmp_path / "blobs")
    assert {f"road/{number}" for number in told} <= found.keys(), "acknowledged and lost"
    assert all(body == body_of(int(name.removeprefix("road/"))) for name, body in found.items())
    blobs, again = open_blobs(f"file://{tmp_path / 'blobs'}"), len(told)
    await blobs.put(f"road/{again}", body_of(again))  # what its writer does when the disk is well again
    assert (await kept(tmp_path / "blobs"))[f"road/{again}"] == body_of(again)


async def test_a_writer_killed_in_the_middle_leaves_no_half_object_under_its_name(tmp_path: Path) -> None:
    dice, seed = Random(int(os.environ.get("ROCADE_SEED") or 12)), os.environ.get("ROCADE_SEED") or 12
    print(f"seed {seed}")
    for turn in range(4):
        folder = tmp_path / f"blobs{turn}"
        with subprocess.Popen([sys.executable, str(SCRIPT), str(folder), "kill"], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            told = [await asyncio.to_thread(writer.stdout.readline) for _ in range(1 + turn * 4)]
            await asyncio.sleep(dice.uniform(0, 0.01))
            writer.kill()
            told += writer.stdout.readlines()
        found = await kept(folder)
        assert {f"road/{int(number)}" for number in told if number.endswith(b"\n")} <= found.keys()
        assert all(body == body_of(int(name.removeprefix("road/"))) for name, body in found.items())


@pytest.mark.parametrize("bits", [200, pytest.param(5_000, marks=pytest.mark.slow)])
async def test_a_turned_bit_in_an_object_of_the_archive_is_named_and_no_record_of_it_is_read(
    database: Database, tmp_path: Path, bits: int
) -> None:
    archive = Archive(open_blobs(f"file://{tmp_path}"), database)
    name = await archive.add(7, RECORDS)
    assert (await archive.read(name)).records == RECORDS
    whole, codes = (tmp_path / name).read_bytes(), Counter[str]()
    every = range(len(whole) * 8)
    print("seed 5")
    for bit in Random(5).sample(every, bits):
        turned = bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        (tmp_path / name).write_bytes(turned)
        with pytest.raises(Corrupt) as said:
            await archive.read(name)
        codes[said.value.code] += 1
    assert codes.keys() == {"archive.corrupt"}
    for cut in (0, 1, 40, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(Corrupt, match=r"archive\.corrupt"):
            await archive.read(name)


async def test_an_object_under_anothers_name_and_one_that_is_gone_are_said_to_be(
    database: Database, tmp_path: Path
) -> None:
    archive = Archive(open_blobs(f"file://{tmp_path}"), database)
    first, second = await archive.add(7, RECORDS[:20]), await archive.add(7, RECORDS[20:])
    (tmp_path / second).write_bytes((tmp_path / first).read_bytes())
    with pytest.raises(Corrupt, match=r"archive\.corrupt"):
        await archive.read(second)
    (tmp_path / second).unlink()
    with pytest.raises(Corrupt, match=r"archive\.absent"):
        await archive.read(second)
    assert sorted(await archive.names(7)) == sorted([first, second]), "who lists misses it too"
    assert (await archive.check()).absent == [second]
    with pytest.raises(Refused, match=r"blobs\.absent"):
        await archive.read(f"{first}0")


async def test_objects_from_before_there_was_a_digest_are_read(database: Database, tmp_path: Path) -> None:
    import msgspec

    blobs = open_blobs(f"file://{tmp_path}")
    await blobs.put("road/07/20231114/1700000000000000-00.records", msgspec.msgpack.encode([1, [7], RECORDS[:1]]))
    assert (await Archive(blobs, database).read("road/07/20231114/1700000000000000-00.records")).records == RECORDS[:1]
