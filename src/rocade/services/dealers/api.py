"""HTTP API of the dealers' room: the network, its import, one point of sale, its people, providers and agent.

A route with `{site}` in its path names an act at that site; whose route has none is about the region. Everybody finds in
`GET /v1/dealers/sites` what he has to do with: operators all, people of a dealer their sites, a machine itself, a provider
those it runs. The one-time code of a site is shown to its manager and to the security duty, never to a provider.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import Body, FromPath, FromQuery, SkipValidation

from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.dealers import errors
from rocade.services.dealers.importing import FILE_LIMIT_BYTES, Report, import_file
from rocade.services.dealers.model import (
    FOREVER_US,
    BrandAt,
    Delegation,
    NationalException,
    Order,
    Provider,
    Role,
    Site,
    check_role,
)
from rocade.services.dealers.orders import Orders
from rocade.services.dealers.service import Dealers
from rocade.services.dealers.table import SiteTable
from rocade.trust.authority import Authority
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import People

DealersDependency = NamedDependency[SkipValidation[Dealers]]
TableDependency = NamedDependency[SkipValidation[SiteTable]]
OrdersDependency = NamedDependency[SkipValidation[Orders]]
PAGE_LIMIT = 1_000
CODES_LIMIT = 10_000
CODE_LIFE_US = 30 * 86_400_000_000
"""Codes for many lie in letters for a while; one for a single site lives as any other."""


class BrandView(msgspec.Struct, frozen=True):
    """`until_us` null = no end."""

    brand: str
    sells: bool
    services: bool
    from_us: int
    until_us: int | None


class SiteView(msgspec.Struct, frozen=True):
    """A point of sale. `primary` '' = it is primary itself; `closed_us` null = it stays; `move`: old, shadow, cut-over or rolled-back."""

    id: str
    dealer: str
    group: str
    name: str
    country: str
    primary: str
    address: str
    city: str
    latitude: float | None
    longitude: float | None
    timezone: str
    opening_hours: str
    phone: str
    opened_us: int
    closed_us: int | None
    brands: list[BrandView]
    move: str


class SitesView(msgspec.Struct, frozen=True):
    items: list[SiteView]
    next: str | None


class CodeView(msgspec.Struct, frozen=True):
    """`claim_code` is seen only here."""

    site: str
    identity: str
    claim_code: str


class Wanted(msgspec.Struct, frozen=True):
    """Which sites get a code: those named, else all of a group, a country or a brand that are open."""

    sites: list[str] = []
    group: str = ""
    country: str = ""
    brand: str = ""


def site_view(site: Site, table: SiteTable) -> SiteView:
    brands = [BrandView(one.brand, one.sells, one.services, one.from_us, _end(one.until_us)) for one in site.brands]
    values = {name: getattr(site, name) for name in Site.__struct_fields__}
    return SiteView(
        **{**values, "closed_us": _end(site.closed_us), "brands": brands, "move": table.move_state(site.id)}
    )


def _end(until_us: int) -> int | None:
    return until_us if until_us < FOREVER_US else None


# --- the network -----------------------------------------------------------------------------------------------------


@get("/v1/dealers/sites", opt=does(acts.LIST_SITES))
async def list_sites(
    request: AnyRequest,
    dealers: DealersDependency,
    site_table: TableDependency,
    group: FromQuery[str] = "",
    dealer: FromQuery[str] = "",
    country: FromQuery[str] = "",
    brand: FromQuery[str] = "",
    find: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: FromQuery[int] = 100,
) -> SitesView:
    """Points of sale the caller has to do with, a page at a time; `find` = letters of id, name or city."""
    caller = caller_of(request)
    if caller.duties:
        page = await dealers.sites(cursor, limit, group=group, dealer=dealer, country=country, brand=brand, find=find)
        return SitesView([site_view(one, site_table) for one in page.sites], page.cursor)
    at_us = dealers.clock.now_us()
    own = [
        one
        for one in site_table.sites_for(caller, at_us)
        if one.id > cursor and all(not asked or getattr(one, name) == asked for name, asked in
                                   (("group", group), ("dealer", dealer), ("country", country)))
        and (not brand or any(has.brand == brand for has in one.brands_at(at_us)))
        and find.lower() in f"{one.id} {one.name} {one.city}".lower()
    ]  # fmt: skip
    limit = max(1, min(limit, PAGE_LIMIT))
    following = own[limit - 1].id if len(own) > limit else None
    return SitesView([site_view(one, site_table) for one in own[:limit]], following)


@post("/v1/dealers/import", opt=does(acts.CHANGE_DEALERS), request_max_body_size=FILE_LIMIT_BYTES + 1, status_code=200)
async def import_sites(request: AnyRequest, dealers: DealersDependency, dry_run: FromQuery[bool] = False) -> Report:
    """Take the network over from a CSV file (the body), or with `dry_run` only say what would change.

    One wrong line stops the whole import; a dry run answers with every wrong line.
    """
    content = bytearray()
    async for part in request.stream():
        content += part
    return await import_file(dealers, bytes(content), dry_run=dry_run, actor=caller_of(request).id)


@get("/v1/dealers/providers", opt=does(acts.READ_DEALERS))
async def list_providers(dealers: DealersDependency) -> list[Provider]:
    """Service providers."""
    return await dealers.providers()


@post("/v1/dealers/providers", opt=does(acts.CHANGE_DEALERS))
async def add_provider(
    request: AnyRequest, dealers: DealersDependency, id: FromQuery[str], name: FromQuery[str]
) -> Provider:
    """Register a party of kind partner as service provider; from now on its key signs no business content."""
    return await dealers.add_provider(id, name, caller_of(request).id)


@get("/v1/dealers/delegations", opt=does(acts.READ_DEALERS))
async def list_delegations(dealers: DealersDependency) -> list[Delegation]:
    """What providers may do where."""
    return await dealers.delegations()


@post("/v1/dealers/delegations", opt=does(acts.CHANGE_DEALERS))
async def add_delegation(
    request: AnyRequest,
    dealers: DealersDependency,
    provider: FromQuery[str],
    at: FromQuery[str],
    act: FromQuery[list[str]],
    until_us: FromQuery[int | None] = None,
) -> Delegation:
    """Let a provider run the agents at site:<id>, dealer:<id> or group:<id>."""
    actor = caller_of(request).id
    return await dealers.delegate(provider, at, act, FOREVER_US if until_us is None else until_us, actor)


@delete("/v1/dealers/delegations/{id:str}", opt=does(acts.CHANGE_DEALERS))
async def end_delegation(request: AnyRequest, dealers: DealersDependency, id: FromPath[str]) -> None:
    """End a delegation now."""
    await dealers.end_delegation(id, caller_of(request).id)


@get("/v1/dealers/exceptions", opt=does(acts.READ_DEALERS))
async def list_exceptions(dealers: DealersDependency) -> list[NationalException]:
    """What countries keep to themselves."""
    return await dealers.exceptions()


@put("/v1/dealers/exceptions", opt=does(acts.CHANGE_DEALERS))
async def set_exception(
    request: AnyRequest,
    dealers: DealersDependency,
    country: FromQuery[str],
    service: FromQuery[str],
    to: FromQuery[str],
    brand: FromQuery[str] = "",
    may_cross: FromQuery[bool] = False,
    note: FromQuery[str] = "",
) -> NationalException:
    """Messages of a service in a country go to a national system; `may_cross` false = they never leave the region."""
    made = NationalException(country, service, brand, to, may_cross, note)
    await dealers.set_exception(made, caller_of(request).id)
    return made


@delete("/v1/dealers/exceptions", opt=does(acts.CHANGE_DEALERS))
async def drop_exception(
    request: AnyRequest,
    dealers: DealersDependency,
    country: FromQuery[str],
    service: FromQuery[str],
    brand: FromQuery[str] = "",
) -> None:
    """A country keeps this service to itself no more."""
    if not await dealers.drop_exception(country, service, brand, caller_of(request).id):
        raise errors.exception_unknown()


@post("/v1/dealers/codes", opt=does(acts.ENROL_SITES))
async def make_codes(
    request: AnyRequest,
    data: Annotated[Wanted, Body()],
    dealers: DealersDependency,
    site_table: TableDependency,
    authority: NamedDependency[SkipValidation[Authority]],
) -> list[CodeView]:
    """One-time codes for many sites, good for thirty days; all get theirs or none. They are seen only here."""
    now_us = dealers.clock.now_us()
    named = data.sites or [
        one.id
        for one in site_table
        if one.is_open(now_us) and (data.group or data.country or data.brand) and data.group in {"", one.group}
        and data.country in {"", one.country}
        and (not data.brand or any(has.brand == data.brand for has in one.brands_at(now_us)))
    ]  # fmt: skip
    if not named or len(named) > CODES_LIMIT:
        raise errors.invalid("sites", f"name 1 to {CODES_LIMIT} sites, or a group, a country or a brand that has some")
    identities = [authority.region.identity("dealer", site_table.check_site(id, now_us).id) for id in set(named)]
    codes = await authority.claim_many(identities, caller_of(request).id, CODE_LIFE_US)
    return [CodeView(identity.id, identity.uri, code) for identity, code in codes.items()]


# --- one point of sale -------------------------------------------------------------------------------------------------


@get("/v1/dealers/sites/{site:str}", opt=does(acts.SEE_SITE))
async def show_site(site: FromPath[str], dealers: DealersDependency, site_table: TableDependency) -> SiteView:
    """Its card."""
    return site_view(await dealers.site(site), site_table)


@put("/v1/dealers/sites/{site:str}/brands/{brand:str}", opt=does(acts.CHANGE_DEALERS))
async def set_brand(
    request: AnyRequest,
    site: FromPath[str],
    brand: FromPath[str],
    dealers: DealersDependency,
    site_table: TableDependency,
    sells: FromQuery[bool] = False,
    services: FromQuery[bool] = False,
    from_us: FromQuery[int | None] = None,
    until_us: FromQuery[int | None] = None,
) -> SiteView:
    """Give a site a brand for a period (default: from now on)."""
    begin_us = dealers.clock.now_us() if from_us is None else from_us
    one = BrandAt(brand, sells, services, begin_us, FOREVER_US if until_us is None else until_us)
    return site_view(await dealers.set_brand(site, one, caller_of(request).id), site_table)


@delete("/v1/dealers/sites/{site:str}/brands/{brand:str}", opt=does(acts.CHANGE_DEALERS))
async def end_brand(request: AnyRequest, site: FromPath[str], brand: FromPath[str], dealers: DealersDependency) -> None:
    """A site has a brand no more from now on: its prices end with the next epoch."""
    await dealers.end_brand(site, brand, actor=caller_of(request).id)


@post("/v1/dealers/sites/{site:str}/code", opt=does(acts.JOIN_SITE))
async def make_code(
    request: AnyRequest,
    site: FromPath[str],
    dealers: DealersDependency,
    site_table: TableDependency,
    authority: NamedDependency[SkipValidation[Authority]],
) -> CodeView:
    """The one-time code that enrols the key made at the dealer's."""
    identity = authority.region.identity("dealer", site_table.check_site(site, dealers.clock.now_us()).id)
    return CodeView(site, identity.uri, await authority.claim(identity, caller_of(request).id))


@get("/v1/dealers/sites/{site:str}/people", opt=does(acts.READ_SITE_PEOPLE))
async def list_people(site: FromPath[str], dealers: DealersDependency) -> list[Role]:
    """Who is what at a site."""
    await dealers.site(site)
    return await dealers.roles_at(site)


@post("/v1/dealers/sites/{site:str}/people", opt=does(acts.CHANGE_SITE_PEOPLE))
async def give_role(
    request: AnyRequest,
    site: FromPath[str],
    dealers: DealersDependency,
    people: NamedDependency[SkipValidation[People]],
    person: FromQuery[str],
    role: FromQuery[str],
    brand: FromQuery[str] = "",
    until_us: FromQuery[int | None] = None,
) -> Role:
    """Make somebody of the dealer something at a site, for a brand or for all."""
    organisation = (await people.by_id(person)).organisation
    end_us = FOREVER_US if until_us is None else until_us
    return await dealers.give_role(
        person, organisation, site, role, brand=brand, until_us=end_us, actor=caller_of(request).id
    )


class InvitedView(msgspec.Struct, frozen=True):
    """`secret` opens /signin/link/<secret> once, within ten minutes: the new person registers a passkey there. Seen only here."""

    person: str
    role: Role
    secret: str


@post("/v1/dealers/sites/{site:str}/invitations", opt=does(acts.CHANGE_SITE_PEOPLE))
async def invite(
    request: AnyRequest,
    site: FromPath[str],
    dealers: DealersDependency,
    people: NamedDependency[SkipValidation[People]],
    name: FromQuery[str],
    role: FromQuery[str],
    brand: FromQuery[str] = "",
    language: FromQuery[str] = "en",
) -> InvitedView:
    """Add somebody to the dealer's people, with his first role and a one-time link to sign in with."""
    found, actor = await dealers.site(site), caller_of(request).id
    organisation = f"dealer:{found.dealer}"
    check_role("person:0", brand, role)
    added = await people.add(name, (), organisation, language, actor)
    made = await dealers.give_role(added.id, organisation, site, role, brand=brand, actor=actor)
    return InvitedView(added.id, made, await people.link(added.id, "invitation", actor=actor))


@post("/v1/dealers/sites/{site:str}/invitations/{person:str}", opt=does(acts.CHANGE_SITE_PEOPLE))
async def invite_again(
    request: AnyRequest,
    site: FromPath[str],
    person: FromPath[str],
    dealers: DealersDependency,
    people: NamedDependency[SkipValidation[People]],
) -> InvitedView:
    """Another one-time link for somebody of this site whose own came too late: it is good for ten minutes."""
    role = next((one for one in await dealers.roles_at(site) if one.person == person), None)
    if role is None:
        raise Refused("people.unknown", "nobody with this number has a role at this site")
    if await people.passkeys.list(person):
        raise Refused("people.passkey.exists", "this person has a passkey already; an operator recovers a lost one")
    return InvitedView(person, role, await people.link(person, "invitation", actor=caller_of(request).id))


@delete("/v1/dealers/sites/{site:str}/people/{id:str}", opt=does(acts.CHANGE_SITE_PEOPLE))
async def end_role(request: AnyRequest, site: FromPath[str], id: FromPath[str], dealers: DealersDependency) -> None:
    """End a role now."""
    await dealers.end_role(id, site, caller_of(request).id)


@post("/v1/dealers/sites/{site:str}/delegations", opt=does(acts.DELEGATE))
async def delegate(
    request: AnyRequest,
    site: FromPath[str],
    dealers: DealersDependency,
    provider: FromQuery[str],
    act: FromQuery[list[str]],
    until_us: FromQuery[int | None] = None,
) -> Delegation:
    """Let a provider run this site's agent."""
    await dealers.site(site)
    end_us = FOREVER_US if until_us is None else until_us
    return await dealers.delegate(provider, f"site:{site}", act, end_us, caller_of(request).id)


@delete("/v1/dealers/sites/{site:str}/delegations/{id:str}", opt=does(acts.DELEGATE))
async def end_site_delegation(
    request: AnyRequest, site: FromPath[str], id: FromPath[str], dealers: DealersDependency
) -> None:
    """End what a provider was given at this very site."""
    if id not in {one.id for one in await dealers.delegations() if one.scope == f"site:{site}"}:
        raise errors.delegation_unknown()
    await dealers.end_delegation(id, caller_of(request).id)


# --- its agent -----------------------------------------------------------------------------------------------------------


@get("/v1/dealers/sites/{site:str}/orders", opt=does(acts.READ_HEALTH))
async def list_orders(site: FromPath[str], orders: OrdersDependency) -> list[Order]:
    """What its agent was asked to do, and when it was told."""
    return await orders.of(site)


@post("/v1/dealers/sites/{site:str}/renewal", opt=does(acts.RENEW_AGENT))
async def renew_agent(request: AnyRequest, site: FromPath[str], orders: OrdersDependency) -> Order:
    """Ask its agent to renew its certificate now."""
    return await orders.give(site, "renew", caller_of(request).id)


@post("/v1/dealers/sites/{site:str}/restart", opt=does(acts.RESTART_AGENT))
async def restart_agent(request: AnyRequest, site: FromPath[str], orders: OrdersDependency) -> Order:
    """Ask its agent to restart now."""
    return await orders.give(site, "restart", caller_of(request).id)


@post("/v1/dealers/sites/{site:str}/installation", opt=does(acts.INSTALL_AGENT))
async def install_agent(request: AnyRequest, site: FromPath[str], orders: OrdersDependency) -> Order:
    """Say that an agent is installed and waits for its code, which the site's manager or the security duty gives out."""
    return await orders.give(site, "install", caller_of(request).id)


HANDLERS: list[Any] = [
    list_sites, import_sites, list_providers, add_provider, list_delegations, add_delegation, end_delegation,
    list_exceptions, set_exception, drop_exception, make_codes, show_site, set_brand, end_brand, make_code, list_people,
    give_role, invite, invite_again, end_role, delegate, end_site_delegation, list_orders, renew_agent, restart_agent, install_agent,
]  # fmt: skip
