"""The demo's people: an operator, an owner with vehicles of her own, a driver she invited; a one-time link for each.

Made at the first start and found again by name at later ones; links are fresh at every start. What the owner has agreed to
differs from vehicle to vehicle, so that the operator's map and the owner's pages have something to tell apart. A printed link
is an invitation for hours: whoever opens it asks to be let in, and the demo, which listens on this machine alone, confirms.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from rocade.app.configuration import Configuration
from rocade.core import data_classes
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Audit, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.consent import Consents
from rocade.trust.authority import AuditLog
from rocade.trust.authority.people import DUTIES, People, Person, Site

LINK_S = 7 * 86_400.0
CONFIRM_EVERY_S = 0.5
ACTOR = "service:demo"
DAY_US = 86_400_000_000
ROLES = {"operator": "Olivia", "owner": "Ada", "driver": "Dan"}
HOMES = {"operator": "/", "owner": "/my", "driver": "/my"}
LIVE = data_classes.mask(("location", "driving", "energy", "condition"))


async def settle(
    configuration: Configuration,
    database: Database,
    audit: Audit,
    owned: Sequence[int],
    pages: Mapping[str, tuple[str, str]],
) -> Mapping[str, str]:
    """Address of a one-time link by role, and by page. `owned`: references of the owner's vehicles, at least one; `pages`: more
    links by name, each with the role it is for and where it leads.
    """
    clock, random = SystemClock(), SystemRandom()
    people = _people(configuration, database, audit)
    consents = Consents(database, audit, clock, random)
    known = {person.name: person for person in await people.list()}
    cast: dict[str, Person] = {}
    for role, name in ROLES.items():
        duties = sorted(DUTIES) if role == "operator" else ()
        cast[role] = known.get(name) or await people.add(name, duties, actor=ACTOR)
    owner, driver = cast["owner"].id, cast["driver"].id
    for place, ref in enumerate(owned):
        try:
            await consents.own(ref, owner, ACTOR)
        except Refused:  # hers since an earlier start
            continue
        if place % 2 == 0:
            await consents.grant(ref, owner, "operator", "operation", LIVE)
        if place == 0:
            until_us = clock.now_us() + 30 * DAY_US
            await consents.grant(
                ref,
                owner,
                "partner:insurer",
                "insurance",
                data_classes.mask(("driving", "condition")),
                until_us=until_us,
            )
            _, code = await consents.invite(ref, owner, LIVE, until_us)
            await consents.accept(code, driver)
    wanted = {role: (role, HOMES[role]) for role in cast} | dict(pages)
    secrets: dict[str, str] = {}
    for name, (role, _) in wanted.items():  # a person's first link ends those of an earlier start, not those beside it
        is_first = name in cast
        secrets[name] = await people.links.make(cast[role].id, "demo", LINK_S, "local", ends_earlier=is_first)
    return {name: f"{configuration.site}/signin/link/{secrets[name]}?back={path}" for name, (_, path) in wanted.items()}


@contextlib.asynccontextmanager
async def letting_in(configuration: Configuration, database: Database) -> AsyncIterator[None]:
    """While this is open, whoever asks with a link of the demo is let in."""
    audit = AuditLog(database, configuration.trust / "audit", SystemClock())
    people = _people(configuration, database, audit)
    cast = [person.id for person in await people.list() if person.name in ROLES.values()]

    async def confirm() -> None:
        while True:
            with contextlib.suppress(Unavailable, Refused):  # the plug was pulled, or it was asked too long ago
                for person in cast:
                    for number in await people.links.waiting(person):
                        await people.links.confirm(person, number, ACTOR)
            await asyncio.sleep(CONFIRM_EVERY_S)

    confirming = asyncio.create_task(confirm(), name="letting in")
    try:
        yield
    finally:
        confirming.cancel()
        await audit.close()


def _people(configuration: Configuration, database: Database, audit: Audit) -> People:
    return People(database, audit, SystemClock(), SystemRandom(), Site.at(configuration.site), configuration.region)
