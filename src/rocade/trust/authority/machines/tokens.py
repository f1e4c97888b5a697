"""Access tokens: five-minute ES256 JWTs that are good only together with the certificate they were given to.

`issue` answers a client that proved itself with its certificate; `check` tells whom a token proves, from memory alone.
In order: form, algorithm (ES256 and nothing else), type (`at+jwt`), key id, signature, issuer, audience, time, the
certificate of this very connection, and whether the client may still ask for these purposes. It refuses everything
else with `access.token.<reason>`. Keys and clients are pushed to all processes (`follow`); revoking the certificate ends
its tokens because the door checks the certificate on each request before it comes here.
Source: RFC 6749 4.4, RFC 8705, RFC 9068, FAPI 2.0 Security Profile; docs/decisions/0035-machines.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Self

import asyncpg
import msgspec
from joserfc import jws
from joserfc.errors import JoseError

from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.following import Turns, follow
from rocade.trust.authority.gate.model import Principal
from rocade.trust.authority.machines import store
from rocade.trust.authority.machines.keyring import HEARD_US, KeyRing, Seal, SigningKey, create_wrapping
from rocade.trust.authority.machines.model import (
    EARLY_US,
    OPERATOR_PURPOSES,
    TOKEN_LIFE_US,
    Place,
    principal_of,
)

LIMIT_BYTES = 4096
REMEMBERED = 4096
ISSUED_A_MINUTE = 300
"""Tokens one party gets from one process: a program that asks for one with each request stops here, not in the audit log."""
ALGORITHMS = ("ES256",)
TYPE = "at+jwt"
ID_TYPE = "JWT"


class _Confirmation(msgspec.Struct, frozen=True):
    thumbprint: str = msgspec.field(default="", name="x5t#S256")


class _Claims(msgspec.Struct, frozen=True):
    """What is read of a token. Source: RFC 9068 2.2, RFC 8705 3.1."""

    iss: str
    aud: str | list[str]
    sub: str
    iat: int
    exp: int
    scope: str
    nbf: int = 0
    cnf: _Confirmation = _Confirmation()


_decoder = msgspec.json.Decoder(_Claims)


class _Known(msgspec.Struct, frozen=True):
    """A token that was checked before; what can change since is compared again."""

    principal: Principal
    thumbprint: str
    begins_us: int
    ends_us: int


class Tokens:
    """Issues and checks the region's access tokens; one in each API process, all over one database."""

    def __init__(
        self, database: Database, directory: Path, place: Place, audit: Audit, clock: Clock, random: Random
    ) -> None:
        self.place = place
        self._database = database
        self._directory = directory
        self._audit = audit
        self._clock = clock
        self._random = random
        self._seal: Seal | None = None
        self._ring = KeyRing()
        self._rows: list[store.KeyRow] = []
        self._purposes: dict[str, frozenset[str]] = {}
        self._known: dict[str, _Known] = {}
        self._issued: Counter[str] = Counter()
        self._minute = 0
        self._read_s = clock.monotonic_s()
        self._turns = Turns()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls, database: Database, directory: Path, place: Place, audit: Audit, clock: Clock, random: Random
    ) -> Self:
        """Read keys and clients, making the first key where there is none; then follow changes until `close`.

        `directory` is the region's trust/tokens.
        Raises: Misconfigured `trust.tokens.*`; what the database raises when it is down.
        """
        opened = cls(database, directory, place, audit, clock, random)
        async with database.pool.acquire() as connection:
            await opened._read(connection)
        opened._task = asyncio.create_task(follow(database, store.CHANNEL, opened._read), name="tokens")
        return opened

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    # --- issuing ----------------------------------------------------------------------------------------------------

    def purposes_of(self, identity: Identity) -> frozenset[str]:
        """The purposes this party may ask for; empty = none, it is no client."""
        if identity.kind == "operator":
            return OPERATOR_PURPOSES
        return self._purposes.get(identity.uri, frozenset())

    async def issue(self, identity: Identity, certificate_thumbprint: str, purposes: Collection[str]) -> str:
        """A token for `identity`, whose certificate the caller has verified; recorded before it is handed out.

        `purposes` empty = all it may ask for.
        Raises: Refused `access.token.client` (not registered), `access.token.purpose`, `quota.tokens`.
        """
        allowed = self.purposes_of(identity)
        if not allowed:
            raise Refused(
                "access.token.client",
                "this party is no registered client; an operator registers it (`rocade client add`)",
            )
        wanted = frozenset(purposes) or allowed
        if not wanted <= allowed:
            raise Refused("access.token.purpose", "this client is not registered for every purpose it asks for")
        now_us = self._clock.now_us()
        self._count(identity, now_us)
        name = f"{self._random.bits(96):024x}"
        words = " ".join(sorted(wanted))
        facts: dict[str, str | int | float] = {"token": name, "purposes": words}
        await self._audit.record(AuditEntry(now_us, identity.uri, "access.token.issue", identity.uri, facts=facts))
        return self._sign(identity, certificate_thumbprint, wanted, name, now_us)

    def _count(self, identity: Identity, now_us: int) -> None:
        minute = now_us // 60_000_000
        if minute != self._minute:
            self._minute = minute
            self._issued.clear()
        self._issued[identity.uri] += 1
        if self._issued[identity.uri] > ISSUED_A_MINUTE:
            raise Refused("quota.tokens", "too many access tokens in a minute; use one for the five minutes it lives")

    def _sign(self, identity: Identity, thumbprint: str, purposes: Collection[str], name: str, now_us: int) -> str:
        key = self._ring.signer(now_us)
        if key is None:
            raise Unavailable("access.token.keys", "no signing key has begun yet; try again in a moment")
        claims: dict[str, object] = {
            "iss": self.place.url,
            "aud": self.place.audience,
            "sub": identity.uri,
            "client_id": identity.uri,
            "iat": now_us // 1_000_000,
            "nbf": now_us // 1_000_000,
            "exp": (now_us + TOKEN_LIFE_US) // 1_000_000,
            "jti": name,
            "scope": " ".join(f"purpose:{purpose}" for purpose in sorted(purposes)),
            "cnf": {"x5t#S256": thumbprint},
        }
        return _sealed(key, TYPE, claims)

    def sign_id(self, claims: dict[str, object]) -> str:
        """An ID token (OpenID Connect) of these claims; its type keeps it from ever being taken for an access token.

        Raises: Unavailable `access.token.keys`.
        """
        key = self._ring.signer(self._clock.now_us())
        if key is None:
            raise Unavailable("access.token.keys", "no signing key has begun yet; try again in a moment")
        return _sealed(key, ID_TYPE, claims)

    def read_id(self, token: str) -> dict[str, object]:
        """The claims of an ID token one of the region's keys signed, ended or not. Raises: Refused `openid.hint`."""
        try:
            signed = jws.extract_compact(token[:LIMIT_BYTES].encode("ascii"))
            header = signed.headers()
            key = self._ring.find(header.get("kid"))
            is_right = header.get("alg") in ALGORITHMS and header.get("typ") == ID_TYPE and key is not None
            if is_right and key is not None and jws.validate_compact(signed, key.pair, ALGORITHMS):
                return msgspec.json.decode(signed.payload, type=dict[str, object])
        except (JoseError, msgspec.MsgspecError, ValueError, TypeError):  # what hostile bytes make the libraries raise
            pass
        raise Refused("openid.hint", "this ID token is not one of this region")

    # --- checking ---------------------------------------------------------------------------------------------------

    def check(self, token: str, thumbprint: str, now_us: int) -> Principal:
        """Whom a token proves on a connection whose certificate has this thumbprint ('' = it showed none).

        Raises: Refused `access.token.<reason>`; Unavailable `access.token.keys` if keys could not be read for long.
        Cost: 0.2 us for a token seen before, 0.12 ms for a new one, nearly all of it the signature.
        """
        if not thumbprint:
            raise Refused(
                "access.token.bare", "an access token is good only over mutual TLS with the certificate it was given to"
            )
        known = self._known.get(token)
        if known is None:
            known = self._examine(token)
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[token] = known
        if known.thumbprint != thumbprint:
            raise Refused("access.token.certificate", "this access token was given to another certificate")
        if now_us < known.begins_us - EARLY_US:
            raise Refused("access.token.early", "this access token is not valid yet; check the clocks")
        if now_us >= known.ends_us:
            raise Refused("access.token.expired", "this access token has ended; ask /oauth/token for a new one")
        return known.principal

    def _examine(self, token: str) -> _Known:
        """Everything about a token that its connection and the time do not change."""
        claims = self._verified(token)
        if claims.iss != self.place.url:
            raise Refused("access.token.issuer", "this access token is of another issuer")
        if claims.aud != self.place.audience:
            raise Refused("access.token.audience", "this access token is for another region")
        if not claims.cnf.thumbprint:
            raise Refused("access.token.unbound", "this access token is bound to no certificate")
        identity = Identity.parse(claims.sub)
        purposes = {word.removeprefix("purpose:") for word in claims.scope.split()}
        if not purposes or not purposes <= self.purposes_of(identity):
            raise Refused(
                "access.token.client", "this client may no longer ask for these purposes; ask for a new token"
            )
        begins_us, ends_us = max(claims.iat, claims.nbf) * 1_000_000, claims.exp * 1_000_000
        return _Known(principal_of(identity, purposes), claims.cnf.thumbprint, begins_us, ends_us)

    def _verified(self, token: str) -> _Claims:
        """The claims of a token that one of the region's keys signed."""
        if len(token) > LIMIT_BYTES or not token.isascii():
            raise Refused("access.token.malformed", "this is no access token")
        try:
            signed = jws.extract_compact(token.encode())
            header = signed.headers()
            if header.get("alg") not in ALGORITHMS:
                raise Refused("access.token.algorithm", "access tokens are signed with ES256 and nothing else")
            if header.get("typ") != TYPE:
                raise Refused("access.token.type", "this token is no access token")
            key = self._key(header.get("kid"))
            if not jws.validate_compact(signed, key.pair, ALGORITHMS):
                raise Refused("access.token.signature", "this region did not sign this access token")
            return _decoder.decode(signed.payload)
        except (JoseError, msgspec.MsgspecError, ValueError, TypeError):  # what hostile bytes make the libraries raise
            raise Refused("access.token.malformed", "this is no access token") from None

    def _key(self, kid: object) -> SigningKey:
        if key := self._ring.find(kid):
            return key
        if (self._clock.monotonic_s() - self._read_s) * 1_000_000 > HEARD_US:
            raise Unavailable("access.token.keys", "the region's keys could not be read for a while; try again")
        raise Refused("access.token.key", "no key of this region has this access token's key id")

    # --- keys -------------------------------------------------------------------------------------------------------

    def published(self) -> dict[str, object]:
        """The JSON Web Key Set: every key whose tokens are good, and the next one. Source: RFC 7517."""
        return {"keys": [key.public() for key in self._ring.keys]}

    async def rotate(self, actor: str, *, withdraw: bool = False) -> str:
        """Publish a new key that signs in ten seconds, when every process knows it; its key id.

        `withdraw` is for a key that leaked: the new one signs at once and tokens of all older ones are refused.
        """
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.lock_keys(connection)
            now_us = self._clock.now_us()
            row, _ = self._opened().new_row(now_us if withdraw else now_us + HEARD_US, self._random)
            await self._audit.record(
                AuditEntry(now_us, actor, "access.token.rotate", f"key:{row.kid}", facts={"withdraw": int(withdraw)})
            )
            if withdraw:
                await store.drop_keys(connection, [key.kid for key in await store.read_keys(connection)])
            await store.add_key(connection, row)
        async with self._database.pool.acquire() as connection:
            await self._read(connection)
        return row.kid

    async def _read(self, connection: asyncpg.Connection) -> None:
        """Read keys and clients in turn: a key that was withdrawn must not come back with an older reading."""
        async with self._turns.take(connection):
            await self._read_alone(connection)

    async def _read_alone(self, connection: asyncpg.Connection) -> None:
        """Publish the next key when it is due and drop the spent, too."""
        rows = await store.read_keys(connection)
        now_us = self._clock.now_us()
        if rows != self._rows or self._seal is None:
            self._take(rows)
        if self._ring.is_due(now_us) or self._ring.spent(now_us):
            await self._renew(connection)
        purposes = {client.identity: frozenset(client.purposes) for client in await store.read_clients(connection)}
        if purposes != self._purposes:
            self._purposes = purposes
            self._known.clear()
        self._read_s = self._clock.monotonic_s()

    async def _renew(self, connection: asyncpg.Connection) -> None:
        async with connection.transaction():
            await store.lock_keys(connection)
            rows = await store.read_keys(connection)
            if not rows and self._seal is None:
                create_wrapping(self._directory, self._random)
            self._take(rows)
            now_us = self._clock.now_us()
            if spent := self._ring.spent(now_us):
                await store.drop_keys(connection, spent)
            if self._ring.is_due(now_us):
                begins_us = max(now_us, rows[-1].ends_us) if rows else now_us
                row, _ = self._opened().new_row(begins_us, self._random)
                await store.add_key(connection, row)
            rows = await store.read_keys(connection)
        self._take(rows)

    def _take(self, rows: list[store.KeyRow]) -> None:
        if self._seal is None:
            try:
                self._seal = Seal.load(self._directory)
            except Misconfigured:
                if rows:
                    raise
                return
        self._ring, self._rows = KeyRing(map(self._seal.open, rows)), rows
        self._known.clear()

    def _opened(self) -> Seal:
        if self._seal is None:
            raise Misconfigured("trust.tokens.missing", "trust/tokens is not here; start the region once")
        return self._seal


def _sealed(key: SigningKey, kind: str, claims: dict[str, object]) -> str:
    header = {"alg": "ES256", "typ": kind, "kid": key.kid}
    return jws.serialize_compact(header, msgspec.json.encode(claims), key.pair, ALGORITHMS)
