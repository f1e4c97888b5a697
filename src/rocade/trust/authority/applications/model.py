"""What is known of an application, what it may ask, and who is let in; the rules that need nothing but that.

An application is for the staff of dealers, of one brand or ('') of any, in the roles it names. What it learns of a person is a
name of its own for him (`sub`: another one for each application, so that two of them cannot put their books together), his
roles, and with the scope `profile` his name and language; nothing before he agreed to it. Source: OpenID Connect Core 1.0, RFC 6749, RFC 7636, RFC 9700.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from rocade.core.errors import Refused

SCOPES = ("openid", "profile", "roles")
CODE_LIFE_US = 60_000_000
TOKEN_LIFE_US = 300_000_000
REMEMBERED_US = 30 * 86_400_000_000
"""How long somebody may let an application in without being asked each time."""
REDIRECTS_LIMIT = 20
_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,47}\Z")
_BRAND = re.compile(r"(?:[a-z0-9][a-z0-9-]{0,31})?\Z")
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}\Z")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}\Z")
_ROLE = re.compile(r"[a-z][a-z-]{1,31}\Z")


class Application(msgspec.Struct, frozen=True):
    """`brand` '' = any; `secret_hash` None = a program without a secret (in a browser), for which PKCE is enough."""

    id: str
    name: str
    redirects: tuple[str, ...]
    logouts: tuple[str, ...]
    brand: str
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    secret_hash: bytes | None
    added_us: int
    added_by: str


class Asked(msgspec.Struct, frozen=True):
    """An authorisation request that passed; `session` is of the person who is signed in."""

    redirect: str
    challenge: str
    nonce: str
    scope: str


class Consent(msgspec.Struct, frozen=True):
    """What somebody agreed to last. `is_remembered`: until then he is not asked again; else it was for that one request."""

    application: str
    scope: str
    is_remembered: bool
    given_us: int
    until_us: int

    def covers(self, application: Application, asked: Asked, now_us: int) -> bool:
        """Whether a request needs no question: the application proves itself, is registered as it was, and asks for no more."""
        is_same = application.secret_hash is not None and application.added_us <= self.given_us
        is_enough = set(asked.scope.split()) <= set(self.scope.split())
        return self.is_remembered and is_same and is_enough and now_us < self.until_us


class Given(msgspec.Struct, frozen=True):
    """What a code stands for."""

    application: str
    person: str
    session: int
    redirect: str
    challenge: str
    nonce: str
    scope: str
    signed_in_us: int
    until_us: int
    used_us: int


class StaffRole(msgspec.Struct, frozen=True, order=True):
    """A role of somebody at a dealer's point of sale, as applications are told."""

    dealer: str
    site: str
    brand: str
    role: str


class Staff(Protocol):
    """Who is what at dealers (`services.dealers.SiteTable`)."""

    def staff_roles(self, person: str, brand: str, at_us: int) -> list[StaffRole]:
        """What somebody is at open sites that have a brand ('' = any) now."""
        ...


def check(one: Application) -> None:
    """Raises: Refused `openid.invalid`."""
    if not _ID.match(one.id):
        raise Refused("openid.invalid", "an application's id has 2 to 48 small letters, digits and hyphens")
    if not 1 <= len(one.name.strip()) <= 80 or not one.name.isprintable():
        raise Refused("openid.invalid", "a name has 1 to 80 printable characters")
    if not _BRAND.match(one.brand):
        raise Refused("openid.invalid", "a brand has small letters, digits and hyphens")
    if not one.redirects or len(one.redirects) + len(one.logouts) > REDIRECTS_LIMIT:
        raise Refused("openid.invalid", f"name 1 to {REDIRECTS_LIMIT} addresses to come back to")
    for address in (*one.redirects, *one.logouts):
        check_address(address)
    if not one.roles or not all(map(_ROLE.match, one.roles)):
        raise Refused("openid.invalid", "name the roles that may enter")
    if "openid" not in one.scopes or not set(one.scopes) <= set(SCOPES):
        raise Refused("openid.invalid", f"scopes are {', '.join(SCOPES)}, openid among them")


def check_address(address: str) -> None:
    """An address is compared letter by letter: https, or http on this very machine. Raises: Refused `openid.invalid`."""
    parts = urlsplit(address)
    is_local = parts.scheme == "http" and parts.hostname in {"localhost", "127.0.0.1"}
    is_plain = address.isascii() and address.isprintable() and len(address) <= 512 and " " not in address
    if (
        not is_plain
        or not (is_local or parts.scheme == "https")
        or parts.fragment
        or parts.username
        or not parts.hostname
    ):
        raise Refused("openid.invalid", "come back to an https address (or http://localhost:PORT) without a fragment")


def check_challenge(challenge: str, method: str) -> None:
    """Raises: Refused `openid.challenge`."""
    if method != "S256" or not _CHALLENGE.match(challenge):
        raise Refused("openid.challenge", "send a code_challenge of method S256 (RFC 7636)")


def proves(verifier: str, challenge: str) -> bool:
    """Whether this verifier made the challenge."""
    if not _VERIFIER.match(verifier):
        return False
    return base64.urlsafe_b64encode(sha256(verifier.encode()).digest()).rstrip(b"=").decode() == challenge


def subject_for(application: str, person: str) -> str:
    """The name an application knows a person by, and no other application does."""
    return (
        base64.urlsafe_b64encode(sha256(f"openid subject {application} {person}".encode()).digest())
        .rstrip(b"=")
        .decode()
    )
