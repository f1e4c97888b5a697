"""The relay door's switch: decides each opening, holds it to its quotas, counts its bytes, and writes all of it down.

Flow: `open` asks `decide` (as the simulation does), then the quotas of the rule; the opening or refusal is in the table before
the caller hears of it. `_Route.up` and `.down` count every piece before it is passed on and hold it back to the rate. Every
`FLUSH_S` counts and closings go to the database; a relay that is killed loses the counts of that long, and what it had open is
closed at the next start as `relay.killed`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, defaultdict, deque
from collections.abc import Callable

from rocade.core.errors import Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.interconnection import errors, store
from rocade.services.interconnection.model import DAY_US, HUB, NamedService, Rule
from rocade.services.interconnection.service import Interconnection
from rocade.wire.relay import Opening

FLUSH_S = 1.0
OPEN_S = 15.0
"""How long an opening may take to be written down."""
HOUR_US = 3_600_000_000
MINUTE_US = 60_000_000
_log = logging.getLogger(__name__)


class Relaying:
    """Implements the relay door's `Switch`. `await start()` first; `keep()` runs beside; `await close()` writes the rest."""

    def __init__(self, interconnection: Interconnection, database: Database, audit: Audit, clock: Clock) -> None:
        self._known, self._database = interconnection, database
        self._audit, self._clock = audit, clock
        self._routes: set[_Route] = set()
        self._open: Counter[tuple[int, str]] = Counter()
        self._minutes: dict[tuple[int, str], deque[int]] = defaultdict(deque)
        self._today: Counter[tuple[str, str]] = Counter()
        self._day = 0
        self._counted: dict[tuple[str, str, int], list[int]] = defaultdict(lambda: [0, 0])
        self._closed: list[tuple[int, int, str, int, int]] = []
        self._writing = asyncio.Lock()
        interconnection.watch(self._enforce)

    @property
    def open_streams(self) -> int:
        return len(self._routes)

    async def start(self) -> None:
        now_us = self._clock.now_us()
        async with self._database.pool.acquire() as connection:
            await store.close_left_open(connection, now_us, "relay.killed")
            self._day = now_us - now_us % DAY_US
            for site, service, _hour_us, up, down in await store.traffic(connection, self._day, self._day + DAY_US):
                self._today[site, service] += up + down

    async def keep(self) -> None:
        """Write down counts and closings, end what a changed policy or a rule's end no longer opens; for ever."""
        while True:
            await asyncio.sleep(FLUSH_S)
            self._enforce()
            with contextlib.suppress(*DOWN, TimeoutError):
                await self._flush()

    async def close(self) -> None:
        with contextlib.suppress(*DOWN, TimeoutError):
            await self._flush()

    async def open(self, caller: Identity, opening: Opening) -> _Route:
        """Raises: Refused `relay.*` as decided, `relay.quota.*`; Unavailable `relay.database`."""
        decision = self._known.decide(caller.id, opening.service, opening.device[:64])
        code, rule = decision.code, decision.rule
        if rule:
            code = self._quota(rule, caller.id, opening.service)
        try:
            async with asyncio.timeout(OPEN_S), self._database.pool.acquire() as connection, connection.transaction():
                number = await store.add_opening(
                    connection, caller.id, opening.device[:64], opening.service[:63], rule.number if rule else 0, code,
                    self._clock.now_us(),
                )  # fmt: skip
        except (*DOWN, TimeoutError):
            raise Unavailable("relay.database", "openings cannot be written down now; nothing is opened") from None
        self._note(caller, opening.service, code, number)
        if rule is None or code:
            raise errors.refused(code)
        route = _Route(self, number, caller.id, opening.device[:64], self._known.policy.services[opening.service], rule)
        self._routes.add(route)
        self._open[rule.number, caller.id] += 1
        return route

    def _quota(self, rule: Rule, site: str, service: str) -> str:
        """Which quota of the rule is used up; '' = none."""
        key, now_us = (rule.number, site), self._clock.now_us()
        self._turn_day(now_us)
        recent = self._minutes[key]
        while recent and recent[0] <= now_us - MINUTE_US:
            recent.popleft()
        if rule.connections and self._open[key] >= rule.connections:
            return "relay.quota.connections"
        if rule.per_minute and len(recent) >= rule.per_minute:
            return "relay.quota.openings"
        if rule.day_bytes and self._today[site, service] >= rule.day_bytes:
            return "relay.quota.day"
        if rule.per_minute:
            recent.append(now_us)
        return ""

    def count(self, route: _Route, up: int, down: int) -> None:
        """Raises: Refused `relay.quota.day`."""
        now_us = self._clock.now_us()
        self._turn_day(now_us)
        site, service = route.caller, route.service
        counted = self._counted[site, service, now_us - now_us % HOUR_US]
        counted[0] += up
        counted[1] += down
        self._today[site, service] += up + down
        if route.rule.day_bytes and self._today[site, service] > route.rule.day_bytes:
            raise errors.refused("relay.quota.day")

    def over(self, route: _Route, code: str) -> None:
        if route in self._routes:
            self._routes.discard(route)
            self._open[route.rule.number, route.caller] -= 1
            self._closed.append((route.number, self._clock.now_us(), code, route.up_bytes, route.down_bytes))

    def _turn_day(self, now_us: int) -> None:
        if now_us - now_us % DAY_US != self._day:
            self._day = now_us - now_us % DAY_US
            self._today.clear()

    def _enforce(self) -> None:
        """What is open stays open only while it would be opened again."""
        for route in list(self._routes):
            decision = self._known.decide(route.caller, route.service, route.device)
            if not decision.is_open:
                route.cut(decision.code)
            elif decision.rule:
                route.rule_in_force(decision.rule)

    async def _flush(self) -> None:
        """One after the other, in one transaction; what could not be written is kept for the next time."""
        async with self._writing:
            await self._write()

    async def _write(self) -> None:
        counted, self._counted = self._counted, defaultdict(lambda: [0, 0])
        closed, self._closed = self._closed, []
        if not counted and not closed:
            return
        try:
            async with asyncio.timeout(10), self._database.pool.acquire() as connection, connection.transaction():
                await store.add_traffic(connection, [(*key, up, down) for key, (up, down) in counted.items()])
                await store.close_openings(connection, closed)
        except BaseException:
            self._closed = closed + self._closed
            for key, (up, down) in counted.items():
                self._counted[key][0] += up
                self._counted[key][1] += down
            raise

    def _note(self, caller: Identity, service: str, code: str, number: int) -> None:
        facts: dict[str, str | int | float] = {"service": service[:63], "opening": number}
        outcome = "refused" if code else "done"
        entry = AuditEntry(self._clock.now_us(), caller.uri, "relay.open", f"opening:{number}", outcome, code, facts)
        self._audit.note(entry)


class _Route:
    """One permitted stream; implements the door's `Route`."""

    def __init__(
        self, owner: Relaying, number: int, caller: str, device: str, service: NamedService, rule: Rule
    ) -> None:
        self._owner = owner
        self.number, self.caller, self.device, self.rule = number, caller, device, rule
        self.service, self.priority = service.name, service.priority
        self.site = "" if service.at == HUB else service.at
        self.address = (service.host, service.port)
        self.up_bytes = self.down_bytes = 0
        self._cut = ""
        self._cutter: Callable[[str], object] | None = None
        self._free_s = [0.0, 0.0]

    async def up(self, count: int) -> None:
        self.up_bytes += count
        self._owner.count(self, count, 0)
        await self._pace(0, count)

    async def down(self, count: int) -> None:
        self.down_bytes += count
        self._owner.count(self, 0, count)
        await self._pace(1, count)

    async def closed(self, code: str) -> None:
        self._owner.over(self, self._cut or code)

    def cut(self, code: str) -> None:
        """End it from here, whether it is busy or idle."""
        self._cut = code
        if self._cutter:
            self._cutter(code)

    def on_cut(self, cut: Callable[[str], object], /) -> None:
        self._cutter = cut

    def rule_in_force(self, rule: Rule) -> None:
        if rule.number == self.rule.number:
            self.rule = rule

    async def _pace(self, direction: int, count: int) -> None:
        """Wait until `count` bytes fit the rate; a quarter of a second may be sent ahead. Raises: Refused when cut."""
        if self._cut:
            raise errors.refused(self._cut)
        rate = self.rule.rate_bytes_s
        if not rate:
            return
        now_s = asyncio.get_running_loop().time()
        self._free_s[direction] = max(self._free_s[direction], now_s - 0.25) + count / rate
        if (wait_s := self._free_s[direction] - now_s) > 0:
            await asyncio.sleep(wait_s)
