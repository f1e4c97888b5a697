"""Other hubs: this one dials each as a party of theirs, hands messages on in order, and takes their receipts back.

`hubs/<name>/` is an identity directory that the other hub's region issued to this one (a service `hub-<our region>` there), with
`address.json` beside: {"host": ..., "port": ...}; it is renewed there like any party's. A rule of the routing table sends to `hub/<name>`.
Flow: this hub's log for `hub/<name>` -> each message is wrapped, as it was signed, into one of this hub's own on the stream `out` (id
`m<number>`, so a retry is the same message) -> PUBACK, the other hub has it on disk -> the cursor moves. Its DECIDED receipt, checked
against the other region's certificates, becomes our decision about the dealer's message, with the receipt kept as evidence.
No region trusts another one's authority: each checks the other by what it issued itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from rocade.core.errors import Misconfigured, Refused, RocadeError, Unavailable
from rocade.fabric.database import Database
from rocade.services.exchange import errors, ledger
from rocade.services.exchange.ledger import Entry
from rocade.services.exchange.model import MESSAGE_ENTRY, SIGNER, Judgement
from rocade.services.exchange.reading import message_of, read_for_ever
from rocade.services.exchange.service import Exchange
from rocade.trust.identity import envelope, signers
from rocade.trust.identity.directory import load_identity, load_issuers, load_key
from rocade.trust.identity.tls import client_context
from rocade.wire.exchange import (
    BODY_LIMIT_BYTES,
    MESSAGE_TYPE,
    ROOT_TYPE,
    UNREADABLE,
    Message,
    encode,
    proven,
    read_receipts,
    read_root,
)
from rocade.wire.exchange.messages import FORWARDED

ACK_S = 30.0
SCAN_S = 15.0
STREAM = "out"
_log = logging.getLogger(__name__)


class Wire(Protocol):
    """An open connection to another hub (`agents.link.Link`)."""

    @property
    def room(self) -> int: ...
    def send(self, tail: str, sequence: int, body: bytes) -> None: ...
    def close(self) -> None: ...


type Dial = Callable[[str, int, ssl.SSLContext, str, Peer], Awaitable[Wire]]
"""(host, port, TLS, our id there, listener) -> open connection. Raises: RocadeError."""


class Address(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    host: str
    port: int = 8884
    est_port: int = 8085
    """Where our identity there is renewed."""


def read_address(folder: Path) -> Address:
    """Raises: Misconfigured `exchange.hub.address`."""
    try:
        return msgspec.json.decode((folder / "address.json").read_bytes(), type=Address)
    except (OSError, *UNREADABLE):
        raise Misconfigured(
            "exchange.hub.address", f"hubs/{folder.name}/address.json must say host and port of the other hub"
        ) from None


class Peer:
    """One other hub. Implements `agents.link.Listener`."""

    def __init__(self, name: str, directory: Path, database: Database, exchange: Exchange, dial: Dial) -> None:
        self.name = name
        self.reader = f"hub/{name}"
        self._directory = directory
        self._database = database
        self._exchange = exchange
        self._dial = dial
        self._wire: Wire | None = None
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._handle = 0
        self._room = asyncio.Event()
        self._signers: signers.Signers = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.last_problem = ""

    async def run(self) -> None:
        """Hand on what is routed there, for ever; the connection is kept for the receipts while this process reads."""
        await read_for_ever(self._database, self.reader, self._work, idle=self._connected)

    async def _work(self, entries: Sequence[Entry], sequence: int) -> int:
        """Hand one page on; returns when the other hub has all of it on disk. Raises: Unavailable: the same page again."""
        await self._connected()
        key, identity = load_key(self._directory), load_identity(self._directory)
        sent = []
        for entry in entries:
            if entry.kind != MESSAGE_ENTRY or entry.envelope is None:
                continue
            if len(entry.envelope) > BODY_LIMIT_BYTES:
                await self._refuse(entry)
                continue
            sequence += 1
            inner = message_of(entry.envelope)
            message = Message(
                id=f"m{entry.message}", sender=identity.uri, recipient=inner.recipient, stream=STREAM, sequence=sequence,
                content_class=inner.content_class, content_type=FORWARDED, created_us=entry.recorded_us,
                body=entry.envelope,
            )  # fmt: skip
            sent.append(await self._say("message", envelope.seal(MESSAGE_TYPE, encode(message), key)))
        try:
            await asyncio.wait_for(asyncio.gather(*sent), ACK_S)
        except TimeoutError:
            self.hang_up()
            raise Unavailable("exchange.hub.silent", f"{self.name} does not acknowledge; tried again") from None
        return sequence

    async def _refuse(self, entry: Entry) -> None:
        why = errors.hub_size(BODY_LIMIT_BYTES)
        judgement = Judgement(entry.sender, entry.id, entry.sha, self.reader, "refused", why.code, why.message)
        await self._exchange.judge([judgement])

    async def _connected(self) -> None:
        if self._wire is not None:
            return
        address = read_address(self._directory)
        identity = load_identity(self._directory)
        context = client_context(self._directory)
        self._wire = await self._dial(address.host, address.port, context, identity.id, self)
        async with self._database.pool.acquire() as connection:
            cursor, _ = await ledger.read_cursor(connection, self._receipts)
        for question in ({"want": "signers"}, {"want": "replay", "after": cursor}):
            await self._say("ask", msgspec.json.encode(question))

    @property
    def _receipts(self) -> str:
        return f"receipts/{self.name}"

    async def _say(self, tail: str, body: bytes) -> asyncio.Future[None]:
        """Publish, as soon as there is room; the future is done with the acknowledgement."""
        while self._wire is not None and self._wire.room <= 0:
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), ACK_S)
            except TimeoutError:
                self.hang_up()
        if self._wire is None:
            raise Unavailable("exchange.hub.down", f"the line to {self.name} is down; tried again")
        self._handle += 1
        done = self._waiting[self._handle] = asyncio.get_running_loop().create_future()
        done.add_done_callback(lambda one: one.cancelled() or one.exception())
        self._wire.send(tail, self._handle, body)
        return done

    def hang_up(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self.closed("hung up", 0)

    # --- what the connection says ---

    def acknowledged(self, handle: int) -> None:
        self._settle(handle, None)

    def refused(self, handle: int, _reason: int, text: str) -> None:
        self.last_problem = text
        self._settle(handle, Unavailable("exchange.hub.refused", f"{self.name} refuses what this hub says: {text}"))

    def _settle(self, handle: int, error: RocadeError | None) -> None:
        self._room.set()
        done = self._waiting.pop(handle, None)
        if done is not None and not done.done():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def received(self, tail: str, body: bytes) -> asyncio.Future[None] | None:
        if tail == "signers":
            try:
                chains = [chain.encode() for chain in msgspec.json.decode(body, type=dict[str, list[str]])["chains"]]
                self._signers = signers.read_signers(chains, load_issuers(self._directory), SIGNER)
            except (RocadeError, *UNREADABLE, KeyError) as error:
                self.last_problem = str(error)
                _log.error("%s shows certificates that do not hold: %s", self.name, error)
            return None
        if tail == "receipt":
            task = asyncio.create_task(self._take(body), name="hub-receipts")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return task
        if tail == "notice":
            _log.warning("%s says: %s", self.name, body[:300].decode(errors="replace"))
        return None

    async def _take(self, body: bytes) -> None:
        """Another hub's receipts: a decision there is a decision here, once. Unproven ones are left unacknowledged."""
        try:
            bundle = read_receipts(body)
            payload, signer = signers.unseal(ROOT_TYPE, bytes(bundle.root), self._signers)
            root = read_root(payload)
            signers.check_time(signer, root.at_us)
            receipts = proven(bundle, root)
        except Refused as refusal:
            self.last_problem = refusal.code
            _log.error("%s sent receipts that do not hold: %s", self.name, refusal)
            raise
        judgements = []
        for receipt in receipts:
            if receipt.kind == "decided" and receipt.outcome and receipt.message_id[1:].isdecimal():
                async with self._database.pool.acquire() as connection:
                    sender = await ledger.read_sender(connection, int(receipt.message_id[1:]))
                if sender is not None:
                    party, id, sha, _ = sender
                    judgements.append(
                        Judgement(party, id, sha, self.reader, receipt.outcome, receipt.code, receipt.reason, body)
                    )
        if judgements:
            await self._exchange.judge(judgements)
        if bundle.cursor:
            async with self._database.pool.acquire() as connection:
                await ledger.write_cursor(connection, self._receipts, bundle.cursor)

    def has_room(self) -> None:
        self._room.set()

    def closed(self, why: str, _reason: int) -> None:
        self._wire = None
        self._room.set()
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            if not done.done():
                done.set_exception(Unavailable("exchange.hub.down", f"the line to {self.name} broke: {why}"))


type Keep = Callable[[Path, Address, Callable[[], None]], Awaitable[None]]
"""(identity directory, where, what to call after a renewal): keep the identity fresh, for ever."""


class Peers:
    """Every folder of `directory` with an address is another hub; new ones are found while it runs."""

    def __init__(self, directory: Path, database: Database, exchange: Exchange, dial: Dial, keep: Keep) -> None:
        self._directory = directory
        self._database = database
        self._exchange = exchange
        self._dial = dial
        self._keep = keep
        self.peers: dict[str, Peer] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                for folder in sorted(self._directory.iterdir()) if self._directory.is_dir() else ():
                    if folder.name not in self.peers and (folder / "address.json").exists():
                        peer = Peer(folder.name, folder, self._database, self._exchange, self._dial)
                        self.peers[folder.name] = peer
                        tasks.create_task(peer.run())
                        tasks.create_task(self._keep_fresh(folder, peer))
                await asyncio.sleep(SCAN_S)

    async def _keep_fresh(self, folder: Path, peer: Peer) -> None:
        while True:
            try:
                await self._keep(folder, read_address(folder), peer.hang_up)
            except RocadeError as error:
                _log.warning("the identity at %s is not renewed: %s", folder.name, error.code)
            await asyncio.sleep(SCAN_S)
