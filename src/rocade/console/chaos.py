"""What the "pull the plug" corner asks for; the supervisor of `rocade demo --chaos` provides it."""

from __future__ import annotations

from typing import Protocol

import msgspec

ACTS = ("kill_store", "kill_worker", "cut_vehicle", "fill_disk")


class Counts(msgspec.Struct, frozen=True):
    """Counted by the senders, not by the platform: messages acknowledged to them, points acknowledged and lost, messages
    sent because the platform asked for them. `missing` is the platform's own gap list: numbers it lacks at this moment.
    """

    acked: int
    lost: int
    resent: int
    missing: int


class Chaos(Protocol):
    async def act(self, act: str, vehicle: str) -> str:
        """Break one of `ACTS` (`vehicle`: the chosen vehicle's reference or ''); a sentence about what was done.

        Raises: Refused, Unavailable.
        """
        ...

    async def counts(self) -> Counts: ...
