"""The acts of the authority and their rules: claim, enrol, renew, re-enrol, birth, provision, revoke.

Every act is one transaction and is in the audit log before it counts: if either fails, nothing happened. Identity comes
from the claim code or from the certificate shown, never from the signing request. Refused are: unknown, used and expired
codes (the same code twice is decided by a row lock), too many failures from one address, too many live certificates of
one identity, renewal by a birth certificate, a second birth certificate.

Claim codes carry 125 random bits, so a plain SHA-256 at rest cannot be searched backwards. In the audit log a vehicle is
named by its certificate's serial, because its URI holds the VIN; in the tables by a blind index (`naming`). Decision: docs/decisions/0018-enrolment.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import asyncpg

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.trust.authority import store
from rocade.trust.authority.attempts import Attempts
from rocade.trust.authority.naming import Kept, Names
from rocade.trust.authority.region import DAY_US, Issued, Region
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.certificates import Verified, reference
from rocade.trust.identity.directory import Credential
from rocade.trust.identity.issuers import Purpose
from rocade.trust.identity.keys import PublicKey, key_id, new_key, point_of, read_csr

CLAIM_LIFE_US = 7 * DAY_US
CLAIM_SYMBOLS = 25
RETRY_US = 3_600_000_000
"""A party whose answer got lost may show the same code with the same key again for an hour."""
LIVE_LIMIT = 8
"""Unexpired certificates one identity may have; a program that renews in a loop stops here."""
BIRTH_WINDOW_US = 3_600_000_000
"""A birth certificate is given within an hour of the claim, to the certificate that the claim gave."""
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no I, L, O, U."""


class Authority:
    """The region's authority on its database."""

    def __init__(self, region: Region, database: Database, audit: Audit, clock: Clock, random: Random) -> None:
        self.region = region
        self._database = database
        self._audit = audit
        self._clock = clock
        self._random = random
        self._attempts = Attempts(clock)
        self._names = Names(Columns(database))

    async def claim(self, identity: Identity, actor: str, life_us: int = CLAIM_LIFE_US) -> str:
        """Make a one-time code that enrols `identity`; it ends earlier unused ones. Only its hash is kept."""
        identity = self.region.identity(identity.kind, identity.id)
        code = self._new_code()
        now_us = self._clock.now_us()
        digest = _hash(code)
        [kept] = await self._names.keep([identity.uri])
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.lock_identity(connection, kept.identity)
            row = (digest, kept.identity, kept.sealed)
            await store.add_claims(connection, [row], now_us, now_us + life_us)
            await self._record("trust.claim", actor, _claim_reference(digest), kind=identity.kind)
        return code

    async def claim_many(
        self, identities: Sequence[Identity], actor: str, life_us: int = CLAIM_LIFE_US
    ) -> dict[Identity, str]:
        """`claim` for many at once: all get their code, or none. Cost: one transaction, one audit entry each."""
        codes = {self.region.identity(one.kind, one.id): self._new_code() for one in sorted(identities)}
        now_us = self._clock.now_us()
        names = await self._names.keep(one.uri for one in codes)
        rows = [(_hash(code), name.identity, name.sealed) for code, name in zip(codes.values(), names, strict=True)]
        async with self._database.pool.acquire() as connection, connection.transaction():
            for name in sorted(row[1] for row in rows):
                await store.lock_identity(connection, name)
            await store.add_claims(connection, rows, now_us, now_us + life_us)
            kinds = [one.kind for one in codes]
            told = zip(rows, kinds, strict=True)
            await asyncio.gather(
                *(self._record("trust.claim", actor, _claim_reference(row[0]), kind=kind) for row, kind in told)
            )
        return codes

    def _new_code(self) -> str:
        code = "".join(_ALPHABET[self._random.bits(5)] for _ in range(CLAIM_SYMBOLS))
        return "-".join(code[at : at + 5] for at in range(0, CLAIM_SYMBOLS, 5))

    async def enrol(self, code: str, request: bytes, peer: str) -> Issued:
        """Trade a claim code for a certificate of the key in `request` (PKCS#10 DER).

        Raises: Refused `trust.claim.unknown`, `.used`, `.expired`, `.attempts`, `trust.request.*`.
        """
        self._attempts.check(peer)
        key = read_csr(request)
        digest = _hash(code)
        async with self._database.pool.acquire() as connection, connection.transaction():
            claim = await store.lock_claim(connection, digest)
            identity = await self._claimed(claim, key_id(key), peer)
            await store.lock_identity(connection, await self._names.find(identity.uri))
            issued = await self._issue(connection, key, identity, "operational", peer, "trust.enrol", None)
            await store.use_claim(connection, digest, issued.serial, self._clock.now_us())
        return issued

    async def _claimed(self, claim: store.Claim | None, key: bytes, peer: str) -> Identity:
        """The identity a code stands for; the same key may ask again for a while, its answer may have been lost."""
        now_us = self._clock.now_us()
        if claim is None:
            self._attempts.fail(peer)
            raise Refused("trust.claim.unknown", "this claim code is not known; check it, or ask for a new one")
        if claim.used_us is not None:
            if claim.key_id != key or now_us - claim.used_us > RETRY_US:
                self._attempts.fail(peer)
                raise Refused("trust.claim.used", "this claim code was used already; ask for a new one")
        elif now_us >= claim.expires_us:
            raise Refused("trust.claim.expired", "this claim code has expired; ask for a new one")
        [uri] = await self._names.tell([(claim.identity, claim.identity_sealed)])
        return Identity.parse(uri)

    async def renew(self, verified: Verified, request: bytes, peer: str) -> Issued:
        """A new certificate for the identity of the one shown over TLS. The old one lives on to its own end.

        Raises: Refused `trust.renewal.revoked`, `trust.renewal.many`, `trust.request.*`.
        """
        return await self._again(verified, request, peer, "operational", "trust.renew")

    async def reenrol(self, birth: Verified, request: bytes, peer: str) -> Issued:
        """A new operational certificate for a vehicle that slept past its expiry and shows its birth certificate.

        Raises: as `renew`.
        """
        return await self._again(birth, request, peer, "operational", "trust.reenrol")

    async def give_birth(self, verified: Verified, request: bytes, peer: str) -> Issued:
        """The one birth certificate of a vehicle, right after its claim.

        Raises: Refused `trust.birth.kind`, `trust.birth.late`, `trust.birth.exists`, `trust.request.*`.
        """
        if verified.identity.kind != "vehicle":
            raise Refused("trust.birth.kind", "only vehicles have birth certificates")
        return await self._again(verified, request, peer, "birth", "trust.birth")

    async def _again(self, shown: Verified, request: bytes, peer: str, purpose: Purpose, action: str) -> Issued:
        """Issue for the identity that a certificate has proven."""
        key = read_csr(request)
        now_us = self._clock.now_us()
        name = await self._names.find(shown.identity.uri)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.lock_identity(connection, name)
            if await store.is_revoked(connection, shown.serial):
                raise Refused("trust.renewal.revoked", "the certificate shown was revoked; ask for a new claim code")
            live = await store.live_certificates(connection, name, now_us)
            if purpose == "birth":
                if any(other == "birth" for _, other, _ in live):
                    raise Refused("trust.birth.exists", "this vehicle has its birth certificate already")
                if not await store.is_claimed_since(connection, shown.serial, now_us - BIRTH_WINDOW_US):
                    raise Refused("trust.birth.late", "a birth certificate is given within an hour of the claim only")
            elif sum(other == "operational" for _, other, _ in live) >= LIVE_LIMIT:
                raise Refused("trust.renewal.many", f"this identity has {LIVE_LIMIT} valid certificates already")
            return await self._issue(connection, key, shown.identity, purpose, peer, action, shown)

    async def _issue(
        self, connection: asyncpg.Connection, key: PublicKey, identity: Identity, purpose: Purpose, peer: str,
        action: str, shown: Verified | None,
    ) -> Issued:  # fmt: skip
        """Sign, store and record one certificate inside the caller's transaction."""
        issued = self.region.issue(key, identity, purpose=purpose)
        [name] = await self._names.keep([identity.uri])
        row = _row(issued, name, purpose, key, self._clock.now_us(), shown.serial if shown else None)
        await store.add_certificates(connection, [row])
        actor = shown.reference if shown else f"peer:{peer}"
        subject = reference(identity, issued.serial)
        await self._record(action, actor, subject, serial=f"{issued.serial:x}", peer=peer)
        return issued

    async def provision(self, identities: Sequence[Identity], actor: str) -> list[Credential]:
        """Make keys and certificates here, for parties of this machine, tests and fleets in bulk; all audited."""
        now_us = self._clock.now_us()
        rows, credentials = [], []
        names = await self._names.keep(identity.uri for identity in identities)
        for identity, name in zip(identities, names, strict=True):
            key = new_key()
            issued = self.region.issue(key.public_key(), identity)
            rows.append(_row(issued, name, "operational", key.public_key(), now_us, None))
            credentials.append(self.region.packed(key, issued))
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.add_certificates(connection, rows)
            subjects = [reference(who, row.serial) for who, row in zip(identities, rows, strict=True)]
            await asyncio.gather(*(self._record("trust.provision", actor, subject) for subject in subjects))
        return credentials

    async def revoke(self, identity: Identity, reason: str, actor: str) -> list[int]:
        """Revoke every live certificate of an identity, its birth certificate too, and drop its unused claim codes.

        Returns the serials. Doors close its connections within moments (`DenySet`).
        Raises: Refused `trust.revocation.unknown` if there was neither certificate nor code.
        """
        now_us, name = self._clock.now_us(), await self._names.find(identity.uri)
        async with self._database.pool.acquire() as connection, connection.transaction():
            await store.lock_identity(connection, name)
            live = await store.live_certificates(connection, name, now_us)
            dropped = await store.drop_claims(connection, name)
            if not live and not dropped:
                raise Refused("trust.revocation.unknown", "this party has no certificate and no claim code here")
            ends = [(serial, end) for serial, _, end in live]
            return await self._revoke(connection, ends, reason, actor)

    async def revoke_serial(self, serial: int, reason: str, actor: str) -> None:
        """Revoke one certificate, known here or not (one that was signed without the database)."""
        async with self._database.pool.acquire() as connection, connection.transaction():
            known = await store.certificate_end(connection, serial)
            end_us = known[1] if known else self._clock.now_us() + 20 * 365 * DAY_US
            await self._revoke(connection, [(serial, end_us)], reason, actor)

    async def _revoke(
        self, connection: asyncpg.Connection, ends: Sequence[tuple[int, int]], reason: str, actor: str
    ) -> list[int]:
        for serial, _ in ends:
            await self._record("trust.revoke", actor, f"certificate:{serial:x}", why=reason)
        return await store.add_revocations(connection, ends, reason, self._clock.now_us())

    async def _record(self, action: str, actor: str, subject: str, **facts: str | int | float) -> None:
        await self._audit.record(AuditEntry(self._clock.now_us(), actor, action, subject, facts=facts))


def _hash(code: str) -> bytes:
    """Codes are read as people copy them: case, dashes and blanks do not matter."""
    return sha256("".join(code.split()).replace("-", "").upper().encode()).digest()


def _claim_reference(digest: bytes) -> str:
    return f"claim:{digest[:8].hex()}"


def _row(
    issued: Issued, name: Kept, purpose: Purpose, key: PublicKey, now_us: int, replaces: int | None
) -> store.CertificateRow:
    return store.CertificateRow(
        issued.serial, name.identity, purpose, issued.issuer_key_id, key_id(key), issued.not_before_us,
        issued.not_after_us, now_us, replaces, point_of(key),
        name.sealed, name.endings,
    )  # fmt: skip
