"""Make signed envelopes: the hub's answers and faults, and the client SDK's requests; exactly what `verification` accepts.

Signed are Body, Timestamp and, in an answer, the SignatureConfirmation that ties it to its request. ECDSA on P-256 for
who has a certificate of the region (fifty times cheaper to make than RSA), RSA-SHA256 for who has an RSA key.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from rocade.core.ports import Random
from rocade.doors.soap import names
from rocade.wire.strict_xml import Element

type SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

LIFE_S = 300


class Credential(NamedTuple):
    """What signs: a private key and the DER certificate that goes with it."""

    key: SigningKey
    certificate: bytes


class Sealed(NamedTuple):
    """A signed envelope and its SignatureValue, which the answer must repeat."""

    envelope: bytes
    signature: str


def seal(
    content: Element,
    version: names.Version,
    credential: Credential,
    now_us: int,
    random: Random,
    *,
    confirms: str = "",
) -> Sealed:
    """Put `content` into the Body of a signed envelope; `confirms` is the request's SignatureValue."""
    soap, mark = names.NAMESPACES[version], f"{random.bits(64):016x}"
    envelope = etree.Element(f"{{{soap}}}Envelope", nsmap={"s": soap})
    header = etree.SubElement(envelope, f"{{{soap}}}Header")
    security = etree.SubElement(header, f"{{{names.WSSE}}}Security", nsmap={"wsse": names.WSSE, "wsu": names.WSU})
    security.set(f"{{{soap}}}mustUnderstand", "1" if version == "1.1" else "true")
    token = etree.SubElement(security, f"{{{names.WSSE}}}BinarySecurityToken")
    token.set("ValueType", names.X509_V3)
    token.set("EncodingType", names.BASE64)
    token.text = base64.b64encode(credential.certificate).decode()
    stamp = etree.SubElement(security, f"{{{names.WSU}}}Timestamp")
    etree.SubElement(stamp, f"{{{names.WSU}}}Created").text = _instant(now_us)
    etree.SubElement(stamp, f"{{{names.WSU}}}Expires").text = _instant(now_us + LIFE_S * 1_000_000)
    body = etree.SubElement(envelope, f"{{{soap}}}Body", nsmap={"wsu": names.WSU})
    body.append(content)
    signed = [stamp, body]
    if confirms:
        confirmation = etree.SubElement(
            security, f"{{{names.WSSE_11}}}SignatureConfirmation", nsmap={"wsse11": names.WSSE_11}
        )
        confirmation.set("Value", confirms)
        signed.append(confirmation)
    for number, part in enumerate((token, *signed)):
        part.set(f"{{{names.WSU}}}Id", f"id{number}-{mark}")
    signature = _sign(security, signed, f"#id0-{mark}", credential.key)
    return Sealed(etree.tostring(envelope, encoding="UTF-8", xml_declaration=True), signature)


def _sign(security: Element, signed: list[Element], token: str, key: SigningKey) -> str:
    """Append the ds:Signature over these parts and return its value."""

    def add(parent: Element, name: str, algorithm: str = "") -> Element:
        element = etree.SubElement(parent, f"{{{names.DS}}}{name}", nsmap={"ds": names.DS})
        if algorithm:
            element.set("Algorithm", algorithm)
        return element

    signature = add(security, "Signature")
    info = add(signature, "SignedInfo")
    add(info, "CanonicalizationMethod", names.EXCLUSIVE)
    add(info, "SignatureMethod", names.RSA_SHA256 if isinstance(key, rsa.RSAPrivateKey) else names.ECDSA_SHA256)
    for part in signed:
        reference = add(info, "Reference")
        reference.set("URI", "#" + str(part.get(f"{{{names.WSU}}}Id")))
        add(add(reference, "Transforms"), "Transform", names.EXCLUSIVE)
        add(reference, "DigestMethod", names.SHA256)
        digest = hashlib.sha256(canonical(part)).digest()
        add(reference, "DigestValue").text = base64.b64encode(digest).decode()
    value = base64.b64encode(sign_bytes(key, canonical(info))).decode()
    add(signature, "SignatureValue").text = value
    holder = etree.SubElement(add(signature, "KeyInfo"), f"{{{names.WSSE}}}SecurityTokenReference")
    etree.SubElement(holder, f"{{{names.WSSE}}}Reference", URI=token, ValueType=names.X509_V3)
    return value


def canonical(element: Element) -> bytes:
    made: bytes = etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
    return made


def sign_bytes(key: SigningKey, content: bytes) -> bytes:
    """RSA PKCS#1 v1.5, or ECDSA as r and s side by side; both with SHA-256."""
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(content, padding.PKCS1v15(), hashes.SHA256())
    r, s = decode_dss_signature(key.sign(content, ec.ECDSA(hashes.SHA256())))
    size = (key.curve.key_size + 7) // 8
    return r.to_bytes(size) + s.to_bytes(size)


def _instant(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
