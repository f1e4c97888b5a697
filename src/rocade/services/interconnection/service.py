"""Use cases of interconnection: change services, rules and lines; follow the policy in force; foretell; look things up.

Every process that decides follows the policy in memory (`follow`): a change is numbered and pushed, and counts for the next
opening everywhere; connections that are already open under a rule that was dropped are closed by the relay within a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import asyncpg

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import Turns, follow
from rocade.services.interconnection import store
from rocade.services.interconnection.model import (
    Decision,
    Device,
    Line,
    NamedService,
    Opening,
    Policy,
    Rule,
    SiteFacts,
    compile_policy,
    decide,
)

PAGE = 500


class Sites(Protocol):
    """What is known of sites (services.dealers)."""

    def facts(self, site: str, at_us: int) -> SiteFacts | None: ...
    def all(self) -> Iterable[str]: ...


class Interconnection:
    """Services, rules, openings and lines of one region."""

    def __init__(self, database: Database, audit: Audit, clock: Clock, sites: Sites) -> None:
        self._database, self._audit, self._clock = database, audit, clock
        self.sites = sites
        self.policy = Policy(-1, {}, {})
        self._watchers: list[Callable[[], object]] = []
        self._turns = Turns()

    async def load(self) -> None:
        """Read the policy once; whoever decides for long calls `follow`."""
        async with self._database.pool.acquire() as connection:
            await self._read(connection)

    async def follow(self) -> None:
        """Keep the policy up to date, for ever."""
        await follow(self._database, store.CHANNEL, self._read)

    def watch(self, changed: Callable[[], object]) -> None:
        self._watchers.append(changed)

    async def _read(self, connection: asyncpg.Connection) -> None:
        async with self._turns.take(connection), connection.transaction(isolation="repeatable_read", readonly=True):
            number = await store.policy_number(connection)
            if number == self.policy.number:
                return
            self.policy = compile_policy(number, await store.services(connection), await store.rules(connection))
        for changed in self._watchers:
            changed()

    # --- deciding -------------------------------------------------------------------------------------------------

    def decide(self, site: str, service: str, device: str = "", policy: Policy | None = None) -> Decision:
        now_us = self._clock.now_us()
        return decide(policy or self.policy, self.sites.facts(site, now_us), service, device, now_us)

    def reach(self, service: str = "", site: str = "", device: str = "") -> list[tuple[str, str, Decision]]:
        """(site, service, decision) of every pair that is open, or of a pair that is named, open or not."""
        sites = [site] if site else sorted(self.sites.all())
        names = [service] if service else sorted(self.policy.services)
        asked = [(one, name, self.decide(one, name, device)) for one in sites for name in names]
        return asked if site and service else [row for row in asked if row[2].is_open]

    async def foretell(self, rule: Rule) -> tuple[list[str], list[str]]:
        """Sites that a new rule would let in, and those already in, without changing anything."""
        rule.check()
        await self.load()
        policy = self.policy
        if rule.service not in policy.services:
            raise _unknown_service()
        everything = [one for those in policy.rules.values() for one in those] + [rule]
        then = compile_policy(policy.number, list(policy.services.values()), everything)
        opened, before = [], []
        for site in sorted(self.sites.all()):
            if self.decide(site, rule.service, rule.device).is_open:
                before.append(site)
            elif self.decide(site, rule.service, rule.device, then).is_open:
                opened.append(site)
        return opened, before

    # --- changing -------------------------------------------------------------------------------------------------

    async def put_service(self, service: NamedService, actor: str) -> None:
        """Raises: Refused `interconnection.service.*`."""
        service.check()
        await self._change(actor, "interconnection.service.put", service.name, lambda c: store.put_service(c, service))

    async def drop_service(self, name: str, actor: str) -> None:
        """Its rules go with it. Raises: Refused `interconnection.service.unknown`."""
        if not await self._change(actor, "interconnection.service.drop", name, lambda c: store.drop_service(c, name)):
            raise _unknown_service()

    async def add_rule(self, rule: Rule, actor: str) -> int:
        """The rule's number. Raises: Refused `interconnection.rule.*`, `interconnection.service.unknown`."""
        rule.check()
        number = await self._change(actor, "interconnection.rule.add", rule.service, lambda c: store.add_rule(c, rule))
        if number is None:
            raise _unknown_service()
        return int(number)

    async def drop_rule(self, number: int, actor: str) -> None:
        """Raises: Refused `interconnection.rule.unknown`."""
        if not await self._change(
            actor, "interconnection.rule.drop", str(number), lambda c: store.drop_rule(c, number)
        ):
            raise Refused("interconnection.rule.unknown", "there is no rule of this number")

    async def put_line(self, line: Line, actor: str) -> None:
        line.check()
        await self._change(actor, "interconnection.line.put", line.site, lambda c: store.put_line(c, line))

    async def drop_line(self, site: str, name: str, actor: str) -> None:
        """Raises: Refused `interconnection.line.unknown`."""
        if not await self._change(actor, "interconnection.line.drop", site, lambda c: store.drop_line(c, site, name)):
            raise Refused("interconnection.line.unknown", "this site has no line of this name")

    async def _change(self, actor: str, what: str, subject: str, work: Callable[[asyncpg.Connection], Any]) -> Any:
        """Audited first, then done and pushed as one transaction; what changes nothing is not numbered."""
        entry = AuditEntry(self._clock.now_us(), actor, what, f"interconnection:{subject}")
        async with self._database.pool.acquire() as connection, connection.transaction():
            answer = await work(connection)
            if answer is not False and (answer is not None or what != "interconnection.rule.add"):
                await self._audit.record(entry)
                await store.next_number(connection)
        return answer

    # --- looking things up ----------------------------------------------------------------------------------------

    async def openings(self, site: str = "", service: str = "", refused: bool | None = None,
                       before: int = 1 << 62, limit: int = PAGE) -> list[Opening]:  # fmt: skip
        async with self._database.pool.acquire() as connection:
            return await store.openings(connection, site, service, refused, before, min(limit, PAGE))

    async def devices(self, site: str = "") -> list[Device]:
        async with self._database.pool.acquire() as connection:
            return await store.devices(connection, site)

    async def lines(self) -> list[Line]:
        async with self._database.pool.acquire() as connection:
            return await store.lines(connection)

    async def traffic(self, from_us: int, until_us: int) -> list[tuple[str, str, int, int, int]]:
        async with self._database.pool.acquire() as connection:
            return await store.traffic(connection, from_us, until_us)


def _unknown_service() -> Refused:
    return Refused("interconnection.service.unknown", "there is no service of this name; `services` lists them")
