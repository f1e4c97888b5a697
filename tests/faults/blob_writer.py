"""Blobs on a disk that fails: `python blob_writer.py FOLDER MODE` puts ever larger objects and prints each name that was acknowledged.

MODE short: no file may grow beyond 200 kB (the write that crosses it is cut short); any other: until the objects, or we, end.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from hashlib import blake2b
from pathlib import Path

from rocade.core.errors import RocadeError
from rocade.fabric.blobs import open_blobs


def body_of(number: int) -> bytes:
    """What object `number` holds: 20 kB more each time, other bytes each time."""
    return blake2b(b"%d" % number).digest() * (320 * (number + 1))


async def main() -> None:
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    blobs = open_blobs(f"file://{folder}")
    if mode == "short":
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (200_000, 200_000)
        )  # Python ignores the signal, so the write itself fails
    for number in range(30):
        try:
            await blobs.put(f"road/{number}", body_of(number))
        except RocadeError as error:
            print("refused", error.code, flush=True)
            return
        print(number, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
