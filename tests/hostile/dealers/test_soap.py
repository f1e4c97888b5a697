"""Everything that is tried against signed envelopes: each is refused with its own code before any business code sees it.

Every case starts from an envelope that is good (the first test proves it) and changes one thing.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

sys.path.insert(0, str(Path(__file__).parents[2] / "doors/soap"))

from soap_parties import RANDOM, Parties, SigningAuthority, question

from rocade.core.errors import Refused, RocadeError
from rocade.doors.soap import names
from rocade.doors.soap.signing import Credential, canonical, seal, sign_bytes
from rocade.wire import strict_xml

S = names.SOAP_12
WSU_ID = f"{{{names.WSU}}}Id"


@pytest.fixture(scope="module")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return Parties(tmp_path_factory.mktemp("parties"))


def code_of(parties: Parties, envelope: bytes, content_type: str = "") -> str:
    try:
        signed = parties.verifier().verify(envelope, content_type)
    except Refused as refusal:
        return refusal.code
    return f"accepted {signed.content.findtext('{*}ItemID')}"


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_good_envelope_is_taken_and_only_its_content_handed_on(parties: Parties, version: str, kind: str) -> None:
    signed = parties.verifier().verify(parties.envelope(version, getattr(parties, kind)))
    assert (signed.version, signed.signer.identity.id) == (version, "FR-00123-1")
    assert signed.content.getparent() is None
    assert signed.content.findtext("{*}ItemID") == "1610001234"


# --- wrapping: the signed Body is kept, so the digest holds, and another one is put where a careless reader looks ---------


def find(root: etree._Element, name: str) -> etree._Element:
    (one,) = root.iter(f"{{*}}{name}")
    return one


def evil_body(body: etree._Element, own_id: str = "") -> etree._Element:
    evil = copy.deepcopy(body)
    evil.attrib.clear()
    if own_id:
        evil.set(WSU_ID, own_id)
    find(evil, "ItemID").text = "EVIL"
    return evil


def into_header(root: etree._Element) -> None:
    """The signed Body in a wrapper in the Header, the evil one in its place."""
    body = find(root, "Body")
    root.append(evil_body(body))
    etree.SubElement(root[0], "{urn:any}Wrapper").append(body)


def into_security(root: etree._Element) -> None:
    body = find(root, "Body")
    root.append(evil_body(body))
    find(root, "Security").append(body)


def into_object(root: etree._Element) -> None:
    """Within the signature, in a ds:Object."""
    body = find(root, "Body")
    root.append(evil_body(body))
    etree.SubElement(find(root, "Signature"), f"{{{names.DS}}}Object").append(body)


def into_evil_body(root: etree._Element) -> None:
    """The evil Body around the signed one."""
    body = find(root, "Body")
    evil = evil_body(body)
    root.append(evil)
    evil.append(body)


def after_the_evil(root: etree._Element) -> None:
    body = find(root, "Body")
    root.insert(1, evil_body(body))


def same_id(root: etree._Element) -> None:
    """Both have the id that was signed; the signed one is hidden under another name's parent."""
    body = find(root, "Body")
    evil = evil_body(body, body.get(WSU_ID))
    evil.tag = f"{{{S}}}Body"
    hidden = etree.SubElement(root[0], f"{{{names.WSA}}}To")
    root.append(evil)
    hidden.append(body)


def other_id_attribute(root: etree._Element) -> None:
    """The unsigned content takes the signed id in another attribute, where some id searches look first."""
    body = find(root, "Body")
    find(body, "GetPrice").set("ID", body.get(WSU_ID))


def reference_dropped(root: etree._Element) -> None:
    """Only the Timestamp stays signed (with a signature that was made so): `resigned` does the rest."""
    references = list(root.iter(f"{{{names.DS}}}Reference"))
    references[1].getparent().remove(references[1])


def second_envelope(root: etree._Element) -> None:
    """The whole signed envelope inside another one's Header."""
    inner = copy.deepcopy(root)
    body = find(root, "Body")
    root.replace(body, evil_body(body))
    etree.SubElement(root[0], "{urn:any}Wrapper").append(inner)


def second_security(root: etree._Element) -> None:
    """A second Security header for another role, with the genuine one left for somebody else."""
    second = etree.SubElement(root[0], f"{{{names.WSSE}}}Security")
    second.append(copy.deepcopy(find(root, "BinarySecurityToken")))


def timestamp_moved(root: etree._Element) -> None:
    """The signed, old Timestamp in a wrapper; a fresh one in its place."""
    stamp = find(root, "Timestamp")
    fresh = copy.deepcopy(stamp)
    fresh.attrib.clear()
    stamp.getparent().replace(stamp, fresh)
    etree.SubElement(root[0], "{urn:any}Wrapper").append(stamp)


def signature_moved(root: etree._Element) -> None:
    """Security inside a wrapper: whoever searches for it anywhere finds it."""
    security = find(root, "Security")
    etree.SubElement(root[0], "{urn:any}Wrapper").append(security)


def body_twice_in_order(root: etree._Element) -> None:
    """Header and Body exchanged."""
    root.append(root[0])


WRAPPED: list[tuple[Callable[[etree._Element], None], str]] = [
    (into_header, "soap.wrapped.header"),
    (into_security, "soap.wrapped.security"),
    (into_object, "soap.wrapped.object"),
    (into_evil_body, "soap.wrapped.body"),
    (after_the_evil, "soap.body.many"),
    (same_id, "xml.id.duplicate"),
    (other_id_attribute, "xml.id.duplicate"),
    (second_envelope, "xml.id.duplicate"),
    (second_security, "xml.id.duplicate"),
    (timestamp_moved, "soap.timestamp.many"),
    (signature_moved, "soap.wrapped"),
    (body_twice_in_order, "soap.wrapped"),
]


@pytest.mark.parametrize(("change", "code"), WRAPPED, ids=[change.__name__ for change, _ in WRAPPED])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_wrapped_envelope_is_refused(parties: Parties, change: Callable, code: str, kind: str) -> None:
    root = etree.fromstring(parties.envelope("1.2", getattr(parties, kind)))
    change(root)
    assert code_of(parties, etree.tostring(root)) == code


def stripped_of_ids(change: Callable[[etree._Element], None]) -> Callable[[etree._Element], None]:
    """The same attack with every id but the signed ones taken off: what is left when ids are no help."""

    def both(root: etree._Element) -> None:
        change(root)
        seen = set()
        for element in root.iter():
            own = element.get(WSU_ID)
            if own and own in seen:
                del element.attrib[WSU_ID]
            seen.add(own)

    return both


@pytest.mark.parametrize(
    ("change", "code"),
    [(second_envelope, "soap.header.many"), (second_security, "soap.security.many"), (same_id, "soap.wrapped.header")],
)
def test_wrapping_is_refused_where_no_id_gives_it_away(parties: Parties, change: Callable, code: str) -> None:
    root = etree.fromstring(parties.envelope())
    stripped_of_ids(change)(root)
    assert code_of(parties, etree.tostring(root)) == code


# --- what the signature says about itself -----------------------------------------------------------------------------------


def resigned(root: etree._Element, credential: Credential, *, digests: bool = True) -> bytes:
    """Make the signature anew after a change: an attacker with a valid certificate of his own can."""
    ids = {element.get(WSU_ID): element for element in root.iter() if element.get(WSU_ID)}
    info = find(root, "SignedInfo")
    for reference in info.iter(f"{{{names.DS}}}Reference") if digests else ():
        target = ids.get(reference.get("URI", "")[1:])
        if target is not None:
            digest = hashlib.sha256(canonical(target)).digest()
            find(reference, "DigestValue").text = base64.b64encode(digest).decode()
    find(root, "SignatureValue").text = base64.b64encode(sign_bytes(credential.key, canonical(info))).decode()
    return etree.tostring(root)


def algorithm(name: str, value: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        for element in root.iter(f"{{{names.DS}}}{name}"):
            element.set("Algorithm", value)

    return change


def uri(value: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        next(root.iter(f"{{{names.DS}}}Reference")).set("URI", value)

    return change


def no_uri(root: etree._Element) -> None:
    del next(root.iter(f"{{{names.DS}}}Reference")).attrib["URI"]


def extra_transform(algorithm: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        transforms = next(root.iter(f"{{{names.DS}}}Transforms"))
        transforms.insert(0, transforms.makeelement(f"{{{names.DS}}}Transform", {"Algorithm": algorithm}))

    return change


def stylesheet(root: etree._Element) -> None:
    extra_transform("http://www.w3.org/TR/1999/REC-xslt-19991116")(root)
    transform = next(root.iter(f"{{{names.DS}}}Transform"))
    sheet = etree.SubElement(transform, "{http://www.w3.org/1999/XSL/Transform}stylesheet", version="1.0")
    etree.SubElement(sheet, "{http://www.w3.org/1999/XSL/Transform}template", match="/")


def without(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        one = find(root, name)
        one.getparent().remove(one)

    return change


def unsigned(name: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        own = "#" + find(root, name).get(WSU_ID)
        for reference in list(root.iter(f"{{{names.DS}}}Reference")):
            if reference.get("URI") == own:
                reference.getparent().remove(reference)

    return change


def twice_the_same(root: etree._Element) -> None:
    first, second = root.iter(f"{{{names.DS}}}Reference")
    second.set("URI", first.get("URI"))


def key_by_value(root: etree._Element) -> None:
    holder = find(root, "KeyInfo")
    holder.clear()
    etree.SubElement(holder, f"{{{names.DS}}}KeyValue")


def other_token(root: etree._Element) -> None:
    next(root.iter(f"{{{names.WSSE}}}Reference")).set("URI", "#elsewhere")


def two_tokens(root: etree._Element) -> None:
    token = find(root, "BinarySecurityToken")
    second = copy.deepcopy(token)
    second.attrib.pop(WSU_ID)
    token.addprevious(second)


def unknown_header(root: etree._Element) -> None:
    etree.SubElement(root[0], "{urn:any}Credits")


def for_somebody_else(root: etree._Element) -> None:
    find(root, "Security").set(f"{{{S}}}role", "urn:next")


def two_contents(root: etree._Element) -> None:
    find(root, "Body").append(question("EVIL"))


def created(shift: str) -> Callable[[etree._Element], None]:
    def change(root: etree._Element) -> None:
        stamp = find(root, "Timestamp")
        stamp[0].text, stamp[1].text = shift.split("/")

    return change


CHANGED: list[tuple[str, Callable[[etree._Element], None], str]] = [
    ("sha-1 signature", algorithm("SignatureMethod", names.DS + "rsa-sha1"), "soap.algorithm.sha1"),
    ("sha-1 digest", algorithm("DigestMethod", names.DS + "sha1"), "soap.algorithm.sha1"),
    ("md5 digest", algorithm("DigestMethod", "http://www.w3.org/2001/04/xmldsig-more#md5"), "soap.algorithm.sha1"),
    ("hmac", algorithm("SignatureMethod", names.DS + "hmac-sha1"), "soap.algorithm.hmac"),
    (
        "hmac-sha256",
        algorithm("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"),
        "soap.algorithm.hmac",
    ),
    ("no algorithm", algorithm("SignatureMethod", ""), "soap.algorithm.unknown"),
    ("dsa", algorithm("SignatureMethod", names.DS + "dsa-sha256"), "soap.algorithm.unknown"),
    ("rsa method, ec key", algorithm("SignatureMethod", names.RSA_SHA256), "soap.algorithm.key"),
    (
        "inclusive canonicalization",
        algorithm("CanonicalizationMethod", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        "soap.transform",
    ),
    ("with comments", algorithm("CanonicalizationMethod", names.EXCLUSIVE + "WithComments"), "soap.transform"),
    ("transform with comments", algorithm("Transform", names.EXCLUSIVE + "WithComments"), "soap.transform"),
    ("base64 transform", extra_transform(names.DS + "base64"), "soap.transform"),
    ("xpath", extra_transform("http://www.w3.org/TR/1999/REC-xpath-19991116"), "soap.transform"),
    ("xpath filter", extra_transform("http://www.w3.org/2002/06/xmldsig-filter2"), "soap.transform"),
    ("xslt", stylesheet, "soap.transform"),
    ("file", uri("file:///etc/hostname"), "soap.reference.external"),
    ("address", uri("http://127.0.0.1:1/x"), "soap.reference.external"),
    ("attachment", uri("cid:attachment"), "soap.reference.external"),
    ("whole document", uri(""), "soap.reference.target"),
    ("no address at all", no_uri, "soap.reference.target"),
    ("expression", uri("#xpointer(/)"), "soap.reference.target"),
    ("unknown id", uri("#nowhere"), "soap.reference.target"),
    ("one part twice", twice_the_same, "soap.reference.target"),
    ("unsigned body", unsigned("Body"), "soap.body.unsigned"),
    ("unsigned timestamp", unsigned("Timestamp"), "soap.timestamp.unsigned"),
    ("no timestamp", without("Timestamp"), "soap.timestamp.missing"),
    ("no signature", without("Signature"), "soap.signature.missing"),
    ("no security", without("Security"), "soap.security.missing"),
    ("no token", without("BinarySecurityToken"), "soap.token.missing"),
    ("no header", without("Header"), "soap.header.missing"),
    ("no key information", without("KeyInfo"), "soap.signature.malformed"),
    ("key by value", key_by_value, "soap.token.reference"),
    ("another token", other_token, "soap.token.reference"),
    ("two tokens", two_tokens, "soap.token.many"),
    ("no expiry", without("Expires"), "soap.timestamp.malformed"),
    ("expired", created("2020-01-01T00:00:00Z/2020-01-01T00:05:00Z"), "soap.timestamp.expired"),
    ("from the future", created("2090-01-01T00:00:00Z/2090-01-01T00:05:00Z"), "soap.timestamp.future"),
    ("for ever", created("2020-01-01T00:00:00Z/2090-01-01T00:00:00Z"), "soap.timestamp.long"),
    ("backwards", created("2020-01-01T00:05:00Z/2020-01-01T00:00:00Z"), "soap.timestamp.long"),
    ("no zone", created("2020-01-01T00:00:00/2020-01-01T00:05:00"), "soap.timestamp.malformed"),
    ("no such day", created("2020-02-31T00:00:00Z/2020-02-31T00:05:00Z"), "soap.timestamp.malformed"),
    ("unknown header", unknown_header, "soap.header.unknown"),
    ("for somebody else", for_somebody_else, "soap.header.unknown"),
    ("two contents", two_contents, "soap.body.content"),
]


@pytest.mark.parametrize(("change", "code"), [case[1:] for case in CHANGED], ids=[case[0] for case in CHANGED])
def test_an_envelope_signed_against_the_rules_is_refused(parties: Parties, change: Callable, code: str) -> None:
    root = etree.fromstring(parties.envelope())
    change(root)
    is_whole = {"SignedInfo", "SignatureValue"} <= {etree.QName(one).localname for one in root.iter()}
    envelope = resigned(root, parties.ec) if is_whole else etree.tostring(root)
    assert code_of(parties, envelope) == code


@pytest.mark.parametrize("name", ["ItemID", "Created", "Expires"])
def test_a_change_after_signing_is_refused(parties: Parties, name: str) -> None:
    root = etree.fromstring(parties.envelope())
    told = find(root, name).text or ""
    find(root, name).text = told[:-2] + ("2Z" if told[-2:] == "1Z" else "1Z")
    assert code_of(parties, etree.tostring(root)) == "soap.digest"


def test_a_digest_made_to_fit_does_not_carry_the_signature(parties: Parties) -> None:
    root = etree.fromstring(parties.envelope())
    find(root, "ItemID").text = "EVIL"
    good = find(root, "SignatureValue").text
    resigned(root, parties.ec)
    find(root, "SignatureValue").text = good
    assert code_of(parties, etree.tostring(root)) == "soap.signature"


def test_the_public_key_as_an_hmac_secret_opens_nothing(parties: Parties) -> None:
    """The old confusion: the verifier's library takes the RSA public key as the bytes of a shared secret."""
    root = etree.fromstring(parties.envelope("1.2", parties.rsa))
    algorithm("SignatureMethod", names.DS + "hmac-sha1")(root)
    secret = x509.load_der_x509_certificate(parties.rsa.certificate).public_key()
    secret_bytes = secret.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    value = hmac.new(secret_bytes, canonical(find(root, "SignedInfo")), hashlib.sha1).digest()
    find(root, "SignatureValue").text = base64.b64encode(value).decode()
    assert code_of(parties, etree.tostring(root)) == "soap.algorithm.hmac"


# --- the bytes --------------------------------------------------------------------------------------------------------------


def text(envelope: bytes) -> str:
    return envelope.decode()


def in_item(inserted: str) -> Callable[[str], bytes]:
    return lambda whole: whole.replace("1610001234", f"16100{inserted}01234").encode()


def before_root(inserted: str) -> Callable[[str], bytes]:
    return lambda whole: whole.replace("<s:Envelope", f"{inserted}<s:Envelope", 1).encode()


def mixed(whole: str, name: str) -> bytes:
    moved = re.sub(f"<{name}", f'<o:{name[2:]} xmlns:o="{names.SOAP_11}"', whole)
    return moved.replace(f"</{name}>", f"</o:{name[2:]}>").encode()


def mixed_attribute(whole: str) -> bytes:
    return whole.replace("s:mustUnderstand", f'xmlns:o="{names.SOAP_11}" o:mustUnderstand').encode()


LAUGHS = "<!DOCTYPE l [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]>"
BYTES: list[tuple[str, Callable[[str], bytes], str]] = [
    ("comment that splits a text", in_item("<!-- -->"), "xml.comment"),
    ("comment before", before_root("<!-- -->"), "xml.comment"),
    ("comment after", lambda whole: (whole + "<!-- -->").encode(), "xml.comment"),
    ("instruction that splits a text", in_item("<?cut?>"), "xml.instruction"),
    ("stylesheet instruction", before_root('<?xml-stylesheet href="x"?>'), "xml.instruction"),
    ("document type", before_root("<!DOCTYPE Envelope>"), "xml.dtd"),
    ("billion laughs", before_root(LAUGHS), "xml.dtd"),
    ("external entity", before_root('<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/hostname">]>'), "xml.dtd"),
    ("external subset", before_root('<!DOCTYPE e SYSTEM "http://127.0.0.1:1/e.dtd">'), "xml.dtd"),
    ("lower-case document type", before_root("<!doctype e>"), "xml.dtd"),
    ("undeclared entity", in_item("&x;"), "xml.malformed"),
    ("utf-16", lambda whole: whole.replace("UTF-8", "UTF-16").encode("utf-16"), "xml.encoding"),
    ("utf-16 without mark", lambda whole: whole.encode("utf-16-le"), "xml.encoding"),
    ("utf-32", lambda whole: whole.encode("utf-32"), "xml.encoding"),
    ("utf-7", lambda whole: whole.replace("UTF-8", "UTF-7").encode("utf-8"), "xml.encoding"),
    ("latin-1", lambda whole: whole.replace("UTF-8", "ISO-8859-1").encode("utf-8"), "xml.encoding"),
    ("ebcdic", lambda whole: whole.encode("cp037"), "xml.encoding"),
    (
        "a byte that is not utf-8",
        lambda whole: whole.encode().replace(b"1610001234", b"16100\xff1234"),
        "xml.encoding",
    ),
    ("an overlong letter", lambda whole: whole.encode().replace(b"1610001234", b"\xc0\xbc1234"), "xml.encoding"),
    ("a NUL", lambda whole: whole.encode().replace(b"1610001234", b"16100\x001234"), "xml.encoding"),
    ("depth", in_item("<a>" * 40 + "</a>" * 40), "xml.depth"),
    ("depth beyond the parser", in_item("<a>" * 4000 + "</a>" * 4000), "xml.depth"),
    ("elements", in_item("<a/>" * 12_000), "xml.elements"),
    ("20,000 attributes", in_item("<a " + " ".join(f'a{n}="1"' for n in range(20_000)) + "/>"), "xml.attributes"),
    ("size", in_item("1" * strict_xml.MESSAGE.size_bytes), "xml.size"),
    ("truncated", lambda whole: whole[:-40].encode(), "xml.malformed"),
    ("nothing", lambda _: b"", "xml.malformed"),
    ("json", lambda _: b'{"GetPrice": {}}', "xml.malformed"),
    ("two roots", lambda whole: (whole + "<a/>").encode(), "xml.malformed"),
    ("another document", lambda _: b"<html/>", "soap.envelope"),
    ("another envelope", lambda whole: whole.replace(S, "urn:soap").encode(), "soap.envelope"),
    ("mixed body", lambda whole: mixed(whole, "s:Body"), "soap.version.mixed"),
    ("mixed attribute", mixed_attribute, "soap.version.mixed"),
]


@pytest.mark.parametrize(("change", "code"), [case[1:] for case in BYTES], ids=[case[0] for case in BYTES])
def test_bytes_that_two_readers_could_read_differently_are_refused(
    parties: Parties, change: Callable, code: str
) -> None:
    assert code_of(parties, change(text(parties.envelope()))) == code


@pytest.mark.parametrize(
    ("version", "content_type", "code"),
    [
        ("1.1", "text/xml; charset=utf-8", "accepted 1610001234"),
        ("1.2", 'application/soap+xml; charset="UTF-8"; action="x"', "accepted 1610001234"),
        ("1.1", "application/soap+xml", "soap.version.mixed"),
        ("1.2", "text/xml", "soap.version.mixed"),
        ("1.2", "application/soap+xml; charset=utf-16", "xml.encoding"),
        ("1.2", "application/soap+xml; charset=utf-7", "xml.encoding"),
    ],
)
def test_the_content_type_says_the_same_as_the_envelope(
    parties: Parties, version: str, content_type: str, code: str
) -> None:
    assert code_of(parties, parties.envelope(version), content_type) == code


# --- time, replay, certificates ---------------------------------------------------------------------------------------------


def test_the_same_envelope_twice_is_a_replay(parties: Parties) -> None:
    verifier, envelope = parties.verifier(), parties.envelope()
    verifier.verify(envelope)
    spelt_otherwise = [
        envelope,
        envelope.replace(b"?>", b"?>\n", 1),
        envelope.replace(b'mustUnderstand="true"', b'mustUnderstand="1"'),
        re.sub(rb"(</?)wsse:", rb"\1wsse:", envelope).replace(b"\n", b""),
        malleated(envelope),
    ]
    for one in spelt_otherwise:
        with pytest.raises(Refused, match=r"soap\.replay"):
            verifier.verify(one)


def malleated(envelope: bytes) -> bytes:
    """The other valid ECDSA signature of the same envelope: s becomes n - s."""
    root = etree.fromstring(envelope)
    value = base64.b64decode(find(root, "SignatureValue").text)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(encode_dss_signature(int.from_bytes(value[:32]), int.from_bytes(value[32:])))
    find(root, "SignatureValue").text = base64.b64encode(r.to_bytes(32) + (order - s).to_bytes(32)).decode()
    return etree.tostring(root)


def test_a_replay_is_remembered_until_the_envelope_is_too_old(tmp_path: Path) -> None:
    parties = Parties(tmp_path)
    verifier, envelope = parties.verifier(), parties.envelope()
    verifier.verify(envelope)
    for shift_s, code in ((299, "soap.replay"), (410, "soap.replay"), (421, "soap.timestamp.expired")):
        parties.clock.ahead_us = shift_s * 1_000_000
        with pytest.raises(Refused, match=code.replace(".", r"\.")):
            verifier.verify(envelope)


@pytest.mark.parametrize(("life_s", "code"), [(601, "accepted 1610001234"), (602, "soap.timestamp.long")])
def test_ten_minutes_may_be_a_second_longer_where_a_client_looked_at_its_clock_twice(
    parties: Parties, life_s: int, code: str
) -> None:
    begin = datetime.now(UTC).replace(microsecond=0)
    root = etree.fromstring(parties.envelope())
    created("/".join(f"{at:%Y-%m-%dT%H:%M:%SZ}" for at in (begin, begin + timedelta(seconds=life_s))))(root)
    assert code_of(parties, resigned(root, parties.ec)) == code


def test_certificates_are_checked_at_each_use(tmp_path: Path) -> None:
    parties = Parties(tmp_path)
    verifier = parties.verifier()
    verifier.verify(parties.envelope())
    parties.revoked.add(x509.load_der_x509_certificate(parties.ec.certificate).serial_number)
    with pytest.raises(Refused, match=r"trust\.certificate\.revoked"):
        verifier.verify(parties.envelope())
    parties.revoked.clear()
    parties.clock.ahead_us = 100 * 86_400_000_000
    with pytest.raises(Refused, match=r"trust\.certificate\.expired"):
        verifier.verify(parties.envelope())


def other(parties: Parties, **more: object) -> Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    return Credential(key, parties.authority.leaf(key, parties.site.uri, **more))


def small(parties: Parties) -> Credential:
    key = rsa.generate_private_key(65_537, 1024)  # noqa: S505 - weak on purpose
    return Credential(key, parties.authority.leaf(key, parties.site.uri))


CERTIFICATES: list[tuple[str, Callable[[Parties], Credential], str]] = [
    ("of a stranger", lambda p: Credential(p.ec.key, SigningAuthority("x").leaf(p.ec.key, p.site.uri)),
     ""),
    ("of a stranger with the admitted name", lambda p: Credential(p.ec.key, SigningAuthority().leaf(p.ec.key, p.site.uri)),
     ""),
    ("another one's", lambda p: Credential(p.ec.key, p.rsa.certificate), "soap.algorithm.key"),
    ("the hub's", lambda p: p.hub, "trust.certificate.kind"),
    ("for too long", lambda p: other(p, days=1000), "soap.certificate.life"),
    ("for another usage", lambda p: other(p, signs=False), "soap.certificate.usage"),
    ("of the authority itself", lambda p: Credential(p.authority.key, p.authority.certificate.public_bytes(Encoding.DER)),
     "soap.certificate.usage"),
    ("of an operator", lambda p: Credential(p.ec.key, p.authority.leaf(p.ec.key, p.region.identity("operator", "o").uri)),
     "soap.certificate.name"),
    ("of another trust domain", lambda p: Credential(p.ec.key, p.authority.leaf(p.ec.key, "spiffe://e/eu/dealer/a")),
     "soap.certificate.name"),
    ("without a name", lambda p: Credential(p.ec.key, p.authority.leaf(p.ec.key, "")), "trust.certificate.name_missing"),
    ("on a small key", small, "soap.certificate.key"),
    ("garbage", lambda p: Credential(p.ec.key, b"\x30\x03\x02\x01\x01"), ""),
    ("huge", lambda p: Credential(p.ec.key, b"\x30" + bytes(9000)), "trust.certificate.size"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "code"), [case[1:] for case in CERTIFICATES], ids=[case[0] for case in CERTIFICATES])
def test_a_certificate_that_proves_nobody_here_is_refused(parties: Parties, make: Callable, code: str) -> None:
    found = code_of(parties, seal(question(), "1.2", make(parties), parties.clock.now_us(), RANDOM).envelope)
    assert found == code if code else found.startswith("trust.certificate.")


# --- at random --------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_change_of_bytes_changes_what_is_read(parties: Parties, data: st.DataObject) -> None:
    """Whatever is done to the bytes, the answer is a refusal or the content as it was signed."""
    envelope = bytearray(parties.envelope())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(envelope) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"<", b">", b"<!--x-->", b"&#0;", b" ", b"\x00", b"</a>", b"<s:Body/>", b"EVIL"])
        )
        envelope[place : place + data.draw(st.integers(0, 4))] = piece
    try:
        signed = parties.verifier().verify(bytes(envelope))
    except RocadeError:
        return
    assert etree.tostring(signed.content, method="c14n") == etree.tostring(question(), method="c14n")
