"""What the authority does while cars are connected: revocation reaches them, certificates roll without cutting them off.

The real parts together: authority, audit log and deny set on PostgreSQL, the MQTT door, the server's identity on disk.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.doors.mqtt.stand import RecordingIntake, Vehicle

from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Door
from rocade.fabric.database import Database
from rocade.trust.authority import (
    AuditLog,
    Authority,
    DenySet,
    Region,
    create_region,
    issue_directory,
    renew_server,
    roll,
)
from rocade.trust.authority.verification import verify
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import Verified, verify_leaf
from rocade.trust.identity.directory import LiveIssuers
from rocade.wire import mqtt as wire

CARS = 20


class Road(NamedTuple):
    """A running region: one gateway door and its authority."""

    folder: Path
    region: Region
    authority: Authority
    server: tls.ServerIdentity
    port: int
    intake: RecordingIntake


@pytest.fixture
async def road(tmp_path: Path, database: Database) -> AsyncIterator[Road]:
    clock = SystemClock()
    region = create_region(tmp_path / "trust", "eu", "rocade.test", clock, SystemRandom())
    issue_directory(region, tmp_path / "server", region.identity("service", "gateway"), hosts=["localhost"])
    audit = AuditLog(database, tmp_path / "trust" / "audit", clock)
    authority = Authority(region, database, audit, clock, SystemRandom())
    denied, issuers = await DenySet.open(database, clock), LiveIssuers(tmp_path / "trust")
    server, intake = tls.ServerIdentity(tmp_path / "server"), RecordingIntake()

    def check(leaf: bytes) -> Verified:
        return verify_leaf(leaf, issuers.table, clock.now_us(), {"vehicle"}, denied=denied)

    door = Door(intake, server.context, check, audit, is_revoked=denied.is_revoked)
    await denied.watch(door.revoked)
    port = await door.open("127.0.0.1", 0)
    yield Road(tmp_path, region, authority, server, port, intake)
    await door.drain(1.0)
    await denied.close()
    await audit.close()
    report = await verify(database, tmp_path / "trust" / "audit", region.issuers.root)
    assert report.entries > 0


async def connect(road: Road, car_id: str) -> tuple[Vehicle, bytes]:
    """A connected car and the certificate the server showed it."""
    folder = road.folder / "cars" / car_id
    if not folder.exists():
        (credential,) = await road.authority.provision([road.region.identity("vehicle", car_id)], "test")
        credential.write(folder)
    reader, writer = await asyncio.open_connection("localhost", road.port, ssl=tls.client_context(folder))
    car = Vehicle(reader, writer, car_id, 5)
    car.send(wire.Connect(car_id, 5))
    answer = await car.receive()
    assert isinstance(answer, wire.Connack)
    assert answer.reason == 0
    return car, tls.peer_leaf(writer.get_extra_info("ssl_object")) or b""


async def is_served(car: Vehicle, packet_id: int) -> bool:
    car.publish(packet_id)
    return isinstance(await car.receive(), wire.Puback)


@pytest.mark.parametrize("limit_s", [600, pytest.param(5, marks=pytest.mark.slow)])
async def test_a_revoked_car_is_cut_off_within_five_seconds_and_the_others_go_on(road: Road, limit_s: float) -> None:
    """The promise is the slow form's, for a machine that does nothing else."""
    cars = {f"CAR{n}": (await connect(road, f"CAR{n}"))[0] for n in range(CARS)}
    stolen = cars.pop("CAR7")
    begin_s = time.monotonic()
    await road.authority.revoke(road.region.identity("vehicle", "CAR7"), "stolen", "test")
    told = await stolen.receive()
    assert isinstance(told, wire.Disconnect)
    assert await stolen.receive() is None
    assert time.monotonic() - begin_s < limit_s
    assert all([await is_served(car, 1) for car in cars.values()])
    with pytest.raises((ConnectionError, ssl.SSLError, AssertionError)):
        await connect(road, "CAR7")


async def test_server_certificate_and_intermediates_roll_while_cars_stay_connected(road: Road) -> None:
    before, shown_before = await connect(road, "BEFORE")
    roll(road.folder / "trust", ["vehicle", "service"], SystemClock(), SystemRandom())
    assert renew_server(road.region, road.folder / "server", SystemClock())
    assert road.server.reload()
    after, shown_after = await connect(road, "AFTER")
    again, _ = await connect(road, "BEFORE")
    assert shown_before != shown_after
    assert await is_served(after, 1)
    assert await is_served(again, 1), "a certificate of the intermediate before is still good"
    assert len({client.client_id for client in road.intake.clients}) == 2
    before.writer.transport.abort()


async def test_an_open_connection_outlives_the_roll(road: Road) -> None:
    car, _ = await connect(road, "STAYS")
    assert await is_served(car, 1)
    roll(road.folder / "trust", ["vehicle", "service"], SystemClock(), SystemRandom())
    assert renew_server(road.region, road.folder / "server", SystemClock())
    assert road.server.reload()
    assert await is_served(car, 2)
