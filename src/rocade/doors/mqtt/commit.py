"""Group commit: publishes of one tick go to the intake together, their PUBACKs leave after it returned.

Flow: `add` collects -> a tick of 2 to 20 ms (half of what the last commit took) -> `Intake.accept`, one at a time, while
the next tick collects -> every session gets its PUBACKs in one write. While the intake is unavailable the tick is held
and tried again; the door meanwhile reads no socket. Nothing is acknowledged early, lost or failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from rocade.core.errors import Unavailable
from rocade.core.ports import Clock
from rocade.doors.mqtt.contract import Intake, Publish, Settings, Verdict
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.session import Session

_log = logging.getLogger(__name__)
_BACK_OFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class GroupCommit:
    """`pause` and `resume` stop and restart the reading of all sockets."""

    def __init__(
        self,
        intake: Intake,
        settings: Settings,
        clock: Clock,
        meter: Meter,
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._intake = intake
        self._settings = settings
        self._clock = clock
        self._meter = meter
        self._pause = pause
        self._resume = resume
        self._publishes: list[Publish] = []
        self._owners: list[tuple[Session, int]] = []
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._tick_us = settings.tick_min_ms * 1000

    def add(self, session: Session, packet_id: int, publish: Publish) -> None:
        """Put one publish into the present tick; `packet_id` 0 = no acknowledgement wanted."""
        if not self._publishes:
            self._waiting.set()
            self._idle.clear()
        self._publishes.append(publish)
        self._owners.append((session, packet_id))
        meter = self._meter
        meter.unacknowledged_bytes += len(publish.body)
        if meter.unacknowledged_bytes > self._settings.max_unacknowledged_bytes:
            self._pause()

    async def run(self) -> None:
        """Commit tick after tick until cancelled."""
        while True:
            await self._waiting.wait()
            wait_us = self._publishes[0].arrived_us + self._tick_us - self._clock.now_us()
            if wait_us > 0:
                await asyncio.sleep(min(wait_us, self._tick_us) / 1e6)
            publishes, owners = self._publishes, self._owners
            self._publishes, self._owners = [], []
            self._waiting.clear()
            began_us = self._clock.now_us()
            verdicts = await self._accept(publishes)
            ended_us = self._clock.now_us()
            took_us = max(0, ended_us - began_us)
            least_us, most_us = self._settings.tick_min_ms * 1000, self._settings.tick_max_ms * 1000
            self._tick_us = min(max(took_us / 2, least_us), most_us)
            self._meter.accept_duration.add(took_us)
            self._answer(publishes, owners, verdicts)
            if not self._publishes:
                self._idle.set()

    async def settled(self) -> None:
        """Return when every publish added so far has its verdict."""
        await self._idle.wait()

    async def _accept(self, publishes: list[Publish]) -> Sequence[Verdict]:
        for attempt in range(1 << 62):
            try:
                verdicts = await self._intake.accept(publishes)
                if len(verdicts) == len(publishes):
                    return verdicts
                _log.error("intake returned %d verdicts for %d publishes", len(verdicts), len(publishes))
            except Unavailable as error:
                if not attempt:
                    _log.warning("intake unavailable, reading stops until it is back: %s", error)
            except Exception:
                _log.exception("intake failed; the tick is held and tried again")
            self._meter.accept_retries += 1
            self._pause()
            await asyncio.sleep(_BACK_OFF_S[min(attempt, len(_BACK_OFF_S) - 1)])
        raise AssertionError

    def _answer(self, publishes: list[Publish], owners: list[tuple[Session, int]], verdicts: Sequence[Verdict]) -> None:
        replies: dict[Session, bytearray] = {}
        for (session, packet_id), verdict in zip(owners, verdicts, strict=True):
            reply = replies.get(session)
            if reply is None:
                reply = replies[session] = bytearray()
            session.settle(reply, packet_id, verdict)
        meter = self._meter
        meter.ticks += 1
        meter.unacknowledged_bytes -= sum(len(publish.body) for publish in publishes)
        for session, reply in replies.items():
            session.answer(reply)
        now_us = self._clock.now_us()
        for arrived_us, count in Counter([publish.arrived_us for publish in publishes]).items():
            meter.ack_latency.add(now_us - arrived_us, count)
        if meter.unacknowledged_bytes <= self._settings.max_unacknowledged_bytes // 2:
            self._resume()
