"""Tokens of the dealer's own software: scoped, hashed at rest, ended one by one. The DMS holds one and never a key.

A token is shown once, when it is made (`rocade dealer token create`); here stands its SHA-256. Scopes are few and exact; a
token may read, or hand in messages for the agent to sign, and can do nothing else.
Refuses: `dealer.token.missing`, `.unknown`, `.ended`, `.scope`, `.scopes`, `.exists`.
"""

from __future__ import annotations

import base64
from hashlib import sha256

import msgspec

from rocade.agents.dealer.store import Store
from rocade.core.errors import Refused
from rocade.core.ports import Random

SCOPES = ("prices.read", "messages.send", "messages.read", "state.read")
_PREFIX = "rdt_"
_USED_EVERY_US = 60_000_000


class Token(msgspec.Struct, frozen=True):
    name: str
    scopes: tuple[str, ...]
    made_us: int
    until_us: int
    used_us: int
    ended_us: int


class Tokens:
    def __init__(self, store: Store, random: Random) -> None:
        self._store, self._random = store, random

    def create(self, name: str, scopes: tuple[str, ...], days: int) -> str:
        """A new token; the only time it is seen. Raises: Refused `dealer.token.scopes`, `.exists`."""
        if not scopes or {*scopes} - {*SCOPES}:
            raise Refused("dealer.token.scopes", f"scopes are {', '.join(SCOPES)}")
        secret, now_us = new_secret(self._random), self._store.clock.now_us()
        with self._store.write() as write:
            if write("SELECT 1 FROM token WHERE name = ? AND ended_us = 0", name):
                raise Refused("dealer.token.exists", f"there is a token {name} already; end it first, or choose a name")
            write(
                "INSERT INTO token (hash, name, scopes, made_us, until_us) VALUES (?,?,?,?,?)",
                digest(secret), name, " ".join(sorted(scopes)), now_us, now_us + days * 86_400_000_000,
            )  # fmt: skip
        return _PREFIX + secret

    def check(self, header: str, scope: str) -> Token:
        """Who asks, by the Authorization header. Raises: Refused `dealer.token.*`."""
        scheme, _, shown = header.partition(" ")
        if scheme.lower() != "bearer" or not shown.startswith(_PREFIX):
            raise Refused("dealer.token.missing", "send Authorization: Bearer <token>; `rocade dealer token create`")
        key = digest(shown.removeprefix(_PREFIX))
        row = self._store.row(
            "SELECT name, scopes, made_us, until_us, used_us, ended_us FROM token WHERE hash = ?", key
        )
        if row is None:
            raise Refused("dealer.token.unknown", "this agent made no such token")
        token, now_us = _token(row), self._store.clock.now_us()
        if token.ended_us or now_us >= token.until_us:
            raise Refused("dealer.token.ended", "this token has ended; ask the manager for another one")
        if scope not in token.scopes:
            raise Refused("dealer.token.scope", f"this token may not do that; it needs the scope {scope}")
        if now_us - token.used_us > _USED_EVERY_US:
            with self._store.write() as write:
                write("UPDATE token SET used_us = ? WHERE hash = ?", now_us, key)
        return token

    def list(self) -> list[Token]:
        rows = self._store.rows("SELECT name, scopes, made_us, until_us, used_us, ended_us FROM token ORDER BY made_us")
        return [_token(row) for row in rows]

    def end(self, name: str) -> None:
        """Raises: Refused `dealer.token.unknown`."""
        with self._store.write() as write:
            now_us = self._store.clock.now_us()
            if not write("UPDATE token SET ended_us = ? WHERE name = ? AND ended_us = 0 RETURNING 1", now_us, name):
                raise Refused("dealer.token.unknown", f"there is no token {name} in force")


def new_secret(random: Random) -> str:
    """192 random bits, fit for a header, a cookie and an address."""
    return base64.urlsafe_b64encode(random.bits(192).to_bytes(24)).decode()


def digest(secret: str) -> str:
    """What stands at rest. A random secret of 192 bits needs no salt and no slow hash."""
    return sha256(secret.encode()).hexdigest()


def _token(row: tuple[object, ...]) -> Token:
    name, scopes, *times = row
    return Token(str(name), tuple(str(scopes).split()), *(int(str(one)) for one in times))
