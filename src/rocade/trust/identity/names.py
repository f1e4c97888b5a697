"""The name inside a certificate, read strictly: one URI, in one spelling only.

`Identity.parse` accepts exactly the canonical spelling; when it refuses, `_uri_fault` finds the reason to show. A URI
with port, user, query, percent signs, upper-case scheme, empty or too many parts is refused, never normalised: two
spellings of one identity are two identities to a deny list. Source: SPIFFE-ID section 2, docs/decisions/0007-certificates.md.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID

from rocade.core.errors import Refused
from rocade.core.identifiers import KINDS, Identity


def read_name(names: x509.SubjectAlternativeName | None, kind: str) -> Identity:
    """The one identity in the subject alternative names of a leaf issued for `kind`.

    Raises: Refused `trust.certificate.name_*`, `trust.certificate.uri_*`.
    """
    if names is None:
        raise _refuse("name_missing", "the certificate has no subject alternative name; a common name proves nothing")
    uris = []
    for name in names:
        if isinstance(name, x509.UniformResourceIdentifier):
            uris.append(name.value)
        elif isinstance(name, x509.DNSName):
            _only_service(kind, "name_dns", "host names")
        elif isinstance(name, x509.IPAddress):
            _only_service(kind, "name_address", "addresses")
        elif isinstance(name, x509.RFC822Name):
            raise _refuse("name_email", "a certificate may not carry an e-mail address")
        else:
            raise _refuse("name_other", "a certificate may carry no name of this type")
    if not uris:
        raise _refuse("name_uri_missing", "the certificate has no URI name")
    if len(uris) > 1:
        raise _refuse("name_uri_many", "the certificate claims more than one identity")
    try:
        return Identity.parse(uris[0])
    except Refused:
        raise _refuse(*_uri_fault(uris[0])) from None


EMPTY_NAME = b"\x30\x00"
_COMMON_NAME = bytes.fromhex("06035504030c")  # 2.5.4.3, then a UTF8String


def common_name(text: str) -> bytes:
    """DER of the name with this one common name, as Rocade's authority writes it (ASCII, at most 64 characters)."""
    value = text.encode()
    size = len(value)
    return b"\x30%c\x31%c\x30%c%b%c%b" % (size + 11, size + 9, size + 7, _COMMON_NAME, size, value)


def check_subject(subject: x509.Name, identity: Identity) -> None:
    """The subject is empty or repeats the identity's id as common name; it may not claim anything else."""
    names = list(subject)
    if len(names) > 1 or names[0].oid != NameOID.COMMON_NAME or names[0].value != identity.id:
        raise _refuse("subject", "the subject may only repeat the identity's id as its common name")


def _refuse(reason: str, message: str) -> Refused:
    return Refused(f"trust.certificate.{reason}", message)


def _only_service(kind: str, reason: str, what: str) -> None:
    if kind != "service":
        raise _refuse(reason, f"only a service certificate may carry {what}")


def _uri_fault(uri: str) -> tuple[str, str]:
    """Why `Identity.parse` refused this URI."""
    scheme, separator, rest = uri.partition("://")
    domain, _, path = rest.partition("/")
    parts = path.split("/")
    if not uri.isascii():
        return "uri_not_ascii", "the URI has characters outside ASCII"
    if any(character < "!" or character > "~" for character in uri):
        return "uri_control", "the URI has blanks or control characters"
    if not separator or scheme != "spiffe":
        return "uri_scheme", "the URI must begin with spiffe:// in lower case"
    for mark, reason in _MARKS.items():
        if mark in rest:
            return reason, f"the URI may not contain {mark}"
    if ":" in domain:
        return "uri_port", "the URI may not contain a port"
    if uri.endswith("/"):
        return "uri_trailing_slash", "the URI may not end with a slash"
    if not domain or "" in parts:
        return "uri_empty_part", "the URI has an empty part"
    if len(parts) != 3:
        return "uri_parts", "the URI must have region, kind and id, no more and no less"
    if parts[1] not in KINDS:
        return "uri_kind", "the URI names an unknown kind"
    if max(map(len, (domain, *parts))) > 64:
        return "uri_long", "a part of the URI has more than 64 characters"
    return (
        "uri_character",
        "a part of the URI must be letters, digits, dot, dash, underscore, and start with one of the first two",
    )


_MARKS = {"%": "uri_percent", "?": "uri_query", "#": "uri_fragment", "@": "uri_userinfo"}
