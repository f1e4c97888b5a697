"""Messages that come by the old doors (SOAP, files): the hub vouches for who sent them, and keeps what was really signed.

A point of sale's agent signs each message itself. A SOAP client signs its envelope, a program that drops files signs nothing
but its connection. For those the hub, which checked that proof, writes the message in the exchange's own form under its own
key, with the sender's name, and keeps the proof (`evidence`) beside it: the whole signed SOAP envelope, or the file.
From there on it is a message like any other: recorded, receipted, routed, decided.
A message without a number of its own (`sequence` 0) stands in a stream of its own, so that old systems need count nothing.
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from typing import Literal

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.exchange import errors
from rocade.services.exchange.model import Offer, party_of
from rocade.services.exchange.news import as_receipt
from rocade.services.exchange.recording import Recorder
from rocade.services.exchange.routing import RouteTable
from rocade.services.exchange.signing import Signer
from rocade.services.exchange.vouching import store
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.keys import key_id
from rocade.wire import resources
from rocade.wire.exchange import MESSAGE_TYPE, Address, Message, encode, read_message

SWEEP_S = 3_600.0
UNRECORDED_US = 3_600_000_000
"""Evidence without a message is left for so long: it is written just before."""
_log = logging.getLogger(__name__)

type Form = Literal["soap", "file"]


class Vouching:
    """`await take(identity, message, form, evidence)` returns the RECEIVED receipt, when it and the message are durable."""

    def __init__(
        self, database: Database, recorder: Recorder, signer: Signer, routes: RouteTable, clock: Clock
    ) -> None:
        self._database = database
        self._recorder = recorder
        self._signer = signer
        self._routes = routes
        self._clock = clock

    async def take(self, sender: Identity, given: resources.Message, form: Form, evidence: bytes) -> resources.Receipt:
        """Record a message in its sender's name; the same again has no second effect and gets the same receipt.

        Raises: Refused `exchange.sender.*`, `exchange.message.*`, `exchange.sequence.*`, `dealers.provider.signs`; Unavailable.
        """
        self._check_sender(sender, given)
        message = _message(sender, given)
        payload, party = encode(message), party_of(sender)
        read_message(payload)
        sha = sha256(payload).digest()
        target, refusal = "", None
        try:
            target = self._routes.resolve(party, message.recipient)
        except Refused as why:
            refusal = why
        async with self._database.pool.acquire() as connection:
            await store.keep(
                connection, Columns(self._database), party, message.id, sha, form, evidence, self._clock.now_us()
            )
        sealed = self._signer.seal(MESSAGE_TYPE, payload)
        key = key_id(self._signer.public_key)
        recorded = await self._recorder.record([Offer(party, message, sha, sealed, key, target, refusal)])
        (verdict,) = recorded.verdicts
        if verdict is not None:
            raise verdict
        await self._recorder.note(recorded.commit)
        return as_receipt(recorded.answers[0].receipt)

    def _check_sender(self, sender: Identity, given: resources.Message) -> None:
        if sender.kind == "partner":
            self._routes.check_partner(sender.id)
        elif sender.kind != "dealer":
            raise errors.sender_role()
        if given.sender and given.sender != sender.uri:
            raise errors.foreign_sender()

    async def evidence(self, sender: Identity, id: str, sha: bytes) -> tuple[str, bytes] | None:
        """(form, what was signed) of a vouched message."""
        async with self._database.pool.acquire() as connection:
            return await store.read(connection, Columns(self._database), party_of(sender), id, sha)

    async def sweep(self) -> int:
        """Evidence is kept as long as the message it proves (by its class); how many pieces were forgotten."""
        return await store.sweep(self._database.pool, self._clock.now_us() - UNRECORDED_US)

    async def keep_house(self) -> None:
        """Sweep for ever."""
        while True:
            try:
                await self.sweep()
            except DOWN as error:
                _log.warning("evidence was not swept: %s", type(error).__name__)
            await asyncio.sleep(SWEEP_S)

    async def is_new(self, digest: bytes, until_us: int) -> bool:
        """Whether no process of this region has seen this envelope; remembers it."""
        return await store.remember(self._database.pool, digest, until_us, self._clock.now_us())

    async def receipts(self, sender: Identity, after: int, id: str, limit: int) -> tuple[list[resources.Receipt], int]:
        """Receipts of a party's own messages behind a number, and the last number; 0 = there are no more."""
        async with self._database.pool.acquire() as connection:
            rows = await store.read_receipts(connection, party_of(sender), after, id, limit)
        found = [as_receipt(one) for _, *both in rows for one in both if one]
        return found, rows[-1][0] if len(rows) == limit else 0


def _message(sender: Identity, given: resources.Message) -> Message:
    is_counted = given.sequence > 0
    return Message(
        id=given.id,
        sender=sender.uri,
        recipient=Address(given.brand, given.country, given.service, given.site),
        stream=given.stream if is_counted else given.id,
        sequence=given.sequence if is_counted else 1,
        content_class=given.content_class,
        content_type=given.content_type,
        created_us=given.created_us,
        body=given.body,
        answers=given.answers,
    )
