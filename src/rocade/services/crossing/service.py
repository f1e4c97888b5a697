"""The use cases at the wall: draft, look, release or drop; pin a neighbour, accept what it released.

Flow out: `draft` makes the packet's bytes and keeps them -> `preview` shows those bytes -> `release` by somebody else names their
hash, signs them for one region, and only then there is something to carry. Flow in: `accept` finds the origin's pinned root,
checks issuer table, chain, signature, addressee and shape, keeps the packet once. Every step stands in the audit log before it
counts. Refuses: Refused `crossing.*` as errors.py names them, what the chain's check refuses; Unavailable `audit.down`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from rocade.core.errors import Corrupt, Refused
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.services.crossing import errors, store
from rocade.services.crossing.model import (
    DAY_US,
    DRAFT_LIFE_US,
    DRAFTED,
    DROPPED,
    MAX_PACKET_BYTES,
    PACKET_TYPE,
    RELEASED,
    Arrival,
    Draft,
    Neighbour,
    Packet,
    Sealed,
    check_packet,
    check_region,
    topic_of,
    whole_days,
)
from rocade.services.crossing.topics import Sources
from rocade.trust.authority.signing import ServiceSigner
from rocade.trust.identity import signers
from rocade.trust.identity.envelope import UNREADABLE, payload_of
from rocade.trust.identity.issuers import IssuerTable

SIGNER = "crossing"
"""The service whose certificate signs packets."""
type IssuersOf = Callable[[], bytes]
"""The region's signed issuer table as it stands."""
NEWEST = (1 << 63) - 1
CARRIED_US = 30 * DAY_US
"""How long after its signer's key ended a packet may still be on its way."""


class Crossing:
    """Exports and arrivals of one region."""

    def __init__(
        self, database: Database, sources: Sources, signer: ServiceSigner, issuers: IssuersOf, region: str, audit: Audit,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._pool = database.pool
        self._sources = sources
        self._signer = signer
        self._issuers = issuers
        self._region = region
        self._audit = audit
        self._clock = clock

    # --- out ---

    async def draft(
        self, topic: str, to: str, from_us: int, until_us: int, signals: Sequence[str], note: str, actor: str
    ) -> Draft:
        """Make what would cross, and keep it to be looked at; nothing leaves by it."""
        wanted = topic_of(topic)
        check_region(to, self._region)
        if signals and not wanted.needs_signals:
            raise errors.signals(f"{topic} has no signals to choose")
        first, last = whole_days(from_us, until_us)
        content = await self._sources.content(topic, signals, first, last)
        now_us = self._clock.now_us()
        async with self._pool.acquire() as connection:
            number = await store.next_number(connection)
            packet = Packet(
                number, topic, wanted.version, self._region, to, first, last, now_us, wanted.columns, content.rows,
                content.left_out, note,
            )  # fmt: skip
            body = msgspec.json.encode(packet)
            if len(body) > MAX_PACKET_BYTES:
                raise errors.signals("this is more than one packet holds; ask for fewer signals or days")
            made = Draft(
                number, topic, to, first, last, DRAFTED, sha256(body).hexdigest(), len(content.rows), content.left_out, note,
                now_us, actor, 0, "",
            )  # fmt: skip
            await self._record("crossing.draft", actor, made)
            await store.add_draft(connection, made, body)
        return made

    async def preview(self, number: int) -> tuple[Draft, Packet]:
        """The draft and exactly what would cross, or did."""
        draft, body, _ = await self._found(number)
        if sha256(body).hexdigest() != draft.sha256:
            raise Corrupt(
                "crossing.draft.broken", "the stored content is not what was drafted; nothing of it may leave"
            )
        return draft, msgspec.json.decode(body, type=Packet)

    async def release(self, number: int, seen_sha256: str, actor: str) -> Draft:
        """Let exactly what was seen cross. The caller has proven a fresh touch. Raises: Refused `crossing.*`."""
        await self._signer.refresh()
        async with self._pool.acquire() as connection, connection.transaction():
            found = await store.read_draft(connection, number, lock=True)
            if found is None:
                raise errors.draft_unknown()
            draft, body, _ = found
            now_us = self._clock.now_us()
            refusal = _why_not(draft, body, seen_sha256, actor, now_us)
            if refusal is not None:
                self._refuse(refusal, actor, "crossing.release", f"crossing:{number}")
                raise refusal
            await self._record("crossing.release", actor, draft)
            sealed = Sealed(
                msgspec.Raw(self._signer.seal(PACKET_TYPE, body)), self._signer.chain.decode(),
                msgspec.Raw(self._issuers()),
            )  # fmt: skip
            await store.settle(connection, number, RELEASED, now_us, actor, msgspec.json.encode(sealed))
        return (await self._found(number))[0]

    async def drop(self, number: int, actor: str) -> Draft:
        """Put a draft away; it will never cross."""
        async with self._pool.acquire() as connection, connection.transaction():
            found = await store.read_draft(connection, number, lock=True)
            if found is None:
                raise errors.draft_unknown()
            if found[0].state != DRAFTED:
                raise errors.draft_settled(found[0].state)
            await self._record("crossing.drop", actor, found[0])
            await store.settle(connection, number, DROPPED, self._clock.now_us(), actor, b"")
        return (await self._found(number))[0]

    async def packet(self, number: int, actor: str) -> bytes:
        """The file to be carried over; each fetch is in the audit log."""
        draft, _, sealed = await self._found(number)
        if draft.state != RELEASED:
            raise errors.not_released()
        await self._record("crossing.fetch", actor, draft)
        return sealed

    async def drafts(self, before: int = NEWEST, limit: int = 100) -> list[Draft]:
        """Newest first."""
        async with self._pool.acquire() as connection:
            return await store.list_drafts(connection, before, limit)

    # --- in ---

    async def pin(self, region: str, root: bytes, fingerprint: str, actor: str) -> Neighbour:
        """Believe what this root (PEM) vouches for, as packets of that region. `fingerprint`: SHA-256 of its DER, hex.

        Raises: Refused `crossing.neighbour.root`.
        """
        check_region(region, self._region)
        try:
            certificate = x509.load_pem_x509_certificate(root)
        except ValueError:
            raise errors.neighbour_root() from None
        printed = certificate.fingerprint(hashes.SHA256()).hex()
        if certificate.issuer != certificate.subject or printed != fingerprint.lower():
            raise errors.neighbour_root()
        one = Neighbour(region, root.decode(), self._clock.now_us(), actor)
        await self._audit.record(
            AuditEntry(one.added_us, actor, "crossing.pin", f"region:{region}", facts={"root": printed})
        )
        async with self._pool.acquire() as connection:
            await store.put_neighbour(connection, one)
        return one

    async def unpin(self, region: str, actor: str) -> None:
        await self._audit.record(AuditEntry(self._clock.now_us(), actor, "crossing.unpin", f"region:{region}"))
        async with self._pool.acquire() as connection:
            if not await store.drop_neighbour(connection, region):
                raise errors.neighbour_unknown(region)

    async def neighbours(self) -> list[Neighbour]:
        async with self._pool.acquire() as connection:
            return await store.neighbours(connection)

    async def accept(self, content: bytes, seen_sha256: str, actor: str) -> Arrival:
        """Take in a packet that a pinned region released for this one; the same again changes nothing."""
        try:
            if sha256(content).hexdigest() != seen_sha256:
                raise errors.packet("it is not the file that was named")
            packet = await self._checked(content)
        except Refused as refusal:
            self._refuse(refusal, actor, "crossing.accept", "crossing")
            raise
        body = msgspec.json.encode(packet)
        one = Arrival(
            packet.origin, packet.number, packet.topic, packet.from_us, packet.until_us, len(packet.rows),
            self._clock.now_us(), actor,
        )  # fmt: skip
        subject = f"crossing:{one.origin}:{one.number}"
        async with self._pool.acquire() as connection, connection.transaction():
            if not await store.add_arrival(connection, one, body):
                known = await store.read_arrival(connection, one.origin, one.number)
                if known is None or known[1] != body:
                    conflict = errors.conflict()
                    self._refuse(conflict, actor, "crossing.accept", subject)
                    raise conflict
                return known[0]
            facts: dict[str, str | int | float] = {
                "topic": one.topic, "sha256": sha256(body).hexdigest(), "lines": one.rows,
            }  # fmt: skip
            await self._audit.record(AuditEntry(one.accepted_us, actor, "crossing.accept", subject, facts=facts))
        return one

    async def arrivals(self, limit: int = 100) -> list[Arrival]:
        async with self._pool.acquire() as connection:
            return await store.list_arrivals(connection, limit)

    async def arrived(self, origin: str, number: int) -> Packet:
        async with self._pool.acquire() as connection:
            found = await store.read_arrival(connection, origin, number)
        if found is None:
            raise errors.draft_unknown()
        return msgspec.json.decode(found[1], type=Packet)

    async def _checked(self, content: bytes) -> Packet:
        if len(content) > 2 * MAX_PACKET_BYTES:
            raise errors.packet("it is larger than any packet")
        try:
            sealed = msgspec.json.decode(content, type=Sealed)
            claimed = msgspec.json.decode(payload_of(bytes(sealed.packet)), type=Packet)
        except (*UNREADABLE, Refused):
            raise errors.packet("it is not a packet as Rocade writes it") from None
        pinned = {one.region: one.root for one in await self.neighbours()}
        if claimed.origin not in pinned:
            raise errors.neighbour_unknown(claimed.origin)
        table = IssuerTable.load(bytes(sealed.issuers), x509.load_pem_x509_certificate(pinned[claimed.origin].encode()))
        known = signers.read_signers([sealed.chain.encode()], table, SIGNER)
        payload, signer = signers.unseal(PACKET_TYPE, bytes(sealed.packet), known)
        if self._clock.now_us() > signer.not_after_us + CARRIED_US:
            raise errors.packet("the key that signed it ended long ago; have it released anew")
        packet = msgspec.json.decode(payload, type=Packet)
        if packet.to != self._region:
            raise errors.packet(f"it was released for region {packet.to}")
        check_packet(packet)
        return packet

    async def _found(self, number: int) -> tuple[Draft, bytes, bytes]:
        async with self._pool.acquire() as connection:
            found = await store.read_draft(connection, number)
        if found is None:
            raise errors.draft_unknown()
        return found

    def _refuse(self, refusal: Refused, actor: str, action: str, subject: str) -> None:
        self._audit.note(AuditEntry(self._clock.now_us(), actor, action, subject, "refused", refusal.code))

    async def _record(self, action: str, actor: str, draft: Draft) -> None:
        facts: dict[str, str | int | float] = {
            "topic": draft.topic, "to": draft.to, "lines": draft.rows, "sha256": draft.sha256,
        }  # fmt: skip
        await self._audit.record(
            AuditEntry(self._clock.now_us(), actor, action, f"crossing:{draft.number}", facts=facts)
        )


def _why_not(draft: Draft, body: bytes, seen_sha256: str, actor: str, now_us: int) -> Refused | None:
    if draft.state != DRAFTED:
        return errors.draft_settled(draft.state)
    if now_us - draft.made_us > DRAFT_LIFE_US:
        return errors.draft_old()
    if seen_sha256 != draft.sha256 or sha256(body).hexdigest() != draft.sha256:
        return errors.draft_changed()
    return errors.same_person() if actor == draft.made_by else None
