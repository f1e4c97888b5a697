"""The archive by the command line: its days, and a vehicle's batches once more down the road."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import ANY

from databases import execute
from tests.app.stand import rocade

from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.archiving import archive_of
from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.database import Database
from rocade.fabric.log import Record
from rocade.fabric.log.postgres import PostgresLog
from rocade.services.telemetry.model import BATCH, SEALED, STREAM

REF, OTHER = VehicleRef(7_001), VehicleRef(7_002)
NOON_US = 1_763_812_800_000_000
"""2025-11-22T12:00:00Z"""


def test_days_are_listed_and_a_vehicles_batches_of_a_time_go_into_the_log_again(
    tmp_path: Path, database_url: str
) -> None:
    execute(database_url, "TRUNCATE seal_bucket, seal_key, seal_gone")  # keys of other tests' custody
    initialise.create(tmp_path / "eu", "eu", "test.rocade")
    here = {"ROCADE_CONFIG": str(tmp_path / "eu"), "ROCADE_DATABASE_URL": database_url}
    region = settings.load(tmp_path / "eu")
    records = [
        Record(partition_of(ref), ref, BATCH + SEALED, NOON_US + minute * 60_000_000, b"sealed %d" % minute)
        for ref in (REF, OTHER) for minute in range(3)
    ]  # fmt: skip

    async def fill() -> None:
        database = await Database.connect(database_url)
        for ref in (REF, OTHER):
            await archive_of(region, database).add(partition_of(ref), [one for one in records if one.key == ref])
        await database.close()

    asyncio.run(fill())
    assert "20251122" in rocade("archive", "list", environment=here)
    said = rocade("archive", "replay", str(int(REF)), "--since", "2025-11-22T12:01:00", environment=here)
    assert said.startswith("2 batches")

    (lost,) = (tmp_path / "eu/blobs/road").glob(f"{partition_of(OTHER):02d}/*/*")
    lost.unlink()
    listed = rocade("archive", "list", environment=here, code=1, says="archive.absent")
    assert listed.split("\n")[1].split() == ["20251122", "1", ANY, "1"]
    assert rocade("archive", "check", environment=here, code=1).startswith("archive.absent road/")
    assert lost.name in rocade("archive", "check", "--read", "--write-off", environment=here)
    assert rocade("archive", "check", environment=here) == ""

    async def logged() -> list[Record]:
        database = await Database.connect(database_url)
        log = PostgresLog(database)
        found = await log.read(STREAM, range(64), {}, 100, 1 << 20)
        await log.close()
        await database.close()
        return found.records

    assert asyncio.run(logged()) == records[1:3]
