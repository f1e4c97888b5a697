"""Hostile certificates: none is accepted, each kind with a reason of its own; once by the check alone, once through TLS.

`Forge` writes certificates byte by byte, so that it can write what no library would. Everything a draft does not change is
as the region's authority makes it, and signed by the real vehicle intermediate: only the named fault is there to find.
"""

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha1
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID as Eku
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st
from tests.clocks import SetClock

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import DAY_US, Region, create_region, issue_directory
from rocade.trust.identity import tls, verify_leaf
from rocade.trust.identity.keys import key_id, new_key, read_private

NOW_US = SystemClock().now_us()
YEAR_US = 365 * DAY_US
VIN = "VR3UPHNKSKT101604"
URI = f"spiffe://rocade.test/eu/vehicle/{VIN}"
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
ECDSA_SHA1 = bytes.fromhex("300906072a8648ce3d0401")
RSA_MD5 = bytes.fromhex("300d06092a864886f70d0101040500")
MD5, SHA1 = hashes.MD5(), hashes.SHA1()  # noqa: S303 - hostile on purpose
NETSCAPE_COMMENT = x509.ObjectIdentifier("2.16.840.1.113730.1.13")


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    width = (size.bit_length() + 7) // 8
    return bytes([tag, size] if size < 128 else [tag, 128 + width, *size.to_bytes(width)]) + content


def sequence(*parts: bytes) -> bytes:
    return tlv(0x30, *parts)


def time(at_us: int) -> bytes:
    return tlv(0x17, datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%y%m%d%H%M%SZ").encode())


def name(text: str) -> bytes:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]).public_bytes()


def oid(identifier: x509.ObjectIdentifier) -> bytes:
    return x509.ExtendedKeyUsage([identifier]).public_bytes()[2:]


def extension(identifier: x509.ObjectIdentifier, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(oid(identifier), tlv(1, b"\xff") if critical else b"", tlv(4, value))


def of(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    return extension(value.oid, value.public_bytes(), critical=critical)


def usage(**true: bool) -> bytes:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return of(x509.KeyUsage(**{one: true.get(one, False) for one in names}), critical=True)


def purposes(*identifiers: x509.ObjectIdentifier) -> bytes:
    return of(x509.ExtendedKeyUsage(list(identifiers)))


def names(*general: bytes) -> bytes:
    return extension(x509.SubjectAlternativeName.oid, sequence(*general))


def uri(text: str | bytes) -> bytes:
    return tlv(0x86, text.encode("latin-1") if isinstance(text, str) else text)


def public(key: Any) -> bytes:
    der: bytes = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return der


def off_curve(spki: bytes) -> bytes:
    """The same key with the lowest bit of its y turned: no point of the curve, whichever key it was."""
    return spki[:-1] + bytes([spki[-1] ^ 1])


class Forged(NamedTuple):
    """A certificate, its key, and what is presented with it."""

    der: bytes
    key: Any
    chain: tuple[bytes, ...] = ()


class Forge:
    """The small issuer: the region's real signers, and everything a forger could have besides."""

    def __init__(self, folder: Path) -> None:
        self.region: Region = create_region(folder / "trust", "eu", "rocade.test", SetClock(NOW_US), SystemRandom())
        issue_directory(self.region, folder / "server", self.region.identity("service", "door"), hosts=["localhost"])
        self.folder = folder
        self.root_key = read_private(folder / "trust" / "root" / "key.pem")
        self.vehicle, self.vehicle_key, _ = self.region._signers["vehicle", "operational"]
        self.dealer, self.dealer_key, _ = self.region._signers["dealer", "operational"]
        self.birth, self.birth_key, _ = self.region._signers["vehicle", "birth"]
        self.stranger = new_key()
        self.revoked = 0x5A << 150
        self.good = self.leaf()

    def leaf(self, *, key: Any = None, signer: Any = None, **draft: Any) -> Forged:
        """A vehicle's leaf with `draft` changes; `replace` and `extra` change extensions."""
        key, signer = key or new_key(), signer or self.vehicle_key
        extensions = {
            "constraints": of(x509.BasicConstraints(ca=False, path_length=None), critical=True),
            "usage": usage(digital_signature=True),
            "purposes": purposes(Eku.CLIENT_AUTH),
            "names": names(uri(draft.get("uri", URI))),
            "authority": of(x509.AuthorityKeyIdentifier(key_id(signer.public_key()), None, None)),
        } | draft.get("replace", {})
        listed = [*extensions.values(), *draft.get("extra", ())]
        signed = sequence(
            draft.get("version", bytes.fromhex("a003020102")),
            tlv(2, draft.get("serial", (1 << 158 | SystemRandom().bits(158)).to_bytes(20))),
            draft.get("inner", ECDSA_SHA256),
            draft.get("issuer", self.vehicle.name),
            draft.get("validity", sequence(time(NOW_US - DAY_US), time(NOW_US + 30 * DAY_US))),
            draft.get("subject", name(VIN)),
            draft.get("spki", public(key)),
            draft.get("extensions", tlv(0xA3, sequence(*listed))),
        )
        signature = draft["sign"](signed) if "sign" in draft else signer.sign(signed, ec.ECDSA(hashes.SHA256()))
        der = sequence(signed, draft.get("outer", draft.get("inner", ECDSA_SHA256)), tlv(3, b"\0", signature))
        chain = draft.get("chain", (self.vehicle.certificate.public_bytes(Encoding.DER),))
        return Forged(draft.get("change", lambda whole: whole)(der), key, chain)

    def middle(self, *, ca: bool, signer: Any, issuer: bytes, subject: str | bytes) -> tuple[Any, bytes]:
        """An authority (or would-be authority) certificate: (key, DER)."""
        key = new_key()
        forged = self.leaf(
            key=key, signer=signer, issuer=issuer, subject=name(subject) if isinstance(subject, str) else subject,
            replace={"constraints": of(x509.BasicConstraints(ca=ca, path_length=None), critical=True),
                     "usage": usage(key_cert_sign=ca, digital_signature=not ca)},
            extra=[of(x509.SubjectKeyIdentifier.from_public_key(key.public_key()))],
        )  # fmt: skip
        return key, forged.der


def below(forge: Forge, *, ca: bool) -> Forged:
    """A leaf issued below a sub-authority, or below a leaf."""
    key, middle = forge.middle(ca=ca, signer=forge.vehicle_key, issuer=forge.vehicle.name, subject="middle")
    return forge.leaf(
        signer=key, issuer=name("middle"), chain=(middle, forge.vehicle.certificate.public_bytes(Encoding.DER))
    )


def other_root(forge: Forge) -> Forged:
    """Root and intermediate of the same names, all keys the forger's."""
    key, middle = forge.middle(ca=True, signer=forge.stranger, issuer=forge.region.issuers.root.subject.public_bytes(),
                               subject=forge.vehicle.name)  # fmt: skip
    return forge.leaf(signer=key, chain=(middle,))


def self_signed(forge: Forge) -> Forged:
    key = new_key()
    return forge.leaf(key=key, signer=key, issuer=name(VIN), chain=())


def with_rsa(forge: Forge, **draft: Any) -> Forged:
    return forge.leaf(key=rsa.generate_private_key(65537, 1024), **draft)  # noqa: S505 - hostile on purpose


def by_md5(forge: Forge) -> Forged:
    key = rsa.generate_private_key(65537, 2048)
    return forge.leaf(inner=RSA_MD5, sign=lambda signed: key.sign(signed, padding.PKCS1v15(), MD5))


def bare(text: str) -> Callable[[Forge], Forged]:
    return lambda forge: forge.leaf(uri=text)


def changed(**draft: Any) -> Callable[[Forge], Forged]:
    return lambda forge: forge.leaf(**draft)


def without(part: str) -> Callable[[Forge], Forged]:
    return lambda forge: forge.leaf(replace={part: b""})


def replaced(part: str, value: bytes) -> Callable[[Forge], Forged]:
    return lambda forge: forge.leaf(replace={part: value})


def between(begin_us: int, end_us: int) -> bytes:
    return sequence(time(NOW_US + begin_us), time(NOW_US + end_us))


DIRECTORY_NAME = tlv(0xA4, name("somebody"))
KINDS: dict[str, tuple[Callable[[Forge], Forged], str]] = {
    # bytes
    "huge": (lambda f: f.leaf(extra=[extension(NETSCAPE_COMMENT, tlv(0x16, b"a" * 9000))]), "size"),
    "truncated": (changed(change=lambda der: der[:-9]), "truncated"),
    "bytes after it": (changed(change=lambda der: der + b"\0"), "trailing_bytes"),
    "no certificate": (lambda _: Forged(sequence(b"\x05\0" * 200), new_key()), "malformed"),
    "a length in too many bytes": (changed(extensions=b"\xa3\x83\0\0\x02\x30\0"), "not_canonical"),
    "version 1": (changed(version=b"", extensions=b""), "version"),
    "serial zero": (changed(serial=b"\0"), "serial_zero"),
    "serial negative": (changed(serial=b"\x80" + b"\1" * 10), "serial_negative"),
    "serial of 21 octets": (changed(serial=b"\1" * 21), "serial_long"),
    "RSA-1024 key": (with_rsa, "key_algorithm"),
    "key on secp256k1": (lambda f: f.leaf(key=ec.generate_private_key(ec.SECP256K1())), "key_curve"),
    "signed with SHA-1": (lambda f: f.leaf(inner=ECDSA_SHA1, sign=lambda s: f.vehicle_key.sign(s, ec.ECDSA(SHA1))), "algorithm"),
    "two signature algorithms": (changed(outer=ECDSA_SHA1), "algorithm_mismatch"),
    "an extension twice": (lambda f: f.leaf(extra=[usage(digital_signature=True)]), "extension_duplicated"),
    "unknown critical extension": (lambda f: f.leaf(extra=[extension(NETSCAPE_COMMENT, b"\x16\1a", critical=True)]), "extension_critical"),
    "an extension that cannot be read": (replaced("names", extension(x509.SubjectAlternativeName.oid, b"\x30\x05ab")), "extension_malformed"),
    # issuer
    "no authority key id": (without("authority"), "authority_key_missing"),
    "self-signed": (self_signed, "self_signed"),
    "signed by the root itself": (
        lambda f: f.leaf(signer=f.root_key, issuer=f.region.issuers.root.subject.public_bytes(), chain=()), "issuer_root",
    ),
    "other root and intermediate of the same names": (other_root, "issuer_forged"),
    "unknown issuer": (lambda f: f.leaf(signer=f.stranger, issuer=name("stranger")), "issuer_unknown"),
    "key id of a known issuer under another name": (changed(issuer=name("Rocade eu vehicle")), "issuer_name"),
    "same key id, other key": (lambda f: f.leaf(sign=lambda s: f.stranger.sign(s, ec.ECDSA(hashes.SHA256()))), "signature"),
    "chain too long": (lambda f: below(f, ca=True), "chain_long"),
    "leaf used as issuer": (lambda f: below(f, ca=False), "issuer_leaf"),
    # time
    "expired": (changed(validity=between(-9 * DAY_US, -DAY_US)), "expired"),
    "not yet valid": (changed(validity=between(DAY_US, 9 * DAY_US)), "not_yet_valid"),
    "validity reversed": (changed(validity=between(DAY_US, -DAY_US)), "validity_reversed"),
    "outlives its issuer": (changed(validity=between(-DAY_US, 10 * YEAR_US)), "validity_long"),
    "revoked": (lambda f: f.leaf(serial=f.revoked.to_bytes(20)), "revoked"),
    # role
    "no basic constraints": (without("constraints"), "constraints_missing"),
    "CA flag": (replaced("constraints", of(x509.BasicConstraints(ca=True, path_length=None), critical=True)), "authority"),
    "no key usage": (without("usage"), "usage_missing"),
    "may sign certificates": (replaced("usage", usage(digital_signature=True, key_cert_sign=True)), "usage_signs"),
    "may not sign": (replaced("usage", usage(key_agreement=True)), "usage"),
    "no purpose": (without("purposes"), "purpose_missing"),
    "any purpose": (replaced("purposes", purposes(Eku.CLIENT_AUTH, Eku.ANY_EXTENDED_KEY_USAGE)), "purpose_any"),
    "server purpose only": (replaced("purposes", purposes(Eku.SERVER_AUTH)), "purpose"),
    "a vehicle that could serve": (replaced("purposes", purposes(Eku.CLIENT_AUTH, Eku.SERVER_AUTH)), "purpose_extra"),
    # name
    "common name only": (lambda f: f.leaf(subject=name(URI), replace={"names": b""}), "name_missing"),
    "no names in the list": (replaced("names", names()), "name_uri_missing"),
    "two identities": (replaced("names", names(uri(URI), uri(URI[:-1] + "5"))), "name_uri_many"),
    "a host name beside it": (replaced("names", names(uri(URI), tlv(0x82, b"gateway.example"))), "name_dns"),
    "an address beside it": (replaced("names", names(uri(URI), tlv(0x87, ip_address("127.0.0.1").packed))), "name_address"),
    "an e-mail address beside it": (replaced("names", names(uri(URI), tlv(0x81, b"car@example.org"))), "name_email"),
    "a directory name beside it": (replaced("names", names(uri(URI), DIRECTORY_NAME)), "name_other"),
    "upper-case scheme": (bare(URI.replace("spiffe", "SPIFFE")), "uri_scheme"),
    "port": (bare(URI.replace("test/", "test:8883/")), "uri_port"),
    "user": (bare(URI.replace("//", "//root@")), "uri_userinfo"),
    "query": (bare(URI + "?kind=operator"), "uri_query"),
    "fragment": (bare(URI + "#operator"), "uri_fragment"),
    "percent": (bare(URI.replace("VR3", "%56R3")), "uri_percent"),
    "trailing slash": (bare(URI + "/"), "uri_trailing_slash"),
    "empty part": (bare(URI.replace("/eu/", "//")), "uri_empty_part"),
    "too many parts": (bare(URI + "/admin"), "uri_parts"),
    "unknown kind": (bare(URI.replace("vehicle", "emperor")), "uri_kind"),
    "part too long": (bare(URI + "A" * 64), "uri_long"),
    "other letters": (bare("spiffe://rocade.test/eu/vehicle/VR3\xc4"), "uri_not_ascii"),
    "NUL": (bare(URI + "\0.evil.example"), "uri_control"),
    "dot segments": (bare("spiffe://rocade.test/eu/vehicle/.."), "uri_character"),
    "subject claims another": (changed(subject=name("VR3UPHNKSKT101605")), "subject"),
    # place
    "other trust domain": (bare(URI.replace("rocade.test", "rocade.evil")), "trust_domain"),
    "other region": (bare(URI.replace("/eu/", "/cn/")), "issuer_region"),
    "a dealer intermediate issuing a vehicle": (lambda f: f.leaf(signer=f.dealer_key, issuer=f.dealer.name, chain=(f.dealer.certificate.public_bytes(Encoding.DER),)), "issuer_kind"),
    "birth certificate used in operation": (lambda f: f.leaf(signer=f.birth_key, issuer=f.birth.name, chain=(f.birth.certificate.public_bytes(Encoding.DER),)), "birth"),
    "a dealer where vehicles are welcome": (lambda f: f.leaf(uri=URI.replace("vehicle", "dealer"), signer=f.dealer_key, issuer=f.dealer.name, chain=(f.dealer.certificate.public_bytes(Encoding.DER),)), "kind"),
}  # fmt: skip
"""Kind -> (how it is made, its reason). No two share a reason."""

VARIANTS: dict[str, tuple[Callable[[Forge], Forged], str]] = {
    "version 2": (changed(version=bytes.fromhex("a003020101")), "version"),
    "version 4": (changed(version=bytes.fromhex("a003020103")), "version"),
    "version 1 written out": (changed(version=bytes.fromhex("a003020100"), extensions=b""), "malformed"),
    "empty": (lambda _: Forged(b"", new_key()), "truncated"),
    "indefinite length": (changed(extensions=b"\xa3\x80\x30\0\0\0"), "not_canonical"),
    "boolean that is neither 0 nor 255": (
        replaced("constraints", sequence(oid(x509.BasicConstraints.oid), tlv(1, b"\1"), tlv(4, b"\x30\0"))), "not_canonical",
    ),
    "default written out": (
        replaced("constraints", sequence(oid(x509.BasicConstraints.oid), tlv(1, b"\0"), tlv(4, b"\x30\0"))), "malformed",
    ),
    "serial with a leading zero": (changed(serial=b"\0\1"), "not_canonical"),
    "signature with a bit to spare": (
        changed(sign=lambda _: b"\0", change=lambda der: der[:-2] + b"\1\0"), "not_canonical",
    ),
    "Ed25519 key": (lambda f: f.leaf(key=ed25519.Ed25519PrivateKey.generate()), "key_algorithm"),
    "P-192 key": (lambda f: f.leaf(key=ec.generate_private_key(ec.SECP192R1())), "key_curve"),
    "P-521 key": (lambda f: f.leaf(key=ec.generate_private_key(ec.SECP521R1())), "key_curve"),
    "Brainpool key": (lambda f: f.leaf(key=ec.generate_private_key(ec.BrainpoolP256R1())), "key_curve"),
    "point not on its curve": (lambda f: f.leaf(spki=off_curve(public(new_key()))), "malformed"),
    "signed with MD5": (by_md5, "algorithm"),
    "signature of nothing": (changed(sign=lambda _: b""), "signature"),
    "signature of zeros": (changed(sign=lambda _: bytes.fromhex("3006020100020100")), "signature"),
    "one bit of the signed part turned": (changed(change=lambda der: der.replace(VIN.encode(), b"VR3UPHNKSKT101605")), "signature"),
    "authority key id without a key": (replaced("authority", extension(x509.AuthorityKeyIdentifier.oid, b"\x30\0")), "authority_key_missing"),
    "certificate policies, critical": (
        lambda f: f.leaf(extra=[extension(x509.ObjectIdentifier("2.5.29.32"), sequence(sequence(oid(x509.ObjectIdentifier("2.5.29.32.0")))), critical=True)]),
        "extension_critical",
    ),
    "revocation lists only": (replaced("usage", usage(digital_signature=True, crl_sign=True)), "usage_signs"),
    "code signing besides": (replaced("purposes", purposes(Eku.CLIENT_AUTH, Eku.CODE_SIGNING)), "purpose_extra"),
    "path length on a leaf": (
        replaced("constraints", extension(x509.BasicConstraints.oid, sequence(tlv(1, b"\xff"), tlv(2, b"\0")), critical=True)), "authority",
    ),
    "host name only": (replaced("names", names(tlv(0x82, b"gateway.example"))), "name_dns"),
    "address only": (replaced("names", names(tlv(0x87, bytes(4)))), "name_address"),
    "other name": (replaced("names", names(uri(URI), tlv(0xA0, oid(NETSCAPE_COMMENT), tlv(0xA0, tlv(0x0C, b"x"))))), "name_other"),
    "the same identity twice": (replaced("names", names(uri(URI), uri(URI))), "name_uri_many"),
    "no scheme": (bare("rocade.test/eu/vehicle/X"), "uri_scheme"),
    "https": (bare(URI.replace("spiffe", "https")), "uri_scheme"),
    "blank": (bare(URI + " "), "uri_control"),
    "line end": (bare(URI + "\n"), "uri_control"),
    "empty id": (bare("spiffe://rocade.test/eu/vehicle/"), "uri_trailing_slash"),
    "empty trust domain": (bare("spiffe:///eu/vehicle/X"), "uri_empty_part"),
    "too few parts": (bare("spiffe://rocade.test/eu/vehicle"), "uri_parts"),
    "backslash": (bare(URI.replace("/vehicle/", "/vehicle/A\\")), "uri_character"),
    "upper-case kind": (bare(URI.replace("vehicle", "Vehicle")), "uri_kind"),
    "upper-case region": (bare(URI.replace("/eu/", "/EU/")), "issuer_region"),
    "upper-case trust domain": (bare(URI.replace("rocade", "Rocade")), "trust_domain"),
    "operator written by the vehicle issuer": (bare(URI.replace("vehicle", "operator")), "issuer_kind"),
    "two common names": (
        changed(subject=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, VIN), x509.NameAttribute(NameOID.COMMON_NAME, "root")]).public_bytes()),
        "subject",
    ),
    "organisation": (changed(subject=x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, VIN)]).public_bytes()), "subject"),
    "key id made of the forger's key, name of the root": (
        lambda f: f.leaf(signer=f.stranger, issuer=f.region.issuers.root.subject.public_bytes()), "issuer_forged",
    ),
    "key id of nobody": (
        lambda f: f.leaf(replace={"authority": of(x509.AuthorityKeyIdentifier(sha1(b"x", usedforsecurity=False).digest(), None, None))}, issuer=name("x")),
        "issuer_unknown",
    ),
}  # fmt: skip
"""Further spellings of those faults."""

ALL = KINDS | VARIANTS


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Forge:
    return Forge(tmp_path_factory.mktemp("forge"))


def check(forge: Forge, forged: Forged, at_us: int = NOW_US) -> str:
    """The reason of refusal, "" if accepted."""
    try:
        verify_leaf(
            forged.der, forge.region.issuers, at_us, {"vehicle"}, denied={forge.revoked}, presented=forged.chain
        )
    except Refused as refusal:
        return refusal.code.removeprefix("trust.certificate.")
    return ""


def test_there_are_at_least_forty_kinds_and_no_two_share_a_reason() -> None:
    reasons = [reason for _, reason in KINDS.values()]
    assert len(reasons) == len(set(reasons)) >= 40


def test_a_draft_without_a_fault_is_accepted(forge: Forge) -> None:
    """Otherwise the table below would pass for a wrong reason."""
    assert check(forge, forge.leaf()) == ""
    assert check(forge, forge.leaf(subject=sequence())) == ""
    assert check(forge, forge.leaf(extra=[extension(NETSCAPE_COMMENT, b"\x16\1a")])) == ""


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("kind", ALL)
def test_a_hostile_certificate_is_refused_with_its_reason(kind: str, forge: Forge) -> None:
    make, reason = ALL[kind]
    assert check(forge, make(forge)) == reason


def test_an_issuer_past_its_end_is_refused(forge: Forge) -> None:
    late = forge.leaf(validity=between(-DAY_US, 5 * YEAR_US - DAY_US))
    assert check(forge, late, NOW_US + 5 * YEAR_US + DAY_US) == "issuer_expired"


def test_an_operational_certificate_does_not_re_enrol(forge: Forge) -> None:
    with pytest.raises(Refused, match=r"trust\.certificate\.birth_missing"):
        verify_leaf(forge.leaf().der, forge.region.issuers, NOW_US, {"vehicle"}, purpose="birth")


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_no_bit_of_a_good_certificate_can_be_turned(forge: Forge) -> None:
    good = forge.leaf().der
    for bit in range(len(good) * 8):
        turned = bytearray(good)
        turned[bit // 8] ^= 1 << bit % 8
        assert check(forge, Forged(bytes(turned), None)) != "", f"bit {bit}"


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@hypothesis.settings(max_examples=400, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(data=st.data())
def test_whatever_bytes_come_the_check_refuses_and_never_breaks(forge: Forge, data: st.DataObject) -> None:
    """Bytes of a good certificate cut, doubled, nested and replaced; and plain noise."""
    good = forge.good.der
    begin = data.draw(st.integers(0, len(good)))
    end = data.draw(st.integers(begin, len(good)))
    filling = data.draw(st.one_of(st.binary(max_size=60), st.just(good[begin:end] * 2), st.just(b"\x30\x80" * 3000)))
    spliced = good[:begin] + filling + good[end:]
    hypothesis.assume(spliced != good)
    assert check(forge, Forged(spliced, None)) != ""
    assert check(forge, Forged(filling, None)) != ""


PRESENTED: list[str] = []


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize("kind", ["good", *ALL])
def test_no_hostile_certificate_gets_through_a_real_handshake(kind: str, forge: Forge, tmp_path: Path) -> None:
    forged = forge.leaf() if kind == "good" else ALL[kind][0](forge)
    client = presenting(forged, forge, tmp_path)
    if client is None:
        return  # no TLS library loads it; the check above has refused it
    PRESENTED.append(kind)
    server_folder = forge.folder / "server"
    server = tls.server_context(*(server_folder / name for name in ("certificate.pem", "key.pem", "trust.pem")))
    try:
        leaf = tls.peer_leaf(shake(server, client)) or b""
    except ssl.SSLError as error:
        refused = tls.handshake_refusal(error).code
    else:
        refused = check(forge, Forged(leaf, None))
    assert bool(refused) == (kind != "good")


def test_most_kinds_were_presented_in_a_handshake() -> None:
    if len(ALL) + 1 > len(PRESENTED) > 0:
        assert len(PRESENTED) >= 60, PRESENTED


def presenting(forged: Forged, forge: Forge, folder: Path) -> ssl.SSLContext | None:
    """A client that shows this certificate, by OpenSSL at its most lenient; None if not even that loads it."""
    chain = b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in (forged.der, *forged.chain))
    key = forged.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "chain.pem").write_bytes(chain)
    (folder / "key.pem").write_bytes(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_verify_locations(forge.folder / "server" / "trust.pem")
    try:
        context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    except ssl.SSLError:
        return None
    return context


def shake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """A whole handshake in memory; the server's side of it."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    here, there = server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname="localhost")
    for _ in range(4):
        for side in (there, here):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert here.version() == "TLSv1.3"
    return here
