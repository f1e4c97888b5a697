"""Contracts: made by the owner, taken up by the third party, ended by either, by time, by a change of owner; terms and what is withheld."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import zstandard
from tests.services.sharing.conftest import LATITUDE, OWNER, PARTY, SIGNALS, SOC, SPEED, Stand, until

from rocade.core.data_classes import mask
from rocade.core.errors import Refused
from rocade.services.sharing import Contract, outbox, records, tidy
from rocade.services.sharing.origin import ORIGINS, origin_of, rules

HOUR_US = 3_600_000_000


async def given(stand: Stand, contract: Contract) -> list[dict[str, Any]]:
    """What goes out of all that waits."""
    await stand.table.refresh()
    found, _, _ = await stand.feeding.after([contract], 0)
    return [msgspec.json.decode(one.body) for one in found if one.body]


def names(data: list[dict[str, Any]]) -> list[str]:
    return sorted({series["signal"].rpartition(".")[2] for one in data for series in one["series"]})


async def test_nothing_waits_before_a_contract_is_taken_up(stand: Stand) -> None:
    ref = await stand.vehicle()
    made = await stand.offer(ref)
    await stand.send(ref)
    assert await stand.waiting() == 0
    await stand.sharing.accept(PARTY, made.id, "spiffe://acme")
    await until(lambda: made.id in stand.book.by_id)
    await stand.send(ref)
    assert await stand.waiting() == 1


async def test_what_waits_is_sealed_and_bound_to_its_place(stand: Stand) -> None:
    ref = await stand.vehicle()
    await stand.contract(ref)
    await stand.send(ref)
    (waiting,) = await outbox.store.after(stand.database.pool, [ref], 0, 10)
    assert b"time_us" not in waiting.body
    assert waiting.samples == 6
    ((_, body),) = await outbox.opened(stand.database.keyring, [waiting])
    assert b"time_us" in zstandard.decompress(body, max_output_size=10_000)
    moved = msgspec.structs.replace(waiting, number=waiting.number + 1)
    assert [one.number for one, _ in await outbox.opened(stand.database.keyring, [moved, waiting])] == [waiting.number]


async def test_signals_named_are_the_only_ones_that_leave(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy", signals=(SOC,))
    await stand.send(ref)
    assert names(await given(stand, contract)) == ["Current"]


async def test_trade_secrets_are_withheld_by_name_from_contracts_made_since(stand: Stand) -> None:
    before = await stand.contract(await stand.vehicle(), "driving")
    await stand.sharing.set_terms(
        "", "Cost of delivery, at most 2 EUR a month.", (SPEED,), "calibration of a supplier", "operator"
    )
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy")
    await stand.send(ref)
    (data,) = await given(stand, contract)
    assert data["withheld"] == ["Vehicle.Speed"]
    assert names([data]) == ["Current"]
    await stand.send(before.ref)
    assert names(await given(stand, before)) == ["Speed"], "what was agreed stays as it was"
    assert (await stand.sharing.terms(contract.terms)).reason == "calibration of a supplier"


async def test_withholding_without_a_reason_is_refused(stand: Stand) -> None:
    with pytest.raises(Refused) as refused:
        await stand.sharing.set_terms("", "", (SPEED,), " ", "operator")
    assert refused.value.code == "sharing.signals"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"party": "operator"}, "sharing.party"),
        ({"party": "person:0b"}, "sharing.party"),
        ({"ways": ("post",)}, "sharing.way"),
        ({"ways": ()}, "sharing.way"),
        ({"classes": 0}, "sharing.class"),
        ({"classes": mask(["control.access"])}, "sharing.class"),
        ({"signals": (SOC,)}, "sharing.signals"),
        ({"signals": (4_000_000_000,)}, "catalogue.signal.unknown"),
        ({"purpose": "own"}, "consent.purpose.unknown"),
        ({"person": "person:0b"}, "consent.owner.missing"),
        ({"until_us": 1}, "consent.period"),
    ],
)
async def test_contracts_that_cannot_be_are_refused_and_leave_nothing(
    stand: Stand, changed: dict[str, Any], code: str
) -> None:
    ref = await stand.vehicle()
    wanted = {"person": OWNER, "party": PARTY, "purpose": "insurance", "classes": mask(["driving"])}
    with pytest.raises(Refused) as refused:
        await stand.sharing.share(ref, **{**wanted, **changed})
    assert refused.value.code == code
    assert await stand.sharing.of_vehicle(ref) == []
    assert await stand.consents.grants(ref) == []


async def test_a_narrowing_that_is_refused_narrows_nothing(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy", signals=(SOC,))
    with pytest.raises(Refused, match="nothing would be left"):
        await stand.sharing.narrow(ref, OWNER, contract.id, mask(["driving"]))
    await stand.table.refresh()
    assert stand.sharing.classes_of(contract) == contract.classes


async def test_a_contract_declined_while_it_is_narrowed_stays_ended(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy")
    narrow = stand.consents.narrow

    async def declined_meanwhile(*arguments: Any) -> Any:
        made = await narrow(*arguments)
        await stand.sharing.decline(PARTY, contract.id, "spiffe://acme")
        return made

    monkeypatch.setattr(stand.consents, "narrow", declined_meanwhile)
    with pytest.raises(Refused) as refused:
        await stand.sharing.narrow(ref, OWNER, contract.id, mask(["driving"]))
    assert (refused.value.code, refused.value.facts["why"]) == ("sharing.contract.ended", "declined")
    assert await stand.sharing.of_vehicle(ref, is_live_only=True) == []


async def test_a_narrower_version_shows_less_at_once_and_cannot_be_widened(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, "driving", "energy", "location")
    await stand.send(ref)
    narrower = await stand.sharing.narrow(ref, OWNER, contract.id, mask(["energy"]))
    assert narrower.version == 2
    assert names(await given(stand, contract)) == ["Current"]
    with pytest.raises(Refused) as refused:
        await stand.sharing.narrow(ref, OWNER, contract.id, mask(["energy", "location"]))
    assert refused.value.code == "consent.grant.widens"
    assert [one.why_ended for one in await stand.sharing.versions(contract.id)] == ["narrowed", ""]


async def end_by_owner(stand: Stand, one: Contract) -> None:
    await stand.sharing.withdraw(one.ref, OWNER, one.id)


async def end_on_the_consents_page(stand: Stand, one: Contract) -> None:
    (grant,) = await stand.consents.grants(one.ref, True)
    await stand.consents.withdraw(one.ref, OWNER, grant.id)


async def end_by_party(stand: Stand, one: Contract) -> None:
    await stand.sharing.decline(PARTY, one.id, "spiffe://acme")


async def end_by_region(stand: Stand, one: Contract) -> None:
    assert await stand.sharing.stop(PARTY, "operator") == 1


async def end_by_time(stand: Stand, one: Contract) -> None:
    stand.clock.ahead_us += 2 * HOUR_US


async def end_by_sale(stand: Stand, one: Contract) -> None:
    await stand.database.pool.execute(
        "UPDATE consent_grant SET ended_us = $1, why_ended = 'owner_changed'", stand.clock.now_us()
    )
    async with stand.database.pool.acquire() as connection, connection.transaction():
        await stand.consents.renamed(connection, one.ref, one.ref)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (end_by_owner, "withdrawn"),
        (end_on_the_consents_page, "withdrawn"),
        (end_by_party, "declined"),
        (end_by_region, "stopped"),
        (end_by_time, "expired"),
        (end_by_sale, "owner_changed"),
    ],
)
async def test_whatever_ends_a_contract_nothing_leaves_any_more(stand: Stand, end: Any, why: str) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref, until_us=stand.clock.now_us() + HOUR_US)
    await stand.send(ref)
    await end(stand, contract)
    assert await given(stand, contract) == []
    await tidy(stand.feeding, stand.audit)
    newest = await stand.sharing.find(contract.id)
    assert newest is not None
    assert (newest.state, newest.why_ended) == ("ended", why)
    assert [one.kind for one in await stand.sharing.log(contract.id)].count("ended") == 1
    assert await stand.waiting() == 0
    with pytest.raises(Refused) as refused:
        await stand.sharing.for_party(PARTY, contract.id, "parquet")
    assert (refused.value.code, refused.value.facts["why"]) == ("sharing.contract.ended", why)


async def test_after_an_erasure_the_contract_goes_on_and_what_waited_is_gone(stand: Stand) -> None:
    ref, renewed = await stand.vehicle(), stand.random.bits(62)
    contract = await stand.contract(ref)
    await stand.send(ref)
    async with stand.database.pool.acquire() as connection, connection.transaction():
        await stand.sharing.forget(connection, ref)
        await stand.consents.renamed(connection, ref, renewed)
        await stand.database.keyring.destroy(connection, [ref])
    await stand.table.refresh()
    await tidy(stand.feeding, stand.audit)
    await until(lambda: renewed in stand.book.by_ref)
    await stand.send(ref)
    await stand.send(renewed, {SPEED: [9.0]})
    now = stand.book.by_id[contract.id]
    assert [one["series"][0]["value"] for one in await given(stand, now)] == [[9]]


async def test_another_party_does_not_even_learn_that_there_is_a_contract(stand: Stand) -> None:
    contract = await stand.contract(await stand.vehicle())
    with pytest.raises(Refused) as refused:
        await stand.sharing.for_party("partner:other", contract.id)
    assert refused.value.code == "sharing.contract.unknown"


async def test_the_consent_of_a_feed_opens_no_other_door(stand: Stand) -> None:
    contract = await stand.contract(await stand.vehicle())
    assert stand.table.mask(contract.ref, PARTY, "insurance", stand.clock.now_us()) == 0
    assert stand.table.mask(contract.ref, contract.recipient, "insurance", stand.clock.now_us())


def test_every_signal_has_an_origin_and_every_rule_names_a_signal() -> None:
    assert {origin_of(signal.name) for signal in SIGNALS} == set(ORIGINS)
    known = [signal.name for signal in SIGNALS]
    missing = [rule for rule in rules() if not any(name == rule or name.startswith(rule + ".") for name in known)]
    assert missing == []


def test_a_signal_nobody_has_named_is_called_by_its_number() -> None:
    found = records.about(SIGNALS, 4_000_000_000)
    assert (found.name, found.data_class) == ("4000000000", "other")
    assert records.about(SIGNALS, LATITUDE).data_class == "location"
