"""What is known of a person: a name, duties, passkeys, sessions; and the rules that need nothing but that.

Outside this package a person is `person:<hex>`, a random number that says nothing; names are shown to people and stand in
no log. A duty makes an operator: support, security or release; it may be lent with a scope (the acts it covers, by
prefix of their names) and an end. Decision: docs/decisions/0034-people.md.
"""

from __future__ import annotations

import re
from typing import Self

import msgspec

from rocade.core.errors import Misconfigured, Refused
from rocade.trust.authority.gate.model import Principal

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

DUTIES = ("support", "security", "release")
LANGUAGES = ("en", "fr", "zh")
NAME_LIMIT = 80
_ID = re.compile(r"person:([0-9a-f]{16})\Z")
_SCOPE = re.compile(r"(?:[a-z_]+(?:\.[a-z_]+)*(?: (?=\S))?)*\Z")
_ORGANISATION = re.compile(r"(?:(?:dealer|partner):[A-Za-z0-9][A-Za-z0-9._-]{0,63})?\Z")


class Site(msgspec.Struct, frozen=True):
    """Where people sign in: passkeys belong to `host` and are used from `origin` alone."""

    host: str = "localhost"
    origin: str = "http://localhost:8080"

    @classmethod
    def at(cls, address: str) -> Self:
        """The site of a public https address, or of http://localhost:PORT.

        Raises: Misconfigured `people.site`.
        """
        match = re.fullmatch(r"(?:https://([a-z0-9.-]+\.[a-z]+)|http://(localhost))(:\d{1,5})?/?", address)
        if match is None:
            raise Misconfigured("people.site", "people sign in at https://NAME or at http://localhost:PORT")
        return cls(match[1] or match[2], address.rstrip("/"))

    @property
    def is_https(self) -> bool:
        return self.origin.startswith("https:")


class Duty(msgspec.Struct, frozen=True, array_like=True):
    """A duty held; `scope` '' = the whole of it, else prefixes of acts it covers, with blanks between; `until_us` None = no end."""

    number: int
    duty: str
    scope: str
    granted_by: str
    until_us: int | None

    def covers(self, act: str) -> bool:
        return not self.scope or any(act == one or act.startswith(f"{one}.") for one in self.scope.split())


class Person(msgspec.Struct, frozen=True):
    """`organisation`: '' | `dealer:<id>` | `partner:<id>`; `duties` are those in force."""

    id: str
    name: str
    organisation: str
    language: str
    added_us: int
    ended_us: int | None = None
    duties: tuple[Duty, ...] = ()

    @property
    def is_operator(self) -> bool:
        return bool(self.duties)

    def holds(self, duty: str) -> bool:
        """Whether he has the whole of a duty, not a part of it."""
        return any(one.duty == duty and not one.scope for one in self.duties)


class Passkey(msgspec.Struct, frozen=True):
    """One passkey; `is_synced`: it may live on several devices of its owner."""

    number: int
    credential_id: bytes
    person: str
    public_key: bytes
    sign_count: int
    name: str
    is_synced: bool
    added_us: int
    used_us: int | None
    ended_us: int | None


class Session(msgspec.Struct, frozen=True):
    """Somebody who signed in, as of at most a second ago."""

    number: int
    person: Person
    means: str
    """passkey | link | openid"""
    opened_us: int
    until_us: int
    passkeys: int
    region: str = ""

    @property
    def principal(self) -> Principal:
        """Who this is to the gate, with the duties held whole."""
        return self._as(frozenset(one.duty for one in self.person.duties if not one.scope))

    def acting(self, act: str) -> Principal:
        """The same, with the lent duties whose scope covers `act`."""
        return self._as(frozenset(one.duty for one in self.person.duties if one.covers(act)))

    def _as(self, duties: frozenset[str]) -> Principal:
        recipient = self.person.organisation or ("operator" if self.person.is_operator else self.person.id)
        return Principal("person", self.person.id, recipient, self.means, self.region, duties)


def person_id(number: int) -> str:
    return f"person:{number:016x}"


def person_number(id: str) -> int:
    """Raises: Refused `people.unknown`."""
    if not (match := _ID.match(id)):
        raise Refused("people.unknown", "there is no such person; people are named person:<16 hexadecimal digits>")
    return int(match[1], 16)


def require(person: Person | None) -> Person:
    """Raises: Refused `people.unknown`, `people.ended`."""
    if person is None:
        raise Refused("people.unknown", "there is no such person")
    if person.ended_us is not None:
        raise Refused("people.ended", "this person has no access here any more")
    return person


def check_person(name: str, organisation: str, language: str) -> None:
    """Raises: Refused `people.invalid`."""
    if not 1 <= len(name.strip()) <= NAME_LIMIT or not name.isprintable():
        raise Refused("people.invalid", f"a name has 1 to {NAME_LIMIT} printable characters", field="name")
    if not _ORGANISATION.match(organisation):
        raise Refused("people.invalid", "an organisation is dealer:<id> or partner:<id>", field="organisation")
    if language not in LANGUAGES:
        raise Refused("people.invalid", f"languages are {', '.join(LANGUAGES)}", field="language")


def check_duty(duty: str, scope: str, until_us: int | None, now_us: int) -> None:
    """Raises: Refused `people.invalid`."""
    if duty not in DUTIES:
        raise Refused("people.invalid", f"duties are {', '.join(DUTIES)}", field="duty")
    if not _SCOPE.match(scope):
        raise Refused("people.invalid", "a scope is names of acts or their beginnings, blanks between", field="scope")
    if until_us is not None and until_us <= now_us:
        raise Refused("people.invalid", "the end of a duty lies in the future", field="until_us")
