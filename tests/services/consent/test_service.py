"""The acts of consent on a real PostgreSQL: what they do, what they refuse, what the audit log has of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.chance import Seeded
from tests.notebook import Notebook
from tests.services.consent.conftest import DAY_US, NOW_US, SetClock

from rocade.core.data_classes import ALL, CONTROL, mask
from rocade.core.errors import Misconfigured, Refused
from rocade.fabric.database import Database
from rocade.services.consent import FOREVER_US, Consents, Transfer, store
from rocade.services.consent.model import CLAIM_LIFE_US, GRANT_LIMIT, GUEST_LIMIT, HANDOVER_US, INVITATION_LIFE_US

ANA, BEN, CLEO = "person:a1", "person:b2", "person:c3"
CAR, VAN = 4_000_000_000_000_000_001, 4_000_000_000_000_000_002
GRID = "partner:grid"
ENERGY, PLACE = mask(["energy"]), mask(["location"])


@pytest.fixture
async def owned(consents: Consents) -> Consents:
    """Ana owns the car."""
    await consents.own(CAR, ANA)
    return consents


async def test_a_vehicle_has_one_owner_at_most(owned: Consents, audit: Notebook) -> None:
    for person in (ANA, BEN):
        with pytest.raises(Refused, match=r"consent\.owner\.exists"):
            await owned.own(CAR, person)
    with pytest.raises(Refused, match=r"consent\.person"):
        await owned.own(VAN, "Ana")
    assert audit.refusals == ["consent.owner.exists"] * 2
    assert [one.ref for one in await owned.owned_by(ANA)] == [CAR]
    assert await owned.owner(VAN) is None
    assert await owned.owned_count() == 1


REFUSED_GRANTS: list[tuple[str, dict[str, Any]]] = [
    ("consent.purpose.unknown", {"purpose": "curiosity"}),
    ("consent.purpose.unknown", {"purpose": "own"}),
    ("consent.purpose.unknown", {"purpose": ""}),
    ("consent.recipient", {"recipient": "everybody"}),
    ("consent.recipient", {"recipient": "partner:"}),
    ("consent.recipient", {"recipient": "partner:a b"}),
    ("consent.recipient", {"recipient": "partner:a\n"}),
    ("consent.recipient", {"recipient": ANA}),
    ("consent.recipient", {"recipient": "vehicle:1"}),
    ("consent.class.none", {"classes": 0}),
    ("consent.class.none", {"classes": (ALL | CONTROL) + 1}),
    ("consent.class.none", {"classes": -1}),
    ("consent.period", {"until_us": NOW_US}),
    ("consent.period", {"until_us": NOW_US - 1}),
    ("consent.period", {"from_us": NOW_US + 9, "until_us": NOW_US + 9}),
    ("consent.period", {"until_us": FOREVER_US + 1}),
    ("consent.owner.missing", {"person": BEN}),
    ("consent.owner.missing", {"ref": VAN}),
]


@pytest.mark.parametrize(("code", "change"), REFUSED_GRANTS)
async def test_a_consent_nobody_may_give_is_refused_audited_and_changes_nothing(
    owned: Consents, audit: Notebook, code: str, change: dict[str, Any]
) -> None:
    asked = {"ref": CAR, "person": ANA, "recipient": GRID, "purpose": "charging", "classes": ENERGY} | change
    with pytest.raises(Refused) as refused:
        await owned.grant(**asked)
    assert refused.value.code == code
    assert audit.refusals == [code]
    assert await owned.grants(CAR) == []


async def test_a_consent_is_given_narrowed_and_withdrawn(owned: Consents, audit: Notebook, clock: SetClock) -> None:
    given = await owned.grant(CAR, ANA, GRID, "charging", ENERGY | PLACE, until_us=NOW_US + 30 * DAY_US)
    clock.us += DAY_US
    less = await owned.narrow(CAR, ANA, given.id, ENERGY, NOW_US + 10 * DAY_US)
    clock.us += DAY_US
    ended = await owned.withdraw(CAR, ANA, less.id)
    rows = await owned.grants(CAR)
    assert [(one.id, one.classes, one.from_us, one.end_us, one.why_ended, one.replaces) for one in rows] == [
        (given.id, ENERGY | PLACE, NOW_US, NOW_US + DAY_US, "narrowed", ""),
        (less.id, ENERGY, NOW_US + DAY_US, NOW_US + 2 * DAY_US, "withdrawn", given.id),
    ]
    assert ended == rows[1] == await owned.find_grant(less.id)
    assert await owned.grants(CAR, is_live_only=True) == []
    assert audit.actions == ["consent.own", "consent.grant", "consent.narrow", "consent.withdraw"]
    assert audit.entries[1].facts["classes"] == "location energy"


@pytest.mark.parametrize(
    ("code", "classes", "until_us"),
    [
        ("consent.grant.widens", ENERGY | PLACE, None),
        ("consent.grant.widens", PLACE, None),
        ("consent.grant.widens", ENERGY, NOW_US + 31 * DAY_US),
        ("consent.class.none", 0, None),
        ("consent.period", ENERGY, NOW_US),
    ],
)
async def test_narrowing_never_widens(owned: Consents, code: str, classes: int, until_us: int | None) -> None:
    given = await owned.grant(CAR, ANA, GRID, "charging", ENERGY, until_us=NOW_US + 30 * DAY_US)
    with pytest.raises(Refused) as refused:
        await owned.narrow(CAR, ANA, given.id, classes, until_us)
    assert refused.value.code == code
    assert await owned.grants(CAR, is_live_only=True) == [given]


async def test_nobody_touches_another_owners_consents(owned: Consents) -> None:
    await owned.own(VAN, BEN)
    given = await owned.grant(CAR, ANA, GRID, "charging", ENERGY)
    for ref, person, code in (
        (CAR, BEN, "owner.missing"), (VAN, BEN, "grant.unknown"), (VAN, ANA, "owner.missing"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=rf"consent\.{code}"):
            await owned.withdraw(ref, person, given.id)
        with pytest.raises(Refused, match=rf"consent\.{code}"):
            await owned.narrow(ref, person, given.id, ENERGY)
    with pytest.raises(Refused, match=r"consent\.grant\.unknown"):
        await owned.withdraw(CAR, ANA, "grant-0")
    await owned.withdraw(CAR, ANA, given.id)
    with pytest.raises(Refused, match=r"consent\.grant\.unknown"):
        await owned.withdraw(CAR, ANA, given.id)


async def test_a_new_consent_takes_the_old_ones_place_from_its_own_beginning(owned: Consents, clock: SetClock) -> None:
    first = await owned.grant(CAR, ANA, GRID, "charging", ENERGY)
    other = await owned.grant(CAR, ANA, GRID, "insurance", PLACE)
    second = await owned.grant(CAR, ANA, GRID, "charging", PLACE, from_us=NOW_US + DAY_US)
    rows = {one.id: one for one in await owned.grants(CAR)}
    assert (rows[first.id].end_us, rows[first.id].why_ended) == (NOW_US + DAY_US, "replaced")
    assert second.replaces == first.id
    assert rows[other.id].end_us == FOREVER_US
    with pytest.raises(Refused, match=r"consent\.grant\.widens"):
        await owned.narrow(CAR, ANA, first.id, ENERGY, NOW_US + 2 * DAY_US)


async def test_a_vehicle_has_a_bounded_number_of_consents_and_drivers(owned: Consents) -> None:
    for number in range(GRANT_LIMIT):
        await owned.grant(CAR, ANA, f"partner:p{number}", "research", ENERGY)
    with pytest.raises(Refused, match=r"consent\.many"):
        await owned.grant(CAR, ANA, "partner:one-more", "research", ENERGY)
    await owned.grant(CAR, ANA, "partner:p7", "research", PLACE)
    for _ in range(GUEST_LIMIT):
        await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    with pytest.raises(Refused, match=r"consent\.many"):
        await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)


async def test_operators_see_counts_and_no_person(owned: Consents, clock: SetClock) -> None:
    await owned.own(VAN, BEN)
    await owned.grant(CAR, ANA, GRID, "charging", ENERGY | PLACE)
    await owned.grant(VAN, BEN, GRID, "charging", ENERGY)
    await owned.grant(VAN, BEN, CLEO, "sharing", PLACE)
    later = await owned.grant(VAN, BEN, "operator", "support", PLACE, from_us=NOW_US + DAY_US)
    lines = [(one.purpose, one.data_class, one.recipient, one.vehicles) for one in await owned.counts()]
    assert lines == [
        ("charging", "energy", GRID, 2),
        ("charging", "location", GRID, 1),
        ("sharing", "location", "person", 1),
    ]
    clock.us = later.from_us
    assert ("support", "location", "operator") in {(o.purpose, o.data_class, o.recipient) for o in await owned.counts()}


# --- drivers ------------------------------------------------------------------------------------------------------


async def test_a_driver_is_invited_accepts_and_ends(owned: Consents, audit: Notebook, clock: SetClock) -> None:
    guest, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + 20 * DAY_US)
    assert await owned.drives(BEN) == []
    accepted = await owned.accept(code.lower().replace("-", " "), BEN)
    assert (accepted.id, accepted.person, accepted.accepted_us) == (guest.id, BEN, NOW_US)
    assert [one.ref for one in await owned.drives(BEN)] == [CAR]
    await owned.end(CAR, BEN, guest.id)
    assert await owned.drives(BEN) == []
    assert await owned.guests(CAR, is_live_only=True) == []
    second, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    await owned.accept(code, BEN)
    await owned.end(CAR, ANA, second.id)
    assert audit.actions[1:] == ["consent.invite", "consent.accept", "consent.end"] * 2
    assert code.replace("-", "") not in repr(audit.entries)


async def test_an_invitation_used_twice_ended_unknown_or_ones_own_is_refused_and_audited(
    owned: Consents, audit: Notebook, clock: SetClock
) -> None:
    _, once = await owned.invite(CAR, ANA, ENERGY, NOW_US + 30 * DAY_US)
    _, late = await owned.invite(CAR, ANA, ENERGY, NOW_US + 30 * DAY_US)
    gone, ended = await owned.invite(CAR, ANA, ENERGY, NOW_US + 30 * DAY_US)
    await owned.end(CAR, ANA, gone.id)
    await owned.accept(once, BEN)
    refused: list[tuple[str, str, str]] = [
        (once, CLEO, "used"), (once, BEN, "used"), (ended, BEN, "ended"), (late, ANA, "own"), ("WRONG", BEN, "unknown"),
    ]  # fmt: skip
    for code, person, reason in refused:
        with pytest.raises(Refused, match=rf"consent\.invitation\.{reason}"):
            await owned.accept(code, person)
    clock.us += INVITATION_LIFE_US
    with pytest.raises(Refused, match=r"consent\.invitation\.ended"):
        await owned.accept(late, BEN)
    assert audit.refusals == [f"consent.invitation.{reason}" for _, _, reason in refused] + ["consent.invitation.ended"]
    assert [one.person for one in await owned.guests(CAR, is_live_only=True)] == [BEN]


async def test_a_delegation_has_scope_and_an_end(owned: Consents) -> None:
    for classes, until_us, code in (
        (0, NOW_US + DAY_US, "class"), (ENERGY, NOW_US, "period"), (ENERGY, FOREVER_US, "period"),
        (ENERGY, NOW_US + 367 * DAY_US, "period"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=rf"consent\.{code}"):
            await owned.invite(CAR, ANA, classes, until_us)
    with pytest.raises(Refused, match=r"consent\.owner\.missing"):
        await owned.invite(CAR, BEN, ENERGY, NOW_US + DAY_US)


async def test_drivers_end_their_own_time_and_nobody_elses(owned: Consents) -> None:
    guest, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    await owned.accept(code, BEN)
    await owned.own(VAN, BEN)
    for ref, person in ((CAR, CLEO), (VAN, BEN), (VAN, CLEO)):
        with pytest.raises(Refused, match=r"consent\.(guest\.unknown|owner\.missing)"):
            await owned.end(ref, person, guest.id)
    assert len(await owned.drives(BEN)) == 1


async def test_a_second_invitation_takes_the_place_of_the_first(owned: Consents) -> None:
    for classes in (ENERGY, PLACE):
        _, code = await owned.invite(CAR, ANA, classes, NOW_US + DAY_US)
        await owned.accept(code, BEN)
    assert [one.classes for one in await owned.drives(BEN)] == [PLACE]


# --- change of owner ----------------------------------------------------------------------------------------------


async def test_the_code_that_comes_with_a_vehicle_makes_its_bearer_the_first_owner(
    consents: Consents, audit: Notebook, renewals: list[Any]
) -> None:
    code = await consents.hand_out(CAR, "spiffe://t/r/operator/o")
    assert await consents.claim(code, ANA) == Transfer(CAR, CAR, NOW_US)
    assert renewals == []
    with pytest.raises(Refused, match=r"consent\.claim\.used"):
        await consents.claim(code, ANA)
    assert audit.actions == ["consent.code", "consent.own"]
    assert code.replace("-", "") not in repr(audit.entries)


async def test_a_change_of_owner_ends_what_the_former_allowed_and_takes_nothing_along(
    owned: Consents, audit: Notebook, renewals: list[Any], clock: SetClock
) -> None:
    grant = await owned.grant(CAR, ANA, GRID, "charging", ENERGY)
    guest, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + 30 * DAY_US)
    await owned.accept(code, CLEO)
    _, unused = await owned.invite(CAR, ANA, ENERGY, NOW_US + 30 * DAY_US)
    sale = await owned.sell(CAR, ANA)
    clock.us += DAY_US
    done = await owned.claim(sale, BEN)
    at_us = clock.us + HANDOVER_US
    assert renewals == [(CAR, done.ref, at_us)]
    assert (done.former_ref, done.at_us) == (CAR, at_us)
    assert [(one.ref, one.until_us) for one in await owned.owned_by(ANA)] == [(CAR, at_us)]
    assert [(one.ref, one.since_us, one.until_us) for one in await owned.owned_by(BEN)] == [
        (done.ref, at_us, FOREVER_US)
    ]
    ended = await owned.find_grant(grant.id)
    assert ended is not None
    assert (ended.end_us, ended.why_ended) == (clock.us, "owner_changed")
    gone = await owned.find_guest(guest.id)
    assert gone is not None
    assert (gone.end_us, gone.why_ended) == (clock.us, "owner_changed")
    assert await owned.drives(CLEO) == []
    assert await owned.grants(done.ref) == []
    assert await owned.guests(done.ref) == []
    for act in (
        lambda: owned.accept(unused, CLEO),
        lambda: owned.grant(CAR, ANA, GRID, "charging", ENERGY),
        lambda: owned.grant(done.ref, ANA, GRID, "charging", ENERGY),
        lambda: owned.invite(CAR, ANA, ENERGY, at_us + DAY_US),
        lambda: owned.sell(CAR, ANA),
        lambda: owned.withdraw(CAR, ANA, grant.id),
        lambda: owned.give_back(CAR, ANA),
    ):
        with pytest.raises(Refused, match=r"consent\.(invitation\.ended|owner\.missing)"):
            await act()
    assert "consent.transfer" in audit.actions


async def test_an_ended_unused_or_unknown_code_makes_nobody_an_owner(
    owned: Consents, audit: Notebook, clock: SetClock
) -> None:
    first = await owned.sell(CAR, ANA)
    second = await owned.sell(CAR, ANA)
    dropped = await owned.sell(CAR, ANA)
    assert await owned.keep(CAR, ANA) == 1
    for code in (first, second, dropped, "", "0" * 25):
        with pytest.raises(Refused, match=r"consent\.claim\.unknown"):
            await owned.claim(code, BEN)
    last = await owned.sell(CAR, ANA)
    with pytest.raises(Refused, match=r"consent\.claim\.own"):
        await owned.claim(last, ANA)
    clock.us += CLAIM_LIFE_US
    with pytest.raises(Refused, match=r"consent\.claim\.expired"):
        await owned.claim(last, BEN)
    assert await owned.conflicts() == []
    assert len(audit.refusals) == 7


async def test_a_code_for_somebodys_vehicle_opens_a_conflict_and_nothing_changes_hands_meanwhile(
    owned: Consents, audit: Notebook, renewals: list[Any], clock: SetClock
) -> None:
    sale = await owned.sell(CAR, ANA)
    handed_out = await owned.hand_out(CAR, "operator")
    with pytest.raises(Refused, match=r"consent\.claim\.unknown"):
        await owned.claim(sale, BEN)  # a newer code ends it
    for _ in range(2):
        with pytest.raises(Refused, match=r"consent\.claim\.conflict"):
            await owned.claim(handed_out, BEN)
    (conflict,) = await owned.conflicts()
    assert (conflict.holder, conflict.claimant, conflict.ref) == (ANA, BEN, CAR)
    assert renewals == []
    for act in (lambda: owned.sell(CAR, ANA), lambda: owned.give_back(CAR, ANA)):
        with pytest.raises(Refused, match=r"consent\.conflict\.open"):
            await act()
    given = await owned.grant(CAR, ANA, GRID, "charging", ENERGY)  # her consents are hers meanwhile
    assert audit.refusals[1:] == ["consent.claim.conflict"] * 2 + ["consent.conflict.open"] * 2
    assert await owned.settle(conflict.id, for_claimant=False, actor="person:5") is None
    assert await owned.conflicts() == []
    assert (await owned.find_grant(given.id)).end_us == FOREVER_US  # type: ignore[union-attr]
    with pytest.raises(Refused, match=r"consent\.conflict\.unknown"):
        await owned.settle(conflict.id, for_claimant=True, actor="person:5")
    await owned.sell(CAR, ANA)


async def test_support_settles_for_the_claimant_by_a_change_of_owner(owned: Consents, renewals: list[Any]) -> None:
    code = await owned.hand_out(CAR, "operator")
    for person in (BEN, CLEO):
        with pytest.raises(Refused, match=r"consent\.claim\.conflict"):
            await owned.claim(code, person)
    first, second = await owned.conflicts()
    done = await owned.settle(first.id, for_claimant=True, actor="person:5")
    assert done is not None
    assert done.former_ref == CAR
    assert [one.ref for one in await owned.owned_by(BEN)] == [done.ref]
    (left,) = await owned.conflicts()
    assert (left.id, left.ref, left.holder, left.claimant) == (second.id, done.ref, BEN, CLEO)
    await owned.settle(left.id, for_claimant=True, actor="person:5")
    assert [one.until_us for one in await owned.owned_by(BEN)] == [NOW_US + HANDOVER_US]
    assert len(await owned.owned_by(CLEO)) == 1
    assert len(renewals) == 2


async def test_a_code_used_by_the_buyer_and_shown_by_another_is_a_conflict_over_the_vehicle_as_it_is_now(
    owned: Consents,
) -> None:
    code = await owned.sell(CAR, ANA)
    done = await owned.claim(code, BEN)
    with pytest.raises(Refused, match=r"consent\.claim\.conflict"):
        await owned.claim(code, CLEO)
    (conflict,) = await owned.conflicts()
    assert (conflict.ref, conflict.holder, conflict.claimant) == (done.ref, BEN, CLEO)


async def test_a_vehicle_given_back_is_the_regions_under_a_new_reference(owned: Consents, renewals: list[Any]) -> None:
    done = await owned.give_back(CAR, ANA)
    assert await owned.owner(done.ref) is None
    assert [one.until_us for one in await owned.owned_by(ANA)] == [NOW_US + HANDOVER_US]
    code = await owned.hand_out(done.ref, "operator")
    assert (await owned.claim(code, BEN)).ref == done.ref
    assert len(renewals) == 1


async def test_without_a_way_to_renew_references_no_vehicle_changes_hands(
    database: Database, audit: Notebook, clock: SetClock
) -> None:
    alone = Consents(database, audit, clock, Seeded(9))
    await alone.own(CAR, ANA)
    with pytest.raises(Misconfigured, match=r"consent\.renewal\.unset"):
        await alone.claim(await alone.sell(CAR, ANA), BEN)
    assert [one.until_us for one in await alone.owned_by(ANA)] == [FOREVER_US]


async def test_after_an_erasure_owner_consents_and_drivers_follow_to_the_new_reference(
    owned: Consents, database: Database
) -> None:
    given = await owned.grant(CAR, ANA, GRID, "charging", ENERGY)
    guest, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    sale = await owned.sell(CAR, ANA)
    async with database.pool.acquire() as connection, connection.transaction():
        await owned.renamed(connection, CAR, VAN)
    assert [one.ref for one in await owned.owned_by(ANA)] == [VAN]
    assert [one.id for one in await owned.grants(VAN)] == [given.id]
    assert await owned.grants(CAR) == []
    assert (await owned.accept(code, CLEO)).ref == VAN
    assert (await owned.claim(sale, BEN)).former_ref == VAN
    assert guest.ref == CAR


# --- at once ------------------------------------------------------------------------------------------------------


async def outcomes(*acts: Awaitable[Any]) -> list[str]:
    """`done` or the refusal's code of each, run at once."""
    results = await asyncio.gather(*acts, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, Refused):
            raise result
    return sorted(result.code if isinstance(result, Refused) else "done" for result in results)


@pytest.mark.parametrize("round_", range(5))
async def test_two_who_claim_at_once_never_both_get_it(consents: Consents, round_: int) -> None:
    code = await consents.hand_out(CAR, "operator")
    found = await outcomes(*(consents.claim(code, person) for person in (ANA, BEN, CLEO)))
    assert found == ["consent.claim.conflict", "consent.claim.conflict", "done"]
    owner = await consents.owner(CAR)
    assert owner is not None
    claimants = {one.claimant for one in await consents.conflicts()}
    assert claimants == {ANA, BEN, CLEO} - {owner.person}


@pytest.mark.parametrize("round_", range(5))
async def test_a_sale_claimed_twice_at_once_has_one_buyer(owned: Consents, renewals: list[Any], round_: int) -> None:
    code = await owned.sell(CAR, ANA)
    found = await outcomes(owned.claim(code, BEN), owned.claim(code, CLEO), owned.give_back(CAR, ANA))
    assert len(renewals) == 1
    assert found.count("done") == 1
    live = [one for person in (ANA, BEN, CLEO) for one in await owned.owned_by(person) if one.until_us == FOREVER_US]
    assert len(live) <= 1


@pytest.mark.parametrize("round_", range(5))
async def test_an_invitation_accepted_twice_at_once_has_one_driver(owned: Consents, round_: int) -> None:
    _, code = await owned.invite(CAR, ANA, ENERGY, NOW_US + DAY_US)
    assert await outcomes(owned.accept(code, BEN), owned.accept(code, CLEO)) == ["consent.invitation.used", "done"]
    assert len(await owned.drives(BEN) + await owned.drives(CLEO)) == 1


async def test_grants_made_at_once_leave_one_in_force(owned: Consents) -> None:
    await asyncio.gather(*(owned.grant(CAR, ANA, GRID, "charging", 1 << bit) for bit in range(6)))
    assert len(await owned.grants(CAR, is_live_only=True)) == 1
    assert len(await owned.grants(CAR)) == 6


async def test_changes_are_numbered_in_the_order_they_commit(owned: Consents, database: Database) -> None:
    async def read() -> list[tuple[int, int]]:
        async with database.pool.acquire() as connection:
            return await store.changes(connection, 0, 1_000)

    seen: list[tuple[int, int]] = []
    writing = asyncio.gather(*(owned.own(ref, BEN) for ref in range(1, 80)))
    while not writing.done():
        rows = await read()
        assert rows[: len(seen)] == seen, "a change appeared before one that was read already"
        seen = rows
        await asyncio.sleep(0)
    await writing
    assert {ref for _, ref in await read()} >= set(range(1, 80))


async def test_a_database_that_is_away_changes_nothing(owned: Consents, database: Database) -> None:
    acts: list[Callable[[], Awaitable[Any]]] = [lambda: owned.grant(CAR, ANA, GRID, "charging", ENERGY)]
    await database.pool.close()
    for act in acts:
        with pytest.raises(Exception, match=r"database\.down"):
            await act()
