"""Messages on the line: recorded before they are receipted, receipted twice, one effect whatever is repeated."""

from __future__ import annotations

import asyncio

import pytest
from tests.services.exchange.hub import Dealer, Hub, eventually

from rocade.core.errors import Refused
from rocade.services.exchange import Judgement, Rule, Wanted
from rocade.services.exchange.housekeeping import Keeping, forget, remind
from rocade.services.exchange.reading import Answered, Inbound, LocalService
from rocade.trust.identity.keys import new_key
from rocade.wire.exchange import Address, Message, encode, sha256_of
from rocade.wire.exchange.messages import VOID

DAY_US = 86_400_000_000


async def judged(hub: Hub, dealer: Dealer, message: Message, outcome: str, code: str = "", reason: str = "") -> None:
    """The service `desk` decides."""
    sha = bytes.fromhex(sha256_of(encode(message)))
    (verdict,) = await hub.exchange.judge([
        Judgement(f"dealer/{dealer.identity.id}", message.id, sha, "local/desk", outcome, code, reason)  # type: ignore[arg-type]
    ])  # fmt: skip
    if verdict:
        raise verdict


async def test_a_signed_message_is_on_disk_and_gets_a_signed_receipt(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message(b"claim 1")
    assert await dealer.send(message) == (0, "")
    (receipt,) = await dealer.receipts(message)
    assert (receipt.sender, receipt.hub) == (dealer.identity.uri, "spiffe://test.rocade/eu/service/exchange")
    (standing,) = await hub.exchange.search(Wanted(party="dealer/FR-1"))
    assert (standing.state, standing.target, standing.sha256) == ("received", "local/desk", receipt.message_sha256)


async def test_the_root_of_each_commit_is_in_the_audit_log_before_its_receipts_leave(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for number in range(3):
        message = dealer.message(b"%d" % number)
        await dealer.send(message)
        await dealer.receipts(message)
    commits = await hub.database.pool.fetch("SELECT number FROM exchange_commit")
    for commit in commits:
        assert await hub.audited(f"exchange-commit:{commit['number']}"), "a receipt left without its root in the log"


async def test_a_retry_has_no_second_effect_and_brings_the_same_receipt(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message()
    sealed = dealer.sealed(message)
    for _ in range(3):
        assert await dealer.say("message", sealed) == (0, "")
    await dealer.until(lambda: len(dealer.bodies("receipt")) == 3)
    assert len(set(dealer.bodies("receipt"))) == 1, "a retry was receipted otherwise"
    assert len(await hub.exchange.search(Wanted())) == 1


async def test_a_message_signed_again_is_still_the_same_message(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message()
    first, second = dealer.sealed(message), dealer.sealed(message)
    assert first != second
    assert [await dealer.say("message", one) for one in (first, second)] == [(0, ""), (0, "")]
    assert len(await hub.exchange.search(Wanted())) == 1


async def test_the_same_identifier_with_another_body_is_a_conflict_kept_with_both_bodies(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    first = dealer.message(b"10 pieces", id="order-1")
    second = dealer.message(b"1000 pieces", id="order-1", sequence=first.sequence)
    await dealer.send(first)
    await dealer.send(second)
    (refusal,) = await dealer.receipts(second, "decided")
    assert (refusal.outcome, refusal.code) == ("refused", "exchange.message.conflict")
    assert refusal.message_sha256 == sha256_of(encode(second))
    new, old = await hub.exchange.search(Wanted(id="order-1"))
    assert (old.state, new.state) == ("received", "conflict")
    assert await hub.exchange.envelope(old.number) != await hub.exchange.envelope(new.number)
    assert (await dealer.send(second), len(await hub.exchange.search(Wanted()))) == ((0, ""), 2)


async def test_a_decision_comes_back_as_a_signed_receipt(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    good, bad = dealer.message(b"good"), dealer.message(b"bad")
    await dealer.send(good)
    await dealer.send(bad)
    await dealer.ask("replay", after=0)
    await judged(hub, dealer, good, "accepted")
    await judged(hub, dealer, bad, "refused", "warranty.vin", "no such vehicle")
    assert [one.outcome for one in await dealer.receipts(good, "decided")] == ["accepted"]
    (refusal,) = await dealer.receipts(bad, "decided")
    assert (refusal.outcome, refusal.code, refusal.reason) == ("refused", "warranty.vin", "no such vehicle")


async def test_a_decision_is_final_and_only_the_recipients(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message()
    await dealer.send(message)
    (standing,) = await hub.exchange.search(Wanted())
    with pytest.raises(Refused, match=r"exchange\.decision\.foreign"):
        await hub.exchange.decide(standing.number, "local/other", "refused", "a.b")
    await hub.exchange.decide(standing.number, "local/desk", "accepted")
    await hub.exchange.decide(standing.number, "local/desk", "accepted")
    with pytest.raises(Refused, match=r"exchange\.decision\.final"):
        await hub.exchange.decide(standing.number, "local/desk", "refused", "a.b")


async def test_a_duplicate_of_a_refused_message_gets_the_refusal_again(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1", brands=("renault",))).connect()
    message = dealer.message(to={"brand": "dacia"})
    await dealer.send(message)
    (first,) = await dealer.receipts(message, "decided")
    assert first.code == "dealers.brand.foreign"
    before = len(dealer.bodies("receipt"))
    assert await dealer.send(message) == (0, "")
    await dealer.until(lambda: len(dealer.bodies("receipt")) > before)
    assert {one.code for one in await dealer.receipts(message, "decided")} == {"dealers.brand.foreign"}
    assert len(await hub.exchange.search(Wanted())) == 1


async def test_every_refusal_is_found_with_its_reason(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.send(dealer.message())
    foreign = dealer.message(to={"brand": "dacia"})
    await dealer.send(foreign)
    assert (await dealer.send(dealer.message(), key=new_key()))[1] == "exchange.key.unknown"
    (found,) = await hub.exchange.search(Wanted(refused=True))
    assert (found.id, found.code) == (foreign.id, "dealers.brand.foreign")
    assert "dacia" in found.reason
    assert [one.id for one in await hub.exchange.search(Wanted(code="dealers"))] == [foreign.id]
    await hub.evidence.write()
    (turned,) = await hub.exchange.turned(party="dealer/FR-1", code="exchange.key")
    assert (turned.code, turned.id, turned.times) == ("exchange.key.unknown", "main-3", 1)


# --- order ---------------------------------------------------------------------------------------------------------------


async def handed_on(hub: Hub) -> list[str]:
    return [entry.id for entry in await hub.exchange.replay("local/desk", 0) if entry.kind == 0]


async def test_a_message_ahead_of_its_turn_waits_and_is_handed_on_in_order(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    one, two, three = (dealer.message(b"%d" % number) for number in (1, 2, 3))
    for message in (three, two):
        assert await dealer.send(message) == (0, "")
        await dealer.receipts(message)
    assert await handed_on(hub) == []
    await dealer.send(one)
    await eventually(lambda: _is(handed_on(hub), ["main-1", "main-2", "main-3"]))


async def test_streams_do_not_wait_for_each_other(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    late, orders = dealer.message(stream="claims", sequence=2), dealer.message(stream="orders")
    await dealer.send(late)
    await dealer.send(orders)
    assert await handed_on(hub) == [orders.id]


async def test_a_gap_that_too_many_wait_behind_is_answered(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocade.services.exchange.recording.WAIT_MOST", 2)
    dealer = await (await hub.dealer("FR-1")).connect()
    told = [await dealer.send(dealer.message(sequence=number, id=f"m{number}")) for number in (2, 3, 4)]
    assert told == [(0, ""), (0, ""), (0x97, "exchange.sequence.gap")]
    await dealer.send(dealer.message(sequence=1, id="m1"))
    assert await dealer.send(dealer.message(sequence=4, id="m4")) == (0, "")
    assert await handed_on(hub) == ["m1", "m2", "m3", "m4"]


async def test_a_gap_that_stays_is_told_to_its_sender(hub: Hub, clock: object) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.send(dealer.message(sequence=2, id="m2"))
    told = await remind(hub.database, hub.questions, hub.clock.now_us() + 61_000_000)
    assert list(told) == [("dealer/FR-1", "main", 1)]
    await dealer.until(lambda: dealer.bodies("notice"))
    assert b"exchange.sequence.missing" in dealer.bodies("notice")[0]


async def test_a_number_used_before_is_refused(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.send(dealer.message(sequence=1, id="a"))
    again = dealer.message(sequence=1, id="b")
    await dealer.send(again)
    (refusal,) = await dealer.receipts(again, "decided")
    assert refusal.code == "exchange.sequence.used"


async def test_a_void_message_fills_its_place_and_goes_to_nobody(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.send(dealer.message(sequence=2, id="m2"))
    void = dealer.message(sequence=1, id="void-1", content_type=VOID)
    await dealer.send(void)
    assert [one.outcome for one in await dealer.receipts(void, "decided")] == ["accepted"]
    assert await handed_on(hub) == ["m2"]


async def test_an_operator_may_skip_what_will_never_come(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for number in (3, 4):
        await dealer.send(dealer.message(sequence=number, id=f"m{number}"))
    await hub.exchange.skip("dealer/FR-1", "main", 3, "operator:test")
    assert await handed_on(hub) == ["m3", "m4"]
    assert await hub.audited("exchange.skip")


async def test_a_refused_message_ahead_of_its_turn_is_decided_in_its_turn(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    bad = dealer.message(sequence=2, id="bad", to={"brand": "dacia"})
    await dealer.send(bad)
    await dealer.ask("replay", after=0)
    await dealer.send(dealer.message(sequence=1, id="good"))
    (refusal,) = await dealer.receipts(bad, "decided")
    assert refusal.code == "dealers.brand.foreign"
    assert await dealer.send(dealer.message(sequence=3, id="next")) == (0, "")
    assert await handed_on(hub) == ["good", "next"]


# --- down the line, replay from a cursor -------------------------------------------------------------------------------------


async def test_a_message_between_sites_arrives_with_both_signatures_and_its_recipient_decides(hub: Hub) -> None:
    await hub.rules(Rule(to="site", service="stock"))
    sender, recipient = await hub.dealer("FR-1"), await hub.dealer("FR-2")
    await sender.connect()
    await recipient.connect()
    await recipient.ask("replay", after=0)
    await sender.ask("replay", after=0)
    message = sender.message(b"have you got one?", "stock", to={"site": "FR-2"})
    await sender.send(message)
    assert await recipient.messages(1) == [message]
    assert await recipient.decide(message, "refused", "stock.none", "sold yesterday") == (0, "")
    (refusal,) = await sender.receipts(message, "decided")
    assert (refusal.code, refusal.reason) == ("stock.none", "sold yesterday")


async def test_a_log_is_replayed_from_the_cursor_and_nothing_is_lost_with_a_connection(hub: Hub) -> None:
    await hub.rules(Rule(to="site", service="stock"))
    sender, recipient = await hub.dealer("FR-1"), await hub.dealer("FR-2")
    await sender.connect()
    sent = [sender.message(b"%d" % number, "stock", to={"site": "FR-2"}) for number in range(150)]
    for message in sent[:140]:
        await sender.send(message)
    await recipient.connect()
    await recipient.ask("replay", after=0)
    assert await recipient.messages(140) == sent[:140]
    half = recipient.deliveries()[69].cursor
    recipient.hang_up()
    for message in sent[140:]:
        await sender.send(message)
    recipient.heard.clear()
    await recipient.connect()
    await recipient.ask("replay", after=half)
    assert await recipient.messages(80) == sent[70:]
    cursors = [one.cursor for one in recipient.deliveries()]
    assert cursors == sorted(set(cursors))


async def test_receipts_that_got_lost_are_asked_for_again(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message()
    await dealer.send(message)
    await dealer.receipts(message)
    first = dealer.bodies("receipt")
    dealer.heard.clear()
    await dealer.ask("receipts", ids=[message.id, "unknown"])
    await dealer.receipts(message)
    assert dealer.bodies("receipt") == first


async def test_the_hub_sends_in_its_own_name_once(hub: Hub) -> None:
    await hub.rules(Rule(to="site", service="news"))
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.ask("replay", after=0)
    made = Message(
        id="campaign-1", sender=hub.signer.uri, recipient=Address(service="news", site="FR-1"), stream="news", sequence=1,
        content_class="technical", content_type="text/plain", created_us=hub.clock.now_us(), body=b"hello",
    )  # fmt: skip
    first, second = await hub.exchange.send(made), await hub.exchange.send(made)
    assert first == second
    assert await dealer.messages(1) == [made]


# --- services of this hub, retention -----------------------------------------------------------------------------------------


async def test_a_service_of_this_hub_reads_its_messages_in_order_and_decides(hub: Hub) -> None:
    seen: list[bytes] = []

    async def desk(batch: list[Inbound]) -> list[Answered | None]:
        seen.extend(one.message.body for one in batch)
        return [
            Answered("refused", "desk.no", "not today") if one.message.body == b"3" else Answered("accepted")
            for one in batch
        ]

    service = LocalService("desk", desk, hub.exchange.judge)  # type: ignore[arg-type]
    hub.tasks.append(asyncio.create_task(service.run(hub.database)))
    dealer = await (await hub.dealer("FR-1")).connect()
    await dealer.ask("replay", after=0)
    sent = [dealer.message(b"%d" % number) for number in range(6)]
    for message in sent:
        await dealer.send(message)
    outcomes = [(await dealer.receipts(message, "decided"))[0].outcome for message in sent]
    assert outcomes == ["accepted"] * 3 + ["refused"] + ["accepted"] * 2
    assert seen == [b"%d" % number for number in range(6)]


async def test_each_class_is_kept_for_its_own_time_and_proofs_stay(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    sent = {name: dealer.message(name.encode(), content_class=name) for name in ("technical", "customer", "fiscal")}
    for message in sent.values():
        await dealer.send(message)
        await judged(hub, dealer, message, "accepted")
    undecided = dealer.message(b"open", content_class="technical")
    await dealer.send(undecided)
    keeping = Keeping(technical_days=90, customer_days=365, fiscal_days=3660)
    for days, gone in ((80, 0), (100, 1), (400, 1), (3700, 1)):
        assert await forget(hub.database, keeping, hub.clock.now_us() + days * DAY_US) == gone
    found = {one.id: one for one in await hub.exchange.search(Wanted())}
    with pytest.raises(Refused, match=r"exchange\.message\.gone"):
        await hub.exchange.envelope(found[sent["fiscal"].id].number)
    assert await hub.exchange.envelope(found[undecided.id].number), "what nobody has decided keeps its body"
    assert len(await hub.exchange.bundles("dealer/FR-1", [sent["fiscal"].id])) == 2, "receipts stay"


async def _is[T](asked: object, wanted: T) -> bool:
    return await asked == wanted  # type: ignore[misc]
