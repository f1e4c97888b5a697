"""Words of machine access: where tokens are good (`Place`), what binds one to a certificate, whom one proves."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from rocade.core.identifiers import Identity
from rocade.trust.authority.gate import Principal, of_certificate

TOKEN_LIFE_US = 300_000_000
"""Five minutes: the longest that anything goes on after it was taken away, if every push failed."""
EARLY_US = 10_000_000
"""How far another machine's clock may be ahead. Source: FAPI 2.0 Security Profile, on clocks."""
CLIENT_KINDS = ("partner", "dealer", "service")
"""Kinds that an operator may register; an operator's own certificate needs no registration."""
OPERATOR_PURPOSES = frozenset({"operation", "support"})


class Place(msgspec.Struct, frozen=True):
    """A region as issuer and audience of tokens. `url` is where clients reach it: the issuer of RFC 8414."""

    trust_domain: str
    region: str
    url: str

    @property
    def audience(self) -> str:
        """The one audience of this region's tokens; the identities of all its parties begin with it."""
        return f"spiffe://{self.trust_domain}/{self.region}"


def thumbprint(certificate: bytes) -> str:
    """`x5t#S256` of a certificate (DER): base64url of its SHA-256, no padding. Source: RFC 8705 3.1."""
    return base64.urlsafe_b64encode(sha256(certificate).digest()).rstrip(b"=").decode()


def principal_of(identity: Identity, purposes: Iterable[str]) -> Principal:
    """Whom a token proves: its certificate's party, for these purposes; what needs a touch needs the certificate itself."""
    return msgspec.structs.replace(of_certificate(identity), means="token", purposes=frozenset(purposes))
