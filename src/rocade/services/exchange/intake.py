"""The intake of the dealers' line: who may come in, how much he may say, and who takes what he says.

Flow: `admit` knows the party from memory and reads its keys (one query for all who connect at that moment) -> `accept` takes each
publish from the party's bucket before anything is read or opened -> each tail's publishes of the tick go to its handler
(`on(tail, handler)`) -> verdicts. Whoever floods is answered by quota: his first refusal is kept as evidence and audited, the rest
counted. Refuses: an unknown or closed site (`dealers.site.*`), a partner that is neither provider nor system, over quota
(`exchange.quota`), a tail nobody serves (`exchange.tail`), and what the handlers refuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.mqtt import Client, Publish
from rocade.services.exchange import errors
from rocade.services.exchange.evidence import Evidence
from rocade.services.exchange.keyring import KeyBook, PartyKeys
from rocade.services.exchange.model import Handler, Upward, Verdict, party_of

MOST_LEFT = 50_000
_SHARE = {"dealer": 1.0, "partner": 20.0, "service": 100.0}
"""Quotas of kinds of parties, as multiples of a point of sale's: a national system speaks for many."""


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What one point of sale may send: sustained rates, and bursts of `burst_s` seconds of them."""

    messages_per_s: float = 50.0
    bytes_per_s: float = 1 << 20
    burst_s: float = 60.0


class Context(msgspec.Struct, gc=False):
    """One connected party."""

    identity: Identity
    party: str
    peer: str
    connected_us: int
    keys: PartyKeys
    generation: int
    messages: float
    """Tokens left in the bucket, as of `filled_us`."""
    bytes: float
    filled_us: int
    asked_us: int = 0
    """When keys were read last because one was unknown."""
    is_over: bool = False
    following: int = -1
    """The last entry of its log it was sent; -1 until it asks."""


class Counters(msgspec.Struct):
    """What the intake has done since it started."""

    messages: int = 0
    bytes: int = 0
    refused: dict[str, int] = {}


class Doorkeeper(Protocol):
    """`dealers.SiteTable`."""

    def check_site(self, id: str, at_us: int, /) -> object: ...


class ExchangeIntake:
    """Implements doors.mqtt's Intake."""

    def __init__(
        self,
        *,
        places: Doorkeeper,
        keys: KeyBook,
        evidence: Evidence,
        audit: Audit,
        clock: Clock,
        quota: Quota | None = None,
    ) -> None:
        self._places = places
        self._keys = keys
        self._evidence = evidence
        self._audit = audit
        self._clock = clock
        self._quota = quota or Quota()
        self._handlers: dict[str, Handler] = {}
        self.connected: dict[str, Context] = {}
        """Contexts by party."""
        self._left: dict[str, tuple[float, float, int]] = {}
        """Buckets of those who left."""
        self.counters = Counters()
        self.on_change: list[Callable[[Context, bool], None]] = []
        """Called when a party has connected (True) or left (False)."""

    def on(self, tail: str, handler: Handler) -> None:
        """Let `handler` take what is said under this tail; one handler a tail."""
        if tail in self._handlers:
            raise ValueError(f"{tail} has its handler")
        self._handlers[tail] = handler

    async def admit(self, client: Client) -> Context:
        """Say who this is. Raises: Refused `dealers.site.unknown`, `dealers.site.closed`; Unavailable `database.down`."""
        identity, now_us = client.identity, self._clock.now_us()
        if identity.kind == "dealer":
            self._places.check_site(identity.id, now_us)
        generation = self._keys.generation
        keys = await self._keys.keys(identity.uri)
        share, quota = _SHARE.get(identity.kind, 1.0), self._quota
        context = Context(
            identity, party_of(identity), client.peer, now_us, keys, generation,
            share * quota.messages_per_s * quota.burst_s, share * quota.bytes_per_s * quota.burst_s, now_us,
        )  # fmt: skip
        before = self.connected.get(context.party)
        left = self._left.pop(context.party, None)
        if before is not None:  # coming again is no way to more quota, neither by a takeover nor after leaving
            left = before.messages, before.bytes, before.filled_us
        if left is not None:
            context.messages, context.bytes, context.filled_us = left
        self.connected[context.party] = context
        self._tell(context, is_here=True)
        return context

    async def leave(self, context: object) -> None:
        """Forget a connection."""
        if isinstance(context, Context) and self.connected.get(context.party) is context:
            del self.connected[context.party]
            if len(self._left) >= MOST_LEFT:
                self._left.pop(next(iter(self._left)))
            self._left[context.party] = context.messages, context.bytes, context.filled_us
            self._tell(context, is_here=False)

    def _tell(self, context: Context, *, is_here: bool) -> None:
        for watcher in self.on_change:
            watcher(context, is_here)

    async def accept(self, publishes: Sequence[Publish]) -> list[Verdict]:
        """One verdict each, when all that was accepted is durable.

        Raises: Unavailable: the same tick may be handed in again.
        """
        verdicts: list[Verdict] = [None] * len(publishes)
        by_tail: dict[str, list[int]] = {}
        for place, publish in enumerate(publishes):
            context: Context = publish.context
            if not self._within_quota(context, publish):
                verdicts[place] = errors.flood()
            elif publish.tail not in self._handlers:
                verdicts[place] = errors.not_ready()
            else:
                by_tail.setdefault(publish.tail, []).append(place)
        try:
            for tail, places in by_tail.items():
                batch = [self._upward(publishes[place]) for place in places]
                for place, verdict in zip(places, await self._handlers[tail](batch), strict=True):
                    verdicts[place] = verdict
        except BaseException:
            self._give_back(publishes, verdicts)  # the door will hand this tick in again
            raise
        self._note(publishes, verdicts)
        return verdicts

    def _upward(self, publish: Publish) -> Upward:
        context: Context = publish.context
        return Upward(context.identity.id, context.identity, publish.tail, publish.body, publish.arrived_us, context)

    async def keys_of(self, context: Context, *, anew: bool = False) -> PartyKeys:
        """The party's keys: as read when it came, or again after a revocation, or (`anew`, at most once in two seconds)
        because it used one that is not among them.
        """
        now_us = self._clock.now_us()
        if context.generation != self._keys.generation or (anew and now_us - context.asked_us > 2_000_000):
            context.generation, context.asked_us = self._keys.generation, now_us
            context.keys = await self._keys.keys(context.identity.uri)
        return context.keys

    def _within_quota(self, context: Context, publish: Publish) -> bool:
        """Take this publish from the party's bucket."""
        quota, share = self._quota, _SHARE.get(context.identity.kind, 1.0)
        passed_s = (publish.arrived_us - context.filled_us) / 1e6
        if passed_s > 0:
            context.filled_us = publish.arrived_us
            rate, most = share * quota.messages_per_s, share * quota.messages_per_s * quota.burst_s
            context.messages = min(context.messages + passed_s * rate, most)
            rate, most = share * quota.bytes_per_s, share * quota.bytes_per_s * quota.burst_s
            context.bytes = min(context.bytes + passed_s * rate, most)
        if context.messages < 1 or context.bytes < len(publish.body):
            return False
        context.messages -= 1
        context.bytes -= len(publish.body)
        return True

    def _give_back(self, publishes: Sequence[Publish], verdicts: Sequence[Verdict]) -> None:
        for publish, verdict in zip(publishes, verdicts, strict=True):
            if verdict is None or verdict.code != "exchange.quota":
                publish.context.messages += 1
                publish.context.bytes += len(publish.body)

    def _note(self, publishes: Sequence[Publish], verdicts: Sequence[Verdict]) -> None:
        """Count; keep what was refused with its reason, a flood as its first message and a number."""
        counters = self.counters
        counters.messages += len(publishes)
        for publish, verdict in zip(publishes, verdicts, strict=True):
            counters.bytes += len(publish.body)
            context: Context = publish.context
            was_over, context.is_over = context.is_over, verdict is not None and verdict.code == "exchange.quota"
            if verdict is None:
                continue
            counters.refused[verdict.code] = counters.refused.get(verdict.code, 0) + 1
            self._evidence.keep(context.party, publish.tail, publish.body, verdict, publish.arrived_us)
            if not (was_over and context.is_over):
                self._audit.note(AuditEntry(
                    publish.arrived_us, context.identity.uri, "exchange.accept", f"exchange:{publish.tail}", "refused",
                    verdict.code,
                ))  # fmt: skip
