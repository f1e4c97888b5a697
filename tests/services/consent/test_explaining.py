"""Consents, invitations, conflicts, looks and ownership explained, from real acts on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from rocade.core import catalogue, data_classes, why
from rocade.core.errors import Refused
from rocade.core.why import Chain
from rocade.fabric.database import Database
from rocade.services.consent import Consents, Looks
from rocade.services.consent.explaining import Conflicts, Grants, Guests, Seen, Vehicles
from rocade.trust.authority.gate import Permit, Principal, Right, acts

DAY_US = 86_400_000_000
ENERGY = data_classes.mask(["energy", "driving"])
OWNER, OTHER, GUEST = "person:0a", "person:0b", "person:0c"


class Places:
    """Where the audit log would hold an act: the place among what was remembered."""

    def __init__(self, audit: Any) -> None:
        self._audit = audit

    async def find(self, actions: Collection[str], subject: str, at_us: int) -> int | None:
        for place, entry in enumerate(self._audit.entries):
            if entry.action in actions and entry.subject == subject and abs(entry.at_us - at_us) < 2_000_000:
                return place
        return None


async def is_seven(ref: int) -> bool:
    return ref == 7


def told(chain: Chain | None, language: str = "en") -> str:
    assert chain is not None
    return "\n".join(one.text for one in why.sentences(chain, language))


def ids(chain: Chain | None) -> set[str]:
    return {fact.id for fact in (chain.facts if chain else ()) if fact.id}


def bare(id: str) -> str:
    return id.partition("-")[2]


async def test_a_consent_is_told_from_giving_to_withdrawal(consents: Consents, audit: Any, clock: Any) -> None:
    await consents.own(7, OWNER)
    explainer = Grants(consents, Places(audit).find, clock)
    grant = await consents.grant(7, OWNER, "partner:gaia", "insurance", ENERGY, until_us=clock.us + DAY_US)
    chain = await explainer.explain(bare(grant.id))
    assert "let partner:gaia see driving, energy for “insurance”" in told(chain)
    assert "It is in force." in told(chain)
    assert ids(chain) == {"audit:1"}
    assert chain
    assert (chain.about.ref, chain.about.recipients) == (7, {"partner:gaia"})
    clock.us += 5_000_000
    smaller = await consents.narrow(7, OWNER, grant.id, data_classes.mask(["energy"]))
    assert "narrowed it" in told(await explainer.explain(bare(grant.id)))
    assert ids(await explainer.explain(bare(smaller.id))) == {"audit:2", grant.id}
    clock.us += 5_000_000
    await consents.withdraw(7, OWNER, smaller.id)
    assert "withdrew it" in told(await explainer.explain(bare(smaller.id)))
    assert ids(await explainer.explain(bare(smaller.id))) == {"audit:2", "audit:3", grant.id}


@pytest.mark.parametrize(("after_us", "said"), [(-1, "has not begun"), (DAY_US // 2, "in force"), (3 * DAY_US, "over")])
async def test_a_consent_says_whether_its_time_is_now(
    consents: Consents, audit: Any, clock: Any, after_us: int, said: str
) -> None:
    await consents.own(7, OWNER)
    begin = clock.us + DAY_US
    grant = await consents.grant(7, OWNER, "operator", "support", ENERGY, begin, begin + 2 * DAY_US)
    clock.us = begin + after_us
    assert said in told(await Grants(consents, Places(audit).find, clock).explain(bare(grant.id)))


async def test_a_consent_ends_with_the_owner(consents: Consents, audit: Any, clock: Any) -> None:
    await consents.own(7, OWNER)
    grant = await consents.grant(7, OWNER, "operator", "support", ENERGY)
    clock.us += 5_000_000
    await consents.claim(await consents.sell(7, OWNER), OTHER)
    chain = await Grants(consents, Places(audit).find, clock).explain(bare(grant.id))
    assert "when the vehicle changed hands" in told(chain)
    assert OTHER not in told(chain)
    former = await Vehicles(consents, Places(audit).find, is_seven).explain("7")
    assert "ended on" in told(former)
    assert "policy:former-owner" in ids(former)


async def test_an_invitation_is_told_waiting_accepted_and_ended(consents: Consents, audit: Any, clock: Any) -> None:
    await consents.own(7, OWNER)
    explainer = Guests(consents, Places(audit).find, clock)
    guest, code = await consents.invite(7, OWNER, ENERGY, clock.us + DAY_US)
    assert "Nobody has accepted it yet" in told(await explainer.explain(bare(guest.id)))
    await consents.accept(code, GUEST)
    chain = await explainer.explain(bare(guest.id))
    assert "was accepted" in told(chain)
    assert "time is now" in told(chain)
    assert chain
    assert chain.about.parties == {OWNER, GUEST}
    await consents.end(7, OWNER, guest.id)
    assert "was ended" in told(await explainer.explain(bare(guest.id)))
    unused, _ = await consents.invite(7, OWNER, ENERGY, clock.us + DAY_US)
    clock.us += 8 * DAY_US
    assert "Nobody accepted it" in told(await explainer.explain(bare(unused.id)))


async def test_a_conflict_names_neither_to_the_other(consents: Consents, audit: Any, clock: Any) -> None:
    first = await consents.hand_out(7, "operator")
    await consents.claim(first, OWNER)
    with pytest.raises(Refused):
        await consents.claim(first, OTHER)
    found = await consents.conflicts()
    explainer = Conflicts(consents, Places(audit).find)
    for conflict in found:
        chain = await explainer.explain(bare(conflict.id))
        assert "Support has not decided" in told(chain)
        assert OWNER not in told(chain)
        assert OTHER not in told(chain)
        assert chain
        assert chain.about.parties == {OWNER, OTHER}
        clock.us += 5_000_000
        await consents.settle(conflict.id, False, "operator")
        assert "stays where it was" in told(await explainer.explain(bare(conflict.id)))
    assert found


async def test_a_look_tells_who_what_and_under_which_consent(
    database: Database, consents: Consents, audit: Any, clock: Any
) -> None:
    await consents.own(7, OWNER)
    grant = await consents.grant(7, OWNER, "partner:gaia", "insurance", ENERGY)
    looks, names = Looks(database, audit, clock), catalogue.standard()
    try:
        partner = Principal("partner", "spiffe://rocade.test/eu/partner/gaia", "partner:gaia", "token", "eu")
        permit = Permit(partner, acts.READ_TWIN, "insurance", Right("none", ENERGY, grant.id, is_owned=True))
        looks.note(permit, 7, acts.READ_TWIN.name, [int(names.by_name("Vehicle.Speed").id)], clock.us)
        await looks.settled()
        (look,) = (await looks.of(7)).looks
        explainer = Seen(looks, names, Places(audit).find)
        chain = await explainer.explain(str(look.id))
        assert "spiffe://rocade.test/eu/partner/gaia looked, as partner:gaia" in told(chain)
        assert "Vehicle.Speed" in told(chain)
        assert {grant.id, "act:vehicle.twin.read", "audit:2"} == ids(chain)
        assert len({told(chain, language) for language in why.LANGUAGES}) == 3
        assert await explainer.explain("99") is None
    finally:
        await looks.close()


async def test_a_vehicle_tells_its_owner_what_is_in_force(consents: Consents, audit: Any, clock: Any) -> None:
    explainer = Vehicles(consents, Places(audit).find, is_seven)
    assert await explainer.explain("8") is None
    fleet = await explainer.explain("7")
    assert "Nobody owns" in told(fleet)
    assert fleet
    assert fleet.about.acts == ("vehicle.registry.read",)
    await consents.own(7, OWNER)
    grant = await consents.grant(7, OWNER, "operator", "support", ENERGY)
    guest, _ = await consents.invite(7, OWNER, ENERGY, clock.us + DAY_US)
    chain = await explainer.explain("7")
    assert {grant.id, guest.id} <= ids(chain)
    assert OWNER not in told(chain)
    assert chain
    assert chain.about.acts == ("vehicle.grants.read",)


@pytest.mark.parametrize("rest", ["", "0", "x" * 16, "0" * 15, "0" * 16, "9" * 30, "-1", "²"])
async def test_what_is_not_there_is_none(consents: Consents, audit: Any, clock: Any, rest: str) -> None:
    find = Places(audit).find
    assert await Grants(consents, find, clock).explain(rest) is None
    assert await Guests(consents, find, clock).explain(rest) is None
    assert await Conflicts(consents, find).explain(rest) is None
    if rest not in {"0" * 15, "0" * 16}:
        assert await Vehicles(consents, find, is_seven).explain(rest) is None
