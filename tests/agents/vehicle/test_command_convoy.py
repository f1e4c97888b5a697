"""Commands through the real door: mutual TLS, QoS 1, redelivery, reports, and telemetry that tells at once what changed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.doors.mqtt.stand import RecordingIntake, Yard
from tests.notebook import Notebook

from rocade.agents.vehicle.convoy import Convoy, Order, Seat
from rocade.agents.vehicle.simulation import build
from rocade.core.catalogue import standard
from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Door
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import new_key
from rocade.wire.batch import decode_many
from rocade.wire.commands import (
    ACTS,
    COMMAND_TYPE,
    IS_CHARGING,
    SERVICE,
    Command,
    Report,
    encode,
    encode_down,
    read_report,
)

CAR = "VF1AAAAA777000001"


class Hub:
    """A door, a signing key, and what came up."""

    def __init__(self, folder: Path) -> None:
        self.yard = Yard(folder)
        self.intake = RecordingIntake()
        self.door = Door(self.intake, self.yard.context, self.yard.verify, Notebook())
        self._key = new_key()
        identity = self.yard.region.identity("service", SERVICE)
        self._chain = self.yard.region.issue(self._key.public_key(), identity).chain_pem.decode()
        self._number = 0

    def command(self, act: str, parameters: dict[str, Any] | None = None) -> Command:
        self._number += 1
        now_us = SystemClock().now_us()
        return Command(
            id=f"{random.getrandbits(128):032x}", vehicle=CAR, lane=ACTS[act].lane, version=self._number, act=act,
            parameters=parameters or {}, issued_us=now_us, expires_us=now_us + 600_000_000,
        )  # fmt: skip

    def send(self, command: Command) -> asyncio.Future[bool]:
        sealed = envelope.seal(COMMAND_TYPE, encode(command), self._key)
        return self.door.send(CAR, "command", encode_down(sealed, self._chain))

    def reports(self, command: Command) -> list[Report]:
        said = [read_report(publish.body) for publish in self.intake.stored if publish.tail == "command"]
        return [report for report in said if report.id == command.id]

    def states(self, command: Command) -> list[str]:
        return [report.state for report in self.reports(command)]

    def measured(self, name: str, from_us: int) -> list[Any]:
        """Values of a signal from an instant of the vehicle's clock on, as they arrived."""
        signal, found = int(standard().by_name(name).id), []
        for publish in self.intake.stored:
            if publish.tail != "batch":
                continue
            decoded = decode_many([publish.body])
            columns = decoded.columns
            for place in [place for place, one in enumerate(columns.signal.tolist()) if one == signal]:
                times_us = decoded.clocks.times_of(int(columns.clock[place]))
                found += [
                    value for value, at_us in zip(columns.values_of(place), times_us, strict=True) if at_us >= from_us
                ]
        return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    one = Hub(tmp_path / "road")
    one.port = await one.door.open("127.0.0.1", 0)
    yield one
    await one.door.drain(1.0)


@contextlib.asynccontextmanager
async def driving(hub: Hub, **more: Any) -> AsyncIterator[Convoy]:
    seat = Seat(CAR, "electric_car", str(hub.yard.identity(CAR)), is_plugged=True, charge_percent=50.0)
    order = Order(host="localhost", port=hub.port, seats=(seat,), batch_s=30, **more)
    convoy = Convoy(order, build(), standard(), SystemClock(), SystemRandom())
    stop = asyncio.Event()
    running = asyncio.create_task(convoy.run(stop))
    try:
        await until(lambda: CAR in hub.door.connected())
        yield convoy
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


async def sent(hub: Hub, command: Command) -> None:
    """As the hub does: again until the vehicle acknowledged it."""
    async with asyncio.timeout(30):
        while not await hub.send(command):
            await asyncio.sleep(0.02)


async def test_a_command_is_obeyed_reported_and_told_by_telemetry_at_once(hub: Hub) -> None:
    """Batches go every 30 seconds here; what a command changed does not wait for the next."""
    async with driving(hub):
        stop = hub.command("charge.stop")
        await sent(hub, stop)
        await until(lambda: hub.states(stop)[:2] == ["accepted", "applied"])
        applied = hub.reports(stop)[-1]
        await until(lambda: hub.measured(IS_CHARGING, applied.at_us) != [])
        assert hub.measured(IS_CHARGING, applied.at_us)[0] == 0
        start = hub.command("charge.start")
        await sent(hub, start)
        await until(lambda: hub.states(start)[-1:] == ["applied"])
        await until(lambda: 1 in hub.measured(IS_CHARGING, hub.reports(start)[-1].at_us))


async def test_reports_that_were_not_acknowledged_come_again_with_the_next_connection(hub: Hub) -> None:
    async with driving(hub) as convoy:
        hub.intake.gate.clear()
        command = hub.command("doors.unlock")
        await sent(hub, command)
        await until(lambda: not convoy.fleet.controls.is_locked[0])
        convoy.cut(CAR, 0.1)
        await until(lambda: CAR not in hub.door.connected())
        hub.intake.gate.set()
        await until(lambda: hub.states(command)[-2:] == ["accepted", "applied"])
        await until(lambda: convoy.agents[0].executor.book.owed(0, 10) == [])
        await sent(hub, command)
        await until(lambda: hub.states(command)[-1:] == ["applied"] and hub.states(command).count("applied") >= 2)


async def test_a_report_the_platform_cannot_read_is_not_repeated_for_ever(hub: Hub) -> None:
    hub.intake.verdict = lambda publish: Refused("command.malformed", "?") if publish.tail == "command" else None
    async with driving(hub) as convoy:
        await sent(hub, hub.command("doors.lock"))
        await until(lambda: convoy.fleet.controls.is_locked[0] and convoy.agents[0].executor.book.owed(0, 10) == [])


async def test_a_sleeping_vehicle_tells_that_it_wakes_up_then_acts(hub: Hub) -> None:
    async with driving(hub, sleep_after_s=0.5) as convoy:
        await sent(hub, hub.command("charge.stop"))
        convoy.fleet.controls._awake_until[:] = 0
        await until(lambda: convoy.fleet.controls.asleep[0])
        command = hub.command(
            "climate.precondition", {"temperature_c": 22.0, "until_us": SystemClock().now_us() + 10**9}
        )
        await sent(hub, command)
        await until(lambda: hub.states(command)[:3] == ["accepted", "waking", "applied"])


async def test_a_plug_is_put_in_and_taken_out(hub: Hub) -> None:
    async with driving(hub) as convoy:
        assert convoy.plug(CAR, is_in=False)
        refused = hub.command("charge.start")
        await sent(hub, refused)
        await until(lambda: hub.states(refused)[-1:] == ["rejected"])
        assert hub.reports(refused)[-1].code == "command.vehicle.unplugged"
        assert convoy.plug(CAR, is_in=True)
        assert not convoy.plug("nobody", is_in=True)
        await until(lambda: bool(convoy.fleet.controls.is_plugged[0]))
