"""A process that kills itself at one step of a puncture: `python dying.py DATABASE_URL CUSTODY STEP`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Keyring

STEPS = ("made", "wrapping", "committed", "destroyed")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DyingCustody(FileCustody):
    def __init__(self, directory: Path, step: str) -> None:
        super().__init__(directory)
        self.step, self.wrapped = step, 0

    def create(self, after: int = 0) -> int:
        version = super().create(after)
        if self.step == "made":
            die()
        return version

    def wrap(self, version: int, plain: bytes, aad: bytes) -> bytes:
        self.wrapped += 1
        if self.step == "wrapping" and self.wrapped == 500:
            die()
        return super().wrap(version, plain, aad)

    def destroy(self, version: int) -> None:
        super().destroy(version)
        if self.step == "destroyed":
            die()


async def main(url: str, place: Path, step: str) -> None:
    async def keep() -> None:
        if step == "committed":
            die()

    ring = await Keyring.open(await Database.connect(url), DyingCustody(place, step), SystemClock(), keep=keep)
    await ring.puncture()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
