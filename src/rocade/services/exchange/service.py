"""The exchange: messages taken, receipted, handed on, decided, found again. The hub's switching yard.

Flow of a message: `take` opens it (opening) -> its place in the record and its RECEIVED receipt, one transaction a tick (recording) -> the
root of the tick's receipts is in the audit log -> the receipts go down the sender's line -> the recipient's log has an entry: a party on a line
is sent it (downstream), a service of this hub reads it (`reading`), another hub is dialled (peers) -> a decision comes back -> the DECIDED
receipt stands in the sender's log. `send` is the same for messages in the hub's own name.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha256

from rocade.core.errors import Refused, RocadeError
from rocade.core.identifiers import Identity
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.exchange import errors, ledger, store
from rocade.services.exchange.downstream import Trees, leaves_of
from rocade.services.exchange.intake import Context, ExchangeIntake
from rocade.services.exchange.keyring import PartyKeys, check_time
from rocade.services.exchange.ledger import Entry
from rocade.services.exchange.line import Line
from rocade.services.exchange.model import HUB, SIGNER, Judgement, Offer, Standing, Turned, Upward, Verdict, party_of
from rocade.services.exchange.opening import open_message, unseal
from rocade.services.exchange.recording import Answer, Recorded, Recorder
from rocade.services.exchange.routing import RouteTable
from rocade.services.exchange.signing import Signer
from rocade.services.exchange.store import Wanted
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.keys import key_id
from rocade.wire.exchange import (
    DECISION_TYPE,
    KEYS_TYPE,
    MESSAGE_TYPE,
    Message,
    bundle_of,
    encode,
    read_decision,
    read_keys,
)
from rocade.wire.exchange.messages import Outcome

KEYS_AT_ONCE = 6
"""Parties whose keys are taken side by side: fewer than the connections to the database."""
_log = logging.getLogger(__name__)


class Exchange:
    """One per process. Where there is no line (the API), receipts wait for whoever asks."""

    def __init__(
        self, database: Database, recorder: Recorder, signer: Signer, routes: RouteTable, clock: Clock, *,
        line: Line | None = None, intake: ExchangeIntake | None = None,
    ) -> None:  # fmt: skip
        self._database = database
        self._recorder = recorder
        self._signer = signer
        self._routes = routes
        self._clock = clock
        self._line = line or Line()
        self._intake = intake
        self.trees = Trees(database)
        self.on_keys: Callable[[str, Sequence[tuple[bytes, int]]], Awaitable[None]] | None = None
        """Told the encryption keys (raw, end) a site has announced."""
        self._announcing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let what was recorded be receipted."""
        if self._announcing:
            await asyncio.wait(self._announcing, timeout=5)

    # --- what parties say ------------------------------------------------------------------------------------------------

    async def take(self, batch: Sequence[Upward]) -> list[Verdict]:
        """The handler of `up/message`: a verdict each; None = on disk, its receipt follows."""
        verdicts: list[Verdict] = [None] * len(batch)
        offers, places = [], []
        for place, upward in enumerate(batch):
            try:
                offers.append(await self._offered(upward))
                places.append(place)
            except Refused as refusal:
                verdicts[place] = refusal
            except RocadeError:
                raise
            except Exception:  # one message that nobody foresaw must not hold up everybody's line
                _log.exception("a message could not be opened")
                verdicts[place] = errors.unreadable()
        if offers:
            recorded = await self._recorder.record(offers)
            for place, verdict in zip(places, recorded.verdicts, strict=True):
                verdicts[place] = verdict
            self._announce(recorded)
        return verdicts

    async def _offered(self, upward: Upward) -> Offer:
        context: Context = upward.line
        self._check_sender(upward.identity)
        keys = await self._keys_of(context)
        try:
            return open_message(upward.body, upward.identity, keys, self._routes, upward.arrived_us)
        except Refused as refusal:
            if refusal.code != "exchange.key.unknown":
                raise
        keys = await self._keys_of(context, anew=True)  # certified a moment ago, perhaps
        return open_message(upward.body, upward.identity, keys, self._routes, upward.arrived_us)

    async def _keys_of(self, context: Context, *, anew: bool = False) -> PartyKeys:
        assert self._intake is not None, "what parties say comes through an intake"
        return await self._intake.keys_of(context, anew=anew)

    def _check_sender(self, identity: Identity) -> None:
        """A provider signs nothing; a partner sends if a rule names it; of services only other hubs do.

        Raises: Refused `dealers.provider.signs`, `exchange.sender.role`.
        """
        if identity.kind == "partner":
            self._routes.check_partner(identity.id)
        elif identity.kind == "service" and not identity.id.startswith(HUB):
            raise errors.sender_role()

    async def take_decisions(self, batch: Sequence[Upward]) -> list[Verdict]:
        """The handler of `up/decision`: what recipients decided, signed by them."""
        verdicts: list[Verdict] = [None] * len(batch)
        judgements, places = [], []
        for place, upward in enumerate(batch):
            try:
                judgements.append(await self._judged(upward))
                places.append(place)
            except Refused as refusal:
                verdicts[place] = refusal
        if judgements:
            for place, verdict in zip(places, await self.judge(judgements), strict=True):
                verdicts[place] = verdict
        return verdicts

    async def _judged(self, upward: Upward) -> Judgement:
        decision = read_decision(await self.opened(DECISION_TYPE, upward))
        prefix = upward.identity.uri.removesuffix(party_of(upward.identity))
        return Judgement(
            decision.sender.removeprefix(prefix), decision.message_id, bytes.fromhex(decision.message_sha256),
            party_of(upward.identity), decision.outcome, decision.code, decision.reason, upward.body,
        )  # fmt: skip

    async def take_keys(self, batch: Sequence[Upward]) -> list[Verdict]:
        """The handler of `up/keys`: the encryption keys a party can open now, replacing what it said before.

        Parties are served side by side, so that the database commits many at once; one party's statements keep their order.
        """
        verdicts: list[Verdict] = [None] * len(batch)
        places: dict[str, list[int]] = {}
        for place, upward in enumerate(batch):
            places.setdefault(party_of(upward.identity), []).append(place)
        turns = asyncio.Semaphore(KEYS_AT_ONCE)

        async def serve(of_one: Sequence[int]) -> None:
            async with turns:
                for place in of_one:
                    try:
                        await self._take_keys(batch[place])
                    except Refused as refusal:
                        verdicts[place] = refusal

        served = await asyncio.gather(*map(serve, places.values()), return_exceptions=True)
        for failure in (one for one in served if one is not None):
            raise failure
        return verdicts

    async def _take_keys(self, upward: Upward) -> None:
        payload = await self.opened(KEYS_TYPE, upward)
        keys = read_keys(payload)
        async with self._database.pool.acquire() as connection:
            await store.put_encryption_keys(connection, party_of(upward.identity), keys.at_us, payload)
        if self.on_keys is not None and upward.identity.kind == "dealer":
            await self.on_keys(upward.site, [(one.key, one.not_after_us) for one in keys.encryption_keys])

    async def opened(self, payload_type: str, upward: Upward) -> bytes:
        """The payload of a statement that the party on the line made with a key in force.

        Raises: Refused `trust.envelope.*`, `exchange.key.*`.
        """
        try:
            payload, key = unseal(payload_type, upward.body, await self._keys_of(upward.line))
        except Refused as refusal:
            if refusal.code != "exchange.key.unknown":
                raise
            payload, key = unseal(payload_type, upward.body, await self._keys_of(upward.line, anew=True))
        check_time(key, upward.arrived_us, upward.arrived_us)
        return payload

    # --- what services of this hub do ------------------------------------------------------------------------------------

    async def judge(self, judgements: Sequence[Judgement]) -> list[Verdict]:
        """Decide messages, each once; the senders' logs get the DECIDED receipts."""
        recorded = await self._recorder.record((), judgements)
        self._announce(recorded)
        return recorded.judged

    async def decide(self, number: int, by: str, outcome: Outcome, code: str = "", reason: str = "") -> None:
        """Decide one message as its destination `by`.

        Raises: Refused `exchange.message.unknown`, `exchange.decision.foreign`, `exchange.decision.final`.
        """
        standing = await self.standing(number)
        sha = bytes.fromhex(standing.sha256)
        (verdict,) = await self.judge([Judgement(standing.party, standing.id, sha, by, outcome, code, reason)])
        if verdict is not None:
            raise verdict

    async def send(self, message: Message) -> Standing:
        """Send in the hub's own name (`message.sender` is its URI): recorded, receipted and routed like any other.

        The same id again has no second effect. Raises: Refused `exchange.route.*`, `exchange.message.conflict`, `exchange.sequence.*`.
        """
        if message.sender != self._signer.uri:
            raise errors.foreign_sender()
        payload, party = encode(message), f"service/{SIGNER}"
        target = self._routes.resolve(party, message.recipient)
        sealed = self._signer.seal(MESSAGE_TYPE, payload)
        key = key_id(self._signer.public_key)
        offer = Offer(party, message, sha256(payload).digest(), sealed, key, target)
        recorded = await self._recorder.record([offer])
        if (verdict := recorded.verdicts[0]) is not None:
            raise verdict
        self._announce(recorded)
        for one in await self.search(Wanted(party=party, id=message.id), limit=10):
            if one.sha256 == offer.sha.hex():
                if one.state == "conflict" or one.code == "exchange.sequence.used":
                    raise Refused(one.code, one.reason)
                return one
        raise errors.unknown_message()

    async def skip(self, party: str, stream: str, next: int, actor: str) -> None:
        """Let a stream go on at a number; see `Recorder.skip`."""
        self._announce(await self._recorder.skip(party, stream, next, actor))

    # --- reading ---------------------------------------------------------------------------------------------------------

    async def replay(self, party: str, cursor: int, limit: int = 100) -> list[Entry]:
        """A party's log behind a cursor: messages to it and decisions about its own, in order."""
        async with self._database.pool.acquire() as connection:
            return await ledger.read_log(connection, Columns(self._database), [(party, cursor)], min(limit, 1_000))

    async def search(self, wanted: Wanted, before: int = (1 << 63) - 1, limit: int = 50) -> list[Standing]:
        """Messages without their bodies, the newest first."""
        async with self._database.pool.acquire() as connection:
            return await store.search(connection, wanted, before, limit)

    async def turned(
        self, party: str = "", code: str = "", before: int = (1 << 63) - 1, limit: int = 50
    ) -> list[Turned]:
        """What was refused before it was anybody's message."""
        async with self._database.pool.acquire() as connection:
            return await store.search_refused(connection, party, code, before, limit)

    async def standing(self, number: int) -> Standing:
        """Raises: Refused `exchange.message.unknown`."""
        async with self._database.pool.acquire() as connection:
            found = await store.read_standing(connection, number)
        if found is None:
            raise errors.unknown_message()
        return found

    async def envelope(self, number: int) -> bytes:
        """A message as its sender signed it. Raises: Refused `exchange.message.unknown`, `exchange.message.gone`."""
        async with self._database.pool.acquire() as connection:
            found = await store.read_envelope(connection, Columns(self._database), number)
        if found is None:
            raise errors.unknown_message()
        if found[0] is None:
            raise errors.gone()
        return found[0]

    async def bundles(self, party: str, ids: Sequence[str]) -> list[bytes]:
        """Every receipt of these messages of a party, as they went down its line."""
        async with self._database.pool.acquire() as connection:
            found = await ledger.find(connection, [(party, id) for id in ids])
        answers = []
        for one in (known for rows in found.values() for known in rows):
            answers.append(Answer(party, one.received_commit, one.received_index, one.received))
            if one.decided is not None and one.decided_commit is not None:
                answers.append(Answer(party, one.decided_commit, one.decided_index or 0, one.decided))
        return [body for _, body in await self._bundles(answers)]

    async def receipts(self, number: int) -> list[tuple[bytes, int, bytes, list[bytes]]]:
        """A message's receipts, each with its place, its commit's signed root and leaves.

        Raises: Refused `exchange.message.unknown`.
        """
        standing = await self.standing(number)
        async with self._database.pool.acquire() as connection:
            found = await ledger.find(connection, [(standing.party, standing.id)])
            (one,) = (known for rows in found.values() for known in rows if known.number == number)
            places = [(one.received, one.received_commit, one.received_index)]
            if one.decided is not None and one.decided_commit is not None:
                places.append((one.decided, one.decided_commit, one.decided_index or 0))
            commits = await ledger.read_commits(connection, [commit for _, commit, _ in places])
        return [
            (receipt, index, commits[commit].signed, leaves_of(commits[commit].leaves))
            for receipt, commit, index in places
            if commit in commits
        ]

    async def chain(self, key: bytes) -> bytes:
        """The certificates (PEM) of a key that signed for this hub; empty if it is not known."""
        async with self._database.pool.acquire() as connection:
            return await store.read_signer(connection, key) or b""

    async def encryption_keys(self, site: str, at_us: int | None = None) -> list[bytes]:
        """The X25519 keys to encrypt for a site: all it can open at this instant, the newest first."""
        at_us = self._clock.now_us() if at_us is None else at_us
        party = site if "/" in site else f"dealer/{site}"
        async with self._database.pool.acquire() as connection:
            found = await store.read_encryption_keys(connection, [party])
        if party not in found:
            return []
        return [one.key for one in read_keys(found[party]).encryption_keys if one.not_after_us > at_us]

    async def chains(self) -> list[bytes]:
        """Certificates (PEM chains) of every key that may stand under a receipt a party still checks."""
        async with self._database.pool.acquire() as connection:
            return await store.read_signers(connection, self._clock.now_us() - 60 * 86_400_000_000)

    # --- receipts on their way ---------------------------------------------------------------------------------------------

    def _announce(self, recorded: Recorded) -> None:
        task = asyncio.create_task(self._receipt(recorded), name="receipts")
        self._announcing.add(task)
        task.add_done_callback(self._announcing.discard)

    async def _receipt(self, recorded: Recorded) -> None:
        """Note the root, then let the receipts go. Without the note they wait: a retry or a question brings them."""
        if recorded.commit is not None and recorded.tree is not None:
            self.trees.keep(recorded.commit, recorded.tree)
        try:
            await self._recorder.note(recorded.commit)
            for party, body in await self._bundles(recorded.answers):
                self._line.send(party, "receipt", body)
        except RocadeError as error:
            _log.warning("receipts are held back: %s", error.code)

    async def _bundles(self, answers: Sequence[Answer]) -> list[tuple[str, bytes]]:
        """One bundle a party and commit."""
        groups: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        for one in answers:
            groups.setdefault((one.party, one.commit), []).append((one.index, one.receipt))
        trees = await self.trees.load({commit for _, commit in groups})
        return [
            (party, bundle_of(*trees[commit], receipts))
            for (party, commit), receipts in groups.items()
            if commit in trees
        ]
