"""What is tried against the exchange: each refused with its own code, kept as evidence, audited, nothing lost and nothing half done."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
from tests.clocks import PassingClock
from tests.services.exchange.hub import ROUTE, Dealer, Hub, eventually, running

from rocade.core.errors import RocadeError
from rocade.fabric.database import Database
from rocade.services.exchange import Quota, Rule, Wanted
from rocade.trust.identity import envelope
from rocade.trust.identity.directory import load_key
from rocade.trust.identity.keys import key_id, new_key
from rocade.wire.exchange import MESSAGE_TYPE, encode

SEED = 20_261_122


@pytest.fixture(name="clock")
def a_clock() -> PassingClock:
    return PassingClock()


@pytest.fixture(name="hub")
async def a_hub(tmp_path: Path, database: Database, clock: PassingClock) -> AsyncIterator[Hub]:
    async with running(tmp_path / "eu", database, clock=clock) as hub:
        await hub.rules(ROUTE)
        yield hub


def changed(sealed: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(sealed), **fields}).encode()


def broken(dealer: Dealer, name: str) -> bytes:
    """A good message with one thing wrong."""
    message = dealer.message(b"10 pieces")
    sealed = dealer.sealed(message)
    document = json.loads(sealed)
    payload = base64.b64decode(document["payload"])
    key = load_key(dealer.directory)

    def resealed(content: bytes, kind: str = MESSAGE_TYPE) -> bytes:
        return envelope.seal(kind, content, key)

    signature = document["signatures"][0]
    match name:
        case "body changed":
            return changed(sealed, payload=base64.b64encode(payload.replace(b'"sequence":1', b'"sequence":2')).decode())
        case "signature of another message":
            other = json.loads(dealer.sealed(dealer.message(b"other")))
            return changed(sealed, signatures=other["signatures"])
        case "made for another purpose":
            return resealed(payload, "application/vnd.rocade.decision+json")
        case "type relabelled":
            return changed(sealed, payloadType="application/vnd.rocade.decision+json")
        case "no signature":
            return changed(sealed, signatures=[])
        case "algorithm none":
            return changed(sealed, signatures=[{**signature, "algorithm": "none"}])
        case "HMAC with the public key":
            return changed(sealed, signatures=[{**signature, "algorithm": "hmac-sha256"}])
        case "own new key under the certified name":
            forged = json.loads(envelope.seal(MESSAGE_TYPE, payload, new_key()))["signatures"][0]
            return changed(sealed, signatures=[{**forged, "keyid": signature["keyid"]}])
        case "a good and a forged signature":
            forged = json.loads(envelope.seal(MESSAGE_TYPE, payload, new_key()))["signatures"][0]
            return changed(sealed, signatures=[signature, {**forged, "keyid": signature["keyid"]}])
        case "no envelope":
            return b"{}"
        case "no JSON":
            return b"\xff\xfe\x00"
        case "deep JSON":
            return b"[" * 20_000
        case "unknown field":
            return resealed(payload[:-1] + b',"also":1}')
        case "number as text":
            return resealed(payload.replace(b'"sequence":1', b'"sequence":"1"'))
        case "sequence zero":
            return resealed(payload.replace(b'"sequence":1', b'"sequence":0'))
        case "class unknown":
            return resealed(payload.replace(b'"technical"', b'"secret"'))
        case "brand with a slash":
            return resealed(payload.replace(b'"renault"', b'"../x"'))
        case "id with a line end":
            return resealed(payload.replace(b'"main-1"', b'"main-1\\n"'))
        case "too large":
            return dealer.sealed(dealer.message(bytes((512 << 10) + 1)))
        case "another sender":
            return resealed(payload.replace(b"/dealer/FR-1", b"/dealer/FR-2"))
        case "another region's sender":
            return resealed(payload.replace(b"/eu/", b"/us/"))
        case "kind raised to service":
            return resealed(payload.replace(b"/dealer/FR-1", b"/service/exchange"))
    raise AssertionError(name)


REFUSED = {
    "body changed": "trust.envelope.signature",
    "signature of another message": "trust.envelope.signature",
    "made for another purpose": "trust.envelope.type",
    "type relabelled": "trust.envelope.type",
    "no signature": "exchange.key.unknown",
    "algorithm none": "trust.envelope.signer",
    "HMAC with the public key": "trust.envelope.signer",
    "own new key under the certified name": "trust.envelope.signature",
    "a good and a forged signature": "trust.envelope.signature",
    "no envelope": "trust.envelope.malformed",
    "no JSON": "trust.envelope.malformed",
    "deep JSON": "trust.envelope.malformed",
    "unknown field": "exchange.message.malformed",
    "number as text": "exchange.message.malformed",
    "sequence zero": "exchange.message.malformed",
    "class unknown": "exchange.message.malformed",
    "brand with a slash": "exchange.message.malformed",
    "id with a line end": "exchange.message.malformed",
    "too large": "exchange.message.size",
    "another sender": "exchange.sender.foreign",
    "another region's sender": "exchange.sender.foreign",
    "kind raised to service": "exchange.sender.foreign",
}
"""What is wrong with a message -> the code it is refused with."""


async def test_what_is_not_a_message_of_this_sender_is_refused(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for name, code in REFUSED.items():
        dealer.sequences.clear()
        reason, said = await dealer.say("message", broken(dealer, name))
        assert (name, said, reason >= 0x80) == (name, code, True)
        await hub.evidence.write()
        newest = (await hub.exchange.turned())[0]
        assert (newest.party, newest.code) == ("dealer/FR-1", code), name
    assert await hub.exchange.search(Wanted()) == [], "nothing of it was recorded as a message"
    for code in set(REFUSED.values()):
        await eventually(lambda code=code: hub.audited(code))
    dealer.sequences.clear()
    assert await dealer.send(dealer.message(b"after all that")) == (0, ""), "the line goes on"


async def test_brand_a_on_brand_bs_route_is_refused_and_recorded(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1", brands=("renault",))).connect()
    message = dealer.message(to={"brand": "dacia"})
    assert await dealer.send(message) == (0, "")
    assert [one.code for one in await dealer.receipts(message, "decided")] == ["dealers.brand.foreign"]


async def test_a_secondary_site_acting_as_primary_is_refused(hub: Hub) -> None:
    await hub.rules(Rule(to="local/desk", primary_only=True))
    hub.places.add("FR-1")
    dealer = await (await hub.dealer("FR-1-2", primary="FR-1")).connect()
    message = dealer.message()
    await dealer.send(message)
    assert [one.code for one in await dealer.receipts(message, "decided")] == ["exchange.route.primary"]


async def test_a_provider_signs_nothing(hub: Hub) -> None:
    hub.places.providers.add("helpers")
    provider = await (await hub.dealer("helpers", "partner")).connect()
    assert await provider.send(provider.message()) == (-1 if provider.ended else 0x83, "dealers.provider.signs")
    site = await hub.dealer("FR-1")
    smuggled = site.sealed(site.message(), key=load_key(provider.directory))
    await site.connect()
    assert (await site.say("message", smuggled))[1] == "exchange.key.unknown"


async def test_a_partner_that_no_rule_names_sends_nothing(hub: Hub) -> None:
    partner = await (await hub.dealer("acme", "partner")).connect()
    assert await partner.send(partner.message()) == (0x87, "exchange.sender.role")
    await hub.rules(ROUTE, Rule(to="partner/acme", service="tax"))
    assert await partner.send(partner.message(sequence=1)) == (0, "")


async def test_a_site_that_is_unknown_or_closed_does_not_come_in(hub: Hub) -> None:
    dealer = await hub.dealer("FR-1")
    del hub.places.sites["FR-1"]
    with pytest.raises(RocadeError, match=r"dealers\.site\.unknown"):
        await dealer.connect()


@pytest.mark.parametrize("kind", ["vehicle", "operator"])
async def test_other_kinds_of_party_have_nothing_to_say_here(hub: Hub, kind: str) -> None:
    stranger = await hub.dealer("VF1AAAAA555111111", kind)
    with pytest.raises(RocadeError):
        await stranger.connect()


async def test_topics_of_others_are_refused(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for tail in ("batch", "json", "head", "message/x", ""):
        assert await dealer.say(tail, b"x") == (0x87, "mqtt.topic")


async def test_a_partner_has_fewer_words_than_a_site(hub: Hub) -> None:
    partner = await (await hub.dealer("acme", "partner")).connect()
    assert await partner.say("state", b"{}") == (0x87, "mqtt.topic")


async def test_somebody_elses_decision_does_not_count(hub: Hub) -> None:
    sender, thief = await hub.dealer("FR-1"), await hub.dealer("FR-9")
    await sender.connect()
    await thief.connect()
    message = sender.message()
    await sender.send(message)
    assert await thief.decide(message, "accepted") == (0x87, "exchange.decision.foreign")
    assert await sender.decide(message, "accepted") == (0x87, "exchange.decision.foreign")


async def test_a_stolen_key_without_the_certificate_opens_no_line(hub: Hub) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    dealer = await hub.dealer("FR-1")
    context.load_verify_locations(dealer.directory / "trust.pem")
    with pytest.raises(RocadeError):
        await dealer.connect(context=context)


async def test_a_flood_is_answered_by_quota_and_others_go_on(tmp_path: Path, database: Database) -> None:
    async with running(tmp_path / "eu", database, quota=Quota(messages_per_s=0.001, burst_s=20_000)) as hub:
        await hub.rules(ROUTE)
        flooder, other = await hub.dealer("FR-1"), await hub.dealer("FR-2")
        await flooder.connect()
        await other.connect()
        told = await asyncio.gather(*(flooder.send(flooder.message(b"%d" % number)) for number in range(60)))
        assert [one for one in told if one != (0, "")] == [(0x97, "exchange.quota")] * 40
        assert await other.send(other.message()) == (0, "")
        flooder.hang_up()
        await flooder.connect()
        assert (await flooder.send(flooder.message()))[1] == "exchange.quota", "coming again is no way to more"
        await hub.evidence.write()
        assert sum(one.times for one in await hub.exchange.turned(code="exchange.quota")) == 41
        assert len(await hub.audited("exchange.quota")) < 41, "a flood is audited as a flood"


async def test_a_flood_costs_the_database_nothing(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Admission comes before any reading."""
    async with running(tmp_path / "eu", database, quota=Quota(messages_per_s=0.001, burst_s=1_000)) as hub:
        await hub.rules(ROUTE)
        dealer = await (await hub.dealer("FR-1")).connect()
        await dealer.send(dealer.message())
        asked = []
        monkeypatch.setattr(hub.recorder, "record", lambda *_: asked.append("record"))
        monkeypatch.setattr(hub.keys, "keys", lambda *_: asked.append("keys"))
        for _ in range(20):
            assert (await dealer.send(dealer.message(), key=new_key()))[1] == "exchange.quota"
        assert asked == []


async def test_bytes_at_random_end_in_an_answer(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    draw = Random(SEED)
    sealed = dealer.sealed(dealer.message())
    for _ in range(150):
        content = bytearray(sealed)
        for _ in range(draw.randint(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        reason, code = await dealer.say(draw.choice(("message", "decision", "keys")), bytes(content))
        assert reason in {0, 0x80, 0x83, 0x87, 0x97, 0x99}, (reason, code)
        assert not dealer.ended
    assert await dealer.send(dealer.message()) == (0, "")


async def test_what_another_party_is_asked_for_is_never_given(hub: Hub) -> None:
    one, other = await hub.dealer("FR-1"), await hub.dealer("FR-2")
    await one.connect()
    await other.connect()
    message = one.message()
    await one.send(message)
    await other.ask("receipts", ids=[message.id])
    await other.ask("replay", after=0)
    await other.ask("signers")
    await other.until(lambda: other.bodies("signers"))
    assert other.bodies("receipt") == []
    assert other.bodies("message") == []


QUESTIONS = (
    b"", b"[]", b'{"want":"everything"}', b'{"want":"replay","after":-1}', b'{"want":"receipts","ids":"x"}', b'{"want":"\xff"}',
)  # fmt: skip


async def test_questions_are_read_strictly(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for question in QUESTIONS:
        assert (await dealer.say("ask", question))[1] == "exchange.ask"


async def test_a_key_named_twice_is_still_one_signature(hub: Hub) -> None:
    """Two signatures of the same key over the same content say nothing more than one."""
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message()
    document = json.loads(dealer.sealed(message))
    again = json.loads(dealer.sealed(message))["signatures"]
    assert key_id(load_key(dealer.directory).public_key()).hex() == again[0]["keyid"]
    assert await dealer.say(
        "message", changed(json.dumps(document).encode(), signatures=document["signatures"] + again)
    ) == (0, "")
    assert len(await hub.exchange.search(Wanted())) == 1
    assert encode(message)
