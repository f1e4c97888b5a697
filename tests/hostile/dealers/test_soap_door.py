"""The same attacks at the served door: each gets a signed fault with its code, is audited under it, and reaches no desk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from lxml import etree

sys.path.insert(0, str(Path(__file__).parents[2] / "doors/soap"))

from soap_parties import RANDOM
from soap_stand import Desk, Stand
from tests.hostile.dealers.test_soap import BYTES, CHANGED, WRAPPED, resigned

from rocade.core.errors import Refused
from rocade.doors.soap import RegionSigners, Verifier, names
from rocade.doors.soap.signing import seal
from rocade.trust.identity import tls
from rocade.wire.resources import NAMESPACE
from rocade.wire.strict_xml import MESSAGE

TYPE = {"content-type": f"{names.CONTENT_TYPES['1.2']}; charset=utf-8"}


class Silent(Desk):
    """Nobody may get here."""

    async def price(self, caller: object, asked: object) -> None:  # type: ignore[override]
        raise AssertionError("an attack reached the desk")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    made = Stand(tmp_path_factory.mktemp("attacked"), Silent())
    with made.served():
        yield made


def question() -> etree._Element:
    content = etree.Element(f"{{{NAMESPACE}}}GetPrice", nsmap={"r": NAMESPACE})
    for name, text in (("PriceListID", "acme-fr-retail"), ("ItemID", "1610001234")):
        etree.SubElement(content, f"{{{NAMESPACE}}}{name}").text = text
    return content


def attacks(stand: Stand) -> Iterator[tuple[str, bytes]]:
    """(code, envelope) of every attack of the other file."""
    parties = stand.parties

    def envelope() -> bytes:
        return seal(question(), "1.2", parties.ec, parties.clock.now_us(), RANDOM).envelope

    for change, code in WRAPPED:
        root = etree.fromstring(envelope())
        change(root)
        yield code, etree.tostring(root)
    for _, change, code in CHANGED:
        root = etree.fromstring(envelope())
        change(root)
        is_whole = {"SignedInfo", "SignatureValue"} <= {etree.QName(one).localname for one in root.iter()}
        yield code, resigned(root, parties.ec) if is_whole else etree.tostring(root)
    for _, spell, code in BYTES:
        yield code, spell(envelope().decode())


def test_every_attack_is_answered_with_a_signed_fault_and_audited(stand: Stand) -> None:
    signers = RegionSigners(lambda: stand.parties.region.issuers, ("service",), lambda _: False)
    reader = Verifier(signers, stand.parties.clock)
    count = 0
    with httpx.Client(verify=tls.client_context(stand.site), trust_env=False, base_url=stand.address) as client:
        for code, envelope in attacks(stand):
            if len(envelope) > MESSAGE.size_bytes:
                continue  # the HTTP door stops it before: the test below
            before = len(stand.audit.entries)
            answer = client.post("/v1/soap", content=envelope, headers=TYPE)
            fault = reader.verify(answer.content, answer.headers["content-type"]).content
            assert answer.status_code == 400
            assert fault.findtext(f".//{{{NAMESPACE}}}Code") == code
            (entry,) = stand.audit.entries[before:]
            assert (entry.actor, entry.reason, entry.outcome) == (stand.parties.site.uri, code, "refused")
            count += 1
    assert count > 85


def test_what_is_too_large_is_stopped_and_audited_by_nobody_reading_it(stand: Stand) -> None:
    with httpx.Client(verify=tls.client_context(stand.site), trust_env=False, base_url=stand.address) as client:
        answer = client.post("/v1/soap", content=b"<" * (MESSAGE.size_bytes + 1), headers=TYPE)
    assert answer.status_code == 413
    assert answer.json()["code"] == "http.body.too_large"


def test_a_fault_confirms_nothing_it_did_not_verify(stand: Stand) -> None:
    """An attacker's own signature value does not come back under the hub's signature."""
    signers = RegionSigners(lambda: stand.parties.region.issuers, ("service",), lambda _: False)
    root = etree.fromstring(seal(question(), "1.2", stand.parties.ec, stand.parties.clock.now_us(), RANDOM).envelope)
    next(root.iter("{*}ItemID")).text = "EVIL"
    with httpx.Client(verify=tls.client_context(stand.site), trust_env=False, base_url=stand.address) as client:
        answer = client.post("/v1/soap", content=etree.tostring(root), headers=TYPE)
    assert Verifier(signers, stand.parties.clock).verify(answer.content).confirms == ""


def test_nobody_without_a_certificate_gets_a_word_in(stand: Stand) -> None:
    context = tls.client_context(stand.site)
    bare = httpx.create_ssl_context(verify=str(stand.site / "trust.pem"))
    assert context is not bare
    with pytest.raises(httpx.HTTPError), httpx.Client(verify=bare, trust_env=False, base_url=stand.address) as client:
        client.post("/v1/soap", content=b"<a/>", headers=TYPE)


def test_a_replay_is_known_to_every_process(stand: Stand) -> None:
    """Two processes have two memories; the one they share refuses what either has seen."""
    import asyncio

    from rocade.doors.soap.dispatch import Dispatcher

    seen: set[bytes] = set()

    async def is_new(digest: bytes, _until_us: int) -> bool:
        known = digest in seen
        seen.add(digest)
        return not known

    parties, desk = stand.parties, Desk()
    made = [Dispatcher(parties.verifier(), desk, lambda: parties.hub, parties.clock, RANDOM, is_new) for _ in range(2)]
    envelope = seal(question(), "1.2", parties.ec, parties.clock.now_us(), RANDOM).envelope
    codes = [asyncio.run(one.answer(envelope, TYPE["content-type"], parties.site.uri)).code for one in made]
    assert codes == ["", "soap.replay"]
    with pytest.raises(Refused, match=r"soap\.replay"):
        verifier = parties.verifier()
        verifier.verify(envelope)
        verifier.verify(envelope)
