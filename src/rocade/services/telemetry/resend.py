"""Asks vehicles for numbers that are missing, through the door they are connected to.

Flow, every few seconds: connections of erased and sold vehicles get the new reference -> gaps of connected vehicles that are due -> left out if the worker has not yet processed the
newest publish we took from that vehicle (the missing number may be in it: an acknowledged number is never asked again);
nobody is asked while workers are behind (it may lie unread, taken by another gateway, and the vehicle may keep no copy)
-> `down/resend` {"epoch": "<16 hex digits>", "ranges": [[from, to], ...]} -> ask again later, ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec

from rocade.core.errors import RocadeError
from rocade.core.ports import Clock
from rocade.fabric.database.connection import DOWN
from rocade.fabric.log import Log
from rocade.services.telemetry.gaps import FIRST_ASK_S, ask_again_us
from rocade.services.telemetry.intake import Sender, TelemetryIntake
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.model import GROUP, STREAM

log = logging.getLogger(__name__)

MAX_RANGES = 64
"""Of one request; the rest follows when these have come."""


class Asker:
    def __init__(self, *, intake: TelemetryIntake, ledger: Ledger, records: Log, sender: Sender, clock: Clock) -> None:
        self._intake = intake
        self._ledger = ledger
        self._log = records
        self._sender = sender
        self._clock = clock
        self.asked = 0
        """Requests sent since the start."""

    async def run(self, stop: asyncio.Event, every_s: float = 2.0) -> None:
        """Ask until `stop` is set; a database that is away is waited for."""
        while not stop.is_set():
            try:
                await self.ask_due()
            except (RocadeError, *DOWN) as error:
                log.info("resend requests wait: %s", type(error).__name__)
            try:
                async with asyncio.timeout(every_s):
                    await stop.wait()
            except TimeoutError:
                pass

    async def ask_due(self) -> int:
        """Send every request that is due now; returns how many."""
        if not self._intake.connected:
            return 0
        await self._intake.follow(await self._ledger.gone(self._intake.connected, self._clock.now_us()))
        oldest_us = (await self._log.lag(GROUP, STREAM)).oldest_arrived_us
        now_us = self._clock.now_us()
        if oldest_us is not None and oldest_us < now_us - FIRST_ASK_S * 1_000_000:
            return 0
        due = await self._ledger.due(list(self._intake.connected), now_us)
        asks = []
        for gap in due:
            context = self._intake.connected.get(gap.ref)
            if context is None or context.last_arrived_us > gap.arrived_us:
                continue
            if context.last_arrived_us == 0 and oldest_us is not None and oldest_us < context.connected_us:
                continue  # taken over from another gateway, whose publishes may still be on their way
            body = msgspec.json.encode({"epoch": f"{gap.epoch & (1 << 64) - 1:016x}", "ranges": gap.gaps[:MAX_RANGES]})
            self._sender.send(context.vehicle_id, "resend", body)  # whether it arrives shows in what comes back
            asks.append((gap.ref, gap.epoch, ask_again_us(gap.asked, self._clock.now_us())))
        await self._ledger.asked(asks)
        self.asked += len(asks)
        return len(asks)
