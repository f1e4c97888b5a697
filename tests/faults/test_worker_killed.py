"""kill -9 of the worker at seeded places, again and again, under load: nothing acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.services.telemetry.conftest import history, store_url

from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry.chunks import TABLE, samples_of
from rocade.services.telemetry.model import BATCH, STREAM
from rocade.services.telemetry.sealing import RoadSeals
from rocade.trust.authority.sealing import Keys, keyring_of
from rocade.wire.batch import Batch, Clock, Column, pack

SCRIPT = Path(__file__).with_name("worker_process.py")
PLACES = ("after insert", "before commit", "inside insert", "after intent", "after commit")
T0_US = 1_760_000_000_000_000
VEHICLES = 20


__all__ = ["history", "store_url"]


class Load:
    """Appends batches; every sample's value is unique, so that loss and repetition both show."""

    def __init__(self, log: PostgresLog, keys: Keys, seed: int) -> None:
        self._log, self._seals = log, RoadSeals(keys)
        self._chance = random.Random(seed)
        self.acknowledged: set[float] = set()
        self._numbers = dict.fromkeys((VehicleRef(self._chance.getrandbits(62) + 1) for _ in range(VEHICLES)), 0)

    async def send_some(self) -> None:
        records, values = [], []
        for ref in self._chance.sample(list(self._numbers), 8):
            self._numbers[ref] += 1
            number = self._numbers[ref]
            some = float(len(self.acknowledged) + len(values)) + np.arange(5)
            times = T0_US + number * 5_000_000 + np.arange(5) * 1_000_000
            body = pack(Batch(ref, number, int(times[-1]), [Clock(times)], [Column(70_001, 0, some)]))
            records += [Record(partition_of(ref), ref, BATCH, T0_US, body)] * self._chance.choice((1, 1, 1, 2))
            values += some.tolist()
        await self._log.append(STREAM, await self._seals.sealed(records))
        self.acknowledged.update(values)


async def run(
    database: Database, history: History, url: str, store_url: str, kills: int, seed: int, custody: Path
) -> None:
    log = PostgresLog(database)
    load, chance = Load(log, keyring_of(database), seed), random.Random(seed)
    await database.pool.execute("DELETE FROM telemetry_sequence")
    done = Counter[str]()
    order = [PLACES[turn % len(PLACES)] for turn in range(kills)] + ["nowhere"]
    for place in order:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(SCRIPT), url, store_url, str(chance.getrandbits(32)), place, str(custody)
        )
        try:
            async with asyncio.timeout(200):
                while process.returncode is None:
                    if place != "nowhere":
                        await load.send_some()
                    elif (await log.lag("telemetry", STREAM)).records == 0:
                        break
                    await asyncio.sleep(0.03)
        finally:
            if process.returncode is None:
                process.kill()
            ended = await process.wait()
        assert ended == -signal.SIGKILL, f"the worker ended by itself at {place!r}"
        done[place] += 1
    await log.close()
    table = await history.query(f"SELECT * FROM {TABLE.name} WHERE signal = 70001")
    stored = Counter[float]()
    for row in range(table.num_rows):
        stored.update(samples_of(table.slice(row, 1)).value.tolist())
    lost = load.acknowledged - stored.keys()
    repeated = [value for value, many in stored.items() if many > 1]
    print(
        f"seed {seed}: {dict(done)}; acknowledged {len(load.acknowledged)}, lost {len(lost)}, repeated {len(repeated)}"
    )
    assert not lost
    assert not repeated
    assert stored.keys() == load.acknowledged


async def test_a_worker_killed_anywhere_loses_and_repeats_nothing(
    database: Database, history: History, database_url: str, store_url: str, tmp_path: Path
) -> None:
    await run(database, history, database_url, store_url, 2, 20261122, tmp_path / "custody")


@pytest.mark.slow
@pytest.mark.timeout(1800)
async def test_a_worker_killed_a_hundred_times_loses_and_repeats_nothing(
    database: Database, history: History, database_url: str, store_url: str, tmp_path: Path
) -> None:
    await history.erase(TABLE.name, "signal = {s:UInt32}", {"s": 70_001})
    await run(database, history, database_url, store_url, 100, 7, tmp_path / "custody")
