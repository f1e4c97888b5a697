"""A grid operator's signal: who may send it to which depot, taken in once however often it comes, ended by itself, with proof.

Flow: a plain call or an OpenADR event -> the sender is bound to the depot, or an operator -> the same signal again changes nothing,
another content under its id changes the signal, an interval that an event no longer names ends -> `Charging.dim` writes the limit
and tells the planner, which keeps it with the minimum charge first -> `following` writes down what was done. Everything stands in
the database, so a restart loses nothing, and a limit ends at its own instant whether or not anybody says so.
Refuses: a depot that is not there or not the sender's (`charging.site.unknown`, the same words for both), limits and periods that are
none (`charging.dimming.*`), a party that is no partner (`charging.grid.party`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocade.core.errors import Refused
from rocade.services.charging import errors
from rocade.services.charging import store as charging_store
from rocade.services.charging.grid import store
from rocade.services.charging.grid.model import (
    CALLED_OFF,
    CHANGED,
    HTTP,
    KEPT,
    PARTY,
    RECEIVED,
    Proof,
    Received,
    Signal,
    state_of,
)
from rocade.services.charging.model import ChargeSite, Dimming
from rocade.services.charging.rules import check_dimming
from rocade.services.charging.service import Charging
from rocade.wire.openadr import Event, Limit

PAGE = 200


class Grid:
    """Signals to the depots of one region."""

    def __init__(self, charging: Charging) -> None:
        self.charging = charging
        self._database, self._clock = charging.database, charging.clock

    # Who may ------------------------------------------------------------------------------------------------------------

    async def bind(self, site: str, party: str, actor: str) -> None:
        """From now on this partner may dim this depot. Raises: Refused `charging.grid.party`, `charging.site.unknown`."""
        if not PARTY.fullmatch(party):
            raise Refused("charging.grid.party", "name a partner of this region, like partner:netz-nord")
        await self.charging.site(site)
        async with self.charging.acting(actor, "charging.grid.bind", f"depot:{site}") as connection:
            await self.charging.record("charging.grid.bind", actor, f"depot:{site}", party=party)
            await store.bind(connection, site, party, self._clock.now_us())

    async def unbind(self, site: str, party: str, actor: str) -> None:
        """Raises: Refused `charging.grid.unknown`."""
        async with self.charging.acting(actor, "charging.grid.unbind", f"depot:{site[:64]}") as connection:
            await self.charging.record("charging.grid.unbind", actor, f"depot:{site[:64]}")
            if not await store.unbind(connection, site, party):
                raise Refused("charging.grid.unknown", "this partner may not dim this depot")

    async def parties(self, site: str) -> list[str]:
        async with charging_store.transaction(self._database) as connection:
            return await store.parties(connection, site)

    async def admit(self, site: str, party: str, *, is_operator: bool) -> ChargeSite:
        """The depot, for an operator or a partner bound to it. Raises: Refused `charging.site.unknown`."""
        if not is_operator and party not in await self.parties(site):
            raise errors.site("unknown")
        return await self.charging.site(site)

    # Taking in ----------------------------------------------------------------------------------------------------------

    async def receive(
        self, site: str, limits: Sequence[Limit], party: str, actor: str, *, event: str = "", via: str = HTTP
    ) -> list[Signal]:
        """Take signals in, all or none; of an `event`, what it names no longer ends. Raises: Refused `charging.dimming.*`."""
        now_us = self._clock.now_us()
        due = [one for one in limits if one.until_us > now_us] or list(limits)
        async with self.charging.acting(actor, "charging.dim", f"depot:{site[:64]}") as connection:
            for one in due:
                check_dimming(_dimming(site, one, now_us), now_us)
            await store.lock(connection, site)
            named = {one.signal for one in limits}
            before = await store.of_event(connection, site, event) if event else []
            is_new = False
            for one in due:
                received = Received(one.signal, event or one.signal, party, via, now_us, now_us, 1)
                is_new |= await self._take(connection, site, one, received, actor)
            for gone in before:
                if gone.signal not in named:
                    is_new |= await self._end(connection, site, gone.signal, actor)
            if is_new:
                await charging_store.note_changes(connection, [f"site:{site}"], now_us)
        return [await self.signal(site, one.signal) for one in due]

    async def _take(self, connection: Any, site: str, limit: Limit, received: Received, actor: str) -> bool:
        """Write one signal; whether it says something new."""
        kept = await store.dimming(connection, site, limit.signal)
        await store.put_received(connection, site, received)
        if kept is not None and is_same(kept, limit):
            return False
        now_us = received.last_us
        await self.charging.record("charging.dim", actor, f"depot:{site}", limit_kw=limit.limit_kw)
        await charging_store.put_dimming(connection, _dimming(site, limit, now_us))
        what = RECEIVED if kept is None else CHANGED
        await store.add_proof(
            connection,
            self.charging.columns,
            site,
            limit.signal,
            [(Proof(now_us, what, 0, limit.limit_kw, received.via), None)],
        )
        return True

    async def receive_event(self, site: str, event: Event, party: str, actor: str, via: str) -> list[Signal]:
        """An event with its intervals; one that was taken back ends whatever it had asked. Raises: as `receive`."""
        if not event.is_over:
            return await self.receive(site, event.limits, party, actor, event=event.id, via=via)
        async with self.charging.acting(actor, "charging.dim.end", f"depot:{site[:64]}") as connection:
            await store.lock(connection, site)
            known = await store.of_event(connection, site, event.id)
            if not known:
                raise errors.dimming("unknown")
            for one in known:
                await self._end(connection, site, one.signal, actor)
            await charging_store.note_changes(connection, [f"site:{site}"], self._clock.now_us())
        return [await self.signal(site, one.signal) for one in known]

    async def call_off(self, site: str, signal: str, actor: str) -> Signal:
        """Raises: Refused `charging.dimming.unknown`."""
        async with self.charging.acting(actor, "charging.dim.end", f"depot:{site[:64]}") as connection:
            await store.lock(connection, site)
            if not await self._end(connection, site, signal, actor):
                raise errors.dimming("unknown")
            await charging_store.note_changes(connection, [f"site:{site}"], self._clock.now_us())
        return await self.signal(site, signal)

    async def _end(self, connection: Any, site: str, signal: str, actor: str) -> bool:
        """Call off what is not over yet; whether there was such."""
        now_us = self._clock.now_us()
        if not await charging_store.end_dimming(connection, site, signal, now_us):
            return False
        await self.charging.record("charging.dim.end", actor, f"depot:{site}")
        await store.add_proof(connection, self.charging.columns, site, signal, [(Proof(now_us, CALLED_OFF), None)])
        return True

    # How it stands ------------------------------------------------------------------------------------------------------

    async def signal(self, site: str, signal: str) -> Signal:
        """One signal with its proof. Raises: Refused `charging.dimming.unknown`."""
        about = await self.charging.site(site)
        async with charging_store.transaction(self._database) as connection:
            dimming = await store.dimming(connection, site, signal)
            if dimming is None:
                raise errors.dimming("unknown")
            received = (await store.received(connection, site, [signal])).get(signal)
            proof = await store.proof(connection, self.charging.columns, site, signal)
        return self._standing(about, dimming, received, proof)

    async def signals(self, site: str) -> list[Signal]:
        """The newest first, without their proofs."""
        about = await self.charging.site(site)
        async with charging_store.transaction(self._database) as connection:
            dimmings = await store.dimmings(connection, site, PAGE)
            known = await store.received(connection, site, [one.signal for one in dimmings])
            proofs = [await store.proof(connection, self.charging.columns, site, one.signal) for one in dimmings]
        found = zip(dimmings, proofs, strict=True)
        return [self._standing(about, one, known.get(one.signal), proof, is_short=True) for one, proof in found]

    def _standing(
        self, site: ChargeSite, dimming: Dimming, received: Received | None, proof: Sequence[Proof], *, is_short: bool = False
    ) -> Signal:  # fmt: skip
        now_us = self._clock.now_us()
        told = dimming.told_us
        received = received or Received(dimming.signal, dimming.signal, "", "desk", told, told, 1)
        counted_us = max(told, dimming.from_us)
        kept_us = next((one.at_us for one in proof if one.what == KEPT and one.at_us >= counted_us), 0)
        late_us = counted_us + site.period_s * 1_000_000
        within = kept_us <= late_us if kept_us else False if now_us > late_us and now_us >= dimming.from_us else None
        if dimming.ended_us and dimming.ended_us <= late_us and not kept_us:
            within = None
        return Signal(dimming, received, state_of(dimming, now_us), kept_us, within, () if is_short else tuple(proof))


def _dimming(site: str, limit: Limit, told_us: int) -> Dimming:
    return Dimming(site, limit.signal, limit.limit_kw, limit.from_us, limit.until_us, told_us)


def is_same(kept: Dimming, limit: Limit) -> bool:
    """Whether a signal says what it said before: a repetition, which never brings back what is over or was called off."""
    if limit.is_now:
        return kept.limit_kw == limit.limit_kw and kept.until_us - kept.from_us == limit.until_us - limit.from_us
    return (kept.limit_kw, kept.from_us, kept.until_us) == (limit.limit_kw, limit.from_us, limit.until_us)
