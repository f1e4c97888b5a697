"""The record: messages and decisions become durable here, and every receipt is born here, in one transaction a tick.

Flow of `record`: wait for the turn (`exchange_tree`) -> what is known of these messages and streams -> each offer finds its place:
new, a duplicate (the same receipts again, the refusal of a refused one too), a conflict (same identifier, other content: kept beside
the first one), or ahead of its turn (kept, and released when the gap closes) -> decisions -> all receipts of the tick become the
leaves of one tree, its root is signed once -> commit. After it the root goes into the region's audit log, and only then do
the receipts leave. A commit whose note may be missing after a crash is noted by `note_missing`.
Refuses: a gap that too many wait behind, a stream number used twice, decisions by others or against a decision.
"""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from rocade.core.errors import Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import errors, ledger
from rocade.services.exchange.ledger import Commit, Counters, Decided, Known, Stream
from rocade.services.exchange.model import (
    ACCEPTED,
    CONFLICT,
    MESSAGE_ENTRY,
    NOBODY,
    RECEIPT_ENTRY,
    RECEIVED,
    REFUSED,
    WAITING,
    Judgement,
    Offer,
    Verdict,
)
from rocade.services.exchange.signing import Signer
from rocade.trust.authority.sealing.columns import Columns
from rocade.wire.exchange import CLASSES, ROOT_TYPE, Receipt, Root, Tree, leaf_hash
from rocade.wire.exchange.receipts import encode_receipt

WAIT_MOST = 256
"""Messages of one stream that may wait behind a gap."""
ACTION = "exchange.commit"
_UNNOTED_US = 20_000_000
_CLASS = {name: number for number, name in enumerate(CLASSES)}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A receipt for whoever offered: its commit, its leaf, its place."""

    party: str
    commit: int
    index: int
    receipt: bytes


class Recorded(msgspec.Struct, frozen=True):
    """What one tick came to: a verdict for each offer and judgement, and the receipts to send."""

    verdicts: list[Verdict]
    judged: list[Verdict]
    answers: list[Answer]
    commit: Commit | None
    tree: Tree | None
    parties: frozenset[str]
    """Whose logs grew."""


class _Draft:
    """One tick while it is being decided."""

    def __init__(self, counters: Counters, hub: str, now_us: int) -> None:
        self.counters, self.hub, self.now_us = counters, hub, now_us
        self.commit = counters.commit + 1
        self.receipts: list[bytes] = []
        self.rows: list[ledger.MessageRow] = []
        self.changes: list[Decided] = []
        self.entries: list[tuple[str, int, int, int, int]] = []
        self.answers: list[Answer] = []

    def receive(self, known: Known, uri: str) -> None:
        known.received_commit, known.received_index = self.commit, len(self.receipts)
        known.received = self._receipt(Receipt(
            message_id=known.id, message_sha256=known.sha.hex(), sender=uri, kind="received", at_us=self.now_us,
            hub=self.hub,
        ))  # fmt: skip

    def decide(self, known: Known, uri: str, state: int, code: str, reason: str) -> None:
        known.state, known.code, known.reason = state, code, reason
        known.decided_commit, known.decided_index = self.commit, len(self.receipts)
        known.decided = self._receipt(Receipt(
            message_id=known.id, message_sha256=known.sha.hex(), sender=uri, kind="decided", at_us=self.now_us,
            hub=self.hub, outcome="accepted" if state == ACCEPTED else "refused", code=code, reason=reason,
        ))  # fmt: skip

    def _receipt(self, receipt: Receipt) -> bytes:
        self.receipts.append(encode_receipt(receipt))
        return self.receipts[-1]

    def enter(self, party: str, known: Known, kind: int) -> None:
        self.counters.entry += 1
        self.entries.append((party, self.counters.entry, known.number, kind, self.now_us))

    def answer(self, known: Known) -> None:
        """Hand out every receipt this message has."""
        self.answers.append(Answer(known.party, known.received_commit, known.received_index, known.received))
        if known.decided and known.decided_commit is not None and known.decided_index is not None:
            self.answers.append(Answer(known.party, known.decided_commit, known.decided_index, known.decided))

    def keep(self, known: Known, offer: Offer) -> None:
        message, address = offer.message, offer.message.recipient
        decided = (known.decided, known.decided_commit, known.decided_index, self.now_us)
        self.rows.append((
            known.number, offer.party, message.id, offer.sha, offer.envelope, address.brand, address.country,
            address.service, address.site, message.stream, message.sequence, _CLASS[message.content_class],
            message.content_type, len(message.body), message.created_us, self.now_us, offer.key_id, offer.target,
            known.state, known.code, known.reason, known.received, known.received_commit, known.received_index,
            *(decided if known.decided else (None,) * 4),
        ))  # fmt: skip


class Recorder:
    """One per process; they share the database and take turns."""

    def __init__(self, database: Database, signer: Signer, audit: Audit, clock: Clock, uri_prefix: str) -> None:
        """`uri_prefix` + party = the party's identity URI."""
        self._database = database
        self._columns = Columns(database)
        self._signer = signer
        self._audit = audit
        self._clock = clock
        self._prefix = uri_prefix
        self._noted: list[int] = []

    async def record(self, offers: Sequence[Offer], judgements: Sequence[Judgement] = ()) -> Recorded:
        """Make all of it durable. Raises: Unavailable `database.down`: nothing was recorded."""
        noted, self._noted = self._noted, []
        try:
            async with self._database.pool.acquire() as connection, connection.transaction():
                return await self._within(connection, offers, judgements, noted)
        except (*DOWN, asyncpg.PostgresError) as error:
            self._noted += noted
            raise Unavailable("database.down", f"nothing was recorded: {type(error).__name__}") from error

    async def _within(
        self, connection: asyncpg.Connection, offers: Sequence[Offer], judgements: Sequence[Judgement],
        noted: Sequence[int],
    ) -> Recorded:  # fmt: skip
        draft = _Draft(await ledger.lock(connection), self._signer.uri, self._clock.now_us())
        keys = dict.fromkeys(
            [(one.party, one.message.id) for one in offers] + [(one.party, one.id) for one in judgements]
        )
        known = await ledger.find(connection, list(keys))
        streams: dict[tuple[str, str], Stream] = {}
        verdicts: list[Verdict] = []
        if offers:
            wanted = dict.fromkeys((one.party, one.message.stream) for one in offers)
            streams = await ledger.read_streams(connection, list(wanted))
            verdicts = [self._place(draft, one, known, streams) for one in offers]
            if draft.rows:
                await ledger.add_messages(connection, self._columns, draft.rows)
            await self._release(connection, draft, streams)
        judged = [self._judge(draft, one, known) for one in judgements]
        return await self._finish(connection, draft, streams, verdicts, judged, noted)

    async def _finish(
        self, connection: asyncpg.Connection, draft: _Draft, streams: dict[tuple[str, str], Stream],
        verdicts: list[Verdict], judged: list[Verdict], noted: Sequence[int],
    ) -> Recorded:  # fmt: skip
        """Write what the draft came to, under one signed root."""
        if draft.changes:
            await ledger.write_decided(connection, self._columns, draft.commit, draft.now_us, draft.changes)
        await ledger.write_streams(connection, streams)
        if draft.entries:
            await ledger.add_entries(connection, draft.entries)
        commit, tree = None, None
        if draft.receipts:
            leaves = [leaf_hash(one) for one in draft.receipts]
            tree = Tree(leaves)
            root = Root(draft.hub, draft.commit, tree.size, tree.root.hex(), draft.now_us)
            commit = Commit(draft.commit, b"".join(leaves), self._signer.seal(ROOT_TYPE, msgspec.json.encode(root)))
            draft.counters.commit = draft.commit
        await ledger.close_commit(connection, draft.counters, draft.now_us, commit, noted)
        parties = frozenset(entry[0] for entry in draft.entries)
        return Recorded(verdicts, judged, draft.answers, commit, tree, parties)

    def _place(
        self, draft: _Draft, offer: Offer, known: dict[tuple[str, str], list[Known]],
        streams: dict[tuple[str, str], Stream],
    ) -> Verdict:  # fmt: skip
        """Find one offer's place; the verdict is about taking it, not about what it says."""
        message, uri = offer.message, self._prefix + offer.party
        before = known.setdefault((offer.party, message.id), [])
        for one in before:
            if one.sha == offer.sha:
                draft.answer(one)
                return None
        stream = streams[offer.party, message.stream]
        refusal, state = offer.refusal, RECEIVED
        if before:
            refusal, state = errors.conflict(), CONFLICT
        elif message.sequence < stream.next:
            refusal, state = errors.number_used(stream.next), REFUSED
        elif message.sequence > stream.next:
            if stream.waiting >= WAIT_MOST:
                return errors.gap(stream.next, stream.waiting)
            state = WAITING
        elif refusal:
            state = REFUSED
        new = Known(
            draft.counters.message + 1, offer.party, message.id, offer.sha, message.stream, message.sequence, offer.target,
            state, refusal.code if refusal else "", refusal.message[:500] if refusal else "", b"", 0, 0,
        )  # fmt: skip
        draft.counters.message = new.number
        draft.receive(new, uri)
        if state == RECEIVED and offer.target == NOBODY:
            state = ACCEPTED
        if state in {ACCEPTED, REFUSED, CONFLICT}:
            draft.decide(new, uri, state, new.code, new.reason)
            draft.enter(offer.party, new, RECEIPT_ENTRY)
        elif state == RECEIVED:
            draft.enter(offer.target, new, MESSAGE_ENTRY)
        before.append(new)
        _count(stream, message.sequence, state, draft.now_us)
        draft.keep(new, offer)
        draft.answer(new)
        return None

    async def _release(
        self, connection: asyncpg.Connection, draft: _Draft, streams: dict[tuple[str, str], Stream]
    ) -> None:
        """Let those go whose turn has come, in order."""
        for (party, name), stream in streams.items():
            if not (stream.is_filled and stream.waiting):
                continue
            for one in await ledger.read_waiting(connection, party, name, 0):
                if one.sequence > stream.next:
                    break
                stream.waiting -= 1
                stream.is_changed = True
                if one.sequence < stream.next:
                    one.code, one.reason = (used := errors.number_used(stream.next)).code, used.message
                stream.next = max(stream.next, one.sequence + 1)
                self._let_go(draft, one)
            stream.waiting_since_us = draft.now_us if stream.waiting else 0

    def _let_go(self, draft: _Draft, one: Known) -> None:
        if not one.code and one.target == NOBODY:
            draft.decide(one, self._prefix + one.party, ACCEPTED, "", "")
            self._change(draft, one, b"")
            return
        if not one.code:
            draft.enter(one.target, one, MESSAGE_ENTRY)
            draft.changes.append(Decided(one.number, RECEIVED))
            return
        draft.decide(one, self._prefix + one.party, REFUSED, one.code, one.reason)
        self._change(draft, one, b"")

    def _judge(self, draft: _Draft, judgement: Judgement, known: dict[tuple[str, str], list[Known]]) -> Verdict:
        """Take a recipient's decision, once."""
        found = [one for one in known.get((judgement.party, judgement.id), ()) if one.sha == judgement.sha]
        if not found:
            return errors.unknown_message()
        one, state = found[0], ACCEPTED if judgement.outcome == "accepted" else REFUSED
        if one.target != judgement.by or one.state in {WAITING, CONFLICT}:
            return errors.not_recipient()
        if one.state in {ACCEPTED, REFUSED}:
            return None if (one.state, one.code) == (state, judgement.code) else errors.decided()
        draft.decide(one, self._prefix + one.party, state, judgement.code, judgement.reason[:500])
        self._change(draft, one, judgement.evidence)
        return None

    def _change(self, draft: _Draft, one: Known, evidence: bytes) -> None:
        """Write down a decision about a message recorded before, and tell its sender through his log."""
        index = one.decided_index or 0
        draft.changes.append(Decided(one.number, one.state, one.code, one.reason, one.decided or b"", index, evidence))
        draft.enter(one.party, one, RECEIPT_ENTRY)

    async def skip(self, party: str, stream: str, next: int, actor: str) -> Recorded:
        """Go on at a number of a stream whose earlier ones can never come; recorded in the audit log first.

        Raises: Refused `exchange.message.unknown` (no such stream, or it is there already).
        """
        facts: dict[str, str | int | float] = {"stream": stream, "next": next}
        await self._audit.record(AuditEntry(self._clock.now_us(), actor, "exchange.skip", party, facts=facts))
        async with self._database.pool.acquire() as connection, connection.transaction():
            draft = _Draft(await ledger.lock(connection), self._signer.uri, self._clock.now_us())
            found = await ledger.skip_stream(connection, party, stream, next)
            if found is None:
                raise errors.unknown_message()
            streams = {(party, stream): found}
            await self._release(connection, draft, streams)
            recorded = await self._finish(connection, draft, streams, [], [], ())
        await self.note(recorded.commit)
        return recorded

    # --- the audit log ---

    async def note(self, commit: Commit | None) -> None:
        """Return when the audit log has the commit's root.

        Raises: Unavailable `audit.down`; `note_missing` will try again.
        """
        if commit is None:
            return
        root = Tree([commit.leaves[at : at + 32] for at in range(0, len(commit.leaves), 32)]).root
        facts: dict[str, str | int | float] = {"root": root.hex(), "size": len(commit.leaves) // 32}
        subject = f"exchange-commit:{commit.number}"
        await self._audit.record(AuditEntry(self._clock.now_us(), self._signer.uri, ACTION, subject, facts=facts))
        self._noted.append(commit.number)

    async def note_missing(self) -> int:
        """Note commits whose process ended before it could say so; how many there were."""
        async with self._database.pool.acquire() as connection:
            missing = await ledger.read_unnoted(connection, self._clock.now_us() - _UNNOTED_US)
            missing = [one for one in missing if one.number not in self._noted]
            for one in missing:
                await self.note(one)
            noted, self._noted = self._noted, []
            if noted:
                await ledger.mark_noted(connection, noted)
        return len(missing)


def _count(stream: Stream, sequence: int, state: int, now_us: int) -> None:
    """The stream after a message of this state."""
    if state == WAITING:
        stream.waiting += 1
        stream.waiting_since_us = stream.waiting_since_us or now_us
        stream.is_changed = True
    elif state != CONFLICT and sequence == stream.next:
        stream.next += 1
        stream.is_changed = stream.is_filled = True
