"""Takes commands to the vehicles that are connected to this gateway, as often as needed, each as signed when it was ordered.

Flow: a vehicle has subscribed (`came`), something was ordered (notification), a repetition is due, or it is this vehicle's turn
to be looked at -> `claim`: what it has not said to have, nobody else gets it for `HOLD_US` -> too often woken: rejected; more
than the brand's back end takes: a little later -> down the door, oldest version first -> sent. No word comes back: again after
5 s, 10 s ...; gone before it acknowledged: with its next connection, whichever gateway that is at. A gateway holds no signing key
and nothing that another could not take over.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import msgspec

from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.following import listen
from rocade.services.vehicles.commands import ledger, store
from rocade.services.vehicles.commands.capability import Capabilities
from rocade.services.vehicles.commands.model import resend_after_us
from rocade.services.vehicles.commands.waking import WakeBudget
from rocade.trust.authority.sealing import keyring_of
from rocade.wire.commands import encode_down

HOLD_US = 5_000_000
MOST = 1_000
"""Commands of one claim."""
MOST_REFS = 5_000
LOOK_S = 1.0
LOOKS = 5
"""So many looks go round all connected vehicles: a lost notification costs at most so many seconds."""
EXPECTED_US = 20_000_000
NO_ROOM_US = 100_000
"""The vehicle has too much in flight, or has not subscribed yet."""
TOO_FAST_US = 500_000
RETRY_S = 0.5
_log = logging.getLogger(__name__)


class Connected(Protocol):
    """A connected vehicle: its reference, and how the door calls it."""

    @property
    def ref(self) -> Any: ...
    @property
    def vehicle_id(self) -> str: ...


class Sender(Protocol):
    """`doors.mqtt.Door`, as far as commands need it."""

    def send(self, party: str, tail: str, body: bytes, /) -> Awaitable[bool]: ...


class Counters(msgspec.Struct):
    """What was sent since the start."""

    sent: int = 0
    again: int = 0
    held_back: int = 0
    """For want of room, or for the brand's rate."""
    over_budget: int = 0


class Deliverer:
    """One in each gateway. `connected`: this gateway's vehicles by reference, as they are at any moment."""

    def __init__(
        self,
        database: Database,
        connected: Mapping[int, Connected],
        sender: Sender,
        capabilities: Capabilities,
        clock: Clock,
        budget: WakeBudget | None = None,
    ) -> None:
        self._database = database
        self._connected = connected
        self._sender = sender
        self._capabilities = capabilities
        self._clock = clock
        self._budget = budget or WakeBudget()
        self._chains: dict[bytes, str] = {}
        self._wanted: set[int] = set()
        self._fresh: set[int] = set()
        self._later: dict[int, int] = {}
        """When vehicles are to be looked at again."""
        self._round: list[int] = []
        self._expected: dict[int, int] = {}
        self._wake = asyncio.Event()
        self.counters = Counters()

    def came(self, context: object) -> None:
        """A vehicle can be spoken to from now on: everything it has not said to have goes to it."""
        ref = getattr(context, "ref", None)
        if ref is not None:
            self._fresh.add(int(ref))
            self._wake.set()

    def _heard(self, _channel: str, payload: str) -> None:
        refs = store.told(payload)
        self._wanted.update(self._connected if refs is None else (ref for ref in refs if ref in self._connected))
        if self._wanted:
            self._wake.set()

    @property
    def expected(self) -> Mapping[int, int]:
        """Vehicles that were sent something lately: what they measure is waited for."""
        return self._expected

    async def run(self) -> None:
        """Deliver for ever; a database that is away is waited for."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(listen(self._database, (store.QUEUED_CHANNEL,), self._heard))
            tasks.create_task(self._deliver_for_ever())

    async def _deliver_for_ever(self) -> None:
        looked_s = self._clock.monotonic_s()
        while True:
            await self._pause(looked_s + LOOK_S - self._clock.monotonic_s())
            if self._clock.monotonic_s() >= looked_s + LOOK_S:
                looked_s = self._clock.monotonic_s()
                self._wanted.update(self._next_of_round())
                now_us = self._clock.now_us()
                self._expected = {ref: until_us for ref, until_us in self._expected.items() if until_us > now_us}
            fresh, wanted = self._fresh, self._wanted | self._due()
            self._fresh, self._wanted = set(), set()
            try:
                await self.deliver(wanted | fresh, fresh)
            except (*DOWN, TimeoutError):
                self._wanted |= wanted
                self._fresh |= fresh
                await asyncio.sleep(RETRY_S)
            except Exception:
                _log.exception("commands could not be delivered")
                self._fresh |= fresh
                await asyncio.sleep(RETRY_S)

    async def _pause(self, longest_s: float) -> None:
        """Until somebody wants something, or something is due."""
        if self._later:
            longest_s = min(longest_s, (min(self._later.values()) - self._clock.now_us()) / 1e6)
        if not self._wake.is_set() and longest_s > 0:
            try:
                async with asyncio.timeout(longest_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    def _due(self) -> set[int]:
        now_us = self._clock.now_us()
        due = {ref for ref, at_us in self._later.items() if at_us <= now_us}
        for ref in due:
            del self._later[ref]
        return due

    def _next_of_round(self) -> list[int]:
        """The vehicles whose turn it is."""
        if not self._round:
            self._round = list(self._connected)
        many = max(len(self._connected) // LOOKS + 1, 1)
        now, self._round = self._round[:many], self._round[many:]
        return now

    async def deliver(self, refs: set[int], fresh: set[int]) -> None:
        """Send what is due to these vehicles now."""
        wanted = [ref for ref in refs if ref in self._connected]
        for at in range(0, len(wanted), MOST_REFS):
            some = wanted[at : at + MOST_REFS]
            is_more = True
            while is_more:
                is_more = await self._deliver_some(some, [ref for ref in some if ref in fresh])
                fresh = set()

    async def _deliver_some(self, refs: Sequence[int], fresh: Sequence[int]) -> bool:
        """One claim; whether there may be more."""
        pool, now_us = self._database.pool, self._clock.now_us()
        claimed = await ledger.claim(pool, keyring_of(self._database), refs, fresh, now_us, HOLD_US, MOST)
        if not claimed:
            return False
        due = await self._affordable(claimed, now_us)
        due = await self._within_rates(due, now_us)
        for key_id in {one.key_id for one in due} - self._chains.keys():
            self._chains[key_id] = (await store.read_chain(pool, key_id) or b"").decode()
        sent: list[ledger.Due] = []
        held: list[bytes] = []
        blocked: set[int] = set()
        for one in due:
            if one.ref not in blocked and self._send(one):
                sent.append(one)
            else:  # what follows for this vehicle must not overtake it
                blocked.add(one.ref)
                held.append(one.id)
        if sent:
            again_us = [now_us + resend_after_us(one.sends) for one in sent]
            await ledger.mark_sent(pool, [one.id for one in sent], again_us, now_us)
            await store.notify(pool, store.CHANGED_CHANNEL, {one.ref for one in sent})
            for one, at_us in zip(sent, again_us, strict=True):
                self._look_again(one.ref, at_us)
        await self._hold_back(held, blocked, now_us + NO_ROOM_US)
        self.counters.sent += len(sent)
        self.counters.again += sum(one.sends > 0 for one in sent)
        return len(claimed) == MOST

    def _send(self, one: ledger.Due) -> bool:
        """Whether the door took it."""
        context = self._connected.get(one.ref)
        if context is None:
            return False
        done = self._sender.send(context.vehicle_id, "command", encode_down(one.sealed, self._chains[one.key_id]))
        is_sent = not (isinstance(done, asyncio.Future) and done.done() and not done.result())
        if is_sent:
            self._expected[one.ref] = self._clock.now_us() + EXPECTED_US
        return is_sent

    async def _affordable(self, due: Sequence[ledger.Due], now_us: int) -> list[ledger.Due]:
        """Without those that would wake a sleeping vehicle once too often; one that went down before may still be done: it only
        does not go again.
        """
        spent = await self._budget.spent(
            self._database.pool, keyring_of(self._database), {one.ref for one in due}, now_us
        )
        tired = sorted(one.id for one in due if one.ref in spent and not one.sends)
        if tired:
            self.counters.over_budget += len(tired)
            async with self._database.pool.acquire() as connection, connection.transaction():
                await ledger.refuse(connection, tired, "command.wake.budget", now_us)
                await store.notify(connection, store.CHANGED_CHANNEL, spent)
        return [one for one in due if one.ref not in spent]

    async def _within_rates(self, due: Sequence[ledger.Due], now_us: int) -> list[ledger.Due]:
        """As many of each brand as its back end takes now; the others a little later."""
        allowed: list[ledger.Due] = []
        for brand in Counter(one.brand for one in due):
            of_brand = [one for one in due if one.brand == brand]
            limit = self._capabilities.rate(brand)
            many = len(of_brand)
            if limit is not None:
                many = await ledger.take_tokens(self._database.pool, brand, many, *limit, now_us)
            allowed += of_brand[:many]
            late = of_brand[many:]
            await self._hold_back([one.id for one in late], {one.ref for one in late}, now_us + TOO_FAST_US)
        return allowed

    async def _hold_back(self, ids: Sequence[bytes], refs: set[int], until_us: int) -> None:
        if ids:
            self.counters.held_back += len(ids)
            await ledger.release(self._database.pool, sorted(ids), until_us)
            for ref in refs:
                if ref in self._connected:
                    self._look_again(ref, until_us)

    def _look_again(self, ref: int, at_us: int) -> None:
        self._later[ref] = min(at_us, self._later.get(ref, at_us))
        if len(self._later) > 4 * MOST_REFS:  # the round finds those that are dropped here
            for old in list(islice(self._later, MOST_REFS)):
                del self._later[old]
