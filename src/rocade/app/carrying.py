"""Commands in the roles that carry them (gateway) and prove them (worker). A gateway, which anybody can talk to, holds no key that
signs: it forwards what was signed by those who gave it (`app.commanding`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from rocade.app import wiring
from rocade.core import catalogue
from rocade.core.ports import Clock
from rocade.doors.mqtt import Client, Intake, Publish, Verdict
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import listen
from rocade.services.telemetry import TelemetryIntake, Worker
from rocade.services.telemetry.model import HURRY_CHANNEL
from rocade.services.vehicles.commands import Capabilities, Deliverer, Reports, Verifier, hurry, keep_time

HURRY_EVERY_S = 0.05


class CommandGateway:
    """A gateway's part: an intake before the telemetry's that takes reports, and what carries commands down.

    `telemetry` knows the vehicles; `intake` is the same or what stands before it (tracing). `over(door)`, then `run`.
    """

    def __init__(self, parts: wiring.Common, telemetry: TelemetryIntake, intake: Intake) -> None:
        self._telemetry = telemetry
        self._intake = intake
        self._database = parts.database
        self._clock = parts.clock
        self._reports = Reports(parts.database, catalogue.standard(), parts.audit, parts.clock)
        self._door: Any = None
        self.deliverer = Deliverer(
            parts.database, telemetry.connected, self, Capabilities(catalogue.standard()), parts.clock
        )
        self._hurry = Hurry(parts.database, parts.clock)

    def over(self, door: Any) -> None:
        """The door is made after what stands behind it."""
        self._door = door

    def send(self, party: str, tail: str, body: bytes) -> asyncio.Future[bool]:
        sent: asyncio.Future[bool] = self._door.send(party, tail, body)
        return sent

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.deliverer.run())
            tasks.create_task(self._hurry.run())
            tasks.create_task(keep_time(self._database, self._clock))

    def status(self) -> dict[str, Any]:
        sent, said = self.deliverer.counters, self._reports.counters
        return {
            "commands_sent": sent.sent,
            "commands_again": sent.again,
            "commands_held_back": sent.held_back,
            "command_reports": said.reports,
            "command_reports_unknown": said.unknown,
        }

    # --- the door's intake ---

    async def admit(self, client: Client) -> object:
        return await self._intake.admit(client)

    async def leave(self, context: object) -> None:
        await self._intake.leave(context)

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        """Telemetry to telemetry, reports to commands; returns when both are on disk.

        Raises: Unavailable: storing the tick again is harmless, repeats of both are known by their numbers.
        """
        told = [publish for publish in publishes if publish.tail == "command"]
        if not told:
            verdicts = await self._intake.accept(publishes)
            self._hurry_for(publishes)
            return verdicts
        rest = [publish for publish in publishes if publish.tail != "command"]
        charged = [self._telemetry.charge(publish) for publish in told]
        free = [publish for publish, refusal in zip(told, charged, strict=True) if refusal is None]
        measured, said = await asyncio.gather(_accepted(self._intake, rest), self._reports.accept(free))
        self._hurry_for(rest)
        said_of, measured_of = iter(said), iter(measured)
        of_told = iter([next(said_of) if refusal is None else refusal for refusal in charged])
        return [next(of_told) if publish.tail == "command" else next(measured_of) for publish in publishes]

    def _hurry_for(self, publishes: Sequence[Publish]) -> None:
        """Somebody waits for what commanded vehicles measure."""
        expected = self.deliverer.expected
        if expected and any(publish.context.ref in expected for publish in publishes):
            self._hurry.now()


async def _accepted(intake: Intake, publishes: Sequence[Publish]) -> Sequence[Verdict]:
    return await intake.accept(publishes) if publishes else []


class Hurry:
    """Tells workers to read at once, at most every `HURRY_EVERY_S`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._wanted = asyncio.Event()

    def now(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            with contextlib.suppress(*DOWN, TimeoutError):
                await hurry(self._database.pool, HURRY_CHANNEL)
            await asyncio.sleep(HURRY_EVERY_S)


class CommandProof:
    """A worker's part: `hook` for its transactions; `run` keeps what it watches and hears who is in a hurry."""

    def __init__(self, parts: wiring.Common) -> None:
        self._database = parts.database
        self._clock = parts.clock
        self.verifier = Verifier(parts.database, catalogue.standard(), parts.clock)
        self.hook: Callable[..., Any] = self.verifier.hook

    async def run(self, worker: Worker) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.verifier.run())
            tasks.create_task(keep_time(self._database, self._clock))
            tasks.create_task(listen(self._database, (HURRY_CHANNEL,), lambda _channel, _said: worker.hurry.set()))
