"""Acknowledged and lost, while the fleet drives: what the senders know to be acknowledged against what the history holds.

Flow: `take` keeps the senders' ledgers with the instant they came -> `compare` counts, per vehicle, points acknowledged
more than `SETTLED_S` plus the road's present lag ago that are not stored. What is still on its way is not judged, so a
store that was killed shows as lag, not as loss; what is missing after that is lost, and is said so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from rocade.agents.vehicle.convoy import Ledger
from rocade.core.ports import Clock
from rocade.fabric.history import History
from rocade.fabric.log import Log
from rocade.services.telemetry.footprint import points_by_vehicle
from rocade.services.telemetry.model import GROUP, STREAM

SETTLED_S = 10.0
"""From acknowledgement to history at the latest, beyond the lag: a block in the worker's hands and one being stored."""
KEPT_S = 900.0


class Account:
    """`refs`: vehicle references by id. `since_us`: what arrived earlier belongs to an earlier run."""

    def __init__(self, refs: Mapping[str, int], since_us: int, clock: Clock) -> None:
        self._refs = refs
        self._since_us = since_us
        self._clock = clock
        self._taken: deque[tuple[int, dict[int, int]]] = deque()
        self.lost = 0
        """Points, as of the last comparison."""

    def take(self, ledger: Ledger) -> None:
        """Keep what the senders say now."""
        now_us = self._clock.now_us()
        points = {self._refs[line.vehicle_id]: line.acknowledged_points for line in ledger.ledger}
        self._taken.append((now_us, points))
        while self._taken[0][0] < now_us - KEPT_S * 1_000_000:
            self._taken.popleft()

    async def compare(self, history: History, log: Log) -> int:
        """Points acknowledged long enough ago and not stored; 0 while there is nothing to judge yet.

        Raises: Unavailable when history or log do not answer; the count stays as it was.
        """
        now_us = self._clock.now_us()
        oldest_us = (await log.lag(GROUP, STREAM)).oldest_arrived_us
        judged_us = (now_us if oldest_us is None else min(oldest_us, now_us)) - int(SETTLED_S * 1_000_000)
        settled = next((points for at_us, points in reversed(self._taken) if at_us <= judged_us), None)
        if settled is None:
            return self.lost
        stored = await points_by_vehicle(history, list(settled), self._since_us)
        self.lost = sum(max(0, points - stored.get(ref, 0)) for ref, points in settled.items())
        return self.lost
