"""Routing: where a message with an address goes. The table is data with versions; the most particular rule wins.

What a country keeps to itself (`dealers.NationalException`) comes first: it goes to its national system, and if it may not
cross, no rule can send it to another hub. Then the rules: more named fields beat fewer, then dealer, brand, country, service in this
order, then the earlier line. Nothing matches = refused, never guessed. `RouteTable` holds the newest version in every process.
`simulate` puts the messages of the last days through a draft and says which would go elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol, Self

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.following import Turns, follow
from rocade.services.dealers import NationalException, Site
from rocade.services.exchange import errors, store
from rocade.services.exchange.model import HUB, Change, Routes, Rule
from rocade.wire.exchange import UNREADABLE, Address

MOST_RULES = 5_000
DAY_US = 86_400_000_000
_FIELDS = ("dealer", "brand", "country", "service")


class Places(Protocol):
    """Who is what: `dealers.SiteTable`."""

    def site(self, id: str, /) -> Site | None: ...
    def check_brand(self, site: str, brand: str, at_us: int, /) -> Site: ...
    def check_site(self, id: str, at_us: int, /) -> Site: ...
    def exception(self, country: str, service: str, brand: str, /) -> NationalException | None: ...
    def is_provider(self, partner: str, /) -> bool: ...


class Compiled:
    """A table made ready to be asked. Cost: one dictionary look-up per combination of fields in use, at most 16."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._by_fields: dict[tuple[bool, ...], dict[tuple[str, ...], Rule]] = {}
        for rule in self.rules:
            named = tuple(getattr(rule, name) != "*" for name in _FIELDS)
            key = tuple(getattr(rule, name) for name in _FIELDS if getattr(rule, name) != "*")
            self._by_fields.setdefault(named, {}).setdefault(key, rule)
        self._order = sorted(self._by_fields, key=lambda named: (-sum(named), [not one for one in named]))
        self._confined = (
            Compiled([rule for rule in self.rules if rule.stays])
            if any(not rule.stays for rule in self.rules) and any(rule.stays for rule in self.rules)
            else None
        )
        self._all_stay = bool(self.rules) and all(rule.stays for rule in self.rules)
        self.partners = frozenset(rule.to.partition("/")[2] for rule in self.rules if rule.to.startswith("partner/"))

    def find(self, address: Address, dealer: str) -> Rule | None:
        """The rule that decides."""
        values = (dealer, address.brand, address.country, address.service)
        for named in self._order:
            key = tuple(value for value, is_named in zip(values, named, strict=True) if is_named)
            if (rule := self._by_fields[named].get(key)) is not None:
                return rule
        return None

    def is_confined(self, address: Address, dealer: str) -> bool:
        """Whether some rule says that this stays here."""
        if self._all_stay:
            return self.find(address, dealer) is not None
        return self._confined is not None and self._confined.find(address, dealer) is not None


class RouteTable:
    """The newest version in memory, followed like the deny set."""

    def __init__(self, database: Database, places: Places, clock: Clock) -> None:
        self._database = database
        self._places = places
        self._clock = clock
        self._turns = Turns()
        self._task: asyncio.Task[None] | None = None
        self.version = 0
        self.compiled = Compiled(())

    @classmethod
    async def open(cls, database: Database, places: Places, clock: Clock) -> Self:
        opened = cls(database, places, clock)
        async with database.pool.acquire() as connection:
            await opened._read(connection)
        opened._task = asyncio.create_task(follow(database, store.ROUTES_CHANNEL, opened._read), name="routes")
        return opened

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self) -> None:
        async with self._database.pool.acquire() as connection:
            await self._read(connection)

    async def _read(self, connection: asyncpg.Connection) -> None:
        async with self._turns.take(connection):
            routes = await store.read_routes(connection)
            if routes is not None and routes.version != self.version:
                self.compiled, self.version = Compiled(routes.rules), routes.version

    def check_partner(self, id: str) -> None:
        """A partner that may send: no provider, and a system that some rule sends to.

        Raises: Refused `dealers.provider.signs`, `exchange.sender.role`.
        """
        if self._places.is_provider(id):
            raise Refused("dealers.provider.signs", "a service provider's key signs no business content")
        if id not in self.compiled.partners:
            raise errors.sender_role()

    def resolve(self, party: str, address: Address) -> str:
        """Where a message of this party goes. Raises: Refused `exchange.route.*`, `dealers.*`."""
        return resolve(self.compiled, self._places, party, address, self._clock.now_us())


def resolve(table: Compiled, places: Places, party: str, address: Address, now_us: int) -> str:
    """The destination, as `model.Destination` but with the site named.

    Raises: Refused `exchange.route.none`, `.confined`, `.hop`, `.site`, `.primary`, `dealers.brand.foreign`, `dealers.site.*`.
    """
    kind, _, id = party.partition("/")
    dealer = id if kind == "dealer" else ""
    if dealer and address.brand:
        places.check_brand(dealer, address.brand, now_us)
    is_from_hub = kind == "service" and id.startswith(HUB)
    home = site.country if dealer and (site := places.site(dealer)) is not None else ""
    if home and not address.country:
        address = msgspec.structs.replace(address, country=home)
    exception = _exception(places, address, home)
    is_confined = table.is_confined(address, dealer) or (exception is not None and not exception.may_cross)
    if is_from_hub and is_confined:
        raise errors.confined()
    if exception is not None:
        return exception.to.replace(":", "/", 1)
    rule = table.find(address, dealer)
    if rule is None:
        raise errors.no_route()
    if rule.to.startswith("hub/"):
        if is_confined:
            raise errors.confined()
        if is_from_hub:
            raise errors.no_hop()
    if rule.primary_only and dealer and (site := places.site(dealer)) is not None and not site.is_primary:
        raise errors.secondary()
    if rule.to != "site":
        return rule.to
    try:
        return f"dealer/{places.check_site(address.site, now_us).id}"
    except Refused:
        raise errors.no_site() from None


def _exception(places: Places, address: Address, home: str) -> NationalException | None:
    """What the sender's own country keeps to itself comes before what the address says: nobody writes himself out of it."""
    own = places.exception(home, address.service, address.brand) if home else None
    if own is not None and not own.may_cross:
        return own
    return places.exception(address.country, address.service, address.brand)


def check_rules(rules: Sequence[Rule]) -> None:
    """What a table must be to stand. Raises: Refused `exchange.route.invalid`."""
    if len(rules) > MOST_RULES:
        raise errors.bad_rules(f"it may have {MOST_RULES} rules")
    seen: dict[tuple[str, ...], int] = {}
    for number, rule in enumerate(rules, 1):
        key = tuple(getattr(rule, name) for name in _FIELDS)
        if key in seen:
            raise errors.bad_rules(f"rules {seen[key]} and {number} match the same messages")
        seen[key] = number
        if rule.stays and rule.to.startswith("hub/"):
            raise errors.bad_rules(f"rule {number} says its messages stay and sends them to another hub")
        if rule.to.startswith("hub/") and not rule.to.startswith(f"hub/{HUB}"):
            raise errors.bad_rules(f"rule {number}: another hub is named hub/{HUB}<region>")


class Router:
    """The acts on the table."""

    def __init__(self, database: Database, places: Places, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._places = places
        self._audit = audit
        self._clock = clock

    async def current(self) -> Routes:
        """The newest version; version 0 without rules where none was made."""
        async with self._database.pool.acquire() as connection:
            return await store.read_routes(connection) or Routes(0, 0, "", "", ())

    async def versions(self, limit: int = 50) -> list[Routes]:
        async with self._database.pool.acquire() as connection:
            return await store.list_routes(connection, limit)

    async def simulate(self, rules: Sequence[Rule], days: float = 30.0) -> list[Change]:
        """What of the last days' messages would go elsewhere under these rules; refusals are named by their code.

        Raises: Refused `exchange.route.invalid`.
        """
        check_rules(rules)
        now_us = self._clock.now_us()
        async with self._database.pool.acquire() as connection:
            present = await store.read_routes(connection)
            traffic = await store.read_traffic(connection, int(now_us - days * DAY_US))
        before, after = Compiled(present.rules if present else ()), Compiled(rules)
        changes = []
        for brand, country, service, site, party, count in traffic:
            address = Address(brand, country, service, site)
            was, would_be = (self._named(table, party, address, now_us) for table in (before, after))
            if was != would_be:
                changes.append(Change(brand, country, service, site, party, count, was, would_be))
        return sorted(changes, key=lambda change: -change.count)

    def _named(self, table: Compiled, party: str, address: Address, now_us: int) -> str:
        try:
            return resolve(table, self._places, party, address, now_us)
        except Refused as refusal:
            return refusal.code

    async def publish(self, rules: Sequence[Rule], based_on: int, note: str, actor: str) -> Routes:
        """Put a new version into force; recorded in the audit log first. `based_on`: the version it was made from.

        Raises: Refused `exchange.route.invalid`, `exchange.route.stale`.
        """
        check_rules(rules)
        async with self._database.pool.acquire() as connection, connection.transaction():
            newest = await store.lock_routes(connection)
            if newest != based_on:
                raise errors.stale_rules(newest)
            routes = Routes(newest + 1, self._clock.now_us(), actor, note[:200], tuple(rules))
            await self._audit.record(AuditEntry(
                routes.made_us, actor, "exchange.routes", f"exchange-routes:{routes.version}", facts={"rules": len(rules)}
            ))  # fmt: skip
            await store.add_routes(connection, routes)
        return routes


def read_rules(content: bytes) -> tuple[Rule, ...]:
    """Rules from JSON: a list of objects. Raises: Refused `exchange.route.invalid`."""
    try:
        return msgspec.json.decode(content, type=tuple[Rule, ...])
    except UNREADABLE as error:
        raise errors.bad_rules(str(error)[:200]) from None
