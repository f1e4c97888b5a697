"""A worker in a process of its own that kills itself (SIGKILL) at a chosen kind of place: python worker_process.py URL STORE SEED PLACE CUSTODY."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

from rocade.core import catalogue
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database, Leases
from rocade.fabric.history import connect
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry import Worker
from rocade.services.telemetry.worker import Settings
from rocade.services.vehicles import Registry
from rocade.trust.authority.sealing import FileCustody, Keyring

sys.path.insert(0, str(Path(__file__).parents[1]))

from notebook import Notebook

PLACES = ("after intent", "inside insert", "after insert", "before commit", "after commit", "nowhere")


async def main(url: str, store_url: str, seed: int, place: str, custody: str) -> None:
    chance = random.Random(seed)
    passes = chance.randint(1, 4)

    def pass_by(here: str) -> None:
        nonlocal passes
        if here == place:
            passes -= 1
            if passes == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    database = await Database.connect(url)
    database.keyring = Keyring(database, FileCustody(Path(custody)), SystemClock())
    history = connect(store_url)
    clock = SystemClock()
    insert, digest_done = history.insert, Worker._digest

    async def insert_here(table: str, rows: Any, token: str) -> None:
        if place == "inside insert":
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.02), pass_by, "inside insert")
        await insert(table, rows, token)
        pass_by("after insert")

    async def digest_here(self: Worker, *arguments: Any) -> Any:
        pass_by("after intent")
        return await digest_done(self, *arguments)

    async def before_commit(*_: Any) -> None:
        pass_by("before commit")

    history.insert = insert_here  # type: ignore[method-assign]
    Worker._digest = digest_here  # type: ignore[method-assign]
    worker = Worker(
        database=database,
        records=PostgresLog(database),
        history=history,
        leases=Leases(database, "telemetry", "telemetry", f"w{os.getpid()}", 0.6),
        registry=Registry(database, SystemRandom(), clock),
        catalogue=catalogue.standard(),
        audit=Notebook(),
        clock=clock,
        settings=Settings(cycle_s=0.02, retry_s=0.05),
        hooks=(before_commit,),
    )
    note = worker._note

    def note_here(outcome: Any) -> None:
        note(outcome)
        pass_by("after commit")

    worker._note = note_here  # type: ignore[method-assign]
    await worker.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
