"""One hub as the agent sees it: its identity directory, the line, what comes down it, price lists followed, renewal.

What comes down and what is done before it is acknowledged:
    head         kept for applying (asked for again after each connection, so nothing is lost by a crash)
    epoch        wrapped list keys, opened with this agent's encryption key and kept
    signers      certificates of the keys that sign for the hub, each checked against the region's root
    receipt      each receipt proven against the hub's signed root, then kept on disk; the message moves on
    message      the hub's and the sender's signatures checked, then kept on disk
    revocations  signed list, never an older one
    notice       kept for people; an offer of a newer version waits for consent (`offers`)
What cannot be believed is noted as a trouble and acknowledged: sent again it would be no better.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec

from rocade import __version__
from rocade.agents.dealer import settings as configured
from rocade.agents.dealer.believing import Believing, opened
from rocade.agents.dealer.following import Blobs, Following, Lists
from rocade.agents.dealer.inbox import Inbox
from rocade.agents.dealer.keyring import Keyring
from rocade.agents.dealer.line import Line
from rocade.agents.dealer.outbox import Draft, Outbox, Sent
from rocade.agents.dealer.outgoing import HubOutbox
from rocade.agents.dealer.relay import Relay
from rocade.agents.dealer.store import Store
from rocade.agents.link import Backoff
from rocade.agents.renewal import Renewal
from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Clock, Random
from rocade.trust.identity import directory, est_client, tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.issuers import to_us
from rocade.trust.identity.keys import PrivateKey
from rocade.wire.exchange import Decision, read_message, sha256_of
from rocade.wire.exchange.keys import EncryptionKey

log = logging.getLogger(__name__)
ACK_TYPE = "application/vnd.rocade.price-ack+json"
STATE_EVERY_S = 300.0
CHECK_EVERY_S = 86_400.0


class Notice(msgspec.Struct):
    """`down/notice`. An offer of a newer version has the code `update.offered` and the three last fields."""

    code: str
    text: str = ""
    version: str = ""
    sha256: str = ""


class Prices(Lists, Protocol):
    """The price store of one hub, as far as this room needs it."""

    @property
    def is_damaged(self) -> bool: ...
    def heads(self) -> Any: ...
    def verify_all(self) -> dict[str, str]: ...
    def keep_epoch(self, body: bytes, keyring: Keyring) -> None: ...


class Hub:
    """One hub. `noticed(name, notice)` hears offers; `taken_over(name)` that another agent of the site has the line."""

    def __init__(
        self,
        place: Path,
        hub: configured.Hub,
        store: Store,
        outbox: Outbox,
        inbox: Inbox,
        prices: Any,
        applying: ThreadPoolExecutor,
        clock: Clock,
        random: Random,
        *,
        noticed: Callable[[str, Notice], None] = lambda _name, _notice: None,
        taken_over: Callable[[str], None] = lambda _name: None,
        arrived: Callable[[], None] = lambda: None,
        backoff: Backoff | None = None,
    ) -> None:
        self.name, self.settings, self.prices = hub.name, hub, prices
        self.directory = place / "hubs" / hub.name
        self.identity = directory.load_identity(self.directory)
        self._issuers = directory.LiveIssuers(self.directory)
        self.also_keys: tuple[EncryptionKey, ...] = ()
        """Encryption keys of the other agent of this site, registered with ours."""
        self.keyring, self.believing = (
            Keyring(self.directory, clock),
            Believing(self.directory, lambda: self._issuers.table),
        )
        self._store, self._outbox, self._inbox, self._clock = store, outbox, inbox, clock
        self._applying = applying
        self._noticed, self._arrived = noticed, arrived
        self.heard_too: Callable[[str, str, bytes], asyncio.Future[None] | None] = lambda _name, _tail, _body: None
        """Told what came down, after it was kept here: the other agent of a pair."""
        self._is_behind = False
        """Something of our log could not be kept when it came."""
        self._words: dict[str, bytes] = {}
        """The last letter, list of signers and list of revocations, for an agent that joins later."""
        self.outgoing = HubOutbox(outbox, hub.name, self.key)
        self.blobs = Blobs(hub.host, hub.api_port, self._context, self._check_server)
        self.following = Following(prices, self.blobs, applying, self._say_applied, self.trouble, clock, random)
        self.line = Line(
            self.identity.id, hub.host, hub.line_port, self._context, self._check_server, self.outgoing,
            self._heard, clock, random,
            greeting=self._greeting, taken_over=lambda: taken_over(hub.name), backoff=backoff,
        )  # fmt: skip
        server = est_client.Server(hub.host, hub.est_port, clock)
        self.renewal = Renewal(self.directory, server, self._renewed, clock, random)

    async def carry(self, relay: Relay) -> None:
        """Keep the line that carries services between sites, until cancelled."""
        await relay.start()
        try:
            await relay.run(self._context, self.settings.host, self.settings.relay_port, self._check_server)
        finally:
            await relay.close()

    async def run(self) -> None:
        """Line, lists, renewal and the state report, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.line.run())
            tasks.create_task(self.following.run())
            tasks.create_task(self.renewal.run())
            tasks.create_task(self._report())
            tasks.create_task(self._check_prices())

    def send(self, draft: Draft) -> Sent:
        """Seal and keep a message for this hub. Raises: as `Outbox.append`."""
        return self._outbox.append(self.name, self.identity.uri, self.key(), draft)

    def decide(self, envelope: bytes, outcome: str, code: str, reason: str) -> Sent:
        """Sign and keep what is decided about a message. Raises: Refused `dealer.decision.invalid`, as `Outbox.decide`."""
        payload = opened(envelope)
        message = read_message(payload)
        values = {
            "sender": message.sender, "message_id": message.id, "message_sha256": sha256_of(payload),
            "outcome": outcome, "code": code, "reason": reason, "at_us": self._clock.now_us(),
        }  # fmt: skip
        try:
            decision = msgspec.convert(values, Decision)
        except msgspec.ValidationError as error:
            raise Refused("dealer.decision.invalid", f"this is no decision: {str(error)[:200]}") from None
        return self._outbox.decide(self.name, decision, self.key())

    def key(self) -> PrivateKey:
        """The site's signing key of the moment; it never leaves its file."""
        return directory.load_key(self.directory)

    @property
    def certificate_end_us(self) -> int:
        return to_us(directory.load_leaf(self.directory).not_valid_after_utc)

    def trouble(self, code: str, text: str) -> None:
        self._store.note_trouble(self.name, code, text)
        if code == "prices.epoch.missing":
            self.line.tell("ask", msgspec.json.encode({"want": "epochs"}))

    def take(self, tail: str, body: bytes) -> None:
        """Do what a message from the hub asks for; also what the other agent of the site hands on."""
        try:
            self._take(tail, body)
        except RocadeError as error:
            log.warning("%s from hub %s: %s", tail, self.name, error.code)
            if tail in {"message", "receipt"} and (
                isinstance(error, Unavailable) or error.code == "trust.envelope.signer"
            ):
                self._is_behind = True  # nothing after it counts as had, so that the next replay brings it again
            self.trouble(error.code, f"{tail}: {error.message}")

    # --- what the line asks and says ---

    def register_keys(self) -> None:
        """Say again which keys open what is encrypted for this site, and ask for letters to them."""
        self.line.tell("keys", self.keyring.registration(self.key(), self.also_keys))
        self.line.tell("ask", msgspec.json.encode({"want": "epochs"}))

    def words(self) -> list[tuple[str, bytes]]:
        """What an agent that joins has to hear to stand where this one stands."""
        return [*self._words.items(), *(("head", held.envelope) for held in self.prices.heads())]

    def _heard(self, tail: str, body: bytes) -> asyncio.Future[None] | None:
        self.take(tail, body)
        if tail in {"signers", "epoch", "revocations"}:
            self._words[tail] = body
        return self.heard_too(self.name, tail, body)

    def _take(self, tail: str, body: bytes) -> None:
        match tail:
            case "head":
                self.following.offer(body)
            case "epoch":
                self.prices.keep_epoch(body, self.keyring)
                self.keyring.keep_marks(body, self.identity.id)
                self.following.again()
            case "signers":
                self.believing.keep_signers(body)
                if self._is_behind:
                    self._is_behind = False
                    self.line.tell("ask", msgspec.json.encode(self._replay()))
            case "receipt":
                cursor, receipts = self.believing.receipts(body)
                self._outbox.settle(self.name, receipts)
                self._advance(cursor)
            case "message":
                cursor, message, envelope = self.believing.delivered(body)
                if self._inbox.keep(self.name, cursor, message, envelope):
                    self._arrived()
                self._advance(cursor)
            case "revocations":
                self.believing.keep_revocations(body)
            case "notice":
                self._notice(msgspec.json.decode(body, type=Notice))
            case _:
                log.info("unknown word from hub %s", self.name)

    def _notice(self, notice: Notice) -> None:
        if notice.code in {"update.offered", "dealer.restart"}:
            self._noticed(self.name, notice)
        elif notice.code == "dealer.renew":
            self.trouble(notice.code, notice.text if self.renewal.ask() else "The certificate is of today already.")
        else:
            self.trouble(notice.code, notice.text)

    def _greeting(self) -> list[tuple[str, bytes]]:
        """Said first on each connection: our encryption keys and state, then what we want to know, keys before what they open."""
        asked: list[dict[str, object]] = [
            {"want": "signers"},
            {"want": "epochs"},
            {"want": "heads"},
            self._replay(),
        ]
        self._is_behind = False
        if waiting := self._outbox.without_receipt(self.name):
            asked += [{"want": "receipts", "ids": waiting}]
        said = [("keys", self.keyring.registration(self.key(), self.also_keys)), ("state", self._state())]
        return said + [("ask", msgspec.json.encode(one)) for one in asked]

    def _replay(self) -> dict[str, object]:
        return {"want": "replay", "after": int(self._store.fact(f"cursor/{self.name}") or 0)}

    def _advance(self, cursor: int) -> None:
        """Everything of our log up to this entry is on this disk."""
        if not self._is_behind and cursor > int(self._store.fact(f"cursor/{self.name}") or 0):
            self._store.keep_fact(f"cursor/{self.name}", str(cursor))

    def _say_applied(self, answer: dict[str, object]) -> None:
        self.line.tell("ack", seal(ACK_TYPE, msgspec.json.encode(answer), self.key()))

    def _state(self) -> bytes:
        counts = self._outbox.counts(self.name)
        return msgspec.json.encode(
            {
                "version": __version__,
                "at_us": self._clock.now_us(),
                "outbox": counts.get("waiting", 0),
                "set_aside": counts.get("set_aside", 0),
                "certificate_end_us": self.certificate_end_us,
                "renewal_problem": bool(self.renewal.last_problem),
                "lists": {head.list: head.seq for head in self.prices.heads()},
            }
        )

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATE_EVERY_S)
            self.line.tell("state", self._state())
            if self._is_behind:
                self._is_behind = False
                self.line.tell("ask", msgspec.json.encode(self._replay()))
            if missing := self._outbox.without_receipt(self.name):
                self.line.tell("ask", msgspec.json.encode({"want": "receipts", "ids": missing}))
            if self.prices.is_damaged:
                self.trouble("prices.store.altered", "a damaged row of a price list was met; its head mends it")
                for want in ("epochs", "heads"):
                    self.line.tell("ask", msgspec.json.encode({"want": want}))

    async def _check_prices(self) -> None:
        """Once a day every row of the lists is held against its head: what nobody asked for is found too, and mended likewise."""
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._applying, self.prices.verify_all)
            except RocadeError as error:
                found = {"": error.code}
            for name, code in found.items():
                if code:
                    self.trouble(code, f"{name or 'the price store'}: found by the daily check")

    def _renewed(self) -> None:
        """A new certificate is in place: begin with a new encryption key too, and say both on a new connection."""
        self.keyring.add_key()
        self.line.again()

    def _context(self) -> Any:
        return tls.client_context(self.directory)

    def _check_server(self, leaf: bytes) -> None:
        """Only a service of this hub's region is a hub; its revoked certificates are not. Raises: Refused `trust.*`."""
        verified = verify_leaf(leaf, self._issuers.table, self._clock.now_us(), {"service"})
        self.believing.refuse_revoked(verified.serial)
