"""Connecting: certificate, admission, takeover, keep-alive, revocation, and the end of a gateway."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import ClassVar

import pytest
import uvloop
from tests.notebook import Notebook

from rocade.core.errors import Refused, Unavailable
from rocade.doors.mqtt import Client, Door, Settings
from rocade.wire import mqtt as wire
from rocade.wire.mqtt import Reason

from .stand import (
    OTHER_VIN,
    VIN,
    Call,
    OpenDoor,
    RecordingIntake,
    Stand,
    Vehicle,
    Yard,
    held,
    until,
)

BOTH = pytest.mark.parametrize("protocol", [4, 5])


async def connack_of(door: Stand, call: Call, protocol: int, **fields: object) -> tuple[Vehicle, wire.Connack]:
    vehicle = await call(door, protocol, connect=False)
    vehicle.send(wire.Connect(fields.pop("client_id", "car"), protocol, **fields))
    return vehicle, await vehicle.receive()


@BOTH
async def test_identity_comes_from_the_certificate_whatever_the_client_calls_itself(
    door: Stand, call: Call, protocol: int
) -> None:
    await connack_of(door, call, protocol, client_id=OTHER_VIN, username=OTHER_VIN, password=b"secret")
    client = door.intake.clients[0]
    assert (client.identity.id, client.client_id, client.protocol) == (VIN, OTHER_VIN, protocol)
    assert client.peer.startswith("127.0.0.1:")
    assert list(door.connected()) == [VIN]


async def test_connack_says_what_this_gateway_does_not_do(door: Stand, call: Call) -> None:
    asked = wire.Properties(session_expiry_interval_s=3600)
    _, connack = await connack_of(door, call, 5, client_id="", keep_alive_s=0, properties=asked)
    said = connack.properties
    assert (said.retain_available, said.maximum_qos, said.shared_subscription_available) == (0, 1, 0)
    assert (said.subscription_identifiers_available, said.session_expiry_interval_s) == (0, 0)
    assert (said.receive_maximum, said.maximum_packet_size_bytes) == (64, (1 << 20) + 1024)
    assert said.server_keep_alive_s == 1200
    assert said.assigned_client_id
    assert connack.session_present is False


@pytest.mark.parametrize(
    ("protocol", "fields", "reason"),
    [
        (4, {"client_id": "", "clean_start": False}, 2), (5, {"client_id": "x" * 257}, 0x85),
        (4, {"client_id": "x" * 257}, 2), (5, {"will": wire.Will("t", b"", 1, True)}, 0x9A),
        (5, {"will": wire.Will("t", b"", 2)}, 0x9B), (4, {"will": wire.Will("t", b"", 2, True)}, 0),
        (5, {"properties": wire.Properties(authentication_method="SCRAM")}, 0x8C), (5, {"client_id": ""}, 0),
        (5, {"client_id": "", "clean_start": False}, 0), (4, {"client_id": ""}, 0),
    ],
)  # fmt: skip
async def test_connect_is_answered_by_the_rules(
    door: Stand, call: Call, protocol: int, fields: dict[str, object], reason: int
) -> None:
    vehicle, connack = await connack_of(door, call, protocol, **fields)
    assert connack.reason == reason
    if reason:
        assert await vehicle.receive() is None
        assert [entry.action for entry in door.audit.entries] == ["mqtt.connect"]


@pytest.mark.parametrize(
    ("error", "five", "three"),
    [
        (Refused("auth.unknown_vehicle", "who"), 0x87, 5), (Unavailable("database.down", "gone"), 0x88, 3),
        (Refused("quota.connections", "many"), 0x97, 5), (ValueError("bug"), 0x80, 5),
    ],
)  # fmt: skip
async def test_a_refused_admission_is_a_connack_with_its_reason(
    door: Stand, call: Call, error: Exception, five: int, three: int
) -> None:
    async def admission(_client: Client) -> object:
        raise error

    door.intake.admission = admission
    assert (await connack_of(door, call, 5))[1].reason == five
    assert (await connack_of(door, call, 4))[1].reason == three
    assert door.intake.left == []
    await until(lambda: door.meter.connections == 0)


async def test_admissions_at_once_are_bounded(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(max_admissions=3))
    inside, most, gate = 0, 0, asyncio.Event()

    async def admission(client: Client) -> object:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await gate.wait()
        inside -= 1
        return client

    door.intake.admission = admission
    calling = asyncio.gather(*(call(door, 5, f"VF1AAAAA5551111{n:02}") for n in range(12)))
    await until(lambda: inside == 3 and door.meter.connections == 12)
    gate.set()
    await calling
    assert most == 3


async def test_publishes_sent_right_behind_connect_are_stored(door: Stand, call: Call) -> None:
    vehicle = await call(door, 5, connect=False)
    vehicle.send(wire.Connect("car", 5), wire.Publish(vehicle.up, b"early", 1, 1))
    assert isinstance(await vehicle.receive(), wire.Connack)
    assert await vehicle.receive() == wire.Puback(1)


@BOTH
async def test_the_newest_connection_of_a_vehicle_wins(door: Stand, call: Call, protocol: int) -> None:
    old = await call(door, protocol)
    new = await call(door, protocol)
    if protocol == 5:
        assert (await old.receive()).reason == Reason.SESSION_TAKEN_OVER
    assert await old.receive() is None
    new.publish(1)
    assert await new.receive() == wire.Puback(1)
    await until(lambda: len(door.intake.left) == 1)
    assert list(door.connected()) == [VIN]


async def test_a_takeover_by_another_gateway_is_told(open_door: OpenDoor, call: Call) -> None:
    class Row:
        claims = 0
        released: ClassVar[list[tuple[str, int]]] = []

        async def claim(self, _vehicle_id: str) -> int:
            self.claims += 1
            return self.claims * 10

        async def release(self, vehicle_id: str, claim: int) -> None:
            self.released.append((vehicle_id, claim))

    door = await open_door(sessions=Row())
    vehicle = await call(door)
    door.taken_over(VIN, 9)
    assert await vehicle.is_silent(), "an old notice that arrives late is no takeover"
    door.taken_over(VIN, 11)
    assert (await vehicle.receive()).reason == Reason.SESSION_TAKEN_OVER
    await until(lambda: Row.released == [(VIN, 10)])


async def test_a_refused_admission_leaves_the_existing_connection_alone(door: Stand, call: Call) -> None:
    vehicle = await call(door)

    async def admission(_client: Client) -> object:
        raise Refused("auth.vehicle", "no")

    door.intake.admission = admission
    assert (await connack_of(door, call, 5))[1].reason == Reason.NOT_AUTHORIZED
    vehicle.publish(1)
    assert await vehicle.receive() == wire.Puback(1)


async def test_a_client_that_leaves_during_admission_is_left_once(door: Stand, call: Call) -> None:
    gate = asyncio.Event()

    async def admission(client: Client) -> object:
        await gate.wait()
        return client

    door.intake.admission = admission
    vehicle = await call(door, connect=False)
    vehicle.send(wire.Connect("car"))
    await until(lambda: len(door.intake.clients) == 1)
    vehicle.writer.close()
    await asyncio.sleep(0.05)
    gate.set()
    await until(lambda: len(door.intake.left) == 1)
    await asyncio.sleep(0.05)
    assert len(door.intake.left) == 1
    assert list(door.connected()) == []


def test_the_door_runs_on_uvloop_as_well(yard: Yard) -> None:
    async def story() -> None:
        intake = RecordingIntake()
        door = Door(intake, yard.context, yard.verify, Notebook())
        port = await door.open("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("localhost", port, ssl=yard.client_context())
        vehicle = Vehicle(reader, writer, VIN, 5)
        vehicle.send(wire.Connect("car"), wire.Publish(vehicle.up, b"x", 1, 1))
        assert isinstance(await vehicle.receive(), wire.Connack)
        assert await vehicle.receive() == wire.Puback(1)
        await door.drain(2.0)
        assert (await vehicle.receive()).reason == Reason.SERVER_SHUTTING_DOWN

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(story())


async def test_leave_waits_for_the_verdict_on_everything_published(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    door.intake.gate.clear()
    vehicle.publish(1)
    await until(lambda: door.meter.publishes == 1)
    vehicle.send(wire.Disconnect())
    await until(lambda: door.meter.connections == 0)
    await asyncio.sleep(0.05)
    assert door.intake.left == []
    door.intake.gate.set()
    await until(lambda: len(door.intake.left) == 1)
    assert len(door.intake.stored) == 1


async def test_silence_beyond_one_and_a_half_keep_alives_ends_the_connection(open_door: OpenDoor, call: Call) -> None:
    clock = held()
    door = await open_door(clock=clock)
    pinging, silent = await call(door, keep_alive_s=20), await call(door, 5, OTHER_VIN, keep_alive_s=20)
    clock.ahead_us += 29_000_000
    pinging.send(wire.Pingreq())
    assert await pinging.receive() == wire.Pingresp()
    assert await silent.is_silent(1.5), "the door has looked since, and it is not time yet"
    clock.ahead_us += 2_000_000
    assert (await silent.receive()).reason == Reason.KEEP_ALIVE_TIMEOUT
    pinging.send(wire.Pingreq())
    assert await pinging.receive() == wire.Pingresp()
    assert await pinging.is_silent()


async def test_a_client_that_is_not_read_is_not_called_silent(open_door: OpenDoor, call: Call) -> None:
    clock = held()
    door = await open_door(Settings(receive_maximum=1), clock=clock)
    vehicle = await call(door, 4, keep_alive_s=20)
    door.intake.gate.clear()
    vehicle.send(*(wire.Publish(vehicle.up, b"", 1, n) for n in (1, 2)))
    await until(lambda: door.intake.handed >= 1)
    clock.ahead_us += 100_000_000
    assert await vehicle.is_silent(1.5), "the door has looked since"
    assert door.meter.connections == 1
    door.intake.gate.set()
    assert [await vehicle.receive(), await vehicle.receive()] == [wire.Puback(1), wire.Puback(2)]


async def test_a_peer_that_says_nothing_is_dropped_at_each_stage(open_door: OpenDoor, call: Call) -> None:
    """A door for each stage, in no hurry at the others."""
    patient = {"handshake_timeout_s": 600, "connect_timeout_s": 600, "packet_timeout_s": 600}
    door = await open_door(Settings(**{**patient, "handshake_timeout_s": 0.3}))
    _, bare = await asyncio.open_connection("127.0.0.1", door.port)
    bare.write(b"\x16")
    await until(lambda: door.audit.reasons == ["trust.handshake.timeout"])
    assert door.meter.handshaking == 0
    bare.close()
    door = await open_door(Settings(**{**patient, "connect_timeout_s": 0.3}))
    mute = await call(door, 5, connect=False)
    assert await mute.receive() is None
    assert door.audit.reasons == ["mqtt.connect_timeout"]
    door = await open_door(Settings(**{**patient, "packet_timeout_s": 0.3}))
    slow = await call(door, 5, OTHER_VIN)
    slow.writer.write(b"\x32\x20only the beginning")
    assert (await slow.receive()).reason == Reason.KEEP_ALIVE_TIMEOUT
    assert door.audit.reasons == ["mqtt.packet_timeout"]


async def test_a_revoked_certificate_is_cut_off_at_once_and_refused_afterwards(open_door: OpenDoor, call: Call) -> None:
    denied: set[int] = set()
    door = await open_door(is_revoked=denied.__contains__)
    vehicle, other = await call(door), await call(door, 5, OTHER_VIN)
    (serial,) = {door._sessions[fd].verified.serial for fd in door._sessions} - {
        door._house.parties[OTHER_VIN].verified.serial
    }
    denied.add(serial)
    door.revoked([serial])
    told = await vehicle.receive()
    assert (told.reason, told.properties.reason_string) == (Reason.NOT_AUTHORIZED, "trust.certificate.revoked")
    refused = await call(door, connect=False)
    assert await refused.receive() is None
    last = door.audit.entries[-1]
    assert (last.action, last.reason) == ("tls.handshake", "trust.certificate.revoked")
    assert last.actor.startswith("peer:127.0.0.1:")
    assert await other.is_silent()


async def test_a_certificate_that_expires_while_connected_ends_the_connection(open_door: OpenDoor, call: Call) -> None:
    clock = held()
    door = await open_door(clock=clock)
    vehicle = await call(door, 5, life_us=3_600_000_000)
    clock.ahead_us += 3_500_000_000
    vehicle.publish(1)
    assert await vehicle.receive() == wire.Puback(1)
    clock.ahead_us += 200_000_000
    told = await vehicle.receive()
    assert (told.reason, told.properties.reason_string) == (Reason.NOT_AUTHORIZED, "trust.certificate.expired")
    assert "trust.certificate.expired" in door.audit.reasons


async def tls_attempt(port: int, context: ssl.SSLContext) -> None:
    """Connect and wait to be thrown out."""
    try:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(wire.encode(wire.Connect("car")))
        assert await reader.read(100) == b""
    except OSError:
        pass


async def test_refused_handshakes_are_audited_without_claiming_an_identity(door: Stand, yard: Yard) -> None:
    anonymous = ssl.create_default_context(cafile=str(yard.directory / "door" / "trust.pem"))
    anonymous.verify_flags &= ~ssl.VERIFY_X509_STRICT
    await tls_attempt(door.port, anonymous)
    await tls_attempt(door.port, yard.client_context("dealer-1", "dealer"))
    old = yard.client_context()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    await tls_attempt(door.port, old)
    with socket.create_connection(("127.0.0.1", door.port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        await until(lambda: len(door.audit.entries) == 4)
    socket.create_connection(("127.0.0.1", door.port)).close()
    await until(lambda: door.meter.probes == 1)
    reasons = door.audit.reasons
    assert reasons[0] == "trust.handshake.certificate_missing"
    assert reasons[1].startswith("trust.certificate.")
    assert reasons[2:] == ["trust.handshake.version", "trust.handshake.plain_text"]
    for entry in door.audit.entries:
        assert (entry.action, entry.outcome) == ("tls.handshake", "refused")
        assert entry.actor.startswith("peer:127.0.0.1:")
        assert "VF1" not in repr(entry)
        assert "dealer-1" not in repr(entry)


async def test_a_flood_of_refusals_becomes_sums_that_add_up(open_door: OpenDoor) -> None:
    door = await open_door(clock=held())  # all of it within one second
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", door.port)) as plain:
            plain.sendall(b"not TLS at all, sorry")
        await asyncio.sleep(0)
    await until(lambda: sum(door.meter.refusals.values()) + door.meter.probes == 200)
    door._refusals.flush(now=True)
    assert len(door.audit.entries) < 30
    counted = sum(int(entry.facts.get("count", 1)) for entry in door.audit.entries)
    assert counted + door.meter.probes == 200


async def test_handshakes_at_once_are_bounded_and_the_silent_one_gives_way(open_door: OpenDoor, call: Call) -> None:
    door = await open_door(Settings(max_handshakes=4, handshake_timeout_s=60, handshake_patience_s=0.5))
    silent = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(10)]
    for one in silent:
        one.sendall(b"\x16")
    await until(lambda: door.meter.handshaking == 4)
    vehicle = await call(door)
    vehicle.publish(1)
    assert await vehicle.receive() == wire.Puback(1)
    assert door.meter.handshaking <= 4
    assert set(door.audit.reasons) == {"trust.handshake.gave_way"}
    for one in silent:
        one.close()


@BOTH
async def test_drain_finishes_the_commit_answers_says_0x8b_and_closes(door: Stand, call: Call, protocol: int) -> None:
    vehicle = await call(door, protocol)
    door.intake.wait_s = 0.3
    vehicle.publish(1)
    await until(lambda: door.meter.publishes == 1)
    draining = asyncio.create_task(door.drain(120.0))
    assert await vehicle.receive() == wire.Puback(1)
    if protocol == 5:
        assert (await vehicle.receive()).reason == Reason.SERVER_SHUTTING_DOWN
    assert await vehicle.receive() is None
    vehicle.writer.close()
    await asyncio.wait_for(draining, 60)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", door.port)


async def test_drain_gives_up_on_a_dead_log_in_time_and_acknowledges_nothing(door: Stand, call: Call) -> None:
    vehicle = await call(door)
    door.intake.gate.clear()
    vehicle.publish(1)
    await until(lambda: door.meter.publishes == 1)
    await asyncio.wait_for(door.drain(1.0), 60)
    assert (await vehicle.receive()).reason == Reason.SERVER_SHUTTING_DOWN
    assert await vehicle.receive() is None


async def test_a_new_server_certificate_is_used_without_restart(door: Stand, call: Call, yard: Yard) -> None:
    before = await call(door)
    shown = before.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    names = ["localhost", "127.0.0.1"]
    yard.region.credential(yard.region.identity("service", "gateway"), hosts=names).write(yard.directory / "door")
    door.use_context(yard.server_context())
    after = await call(door, 5, OTHER_VIN)
    assert after.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"] != shown
    before.publish(1)
    assert await before.receive() == wire.Puback(1)
