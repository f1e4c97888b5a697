"""After an erasure no file holds a position of the vehicle: history parts, log tables and archive are read as bytes."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawparts

from rocade.fabric.blobs import open_blobs
from rocade.fabric.database import Database
from rocade.fabric.history import History, connect
from rocade.fabric.history.disk import KEY_BYTES
from rocade.fabric.history.process import StoreProcess
from rocade.services.telemetry import store
from rocade.services.telemetry.archive import Archive
from rocade.services.telemetry.chunks import TABLE
from rocade.trust.identity import proof
from rocade.trust.identity.directory import load_root
from rocade.wire.batch import Batch, Clock, Column, pack

KEY = secrets.token_bytes(KEY_BYTES)


@pytest.fixture(scope="module")
def opened_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """A store whose key this test has."""
    process = StoreProcess(tmp_path_factory.mktemp("st"), KEY)
    process.start()
    yield process
    process.stop()


@pytest.fixture
async def history(opened_store: StoreProcess) -> AsyncIterator[History]:
    client = connect(opened_store.url)
    await store.ensure(client)
    yield client
    await client.close()


def drive(road: Any, number: int, seed: int) -> bytes:
    """Two minutes of positions, as uneven as real ones."""
    walk = np.random.default_rng(seed).integers(-90, 90, (2, 120)).cumsum(axis=1)
    times = road.T0_US + number * 300_000_000 + np.arange(120) * 1_000_000
    columns = [
        Column(road.LATITUDE, 0, (walk[0] + 488_000_000) / 1e7, decimals=7),
        Column(road.LONGITUDE, 0, (walk[1] + 23_000_000) / 1e7, decimals=7),
    ]
    return pack(Batch(7, number, int(times[-1]), [Clock(times)], columns))


async def differences(history: History, ref: int) -> list[bytes]:
    """What the history holds of a vehicle's positions, as the bytes of its difference columns."""
    table = await history.query(f"SELECT d8 FROM {TABLE.name} WHERE vehicle = {{v:UInt64}}", {"v": ref})
    found = [np.array(one, np.int8).tobytes() for one in table.column("d8").to_pylist()]
    return [one for one in found if len(one) > 32]


async def bodies(road: Any, ref: int) -> list[bytes]:
    """The vehicle's records as the log holds them: sealed."""
    taken = await road.log.read("telemetry", range(64), {}, 10_000, 1 << 24)
    return [record.body for record in taken.records if record.key == ref]


async def in_tables(database: Database, needles: list[bytes]) -> set[bytes]:
    """Those of the byte strings that stand in a file of this database."""
    await database.pool.execute("CHECKPOINT")
    folder = Path(await database.pool.fetchval("SHOW data_directory"))
    oid = await database.pool.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    return rawparts.holding(folder / "base" / str(oid), b"", needles)


async def until_seen(opened_store: StoreProcess, needles: list[bytes]) -> None:
    """What is looked for can be seen; what is merged while it is looked through may be seen in neither place."""
    async with asyncio.timeout(60):
        while rawparts.holding(opened_store.directory, KEY, needles) != {*needles}:
            await asyncio.sleep(0.1)


async def test_no_file_holds_a_position_of_an_erased_vehicle(
    road: Any, opened_store: StoreProcess, tmp_path: Path
) -> None:
    one, other = await road.add_vehicle(), await road.add_vehicle()
    for vehicle in (one, other):
        context = await road.connect(vehicle)
        for number in (1, 2):
            await road.publish(context, drive(road, number, 10 * (vehicle is other) + number))
    await road.drain()
    in_history = await differences(road.history, one.ref)
    others = await differences(road.history, other.ref)
    in_log, others_in_log = await bodies(road, one.ref), await bodies(road, other.ref)
    assert min(map(len, (in_history, others, in_log, others_in_log))) >= 2
    await until_seen(opened_store, [*in_history, *others])
    assert await in_tables(road.database, [*in_log, *others_in_log]) == {*in_log, *others_in_log}
    archive = Archive(open_blobs((tmp_path / "blobs").as_uri()), road.database)
    taken = await road.log.read("telemetry", range(64), {}, 10_000, 1 << 24)
    for partition in {record.partition for record in taken.records}:
        await archive.add(partition, [record for record in taken.records if record.partition == partition])
    assert rawparts.holding(tmp_path / "blobs", b"", [*in_log, *others_in_log]) == {*in_log, *others_in_log}
    road.eraser.places = [archive]

    ordered = await road.eraser.erase(one.ref, "person:1", is_physical=True)
    await road.eraser.work()

    assert rawparts.holding(opened_store.directory, KEY, in_history) == set()
    await until_seen(opened_store, others)
    assert await in_tables(road.database, [*in_log, *others_in_log]) == {*others_in_log}
    assert rawparts.holding(tmp_path / "blobs", b"", [*in_log, *others_in_log]) == {*others_in_log}
    facts = (await road.erasures.find(ordered.id)).facts
    assert facts["rows"] >= 4
    assert (facts["parts_after"], facts["log_records"], facts["archive_records"]) == (0, 2, 2)
    assert facts["parts_before"] >= 1
    assert facts["keys"] >= 1
    assert facts["key_version"] >= 2, "the key tables were punctured"


async def test_the_certificate_is_proven_by_the_root_certificate_alone(road: Any, tmp_path: Path) -> None:
    from rocade.trust.authority import AuditLog

    vehicle = await road.add_vehicle()
    await road.publish(await road.connect(vehicle), drive(road, 1, 5))
    await road.drain()
    audit = AuditLog(road.database, tmp_path / "trust/audit", road.clock)
    road.erasures._audit = audit
    ordered = await road.eraser.erase(vehicle.ref, "person:1", is_physical=True)
    await road.eraser.work()
    await audit.close()  # signs a head over all
    certificate = await road.erasures.certificate(ordered.id)
    said = " ".join(proof.verify(certificate, load_root(tmp_path / "trust/trust.pem")))
    assert f"vehicle:{vehicle.ref}" in said
    with pytest.raises(Exception, match="proof"):
        proof.verify(certificate.replace(b'"position"', b'"positron"'), load_root(tmp_path / "trust/trust.pem"))
