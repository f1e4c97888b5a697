"""What the pages of charging and commands ask (`ChargeDesk`), and what they share: who may what, the acts that are offered.

Owners and drivers come through `Mine`, operators through the gate's duties; nothing here decides.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.console.my.frame import Mine
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.services.battery import Batteries
from rocade.services.charging import Board, Charging
from rocade.services.charging.stations import Stations
from rocade.services.vehicles import Registry
from rocade.services.vehicles.commands import Capabilities, Commands
from rocade.services.vehicles.twin import TwinStore
from rocade.services.vehicles.watching import TwinWatch

FRESH_S, KEPT_TIMES = 0.5, 4.0
BY_HAND: tuple[str, ...] = (
    "attention.lights", "doors.lock", "doors.unlock", "location.report", "attention.horn", "climate.precondition",
    "climate.stop", "power.wake",
)  # fmt: skip
"""Acts a person gives by hand, in the order of their buttons; charging has a page of its own."""


class Boards:
    """Depots' boards as of a moment ago, looked at once for all who watch: a depot of thousands is not asked for by every browser.

    A board that took long to make is kept so much longer that at most a fifth of the time goes into it.
    """

    def __init__(self, charging: Charging, clock: Clock) -> None:
        self._charging = charging
        self._clock = clock
        self._made: dict[str, tuple[float, Board]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def of(self, site: str) -> Board:
        """Raises: Refused `charging.site.unknown`."""
        async with self._locks.setdefault(site, asyncio.Lock()):
            until_s, board = self._made.get(site, (0.0, None))
            if board is not None and self._clock.monotonic_s() < until_s:
                return board
            began_s = self._clock.monotonic_s()
            try:
                board = await self._charging.board(site)
            except Refused:
                self._made.pop(site, None)
                self._locks.pop(site, None)
                raise
            now_s = self._clock.monotonic_s()
            self._made[site] = now_s + max(FRESH_S, KEPT_TIMES * (now_s - began_s)), board
            return board


@dataclass(frozen=True, kw_only=True)
class ChargeDesk:
    """Everything these pages ask; put together in `app.charging_pages`."""

    charging: Charging
    commands: Commands
    capabilities: Capabilities
    registry: Registry
    twins: TwinStore
    watch: TwinWatch
    catalogue: Catalogue
    clock: Clock
    mine: Mine
    batteries: Batteries | None = None
    stations: Stations | None = None
    boards: Boards = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "boards", Boards(self.charging, self.clock))


ChargeDependency = NamedDependency[SkipValidation[ChargeDesk]]
