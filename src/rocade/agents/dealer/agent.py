"""The whole agent of one point of sale: its hubs, its store, its doors towards the dealer's own people and software.

`Dealer.open(DIR)` reads settings and files, `run()` serves until cancelled. What it holds is read and written by the event
loop alone; applying a price list is the one thing done beside it, by one thread, for one list at a time. How it is stands
every few seconds in DIR/state.json, for `rocade dealer status` and for whoever watches the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import msgspec

from rocade import __version__
from rocade.agents.dealer import last_settings
from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.dropping import watch
from rocade.agents.dealer.hub import Hub, Notice
from rocade.agents.dealer.inbox import Inbox
from rocade.agents.dealer.offers import Offers
from rocade.agents.dealer.outbox import Draft, Outbox, Sent
from rocade.agents.dealer.pair import Frame, Pair
from rocade.agents.dealer.pricing import OpenStore, Prices, open_store
from rocade.agents.dealer.relay import Relay
from rocade.agents.dealer.settings import Settings
from rocade.agents.dealer.staff import Staff
from rocade.agents.dealer.store import FILE, Store, find_damage
from rocade.agents.dealer.tokens import Tokens
from rocade.agents.link import Backoff
from rocade.core.errors import Misconfigured, Refused, RocadeError, Unavailable
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.wire.exchange.keys import EncryptionKey

log = logging.getLogger(__name__)
STATE_FILE = "state.json"
_HOUSEKEEPING_S = 3600.0
_CHECK_EVERY_S = 86_400.0
_STATE_EVERY_S = 2.0


class HubStanding(msgspec.Struct, frozen=True):
    """One hub, for people."""

    name: str
    host: str
    is_connected: bool
    since_us: int
    code: str
    problem: str
    certificate_end_us: int
    renewal_problem: str
    waiting: int
    set_aside: int


class Standing(msgspec.Struct, frozen=True):
    """How the agent is. `role` is "alone", "active" or "standby"."""

    version: str
    at_us: int
    pid: int
    site: str
    role: str
    pair: str
    hubs: list[HubStanding]
    outbox: dict[str, int]
    lists: list[dict[str, Any]]
    turned_away: int
    page: str = ""


class Dealer:
    """Everything of one agent. `hubs` by name."""

    def __init__(
        self,
        place: Path,
        settings: Settings,
        clock: Clock,
        random: Random,
        open_prices: OpenStore = open_store,
        backoff: Backoff | None = None,
    ) -> None:
        self.place, self.settings, self.clock, self.random = place, settings, clock, random
        self._lock = hold_alone(place)
        self.store = Store(place / FILE, clock, random)
        for told in last_settings.tell(place, settings):
            self.store.note_trouble("", told.code, told.message)
        self.inbox, self.offers = Inbox(self.store), Offers(self.store)
        self.tokens, self.staff = Tokens(self.store, random), Staff(self.store, random)
        self.outbox = Outbox(self.store, random, settings.keeping, self._appended)
        self._applying = ThreadPoolExecutor(1, "apply")
        self._arrived, self._consent = asyncio.Event(), asyncio.Event()
        self.turned_away = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.page = ""
        self.hubs = {
            hub.name: Hub(
                place, hub, self.store, self.outbox, self.inbox, open_prices(place, hub.name, clock),
                self._applying, clock, random, noticed=self._noticed, taken_over=self._taken_over,
                arrived=self._arrived_one, backoff=backoff,
            )
            for hub in settings.hubs
        }  # fmt: skip
        self.relays = {
            hub.name: Relay(
                [one for one in settings.entrances if one.hub == hub.name],
                [one for one in settings.offers if one.hub == hub.name],
            )
            for hub in settings.hubs
            if hub.relay_port
        }
        self.is_restart_asked = False
        self.on_restart: Callable[[], object] = lambda: None
        """Ends `run`; whoever started the agent starts it again."""
        self.pair = self._make_pair()
        self.prices = Prices({name: hub.prices for name, hub in self.hubs.items()})
        self.ports: dict[str, int] = {}
        self.is_serving = asyncio.Event()

    @classmethod
    def open(cls, place: Path, open_prices: OpenStore = open_store, backoff: Backoff | None = None) -> Self:
        """Raises: Misconfigured `dealer.settings`, `dealer.running`, `trust.*`; Corrupt `dealer.damaged`."""
        settings = configured.load(place)
        if not settings.hubs:
            raise Misconfigured("dealer.settings", "no hub is named yet; `rocade dealer init` joins one")
        return cls(place, settings, SystemClock(), SystemRandom(), open_prices, backoff)

    async def run(self) -> None:
        """Serve until cancelled. Raises: Misconfigured `dealer.web.address`, `dealer.lan.certificate`, `dealer.pair.address`."""
        try:
            await self._serve()
        except BaseExceptionGroup as group:
            if ours := group.subgroup(RocadeError):
                raise _first(ours) from None
            raise

    async def _serve(self) -> None:
        from rocade.agents.dealer.serving import listeners

        try:
            async with asyncio.TaskGroup() as tasks:
                for name, hub in self.hubs.items():
                    hub.line.want(up=self.pair is None)
                    tasks.create_task(hub.run())
                    if name in self.relays:
                        tasks.create_task(hub.carry(self.relays[name]))
                if self.pair:
                    tasks.create_task(self.pair.run())
                for listener in listeners(self):
                    tasks.create_task(listener.run())
                for folder in self.settings.folders:
                    tasks.create_task(watch(self.place, folder, self.send, self.clock))
                self.is_serving.set()
                tasks.create_task(self._keep_house())
                tasks.create_task(self._check_file())
                tasks.create_task(self._write_state())
                tasks.create_task(self._apply_offers())
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

    async def send(self, hub: str, draft: Draft) -> Sent:
        """Sign a message and keep it, here and with the other agent of a pair if it is there.

        Raises: Unavailable `dealer.pair.alone` (`pair.accept_alone` is off and nobody else could hold it), as `Outbox.append`.
        """
        chosen = self.hub(hub)
        may_wait_here = self.settings.pair is None or self.settings.pair.accept_alone
        if self.pair and not (may_wait_here or self.pair.is_joined or chosen.line.is_connected):
            raise Unavailable(
                "dealer.pair.alone", "neither the other agent nor the hub can be reached; not taken, try again later"
            )
        sent = chosen.send(draft)
        if self.pair and self.pair.is_joined:
            envelope = self.outbox.envelope(chosen.name, sent.id)
            await self.pair.replicate(Frame("entry", hub=chosen.name, tail="message", body=envelope, term=sent.made_us))
        return sent

    def decide(self, hub: str, cursor: int, outcome: str, code: str, reason: str) -> Sent:
        """Sign what is decided about a message that came in. Raises: Refused `dealer.message.unknown`, `dealer.decision.*`."""
        name = self.hub(hub).name
        envelope = self.inbox.envelope(name, cursor)
        if not envelope:
            raise Refused("dealer.message.unknown", "nothing came in under this cursor")
        return self.hubs[name].decide(envelope, outcome, code, reason)

    async def arrival(self, limit_s: float) -> None:
        """Return when a message comes in, or the time is over."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), limit_s)

    def consented(self) -> None:
        """An offer was answered: see whether there is something to apply."""
        self._consent.set()

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [ipaddress.ip_network(text) for text in self.settings.lan.networks]

    def standing(self) -> Standing:
        """How the agent is, for pages, the API and `status`."""
        hubs = []
        for name, hub in self.hubs.items():
            counts, line = self.outbox.counts(name), hub.line.standing
            hubs.append(
                HubStanding(
                    name, hub.settings.host, line.is_connected, line.since_us, line.last_code, line.last_problem,
                    hub.certificate_end_us, hub.renewal.last_problem, counts.get("waiting", 0),
                    counts.get("set_aside", 0),
                )
            )  # fmt: skip
        site = next(iter(self.hubs.values())).identity.id
        return Standing(
            __version__, self.clock.now_us(), os.getpid(), site, self.pair.role if self.pair else "alone", self._pair_state(), hubs, self.outbox.counts(),
            self.prices.lists(), self.turned_away, self.page,
        )  # fmt: skip

    def close(self) -> None:
        for hub in self.hubs.values():
            hub.prices.close()
        self.store.close()
        os.close(self._lock)

    def _appended(self, hub: str) -> None:
        self.hubs[hub].line.wake()

    def _arrived_one(self) -> None:
        self._arrived.set()
        self._arrived.clear()

    def _noticed(self, hub: str, notice: Notice) -> None:
        if notice.code == "dealer.restart":
            self.store.note_trouble(hub, notice.code, notice.text)
            self.is_restart_asked = True
            self.on_restart()
            return
        log.info("hub %s offers a version", hub)
        self.offers.take(notice.version, notice.sha256, notice.text)

    def _pair_state(self) -> str:
        return "" if self.pair is None else "connected" if self.pair.is_joined else "away"

    def _taken_over(self, hub: str) -> None:
        """Another agent of this site took the line. Without a pair nobody should have: it is noted, and tried again slowly."""
        self.store.note_trouble(hub, "dealer.line.taken_over", "another agent of this site took the line")
        if self.pair:
            self.pair.lost_line()

    # --- the half of a pair (pair.Half)

    def _make_pair(self) -> Pair | None:
        if self.settings.pair is None:
            return None
        first = next(iter(self.hubs.values()))
        made = Pair(first.directory, self.settings.pair, self, self.store, self.clock)
        made.trouble = first.trouble
        for hub in self.hubs.values():
            hub.heard_too = self._pass_on
            hub.outgoing.taken_too = self._pass_taken
        return made

    def hold_lines(self, *, up: bool) -> None:
        for hub in self.hubs.values():
            hub.line.want(up=up)

    def own_keys(self) -> dict[str, list[EncryptionKey]]:
        return {name: list(hub.keyring.public_keys()) for name, hub in self.hubs.items()}

    def keys_of_pair(self, keys: dict[str, list[EncryptionKey]]) -> None:
        """Register the other agent's encryption keys with ours, so that what comes down opens at both."""
        for name, hub in self.hubs.items():
            if (found := tuple(keys.get(name, ()))) != hub.also_keys:
                hub.also_keys = found
                hub.register_keys()

    def waiting_entries(self) -> list[Frame]:
        return [
            Frame("entry", hub=hub, tail=tail, body=envelope, term=made_us)
            for hub, tail, envelope, made_us in self.outbox.all_waiting()
        ]

    def current_words(self) -> list[Frame]:
        return [
            Frame("down", hub=name, tail=tail, body=body)
            for name, hub in self.hubs.items()
            for tail, body in hub.words()
        ]

    def adopt(self, frame: Frame) -> None:
        """Keep what the other one holds, or tell it that the hub has it already."""
        if frame.hub not in self.hubs:
            return
        if self.outbox.adopt(frame.hub, frame.tail, frame.body, frame.term):
            self.hubs[frame.hub].line.wake()
        elif self.pair and (taken := self.outbox.taken_id(frame.hub, frame.body)):
            self.pair.tell(Frame("taken", hub=frame.hub, ids=[taken]))

    def was_taken(self, frame: Frame) -> None:
        self.outbox.taken_elsewhere(frame.hub, frame.ids)

    def heard_by_pair(self, frame: Frame) -> None:
        if frame.hub in self.hubs:
            self.hubs[frame.hub].take(frame.tail, frame.body)

    def _pass_on(self, hub: str, tail: str, body: bytes) -> asyncio.Future[None] | None:
        """Hand on what the hub said; messages and receipts are acknowledged to it when the other agent has them too."""
        if self.pair is None or self.pair.role != "active" or not self.pair.is_joined:
            return None
        frame = Frame("down", hub=hub, tail=tail, body=body)
        if tail not in {"message", "receipt"}:
            self.pair.tell(frame)
            return None
        task = asyncio.get_running_loop().create_task(self._replicate(frame))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _replicate(self, frame: Frame) -> None:
        assert self.pair
        await self.pair.replicate(frame)

    def _pass_taken(self, hub: str, ids: list[str]) -> None:
        if self.pair:
            self.pair.tell(Frame("taken", hub=hub, ids=ids))

    async def _apply_offers(self) -> None:
        while True:
            await self.offers.apply_accepted(self.settings.update.command)
            self._consent.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._consent.wait(), 60)

    async def _write_state(self) -> None:
        """Replaced whole, and not flushed: it tells of now."""
        file = self.place / STATE_FILE
        while True:
            new = file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(self.standing()))
            new.chmod(0o600)
            new.replace(file)
            await asyncio.sleep(_STATE_EVERY_S)

    async def _keep_house(self) -> None:
        while True:
            self.outbox.forget_old()
            await asyncio.sleep(_HOUSEKEEPING_S)

    async def _check_file(self) -> None:
        """Once a day, as at the start: what is not what was written is told, and the agent goes on with the rest."""
        while True:
            await asyncio.sleep(_CHECK_EVERY_S)
            try:
                found = await asyncio.to_thread(find_damage, self.store.path)
            except Unavailable as error:
                log.warning("not checked today: %s", error)
                continue
            for what in found[:5]:
                log.error("%s: %s", FILE, what)
                self.store.note_trouble("", "dealer.damaged", what)


def _first(group: BaseExceptionGroup[RocadeError]) -> RocadeError:
    """One of the errors of a group, to be told in one line."""
    one: object = group
    while isinstance(one, BaseExceptionGroup):
        one = one.exceptions[0]
    assert isinstance(one, RocadeError)
    return one


def hold_alone(place: Path) -> int:
    """Hold DIR for this process. Raises: Misconfigured `dealer.running`."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise Misconfigured("dealer.running", f"an agent runs on {place} already") from None
    return lock
