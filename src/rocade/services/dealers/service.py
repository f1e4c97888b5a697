"""The use cases of the dealers' room: keep sites, providers and what they may do, people's roles, national exceptions.

Every act is one transaction, in the audit log before it counts, and pushed to every process (`SiteTable`). The gate decides
who may call; the rules here hold whoever calls: a provider is given only acts of running an agent, nobody gives himself a
role, a role is for people of the site's own dealer. A refusal is audited and undoes the whole act.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import msgspec

from rocade.core.errors import Refused
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.services.dealers import errors, store
from rocade.services.dealers.model import (
    FOREVER_US,
    BrandAt,
    Dealer,
    Delegation,
    Group,
    NationalException,
    Provider,
    Role,
    Site,
    SitesPage,
    check_brands,
    check_country,
    check_delegation,
    check_exception,
    check_id,
    check_role,
    check_site,
    check_text,
)

PAGE_LIMIT = 1_000
LOCAL = "local"


class Dealers:
    """The network of dealers of one region's database."""

    def __init__(self, database: Database, audit: Audit, clock: Clock, random: Random) -> None:
        self.database = database
        self.clock = clock
        self._audit = audit
        self._random = random

    # --- reading -------------------------------------------------------------------------------------------------------

    async def site(self, id: str) -> Site:
        """Raises: Refused `dealers.site.unknown`."""
        async with store.transaction(self.database) as connection:
            return await self._site(connection, id)

    async def sites(
        self, cursor: str = "", limit: int = 100, *, group: str = "", dealer: str = "", country: str = "",
        primary: str = "", brand: str = "", find: str = "",
    ) -> SitesPage:  # fmt: skip
        """Sites in the order of their ids, a page at a time; `find`: letters of id, name or city.

        Raises: Refused `dealers.cursor`.
        """
        if cursor and not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", cursor):
            raise errors.bad_cursor()
        limit = max(1, min(limit, PAGE_LIMIT))
        async with store.transaction(self.database) as connection:
            found = await store.find_sites(
                connection, cursor, limit + 1, self.clock.now_us(), group=group, dealer=dealer, country=country,
                primary=primary, brand=brand, find=find.strip(),
            )  # fmt: skip
        return SitesPage(found[:limit], found[limit - 1].id if len(found) > limit else None)

    async def brands_of(self, site: str, at_us: int | None = None) -> tuple[BrandAt, ...]:
        """Brands a site sells or services at an instant. Raises: Refused `dealers.site.unknown`."""
        return (await self.site(site)).brands_at(self.clock.now_us() if at_us is None else at_us)

    async def primary_of(self, site: str) -> str:
        """The site itself, or the primary it belongs to. Raises: Refused `dealers.site.unknown`."""
        return (await self.site(site)).primary or site

    async def dealers(self) -> list[Dealer]:
        async with store.transaction(self.database) as connection:
            return await store.read_dealers(connection)

    async def groups(self) -> list[Group]:
        async with store.transaction(self.database) as connection:
            return await store.read_groups(connection)

    async def count(self) -> int:
        async with store.transaction(self.database) as connection:
            return await store.count_sites(connection)

    # --- sites ---------------------------------------------------------------------------------------------------------

    async def put(
        self, sites: Sequence[Site], dealers: Sequence[Dealer] = (), groups: Sequence[Group] = (), actor: str = LOCAL
    ) -> None:
        """Add or replace sites, with the companies and groups they belong to; all or nothing.

        Raises: Refused `dealers.invalid`, `dealers.dealer.unknown`.
        """
        for site in sites:
            check_site(site)
        _check_companies(dealers, groups)
        async with self._acting(actor, "dealers.put", "dealers", [f"site:{one.id}" for one in sites]) as connection:
            await store.put_groups(connection, groups)
            await store.put_dealers(connection, dealers)
            try:
                await store.put_sites(connection, sites)
            except asyncpg.ForeignKeyViolationError:
                raise errors.dealer_unknown() from None
            for site in sites:
                self._note("dealers.site", actor, f"site:{site.id}", **_facts(site))

    async def set_brand(self, site: str, brand: BrandAt, actor: str = LOCAL) -> Site:
        """Give a site a brand for a period, in place of what it had of that brand in that period.

        Raises: Refused `dealers.site.unknown`, `dealers.invalid`.
        """
        async with self._acting(actor, "dealers.brand", f"site:{site}", [f"site:{site}"]) as connection:
            before = await self._site(connection, site)
            brands = (*_cut(before.brands, brand), brand)
            check_brands(brands)
            after = msgspec.structs.replace(before, brands=tuple(sorted(brands)))
            await store.put_sites(connection, [after])
            self._note("dealers.site", actor, f"site:{site}", **_facts(after))
        return after

    async def end_brand(self, site: str, brand: str, at_us: int | None = None, actor: str = LOCAL) -> Site:
        """A site has a brand no more from an instant on. Raises: Refused `dealers.site.unknown`, `dealers.brand.foreign`."""
        async with self._acting(actor, "dealers.brand", f"site:{site}", [f"site:{site}"]) as connection:
            end_us = self.clock.now_us() if at_us is None else at_us
            before = await self._site(connection, site)
            if not any(one.brand == brand and one.until_us > end_us for one in before.brands):
                raise errors.foreign_brand(brand)
            brands = _cut(before.brands, BrandAt(brand, True, True, end_us))
            after = msgspec.structs.replace(before, brands=tuple(sorted(brands)))
            await store.put_sites(connection, [after])
            self._note("dealers.site", actor, f"site:{site}", **_facts(after))
        return after

    # --- service providers -----------------------------------------------------------------------------------------------

    async def add_provider(self, id: str, name: str, actor: str = LOCAL) -> Provider:
        """Register a party of kind partner as service provider: from now on its key signs no business content.

        Raises: Refused `dealers.invalid`.
        """
        check_id(id, "provider")
        check_text(name, "name", is_needed=True)
        made = Provider(id, name.strip(), self.clock.now_us())
        async with self._acting(actor, "dealers.provider", f"provider:{id}", ["providers"]) as connection:
            await store.put_provider(connection, made)
        return made

    async def providers(self) -> list[Provider]:
        async with store.transaction(self.database) as connection:
            return await store.read_providers(connection)

    async def delegate(
        self, provider: str, scope: str, acts: Iterable[str], until_us: int = FOREVER_US, actor: str = LOCAL
    ) -> Delegation:
        """Let a provider run the agents of a scope (site:<id>, dealer:<id>, group:<id>).

        Raises: Refused `dealers.provider.unknown`, `dealers.invalid`.
        """
        acts = tuple(sorted(set(acts)))
        check_delegation(scope, acts)
        now_us = self.clock.now_us()
        if until_us <= now_us:
            raise errors.invalid("until_us", "the end of a delegation lies in the future")
        made = Delegation(self._id("delegation"), provider, scope, acts, actor, now_us, until_us)
        async with self._acting(actor, "dealers.delegate", f"provider:{provider}", ["providers"]) as connection:
            if provider not in {one.id for one in await store.read_providers(connection)}:
                raise errors.provider_unknown()
            await store.add_delegation(connection, made)
            self._note("dealers.delegation", actor, f"provider:{provider}", delegation=made.id, scope=scope, acts=" ".join(acts))  # fmt: skip
        return made

    async def end_delegation(self, id: str, actor: str = LOCAL) -> None:
        """Raises: Refused `dealers.delegation.unknown`."""
        async with self._acting(actor, "dealers.delegate.end", f"delegation:{id}", ["providers"]) as connection:
            if not await store.end_delegation(connection, id, self.clock.now_us()):
                raise errors.delegation_unknown()

    async def delegations(self) -> list[Delegation]:
        """Those that have not ended."""
        async with store.transaction(self.database) as connection:
            return await store.read_delegations(connection, self.clock.now_us())

    async def may(self, provider: str, site: str, act: str) -> bool:
        """Whether a provider may do an act at a site now; `SiteTable.may` answers the same from memory."""
        found, now_us = await self.site(site), self.clock.now_us()
        scopes = {f"site:{site}", f"dealer:{found.dealer}", f"group:{found.group}"}
        return any(
            one.provider == provider and one.scope in scopes and act in one.acts and one.from_us <= now_us
            for one in await self.delegations()
        )

    # --- people ----------------------------------------------------------------------------------------------------------

    async def give_role(
        self, person: str, organisation: str, site: str, role: str, *, brand: str = "", until_us: int = FOREVER_US,
        actor: str = LOCAL,
    ) -> Role:  # fmt: skip
        """Make somebody something at a site, for a brand or ('') for all. `organisation`: his, as `people` knows it.

        Raises: Refused `dealers.role.self`, `dealers.person.foreign`, `dealers.site.unknown`, `dealers.invalid`.
        """
        check_role(person, brand, role)
        now_us = self.clock.now_us()
        if until_us <= now_us:
            raise errors.invalid("until_us", "the end of a role lies in the future")
        made = Role(self._id("role"), person, site, brand, role, actor, now_us, until_us)
        async with self._acting(actor, "dealers.role", person, [person]) as connection:
            if person == actor:
                raise errors.own_role()
            found = await self._site(connection, site)
            if organisation != f"dealer:{found.dealer}":
                raise errors.foreign_person()
            await store.add_role(connection, made)
            self._note("dealers.role", actor, person, role=role, site=site, brand=brand)
        return made

    async def end_role(self, id: str, site: str, actor: str = LOCAL) -> None:
        """Raises: Refused `dealers.role.unknown`."""
        async with store.transaction(self.database) as connection:
            now_us = self.clock.now_us()
            person = await store.end_role(connection, id, site, now_us)
            if person is None:
                raise errors.role_unknown()
            await self._record("dealers.role.end", actor, person, role=id, site=site)
            await store.note_changes(connection, [person], now_us)

    async def roles_at(self, site: str) -> list[Role]:
        """Who is what at a site now."""
        async with store.transaction(self.database) as connection:
            return await store.read_roles(connection, self.clock.now_us(), site=site)

    # --- national exceptions -----------------------------------------------------------------------------------------------

    async def set_exception(self, one: NationalException, actor: str = LOCAL) -> None:
        """Raises: Refused `dealers.invalid`."""
        check_exception(one)
        subject = f"exception:{one.country}.{one.service}"
        async with self._acting(actor, "dealers.exception", subject, ["exceptions"]) as connection:
            await store.put_exception(connection, one)

    async def drop_exception(self, country: str, service: str, brand: str = "", actor: str = LOCAL) -> bool:
        """Whether there was one."""
        subject = f"exception:{country}.{service}"
        async with self._acting(actor, "dealers.exception.end", subject, ["exceptions"]) as connection:
            return await store.drop_exception(connection, country, service, brand)

    async def exceptions(self) -> list[NationalException]:
        async with store.transaction(self.database) as connection:
            return await store.read_exceptions(connection)

    # --- what every act does -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _acting(
        self, actor: str, action: str, subject: str, whats: Sequence[str]
    ) -> AsyncIterator[asyncpg.Connection]:
        """One transaction, audited before it commits, its changes numbered last; a refusal is audited and undoes it."""
        try:
            async with store.transaction(self.database) as connection:
                yield connection
                await self._record(action, actor, subject)
                await store.note_changes(connection, whats, self.clock.now_us())
        except Refused as refusal:
            self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, "refused", refusal.code))
            raise

    async def _record(self, action: str, actor: str, subject: str, **facts: str | int | float) -> None:
        await self._audit.record(AuditEntry(self.clock.now_us(), actor, action, subject, facts=facts))

    def _note(self, action: str, actor: str, subject: str, **facts: str | int | float) -> None:
        """The particulars; they are durable before the act is, for entries are written in order."""
        self._audit.note(AuditEntry(self.clock.now_us(), actor, action, subject, facts=facts))

    async def _site(self, connection: asyncpg.Connection, id: str) -> Site:
        found = await store.read_sites(connection, [id])
        if not found:
            raise errors.site_unknown()
        return found[0]

    def _id(self, kind: str) -> str:
        return f"{kind}-{self._random.bits(64):016x}"


def _check_companies(dealers: Iterable[Dealer], groups: Iterable[Group]) -> None:
    for dealer in dealers:
        check_id(dealer.id, "dealer")
        check_text(dealer.name, "dealer_name", is_needed=True)
        check_country(dealer.country)
        if dealer.group:
            check_id(dealer.group, "group")
    for group in groups:
        check_id(group.id, "group")
        check_text(group.name, "group_name", is_needed=True)


def _cut(brands: Iterable[BrandAt], new: BrandAt) -> list[BrandAt]:
    """What is left of a site's brands outside the period of a new one of the same brand."""
    kept = []
    for one in brands:
        if one.brand != new.brand:
            kept.append(one)
            continue
        if one.from_us < new.from_us:
            kept.append(BrandAt(one.brand, one.sells, one.services, one.from_us, min(one.until_us, new.from_us)))
        if one.until_us > new.until_us:
            kept.append(BrandAt(one.brand, one.sells, one.services, max(one.from_us, new.until_us), one.until_us))
    return kept


def _facts(site: Site) -> dict[str, str | int | float]:
    """What the audit log has of a site: no address, no telephone number."""
    brands = " ".join(f"{one.brand}:{'s' * one.sells}{'a' * one.services}" for one in site.brands)
    return {"dealer": site.dealer, "country": site.country, "primary": site.primary, "brands": brands}
