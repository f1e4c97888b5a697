"""What the "pull the plug" corner asks for; the supervisor of `rocade demo --chaos` provides it."""

from __future__ import annotations

from typing import Protocol

import msgspec

ACTS = ("kill_store", "kill_worker", "cut_vehicle", "fill_disk")


class Counts(msgspec.Struct, frozen=True):
    """Counted by the senders, not by the platform: messages acknowledged to them, acknowledged and lost, sent again."""

    acked: int
    lost: int
    resent: int


class Chaos(Protocol):
    async def act(self, act: str, vehicle: str) -> str:
        """Break one of `ACTS` (`vehicle`: the chosen vehicle's reference or ''); a sentence about what was done.

        Raises: Refused, Unavailable.
        """
        ...

    async def counts(self) -> Counts: ...
