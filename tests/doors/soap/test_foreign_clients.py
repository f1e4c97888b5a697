"""SOAP clients that nobody here wrote: zeep in both versions, npm `soap`, curl; and what they miss that our SDK refuses."""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import xmlsec
import zeep
from lxml import etree
from signxml import SignatureConfiguration, XMLVerifier
from soap_parties import RANDOM, SITE, question
from soap_stand import Stand, message
from zeep.wsse.signature import BinarySignature

from rocade.core.errors import Refused
from rocade.doors.soap import RegionSigners, Verifier, names
from rocade.doors.soap.signing import seal
from rocade.sdk import Answers, Client
from rocade.trust.identity import tls
from rocade.wire.resources.operations import OPERATIONS, GetPrice

ROOT = Path(__file__).resolve().parents[3]
NODE_MODULES = ROOT / "build/npm/node_modules"
METHODS = {"rsa": xmlsec.Transform.RSA_SHA256, "ec": xmlsec.Transform.ECDSA_SHA256}


class Stamped(BinarySignature):
    """zeep's own signature, with the Timestamp that zeep leaves to its user, and verified against the hub's certificate."""

    def __init__(self, *arguments: Any, hub: bytes, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._hub = hub

    def apply(self, envelope: Any, headers: Any) -> Any:
        security = zeep.wsse.utils.get_security_header(envelope)
        stamp = etree.SubElement(security, f"{{{names.WSU}}}Timestamp")
        now = datetime.now(UTC)
        for name, at in (("Created", now), ("Expires", now + timedelta(minutes=5))):
            etree.SubElement(stamp, f"{{{names.WSU}}}{name}").text = at.isoformat(timespec="milliseconds")
        return super().apply(envelope, headers)

    def verify(self, envelope: Any) -> Any:
        self.cert_data, own = self._hub, self.cert_data
        try:
            return super().verify(envelope)
        finally:
            self.cert_data = own


def zeep_client(stand: Stand, port: str, kind: str, method: Any = None, identity: Path | None = None) -> Any:
    session, site = requests.Session(), identity or stand.site
    session.trust_env = False
    session.cert = (str(site / "certificate.pem"), str(site / "key.pem"))
    session.verify = str(site / "trust.pem")
    signature = Stamped(
        str(stand.directory / f"{kind}.key.pem"),
        str(stand.directory / f"{kind}.pem"),
        signature_method=method or METHODS[kind],
        digest_method=xmlsec.Transform.SHA256,
        hub=(stand.directory / "hub.pem").read_bytes(),
    )
    client = zeep.Client(
        f"{stand.address}/v1/soap?wsdl", transport=zeep.Transport(session=session), wsse=signature, port_name=port
    )
    return client.service


@pytest.mark.parametrize("kind", ["rsa", "ec"])
@pytest.mark.parametrize("port", ["Soap11", "Soap12"])
def test_zeep_asks_everything(stand: Stand, port: str, kind: str) -> None:
    service = zeep_client(stand, port, kind)
    price = service.GetPrice(PriceListID="acme-fr-retail", ItemID="1610001234")
    assert (price.UnitPriceMinorAmount, price.ItemDescription) == (1999, "Bolt <M6> & nut, 5 \u20ac")
    changes = service.GetPriceChanges(PriceListID="acme-fr-retail", SinceReleaseNumeric=6)
    assert [one.ItemID for one in changes.PartsPriceChange] == ["P0", "P1"]
    assert changes.NextCursor == "2"
    receipt = service.SendMessage(
        BODID="order-2",
        ContentClassCode="technical",
        MimeCode="application/xml",
        CreationDateTime=datetime(2026, 11, 22, 8, 0, 0, 123456, UTC),
        Content=b"<order/>",
    )
    assert (receipt.OriginalBODID, receipt.ReceiptCode) == ("order-2", "received")
    assert stand.desk.sent["order-2"][0].created_us == 1_795_334_400_123_456
    assert b"SignatureValue" in stand.desk.sent["order-2"][1]
    assert service.GetReceipts().MessageReceipt[0].SenderLogicalID == stand.parties.site.uri
    assert service.GetSites().PointOfSale[0].SalesBrandCode == ["acme", "zed"]


@pytest.mark.parametrize("port", ["Soap11", "Soap12"])
def test_zeep_is_told_why_it_is_refused(stand: Stand, port: str) -> None:
    service = zeep_client(stand, port, "ec")
    with pytest.raises(zeep.exceptions.Fault, match="no such part") as fault:
        service.GetPrice(PriceListID="acme-fr-retail", ItemID="nothing")
    assert b"prices.part.unknown" in etree.tostring(fault.value.detail)
    with pytest.raises(zeep.exceptions.Fault, match="SHA-1"):
        zeep_client(stand, port, "rsa", xmlsec.Transform.RSA_SHA1).GetPrice(PriceListID="a", ItemID="b")
    assert (stand.parties.site.uri, "soap.algorithm.sha1") in stand.audit.refused


def test_what_nobody_foresaw_is_a_fault_without_a_word_about_it(stand: Stand) -> None:
    with pytest.raises(zeep.exceptions.Fault, match="went wrong here") as fault:
        zeep_client(stand, "Soap12", "ec").GetPrice(PriceListID="acme-fr-retail", ItemID="broken")
    assert "ZeroDivision" not in str(fault.value.message) + str(etree.tostring(fault.value.detail))


def test_the_signer_is_the_one_who_is_connected(stand: Stand) -> None:
    """The site's own signature over somebody else's connection: refused, and audited as that other's refusal."""
    other = stand.other_site("FR-00999-1")
    with pytest.raises(zeep.exceptions.Fault, match="somebody else"):
        zeep_client(stand, "Soap12", "ec", identity=other).GetPrice(PriceListID="a", ItemID="b")
    assert (stand.parties.region.identity("dealer", "FR-00999-1").uri, "soap.identity") in stand.audit.refused


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_npm_soap_asks(stand: Stand, version: str) -> None:
    if not (NODE_MODULES / "soap").is_dir():
        pytest.skip("npm packages are fetched by `python -m rocade.console.vendor --node-modules`")
    given = {
        "address": stand.address,
        "version": version,
        "site": str(stand.site),
        "key": str(stand.directory / "rsa.key.pem"),
        "certificate": str(stand.directory / "rsa.pem"),
    }
    script = Path(__file__).with_name("npm_soap.mjs")
    environment = {**os.environ, "NODE_MODULES": str(NODE_MODULES), "GIVEN": json.dumps(given)}
    done = subprocess.run(
        ["node", str(script)], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    assert answers["price"] == "1999"
    assert answers["sites"] == SITE
    assert "no such part" in answers["fault"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_with_a_client_certificate(stand: Stand, tmp_path: Path) -> None:
    """The oldest of clients: an envelope signed elsewhere, carried by curl."""
    file = tmp_path / "envelope.xml"
    sealed = seal(question(), "1.1", stand.parties.rsa, stand.parties.clock.now_us(), RANDOM)
    content = etree.Element("{urn:rocade:exchange:1}GetPrice")
    for name, text in (("PriceListID", "acme-fr-retail"), ("ItemID", "1610001234")):
        etree.SubElement(content, f"{{urn:rocade:exchange:1}}{name}").text = text
    sealed = seal(content, "1.1", stand.parties.rsa, stand.parties.clock.now_us(), RANDOM)
    file.write_bytes(sealed.envelope)
    curl = [
        "curl", "-sS", "--cert", stand.site / "certificate.pem", "--key", stand.site / "key.pem",
        "--cacert", stand.site / "trust.pem", "-H", "Content-Type: text/xml; charset=utf-8",
        "--data-binary", f"@{file}", f"{stand.address}/v1/soap",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(list(map(str, curl)), capture_output=True, env=environment, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert b"<r:UnitPriceMinorAmount>1999<" in done.stdout or b"UnitPriceMinorAmount>1999<" in done.stdout
    again = subprocess.run(list(map(str, curl)), capture_output=True, env=environment, timeout=60, check=False)
    assert b"soap.replay" in again.stdout


def test_signxml_reads_what_we_sign_and_finds_the_same_parts(stand: Stand) -> None:
    """Two verifiers, one opinion about a good envelope."""
    certificate = (stand.directory / "ec.pem").read_text()
    envelope = stand.parties.envelope("1.2", stand.parties.ec)
    configuration = SignatureConfiguration(expect_references=2, require_x509=False)
    results = XMLVerifier().verify(envelope, x509_cert=certificate, id_attribute="Id", expect_config=configuration)
    assert {etree.QName(one.signed_xml).localname for one in results} == {"Timestamp", "Body"}


# --- the answer, wrapped ------------------------------------------------------------------------------------------------------


def price_answer(stand: Stand, *, confirms: str) -> bytes:
    answer = etree.Element("{urn:rocade:exchange:1}GetPriceResponse", nsmap={"r": "urn:rocade:exchange:1"})
    line = etree.SubElement(answer, "{urn:rocade:exchange:1}PartsPrice")
    etree.SubElement(line, "{urn:rocade:exchange:1}UnitPriceMinorAmount").text = "1999"
    return seal(answer, "1.2", stand.parties.hub, stand.parties.clock.now_us(), RANDOM, confirms=confirms).envelope


def wrapped(envelope: bytes) -> bytes:
    """The signed Body in a wrapper in the Header; in its place one that says a cent."""
    root = etree.fromstring(envelope)
    body = root[1]
    evil = copy.deepcopy(body)
    evil.attrib.clear()
    next(evil.iter("{*}UnitPriceMinorAmount")).text = "1"
    etree.SubElement(root[0], "{urn:any}Wrapper").append(body)
    root.append(evil)
    return etree.tostring(root)


def test_zeep_accepts_a_wrapped_answer_and_our_sdk_refuses_it(stand: Stand) -> None:
    operation = OPERATIONS["GetPrice"]
    signers = RegionSigners(lambda: stand.parties.region.issuers, ("service",), lambda _: False)
    answers = Answers(stand.parties.ec, Verifier(signers, stand.parties.clock), stand.parties.clock, RANDOM)
    _, signature = answers.ask(operation, GetPrice(list="acme-fr-retail", ref="1"))
    evil = wrapped(price_answer(stand, confirms=signature))

    zeeps = etree.fromstring(evil)
    zeep.wsse.signature.verify_envelope(zeeps, str(stand.directory / "hub.pem"))  # silent: accepted
    body = zeeps.find(f"{{{names.SOAP_12}}}Body")
    assert next(body.iter("{*}UnitPriceMinorAmount")).text == "1", "and zeep goes on with this one"

    with pytest.raises(Refused, match=r"soap\.wrapped\.header"):
        answers.read(operation, evil, answers.content_type, signature)


def test_the_sdk_refuses_answers_that_are_not_to_its_question(stand: Stand) -> None:
    signers = RegionSigners(lambda: stand.parties.region.issuers, ("service",), lambda _: False)
    answers = Answers(stand.parties.ec, Verifier(signers, stand.parties.clock), stand.parties.clock, RANDOM)
    operation = OPERATIONS["GetPrice"]
    _, signature = answers.ask(operation, GetPrice(list="a", ref="1"))
    cases = [
        (price_answer(stand, confirms="b3RoZXI="), "sdk.answer.other"),
        (price_answer(stand, confirms=""), "sdk.answer.other"),
        (
            seal(question(), "1.2", stand.parties.ec, stand.parties.clock.now_us(), RANDOM).envelope,
            "trust.certificate.kind",
        ),
        (unsigned_fault(), "soap.header.missing"),
    ]
    for envelope, code in cases:
        with pytest.raises(Refused) as refused:
            answers.read(operation, envelope, answers.content_type, signature)
        assert refused.value.code == code


def unsigned_fault() -> bytes:
    return (
        f'<s:Envelope xmlns:s="{names.SOAP_12}"><s:Body><s:Fault><s:Code><s:Value>s:Sender</s:Value></s:Code>'
        "<s:Reason><s:Text>pay elsewhere</s:Text></s:Reason></s:Fault></s:Body></s:Envelope>"
    ).encode()


# --- our own client -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_our_sdk_asks_everything(stand: Stand, version: names.Version) -> None:
    with Client(stand.site, stand.address, version) as hub:
        line = hub.price("acme-fr-retail", "1610001234", at_us=1_763_000_000_000_001)
        assert (line.price_minor, line.at_us) == (1999, 1_763_000_000_000_001)
        changes = list(hub.price_changes("acme-fr-retail", 6))
        assert [(one.ref, one.price_minor) for one in changes] == [
            ("P0", None),
            ("P1", 1),
            ("P2", 2),
            ("P3", 3),
            ("P4", 4),
        ]
        assert hub.send(message()).message_id == "order-1"
        assert [one.kind for one in hub.receipts()][:1] == ["received"]
        assert [one.id for one in hub.sites()] == [SITE]
        with pytest.raises(Refused, match=r"prices\.part\.unknown"):
            hub.price("acme-fr-retail", "nothing")


def test_without_a_certificate_nobody_gets_in_but_the_documents_are_open(stand: Stand) -> None:
    with httpx.Client(verify=tls.client_context(stand.site), trust_env=False, base_url=stand.address) as client:
        assert client.get("/v1/formats/rocade.xsd").status_code == 200
        assert client.get("/v1/formats/nothing").json()["code"] == "formats.document.unknown"
        unsigned = client.post(
            "/v1/soap", content=unsigned_fault(), headers={"content-type": names.CONTENT_TYPES["1.2"]}
        )
    assert unsigned.status_code == 400
    assert b"soap.header.missing" in unsigned.content
    assert (stand.parties.site.uri, "soap.header.missing") in stand.audit.refused
