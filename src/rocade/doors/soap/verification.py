"""The strict WS-Security check: an envelope in, what was really signed and by whom out, or a refusal with its own code.

The flow: `wire.strict_xml` -> the shape of the envelope (one Body, Header, Security, Signature, Timestamp, token; each where it
belongs) -> the shape of the signature (algorithms, transforms, references) -> each reference names one of the few elements
that may be signed, *the very element found at its place*, not whatever an id search finds -> digests -> certificate ->
signature -> time -> replay. Body and Timestamp must be signed. The caller gets the content of the Body as a subtree of its
own: nothing of the envelope that was not signed can reach business code.

The rules come from the wrapping attacks on XML signatures (McIntosh and Austel, 2005) and from the measured failures of
other verifiers: docs/decisions/0045-formats.md. Cost: 0.2 ms for a 3.8 KB envelope with RSA-2048.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

from rocade.core.errors import Refused
from rocade.core.ports import Clock
from rocade.doors.soap import names
from rocade.doors.soap.signers import Key, Signer, Signers
from rocade.wire.strict_xml import Element, parse

LIFE_LIMIT_S = 600
LEEWAY_S = 120
"""How far a sender's clock may be from ours, each way."""
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)\Z")
_HASHES = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}

_SECURITY, _TOKEN = f"{{{names.WSSE}}}Security", f"{{{names.WSSE}}}BinarySecurityToken"
_TIMESTAMP, _CONFIRMATION = f"{{{names.WSU}}}Timestamp", f"{{{names.WSSE_11}}}SignatureConfirmation"
_SIGNATURE = f"{{{names.DS}}}Signature"
_BODIES = tuple(f"{{{one}}}Body" for one in names.ENVELOPES)
_HEADERS = tuple(f"{{{one}}}Header" for one in names.ENVELOPES)
_ONCE = {
    "body": ("soap.body.many", _BODIES),
    "header": ("soap.header.many", _HEADERS),
    "security": ("soap.security.many", (_SECURITY,)),
    "signature": ("soap.signature.many", (_SIGNATURE,)),
    "timestamp": ("soap.timestamp.many", (_TIMESTAMP,)),
    "token": ("soap.token.many", (_TOKEN,)),
}
_PART_OF = {tag: part for part, (_, tags) in _ONCE.items() for tag in tags}
_WSU_ID = f"{{{names.WSU}}}Id"
_DS = f"{{{names.DS}}}"


class Signed(msgspec.Struct, frozen=True):
    """What an envelope that passed proves."""

    content: etree._Element
    """The one child of the Body, alone in a document of its own."""
    signer: Signer
    version: names.Version
    signature: str
    """The SignatureValue, as a response's SignatureConfirmation repeats it."""
    digest: bytes
    """The signer and what he signed, hashed: the same for one envelope, however it is spelt around what is signed."""
    confirms: str
    """The signature of the request this answers; "" where it answers none."""
    until_us: int
    """When it would be refused for its age."""


class Replays(Protocol):
    def is_new(self, digest: bytes, until_us: int, now_us: int) -> bool:
        """Remember an envelope until it would be refused for its age; False if it was seen before."""
        ...


class SeenBefore:
    """Envelopes of the last minutes, in the memory of this process."""

    def __init__(self, limit: int = 1_000_000) -> None:
        self._ends: dict[bytes, int] = {}
        self._limit = limit

    def is_new(self, digest: bytes, until_us: int, now_us: int) -> bool:
        if digest in self._ends:
            return False
        while self._ends:
            oldest = next(iter(self._ends))
            if self._ends[oldest] >= now_us and len(self._ends) < self._limit:
                break
            if self._ends[oldest] >= now_us:
                raise Refused("soap.busy", "too many envelopes are remembered; send this one again in a minute")
            del self._ends[oldest]
        self._ends[digest] = until_us
        return True


class Verifier:
    """Checks envelopes. `verify(content)`; one object serves a process, its caches are its own."""

    def __init__(self, signers: Signers, clock: Clock, replays: Replays | None = None) -> None:
        self._signers = signers
        self._clock = clock
        self._replays: Replays = replays or SeenBefore()

    def verify(self, content: bytes, content_type: str = "") -> Signed:
        """Raises: Refused `soap.*` and what the certificate check raises."""
        media, charset = _read_type(content_type)
        root = parse(content, charset)
        version = _version(root, media)
        parts = _parts(root, names.NAMESPACES[version])
        now_us = self._clock.now_us()
        signature = _Signature(parts)
        signer = self._signers.find(_token(parts["token"]), now_us)
        signature.check_digests()
        signature.check(signer.key)
        until_us = _check_time(parts["timestamp"], now_us) + LEEWAY_S * 1_000_000
        digest = hashlib.sha256(signer.identity.uri.encode() + b"\0" + signature.info).digest()
        if not self._replays.is_new(digest, until_us, now_us):
            raise replayed()
        confirmation = parts.get("confirmation")
        confirms = "" if confirmation is None else _packed(confirmation.get("Value") or "")
        content_of = _content(parts["body"])
        return Signed(content_of, signer, version, signature.value_text, digest, confirms, until_us)


def _read_type(content_type: str) -> tuple[str, str]:
    media, *parameters = [one.strip() for one in content_type.split(";")]
    charset = [one.partition("=")[2] for one in parameters if one.lower().startswith("charset")]
    return media.lower(), charset[0] if charset else ""


def _version(root: Element, media: str) -> names.Version:
    """The one SOAP version of the whole envelope, and of the Content-Type.

    Raises: Refused `soap.envelope`, `soap.version.mixed`.
    """
    name = etree.QName(root)
    version = names.ENVELOPES.get(name.namespace or "")
    if name.localname != "Envelope" or version is None:
        raise Refused("soap.envelope", "this is no SOAP 1.1 or 1.2 envelope")
    other = names.SOAP_12 if version == "1.1" else names.SOAP_11
    if next(root.iter(f"{{{other}}}*"), None) is not None or _OTHER_ATTRIBUTES[version](root):
        raise Refused("soap.version.mixed", "the envelope mixes SOAP 1.1 and 1.2")
    if media and media != names.CONTENT_TYPES[version]:
        raise Refused("soap.version.mixed", f"a SOAP {version} envelope is sent as {names.CONTENT_TYPES[version]}")
    return version


_OTHER_ATTRIBUTES = {
    "1.1": etree.XPath("boolean(//@other:*)", namespaces={"other": names.SOAP_12}),
    "1.2": etree.XPath("boolean(//@other:*)", namespaces={"other": names.SOAP_11}),
}


def _parts(root: Element, soap: str) -> dict[str, Element]:
    """Each part of the envelope at its one place.

    Raises: Refused `soap.<part>.many`, `soap.<part>.missing`, `soap.wrapped`, `soap.wrapped.*`, `soap.header.unknown`.
    """
    parts: dict[str, Element] = {}
    for element in root.iter(*_PART_OF):
        part = _PART_OF[str(element.tag)]
        if part in parts:
            raise _wrapped(parts[part], element) if part == "body" else _many(part)
        parts[part] = element
    for part in _ONCE:
        if part not in parts:
            raise _missing(part)
    header, body, security = parts["header"], parts["body"], parts["security"]
    if list(root) != [header, body]:
        raise Refused("soap.wrapped", "Header and Body must be the envelope's own two children, in this order")
    if security.getparent() is not header:
        raise Refused("soap.wrapped", "Security must stand in the Header itself")
    for part in ("signature", "timestamp", "token"):
        if parts[part].getparent() is not security:
            raise Refused("soap.wrapped", f"the {part} must stand in Security itself")
    for child in header:
        namespace = etree.QName(child).namespace
        if child is not security and namespace != names.WSA:
            raise Refused(
                "soap.header.unknown", "the Header may hold Security and WS-Addressing elements, nothing else"
            )
    actors = security.get(f"{{{soap}}}actor"), security.get(f"{{{soap}}}role")
    if any(actors):
        raise Refused("soap.header.unknown", "the Security header is for somebody else")
    known = {id(parts[part]) for part in ("signature", "timestamp", "token")}
    for child in security:
        if child.tag == _CONFIRMATION and "confirmation" not in parts:
            parts["confirmation"] = child
        elif id(child) not in known:
            raise Refused("soap.security.unknown", "Security holds something other than token, timestamp and signature")
    return parts


def _wrapped(first: Element, second: Element) -> Refused:
    """Two Bodies: say where the one was put that is not the envelope's own."""
    tags = {str(one.tag) for body in (first, second) for one in body.iterancestors()}
    if _SIGNATURE in tags:
        return Refused("soap.wrapped.object", "a second Body is hidden within the signature")
    if _SECURITY in tags:
        return Refused("soap.wrapped.security", "a second Body is hidden within Security")
    if tags & {*_HEADERS}:
        return Refused("soap.wrapped.header", "a second Body is hidden within the Header")
    if tags & {*_BODIES}:
        return Refused("soap.wrapped.body", "one Body is wrapped in another")
    return _many("body")


def _many(part: str) -> Refused:
    return Refused(f"soap.{part}.many", f"the envelope has more than one {part}")


def _missing(part: str) -> Refused:
    return Refused(f"soap.{part}.missing", f"the envelope has no {part}")


class _Signature:
    """The ds:Signature, read into what it claims; nothing is believed before `check_digests` and `check`."""

    def __init__(self, parts: dict[str, Element]) -> None:
        info, value, key_info = _children(parts["signature"], "SignedInfo", "SignatureValue", "KeyInfo")
        _check_key_info(key_info, parts["token"])
        canonicalization, method, *references = _kids(info)
        if canonicalization.tag != _DS + "CanonicalizationMethod" or method.tag != _DS + "SignatureMethod":
            raise _malformed()
        self.value_text = _packed(_text(value))
        self.value = _decode(self.value_text)
        self.info = _canonical(info, _exclusive(canonicalization))
        self.scheme, self.hash = _method(method)
        self.references = [_Reference(one) for one in references]
        self._resolve(parts)

    def _resolve(self, parts: dict[str, Element]) -> None:
        """Tie each reference to the element at its place; Body and Timestamp must both be among them."""
        may_be_signed: dict[str, str] = {}
        for part in ("body", "timestamp", "token", "confirmation"):
            if part in parts and (own := _id(parts[part])):
                may_be_signed[own] = part
        for child in parts["header"]:
            if child is not parts["security"] and (own := _id(child)):
                may_be_signed[own] = own
                parts[own] = child
        covered: set[str] = set()
        for reference in self.references:
            part = may_be_signed.get(reference.id, "")
            if not part or part in covered:
                raise Refused(
                    "soap.reference.target", "a reference names none of the parts that are signed, or one twice"
                )
            reference.element = parts[part]
            covered.add(part)
        if "body" not in covered:
            raise Refused("soap.body.unsigned", "the signature does not cover the Body")
        if "timestamp" not in covered:
            raise Refused("soap.timestamp.unsigned", "the signature does not cover the Timestamp")
        if "confirmation" in parts and "confirmation" not in covered:
            raise Refused("soap.confirmation.unsigned", "the signature does not cover the SignatureConfirmation")

    def check_digests(self) -> None:
        """Raises: Refused `soap.digest`."""
        for one in self.references:
            if hashlib.new(one.digest, _canonical(one.element, one.prefixes)).digest() != one.value:
                raise Refused("soap.digest", "a signed part of the envelope was changed after signing")

    def check(self, key: Key) -> None:
        """Raises: Refused `soap.algorithm.key`, `soap.signature`."""
        algorithm = _HASHES[self.hash]
        try:
            if isinstance(key, rsa.RSAPublicKey):
                if self.scheme == "rsa":
                    return key.verify(self.value, self.info, padding.PKCS1v15(), algorithm)
                if self.scheme == "pss":
                    return key.verify(self.value, self.info, padding.PSS(padding.MGF1(algorithm), 32), algorithm)
            elif self.scheme == "ecdsa":
                return key.verify(_der(self.value, key), self.info, ec.ECDSA(algorithm))
        except InvalidSignature:
            raise Refused("soap.signature", "the signature was not made by the key of its certificate") from None
        raise Refused("soap.algorithm.key", "the signature method is not one for the certificate's kind of key")


class _Reference:
    """One ds:Reference: what it points to, how it is made canonical, and the digest it claims."""

    def __init__(self, element: Element) -> None:
        if element.tag != _DS + "Reference":
            raise _malformed()
        uri = element.get("URI")
        if not uri:
            raise Refused("soap.reference.target", "a reference to the whole document is not accepted")
        if not uri.startswith("#"):
            raise Refused("soap.reference.external", "a reference may point into the envelope only")
        if uri.startswith("#xpointer"):
            raise Refused("soap.reference.target", "a reference names an id, not an expression")
        transforms, method, value = _children(element, "Transforms", "DigestMethod", "DigestValue")
        self.id = uri[1:]
        self.prefixes = _transforms(transforms)
        algorithm = method.get("Algorithm") or ""
        if algorithm not in names.DIGESTS:
            raise _weak(algorithm)
        self.digest = names.DIGESTS[algorithm]
        self.value = _decode(_packed(_text(value)))
        self.element = element


def _transforms(transforms: Element) -> list[str] | None:
    """Exclusive canonicalization, alone or after "enveloped" (which takes nothing away: no signature stands in a part)."""
    found = _kids(transforms)
    if any(one.tag != _DS + "Transform" for one in found):
        raise _malformed()
    used = [one.get("Algorithm") for one in found]
    if used in ([names.EXCLUSIVE], [names.ENVELOPED, names.EXCLUSIVE]):
        if len(used) == 2 and len(found[0]):
            raise _malformed()
        return _exclusive(found[-1])
    raise Refused("soap.transform", "only exclusive canonicalization is accepted as a transform")


def _exclusive(element: Element) -> list[str] | None:
    """The prefixes that exclusive canonicalization keeps besides those in use."""
    if element.get("Algorithm") != names.EXCLUSIVE:
        raise Refused("soap.transform", "only exclusive canonicalization without comments is accepted")
    if not len(element):
        return None
    (inclusive,) = _children(element, f"{{{names.EXCLUSIVE}}}InclusiveNamespaces")
    prefixes = (inclusive.get("PrefixList") or "").split()
    if len(prefixes) > 20:
        raise _malformed()
    return [one for one in prefixes if one != "#default"] or None


def _method(element: Element) -> tuple[str, str]:
    algorithm = element.get("Algorithm") or ""
    if "hmac" in algorithm:
        raise Refused("soap.algorithm.hmac", "a keyed digest proves nobody; sign with the certificate's private key")
    if algorithm not in names.SIGNATURES:
        raise _weak(algorithm)
    if len(element):
        raise _malformed()
    return names.SIGNATURES[algorithm]


def _weak(algorithm: str) -> Refused:
    if "sha1" in algorithm or "md5" in algorithm:
        return Refused("soap.algorithm.sha1", "SHA-1 and MD5 are broken; sign with SHA-256")
    return Refused("soap.algorithm.unknown", "the signature uses an algorithm that is not accepted")


def _check_key_info(key_info: Element, token: Element) -> None:
    """The key is the one of the token, named by reference, and nothing else.

    Raises: Refused `soap.token.reference`.
    """
    references = _kids(key_info)
    inner = _kids(references[0]) if len(references) == 1 else []
    own = _id(token)
    if (
        references[:1] == []
        or references[0].tag != f"{{{names.WSSE}}}SecurityTokenReference"
        or len(inner) != 1
        or inner[0].tag != f"{{{names.WSSE}}}Reference"
        or not own
        or inner[0].get("URI") != f"#{own}"
    ):
        raise Refused("soap.token.reference", "KeyInfo must refer to the envelope's own BinarySecurityToken")


def _token(token: Element) -> bytes:
    """The DER certificate in the token. Raises: Refused `soap.token.type`, `soap.malformed`."""
    if token.get("ValueType") != names.X509_V3 or token.get("EncodingType", names.BASE64) != names.BASE64:
        raise Refused("soap.token.type", "the token must be one X.509 certificate in Base64")
    return _decode(_packed(_text(token)))


def replayed() -> Refused:
    return Refused("soap.replay", "this envelope was sent before; sign each request anew")


def _check_time(timestamp: Element, now_us: int) -> int:
    """When the envelope expires, in microseconds.

    Raises: Refused `soap.timestamp.malformed`, `.long`, `.future`, `.expired`.
    """
    children = _kids(timestamp)
    if [one.tag for one in children] != [f"{{{names.WSU}}}Created", f"{{{names.WSU}}}Expires"]:
        raise Refused("soap.timestamp.malformed", "the Timestamp must have Created and Expires, in this order")
    created_us, expires_us = _instant_us(_text(children[0])), _instant_us(_text(children[1]))
    # Clients look at their clock for each of the two and cut both to whole seconds: ten minutes may be written as 601 s.
    if not 0 < expires_us - created_us <= (LIFE_LIMIT_S + 1) * 1_000_000:
        raise Refused("soap.timestamp.long", f"an envelope may be good for {LIFE_LIMIT_S} seconds")
    if created_us > now_us + LEEWAY_S * 1_000_000:
        raise Refused("soap.timestamp.future", "the envelope was made in the future; set the sender's clock")
    if now_us > expires_us + LEEWAY_S * 1_000_000:
        raise Refused("soap.timestamp.expired", "the envelope has expired; set the sender's clock and sign anew")
    return expires_us


def _instant_us(text: str) -> int:
    text = text.strip()
    if not _INSTANT.match(text):
        raise Refused("soap.timestamp.malformed", "instants are written like 2026-11-22T08:00:00Z")
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except (ValueError, OverflowError):
        raise Refused("soap.timestamp.malformed", "there is no such instant") from None


def _content(body: Element) -> Element:
    """The one child of the Body, cut out: unsigned parts of the envelope are out of its reach."""
    children = _kids(body)
    if len(children) != 1:
        raise Refused("soap.body.content", "the Body must hold one element")
    content = children[0]
    body.remove(content)
    return content


def _kids(element: Element) -> list[Element]:
    """Child elements; text beside them is refused unless it is white space."""
    if (element.text and element.text.strip()) or any(one.tail and one.tail.strip() for one in element):
        raise _malformed()
    return list(element)


def _children(element: Element, *expected: str) -> Sequence[Element]:
    """Exactly these children of a signature's element, in this order."""
    found = _kids(element)
    if [one.tag for one in found] != [one if one.startswith("{") else _DS + one for one in expected]:
        raise _malformed()
    return found


def _malformed() -> Refused:
    return Refused("soap.signature.malformed", "the signature is not in the form this door reads")


def _id(element: Element) -> str:
    """An element's own id: wsu:Id or Id, one of the two."""
    both = [one for one in (element.get(_WSU_ID), element.get("Id")) if one]
    return both[0] if len(both) == 1 else ""


def _text(element: Element) -> str:
    if len(element):
        raise _malformed()
    return element.text or ""


def _packed(text: str) -> str:
    """Base64 without the line breaks it may have."""
    return "".join(text.split())


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("soap.malformed", "a value is not in Base64") from None


def _canonical(element: Element, prefixes: list[str] | None) -> bytes:
    made: bytes = etree.tostring(
        element, method="c14n", exclusive=True, with_comments=False, inclusive_ns_prefixes=prefixes
    )
    return made


def _der(value: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """XML signatures hold r and s side by side; the library wants them in DER. Raises: Refused `soap.signature`."""
    size = (key.curve.key_size + 7) // 8
    if len(value) != 2 * size:
        raise Refused("soap.signature", "the signature has not the length of its curve")
    return encode_dss_signature(int.from_bytes(value[:size]), int.from_bytes(value[size:]))
