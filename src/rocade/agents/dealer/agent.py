"""The whole agent of one point of sale: its hubs, its store, its doors towards the dealer's own people and software.

`Dealer.open(DIR)` reads settings and files, `run()` serves until cancelled. What it holds is read and written by the event
loop alone; applying a price list is the one thing done beside it, by one thread, for one list at a time.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.hub import Hub, Notice
from rocade.agents.dealer.inbox import Inbox
from rocade.agents.dealer.outbox import Outbox
from rocade.agents.dealer.settings import Settings
from rocade.agents.dealer.store import FILE, Store
from rocade.agents.link import Backoff
from rocade.core.errors import Misconfigured, Refused
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom

log = logging.getLogger(__name__)
_HOUSEKEEPING_S = 3600.0

type OpenPrices = Callable[[Path], Any]


class Dealer:
    """Everything of one agent. `hubs` by name."""

    def __init__(
        self,
        place: Path,
        settings: Settings,
        clock: Clock,
        random: Random,
        open_prices: OpenPrices,
        backoff: Backoff | None = None,
    ) -> None:
        self.place, self.settings, self.clock, self.random = place, settings, clock, random
        self._lock = _only_one(place)
        self.store = Store(place / FILE, clock, random)
        self.inbox = Inbox(self.store)
        self.outbox = Outbox(self.store, random, settings.keeping, self._appended)
        self._applying = ThreadPoolExecutor(1, "apply")
        self.hubs = {
            hub.name: Hub(
                place, hub, self.store, self.outbox, self.inbox, open_prices(place / "prices" / f"{hub.name}.sqlite3"),
                self._applying, clock, random, noticed=self._noticed, taken_over=self._taken_over, backoff=backoff,
            )
            for hub in settings.hubs
        }  # fmt: skip

    @classmethod
    def open(cls, place: Path, open_prices: OpenPrices, backoff: Backoff | None = None) -> Self:
        """Raises: Misconfigured `dealer.settings`, `dealer.running`, `trust.*`; Corrupt `dealer.damaged`."""
        settings = configured.load(place)
        if not settings.hubs:
            raise Misconfigured("dealer.settings", "no hub is named yet; `rocade dealer init` joins one")
        return cls(place, settings, SystemClock(), SystemRandom(), open_prices, backoff)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for hub in self.hubs.values():
                    hub.line.want(up=True)
                    tasks.create_task(hub.run())
                tasks.create_task(self._keep_house())
        finally:
            self._applying.shutdown(wait=True)

    def hub(self, name: str = "") -> Hub:
        """The hub of this name; without one, the only one there is. Raises: Refused `dealer.hub.which`, `.unknown`."""
        if not name and len(self.hubs) == 1:
            return next(iter(self.hubs.values()))
        if not name:
            raise Refused("dealer.hub.which", f"say which hub: {', '.join(self.hubs)}")
        if name not in self.hubs:
            raise Refused("dealer.hub.unknown", f"this agent knows no hub {name}")
        return self.hubs[name]

    def close(self) -> None:
        self.store.close()
        os.close(self._lock)

    def _appended(self, hub: str) -> None:
        self.hubs[hub].line.wake()

    def _noticed(self, hub: str, notice: Notice) -> None:
        pass

    def _taken_over(self, hub: str) -> None:
        pass

    async def _keep_house(self) -> None:
        while True:
            self.outbox.forget_old()
            await asyncio.sleep(_HOUSEKEEPING_S)


def _only_one(place: Path) -> int:
    """Hold DIR for this process. Raises: Misconfigured `dealer.running`."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Misconfigured("dealer.running", f"an agent runs on {place} already") from None
    return lock
