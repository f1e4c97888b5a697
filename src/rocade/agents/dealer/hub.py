"""One hub as the agent sees it: its identity directory, the line, what comes down it, price lists followed, renewal.

What comes down and what is done before it is acknowledged:
    head         kept for applying (asked for again after each connection, so nothing is lost by a crash)
    epoch        wrapped list keys, opened with this agent's encryption key and kept
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
from rocade.agents.dealer.believing import Believing
from rocade.agents.dealer.following import Blobs, Following, Lists
from rocade.agents.dealer.inbox import Inbox
from rocade.agents.dealer.keyring import Keyring
from rocade.agents.dealer.line import Line
from rocade.agents.dealer.outbox import Draft, Outbox, Sent
from rocade.agents.dealer.store import Store
from rocade.agents.link import Backoff
from rocade.agents.renewal import Renewal
from rocade.core.errors import RocadeError
from rocade.core.ports import Clock, Random
from rocade.trust.identity import directory, est_client, tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.envelope import seal
from rocade.trust.identity.issuers import to_us

log = logging.getLogger(__name__)
ACK_TYPE = "application/vnd.rocade.list-ack+json"
STATE_EVERY_S = 300.0


class Notice(msgspec.Struct):
    """`down/notice`. An offer of a newer version has the code `update.offered` and the three last fields."""

    code: str
    text: str = ""
    version: str = ""
    sha256: str = ""


class Prices(Lists, Protocol):
    """The price store of one hub, as far as this room needs it."""

    def heads(self) -> Any: ...
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
        heard_too: Callable[[str, str, bytes], None] = lambda _name, _tail, _body: None,
        backoff: Backoff | None = None,
    ) -> None:
        self.name, self.settings, self.prices = hub.name, hub, prices
        self.directory = place / "hubs" / hub.name
        self.identity = directory.load_identity(self.directory)
        self.keyring, self.believing = Keyring(self.directory, clock), Believing(self.directory)
        self._store, self._outbox, self._inbox, self._clock = store, outbox, inbox, clock
        self._noticed, self._heard_too = noticed, heard_too
        self._issuers = directory.LiveIssuers(self.directory)
        self.blobs = Blobs(hub.host, hub.api_port, self._context, self._check_server)
        self.following = Following(prices, self.blobs, applying, self._say_applied, self.trouble, clock, random)
        self.line = Line(
            self.identity.id, hub.host, hub.line_port, self._context, self._check_server, outbox.of(hub.name),
            self._heard, clock, random,
            greeting=self._greeting, taken_over=lambda: taken_over(hub.name), backoff=backoff,
        )  # fmt: skip
        server = est_client.Server(hub.host, hub.est_port, clock)
        self.renewal = Renewal(self.directory, server, self._renewed, clock, random)

    async def run(self) -> None:
        """Line, lists, renewal and the state report, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.line.run())
            tasks.create_task(self.following.run())
            tasks.create_task(self.renewal.run())
            tasks.create_task(self._report())

    def send(self, draft: Draft) -> Sent:
        """Seal and keep a message for this hub. Raises: as `Outbox.append`."""
        return self._outbox.append(self.name, self.identity.uri, directory.load_key(self.directory), draft)

    @property
    def certificate_end_us(self) -> int:
        return to_us(directory.load_leaf(self.directory).not_valid_after_utc)

    def trouble(self, code: str, text: str) -> None:
        self._store.note_trouble(self.name, code, text)

    def take(self, tail: str, body: bytes) -> None:
        """Do what a message from the hub asks for; also what the other agent of the site hands on."""
        try:
            self._take(tail, body)
        except RocadeError as error:
            log.warning("%s from hub %s: %s", tail, self.name, error.code)
            self.trouble(error.code, f"{tail}: {error.message}")

    # --- what the line asks and says ---

    def _heard(self, tail: str, body: bytes) -> None:
        self.take(tail, body)
        self._heard_too(self.name, tail, body)

    def _take(self, tail: str, body: bytes) -> None:
        match tail:
            case "head":
                self.following.offer(body)
            case "epoch":
                self.prices.keep_epoch(body, self.keyring)
            case "receipt":
                self._outbox.settle(self.name, self.believing.receipts(body))
            case "message":
                message, envelope = self.believing.delivered(body)
                self._inbox.keep(self.name, message, envelope)
            case "revocations":
                self.believing.keep_revocations(body)
            case "notice":
                self._notice(msgspec.json.decode(body, type=Notice))
            case _:
                log.info("unknown word from hub %s", self.name)

    def _notice(self, notice: Notice) -> None:
        if notice.code == "update.offered":
            self._noticed(self.name, notice)
        else:
            self.trouble(notice.code, notice.text)

    def _greeting(self) -> list[tuple[str, bytes]]:
        """Said first on each connection: encryption keys, state, what is applied, and the question what is new."""
        key = directory.load_key(self.directory)
        said = [("keys", self.keyring.registration(key)), ("state", self._state())]
        said += [(tail, msgspec.json.encode({"want": what})) for tail, what in _QUESTIONS]
        return said

    def _say_applied(self, answer: dict[str, object]) -> None:
        key = directory.load_key(self.directory)
        self.line.tell("ack", seal(ACK_TYPE, msgspec.json.encode(answer), key))

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

    def _renewed(self) -> None:
        self.line.again()

    def _context(self) -> Any:
        return tls.client_context(self.directory)

    def _check_server(self, leaf: bytes) -> None:
        """Only a service of this hub's region is a hub; its revoked certificates are not. Raises: Refused `trust.*`."""
        verified = verify_leaf(leaf, self._issuers.table, self._clock.now_us(), {"service"})
        self.believing.refuse_revoked(verified.serial)


_QUESTIONS = (("ask", "epochs"), ("ask", "heads"), ("ask", "revocations"))
