"""An erasure is done when the files are gone, also on a disk that takes its time to remove them."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import rawparts

from rocade.fabric.history import Table, connect
from rocade.fabric.history.process import StoreProcess

MARKER = 1_234_567_891
SLOW = ("-e", "trace=unlink,unlinkat,rmdir", "-e", "inject=unlink,unlinkat,rmdir:delay_enter=400000")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the disk slow"),
]


async def traced(pid: int) -> None:
    """Wait until every thread of a process has its tracer."""
    async with asyncio.timeout(30):
        while any("TracerPid:\t0" in status for status in statuses(pid)):
            await asyncio.sleep(0.05)


def statuses(pid: int) -> Iterator[str]:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            yield (task / "status").read_text()


async def test_an_erasure_waits_for_files_that_are_being_removed(own: StoreProcess, table: Table) -> None:
    columns = (("key", "UInt64 CODEC(NONE)"), ("day", "UInt16"))
    plain = Table(table.name, columns, table.order_by, table.partition_by, table.settings)
    history, keys = connect(own.url), range(MARKER - 20, MARKER + 20)
    await history.ensure(plain)
    await history.insert(
        plain.name, pa.table({"key": pa.array(keys, pa.uint64()), "day": pa.array([0] * 40, pa.uint16())}), "a"
    )
    tracer = await asyncio.create_subprocess_exec("strace", "-f", "-qq", "-o", "/dev/null", *SLOW, "-p", str(own.pid))
    try:
        await traced(own.pid)
        await history.erase(plain.name, "key = {key:UInt64}", {"key": MARKER})
        needle = MARKER.to_bytes(8, "little")
        left = [path.name for path, content in rawparts.files(own.directory, own._key) if needle in content]
        assert left == []
    finally:
        tracer.terminate()
        await tracer.wait()
        await history.close()
