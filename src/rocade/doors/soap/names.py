"""The names of SOAP and WS-Security that this door speaks, and the algorithms it takes; whatever is not here is refused.

Source: SOAP 1.1 (W3C note), SOAP 1.2 part 1, WSS SOAP Message Security 1.1, X.509 Token Profile 1.1, XML Signature 1.1
and RFC 9231 for the algorithm addresses.
"""

from __future__ import annotations

from typing import Final, Literal

type Version = Literal["1.1", "1.2"]

SOAP_11: Final = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12: Final = "http://www.w3.org/2003/05/soap-envelope"
_OASIS = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-"
WSSE: Final = _OASIS + "wssecurity-secext-1.0.xsd"
WSU: Final = _OASIS + "wssecurity-utility-1.0.xsd"
WSSE_11: Final = "http://docs.oasis-open.org/wss/oasis-wss-wssecurity-secext-1.1.xsd"
DS: Final = "http://www.w3.org/2000/09/xmldsig#"
WSA: Final = "http://www.w3.org/2005/08/addressing"
X509_V3: Final = _OASIS + "x509-token-profile-1.0#X509v3"
BASE64: Final = _OASIS + "soap-message-security-1.0#Base64Binary"

ENVELOPES: Final[dict[str, Version]] = {SOAP_11: "1.1", SOAP_12: "1.2"}
NAMESPACES: Final = {version: namespace for namespace, version in ENVELOPES.items()}
CONTENT_TYPES: Final[dict[Version, str]] = {"1.1": "text/xml", "1.2": "application/soap+xml"}

EXCLUSIVE: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED: Final = DS + "enveloped-signature"
DIGESTS: Final = {
    "http://www.w3.org/2001/04/xmlenc#sha256": "sha256",
    "http://www.w3.org/2001/04/xmldsig-more#sha384": "sha384",
    "http://www.w3.org/2001/04/xmlenc#sha512": "sha512",
}
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
SIGNATURES: Final = {
    _MORE + "rsa-sha256": ("rsa", "sha256"),
    _MORE + "rsa-sha384": ("rsa", "sha384"),
    _MORE + "rsa-sha512": ("rsa", "sha512"),
    "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1": ("pss", "sha256"),
    _MORE + "ecdsa-sha256": ("ecdsa", "sha256"),
    _MORE + "ecdsa-sha384": ("ecdsa", "sha384"),
}
"""Signature method -> (scheme, digest)."""
ECDSA_SHA256: Final = _MORE + "ecdsa-sha256"
RSA_SHA256: Final = _MORE + "rsa-sha256"
SHA256: Final = "http://www.w3.org/2001/04/xmlenc#sha256"
