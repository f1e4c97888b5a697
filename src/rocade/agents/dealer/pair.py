"""Two agents of one site, one active, one standby: whichever holds the line sends, both hold everything, the standby takes over.

The lease is the hub's: it lets one connection of a site live, the newest. Between the two agents runs a connection of their own
(mutual TLS, both with this site's certificates, nobody else is let in), so that the standby holds what the active holds:
    messages handed in at either  -> kept by the other before the one who handed them in hears "accepted" (if it is there)
    what came down from the hub   -> the same at the standby: heads, keys, receipts, messages; price files it fetches itself
    what the hub has taken        -> so that it is not sent again; sent again it would be the same message, with one effect
Flow: both begin as standby -> the one that listens becomes active, or whoever finds the other silent for `takeover_s` -> the
standby that hears nothing for `takeover_s` takes the line at the hub, which ends the other's -> an agent whose line was taken
steps back; it does not take it again before the other was heard, or a growing time has passed (1 minute to 1 hour).
A number (`term`), one higher at each takeover and kept on disk, settles who steps back when both are active and meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from rocade.agents.dealer.settings import Pair as Settings
from rocade.agents.dealer.store import Store
from rocade.core.errors import Misconfigured, Refused, RocadeError
from rocade.core.ports import Clock
from rocade.trust.identity import directory, tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.wire.exchange.keys import EncryptionKey

log = logging.getLogger(__name__)
BEAT_S = 1.0
KEPT_WITHIN_S = 2.0
_FIRST_PATIENCE_S, _MOST_PATIENCE_S = 60.0, 3600.0
_FRAME_LIMIT = 8 << 20


class Frame(msgspec.Struct, array_like=True, omit_defaults=True):
    """What is said between the two. `kind`: hello, beat, entry, taken, down, kept."""

    kind: str
    number: int = 0
    hub: str = ""
    tail: str = ""
    body: bytes = b""
    term: int = 0
    is_active: bool = False
    ids: list[str] = []
    keys: dict[str, list[EncryptionKey]] = {}


class Half(Protocol):
    """What the pair needs of its agent."""

    def hold_lines(self, *, up: bool) -> None: ...
    def waiting_entries(self) -> list[Frame]: ...
    def current_words(self) -> list[Frame]: ...
    def own_keys(self) -> dict[str, list[EncryptionKey]]: ...
    def adopt(self, frame: Frame) -> None: ...
    def was_taken(self, frame: Frame) -> None: ...
    def heard_by_pair(self, frame: Frame) -> None: ...
    def keys_of_pair(self, keys: dict[str, list[EncryptionKey]]) -> None: ...


class Pair:
    """This agent's half. `role` is "active" or "standby", `is_joined` whether the other one is there."""

    def __init__(self, identity_dir: Path, settings: Settings, half: Half, store: Store, clock: Clock) -> None:
        self._directory, self._settings, self._half, self._store, self._clock = (
            identity_dir,
            settings,
            half,
            store,
            clock,
        )
        self._own = directory.load_identity(identity_dir)
        self.role = "standby"
        self.term = int(store.fact("pair/term") or 0)
        self.port = 0
        self.takeovers = 0
        self._peer: asyncio.StreamWriter | None = None
        self._heard_s = clock.monotonic_s()
        self._number = 0
        self._conversations: set[asyncio.Task[None]] = set()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._not_before_s = 0.0
        self._patience_s = _FIRST_PATIENCE_S
        self.trouble: Callable[[str, str], None] = lambda _code, _text: None

    @property
    def is_joined(self) -> bool:
        return self._peer is not None

    async def run(self) -> None:
        """Listen or connect, and watch, until cancelled. Raises: Misconfigured `dealer.pair.address`."""
        self._heard_s = self._clock.monotonic_s()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen() if self._settings.listen else self._keep_connecting())
            tasks.create_task(self._watch())

    # --- for the agent

    async def replicate(self, frame: Frame) -> bool:
        """Hand something to the other agent; True when it has it on its disk, False if it is not there or too slow."""
        if self._peer is None:
            return False
        self._number += 1
        frame.number = self._number
        done = self._waiting[frame.number] = asyncio.get_running_loop().create_future()
        self._say(frame)
        try:
            await asyncio.wait_for(done, KEPT_WITHIN_S)
        except (TimeoutError, ConnectionError):
            return False
        finally:
            self._waiting.pop(frame.number, None)
        return True

    def tell(self, frame: Frame) -> None:
        """Hand something over without waiting."""
        if self._peer is not None:
            self._say(frame)

    def lost_line(self) -> None:
        """The hub gave the line to the other agent: step back."""
        if self.role == "active":
            self._step_back()
            self._not_before_s = self._clock.monotonic_s() + self._patience_s
            self._patience_s = min(_MOST_PATIENCE_S, 2 * self._patience_s)

    # --- who is active

    async def _watch(self) -> None:
        """Beat, and take over when the other one is silent. Time that this process was itself held up does not count."""
        every_s = min(BEAT_S, self._settings.takeover_s / 4)
        before_s = self._clock.monotonic_s()
        while True:
            self._say(Frame("beat", term=self.term, is_active=self.role == "active"))
            await asyncio.sleep(every_s)
            now_s = self._clock.monotonic_s()
            self._heard_s += max(0.0, now_s - before_s - 2 * every_s)
            before_s = now_s
            if self.role == "standby" and now_s - self._heard_s > self._settings.takeover_s and self._may_take():
                self._take_over()

    def _may_take(self) -> bool:
        return self._clock.monotonic_s() >= self._not_before_s

    def _take_over(self) -> None:
        self.term += 1
        self._store.keep_fact("pair/term", str(self.term))
        self.role = "active"
        self.takeovers += 1
        log.warning("this agent is active now (term %d)", self.term)
        self._half.hold_lines(up=True)

    def _step_back(self) -> None:
        self.role = "standby"
        self._heard_s = self._clock.monotonic_s()
        log.warning("this agent is standby now (term %d)", self.term)
        self._half.hold_lines(up=False)

    def _settle(self, frame: Frame) -> None:
        """Both said what they are: exactly one stays active."""
        if frame.is_active:
            self._heard_s = self._clock.monotonic_s()
            self._patience_s, self._not_before_s = _FIRST_PATIENCE_S, 0.0
        if frame.is_active and self.role == "active":
            if (frame.term, not self._settings.listen) > (self.term, bool(self._settings.listen)):
                self._step_back()
        elif not frame.is_active and self.role == "standby" and self._settings.listen and self._may_take():
            self.term = max(self.term, frame.term)
            self._take_over()
        self.term = max(self.term, frame.term) if self.role == "standby" else self.term

    # --- the connection

    async def _listen(self) -> None:
        host, _, port = self._settings.listen.rpartition(":")
        try:
            server = await asyncio.start_server(self._accept, host.strip("[]"), int(port), ssl=self._server_context())
        except (OSError, ValueError) as error:
            raise Misconfigured("dealer.pair.address", f"cannot listen on {self._settings.listen}: {error}") from None
        self.port = server.sockets[0].getsockname()[1]
        try:
            await asyncio.Event().wait()
        finally:  # not waited for: it would wait for a conversation that has no end
            server.close()
            for conversation in list(self._conversations):
                conversation.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._conversations.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                await self._converse(reader, writer)
        finally:
            self._conversations.discard(task)

    async def _keep_connecting(self) -> None:
        host, _, port = self._settings.connect.rpartition(":")
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, ssl.SSLError):
                async with asyncio.timeout(self._settings.takeover_s):
                    reader, writer = await asyncio.open_connection(
                        host.strip("[]"), int(port), ssl=self._client_context(), server_hostname=""
                    )
                await self._converse(reader, writer)
            await asyncio.sleep(min(BEAT_S, self._settings.takeover_s / 4))

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self._check(writer)
        except RocadeError as error:
            self.trouble(error.code, f"the other agent: {error.message}")
            writer.transport.abort()
            return
        before, self._peer = self._peer, writer
        if before is not None:
            before.transport.abort()
        try:
            self._say(Frame("hello", term=self.term, is_active=self.role == "active", keys=self._half.own_keys()))
            words = self._half.current_words() if self.role == "active" else []
            for frame in (*words, *self._half.waiting_entries()):
                self._say(frame)
            while True:
                size = int.from_bytes(await reader.readexactly(4))
                if size > _FRAME_LIMIT:
                    raise ConnectionError
                self._take(msgspec.msgpack.decode(await reader.readexactly(size), type=Frame))
                await writer.drain()
        except (msgspec.MsgspecError, asyncio.IncompleteReadError, ConnectionError) as error:
            log.info("the other agent is gone: %r", error)
        finally:
            writer.transport.abort()
            if self._peer is writer:
                self._peer = None
                for done in self._waiting.values():
                    if not done.done():
                        done.set_exception(ConnectionError())

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case "hello":
                self._half.keys_of_pair(frame.keys)
                self._settle(frame)
            case "beat":
                self._settle(frame)
            case "entry":
                self._half.adopt(frame)
            case "taken":
                self._half.was_taken(frame)
            case "down":
                self._half.heard_by_pair(frame)
            case "kept":
                done = self._waiting.get(frame.number)
                if done is not None and not done.done():
                    done.set_result(None)
        if frame.kind in {"entry", "down"} and frame.number:
            self._say(Frame("kept", frame.number))

    def _say(self, frame: Frame) -> None:
        if self._peer is not None:
            body = msgspec.msgpack.encode(frame)
            self._peer.write(len(body).to_bytes(4) + body)

    # --- who the other one is

    def _check(self, writer: asyncio.StreamWriter) -> None:
        """Only an agent of this very site. Raises: Refused `trust.certificate.*`, `dealer.pair.stranger`."""
        leaf = tls.peer_leaf(writer.get_extra_info("ssl_object")) or b""
        verified = verify_leaf(leaf, directory.load_issuers(self._directory), self._clock.now_us(), {"dealer"})
        if verified.identity != self._own:
            raise Refused("dealer.pair.stranger", "it has a certificate of another point of sale")

    def _server_context(self) -> ssl.SSLContext:
        chain, key = self._directory / "certificate.pem", self._directory / "key.pem"
        return tls.server_context(chain, key, self._directory / "trust.pem")

    def _client_context(self) -> ssl.SSLContext:
        """A site's certificate is a client's, so the usual check of a server's purpose does not fit; `_check` is the check."""
        context = tls.client_context(self._directory)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
