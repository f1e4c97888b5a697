"""One relay line, the same at both ends: a connection, its multiplexer, and a `Channel` for every stream on it.

Flow: `run` reads frames and hands out what they bring, a second task writes what the multiplexer chooses next. It writes a
little at a time and waits until the socket has taken it, so that voice never stands behind a queue of bulk.
A channel's `write` waits for credit, its `read` gives credit back: a slow reader slows down its own stream and nothing else.
Refuses (and ends the line): frames that break the rules, a peer that has been silent for `SILENT_S`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol

from rocade.core.errors import Refused, Unavailable
from rocade.wire import relay as wire
from rocade.wire.relay import Opening, Terms

WRITE_BYTES = 32 << 10
UNSENT_BYTES = 128 << 10
PING_S = 20.0
SILENT_S = 60.0
OPEN_S = 20.0
_log = logging.getLogger(__name__)


UNSENT_BYTES = 16 << 10
"""What the kernel may hold unsent of a line: what is beyond it waits by class, or a telephone would wait for a file after all."""


def hold_little(line: socket.socket) -> None:
    """Let the kernel take no more than it can send soon (tcp(7), TCP_NOTSENT_LOWAT); where it has no such option, nothing is done."""
    if option := getattr(socket, "TCP_NOTSENT_LOWAT", None):
        line.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


class Connection(Protocol):
    """Bytes of one TLS connection; `read` gives b"" at its end, `write` returns when they are taken."""

    async def read(self) -> bytes: ...
    async def write(self, data: bytes) -> None: ...
    async def close(self) -> None: ...


class Channel:
    """One stream of a line, as its owner sees it. `terms` are set once it is accepted."""

    def __init__(self, session: Session, number: int) -> None:
        self._session, self.number = session, number
        self.terms = Terms()
        self.code = ""
        self._arrived: deque[bytes] = deque()
        self._is_over = False
        self._wake = asyncio.Event()
        self.opened: asyncio.Future[Terms] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        """What arrived next; b"" when the other side has ended. Raises: Unavailable with why it was given up."""
        while not self._arrived:
            if self.code:
                raise Unavailable(self.code, "the connection was given up")
            if self._is_over:
                return b""
            self._wake.clear()
            await self._wake.wait()
        data = self._arrived.popleft()
        self._session.took(self.number, len(data))
        return data

    async def write(self, data: bytes) -> None:
        """Queue bytes and wait while much is unsent. Raises: Unavailable with why nobody will read them."""
        if self.code:
            raise Unavailable(self.code, "the connection was given up")
        await self._session.send(self, data)

    def end(self) -> None:
        self._session.end(self.number)

    def reset(self, code: str) -> None:
        self._session.reset(self, code)

    # what the session says
    def arrived(self, data: bytes) -> None:
        self._arrived.append(data)
        self._wake.set()

    def over(self, code: str = "") -> None:
        self._is_over = True
        self.code = self.code or code
        self._wake.set()
        if not self.opened.done():
            self.opened.set_exception(Refused(code or "relay.ended", "the service was not opened"))
            self.opened.exception()  # looked at, if nobody waits


type Asked = Callable[[Channel, Opening], Awaitable[None]]
"""Called when the other side asks for a stream: `accept` or `refuse` it, then carry it until it is over."""


class Session:
    """`await run()` ends with the line; `asked` serves the streams the other side opens."""

    def __init__(self, connection: Connection, asked: Asked, *, is_hub: bool) -> None:
        self._connection = connection
        self._asked = asked
        self._line = wire.Multiplexer(is_hub=is_hub)
        self._channels: dict[int, Channel] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_write = asyncio.Event()
        self._written = asyncio.Condition()
        self._heard_s = 0.0
        self._is_over = False

    async def run(self) -> None:
        """Carry streams until the line ends. Raises: Refused when the other side broke the rules."""
        self._heard_s = asyncio.get_running_loop().time()
        writing = asyncio.create_task(self._write(), name="relay-write")
        watching = asyncio.create_task(self._watch(), name="relay-watch")
        try:
            while data := await self._connection.read():
                self._heard_s = asyncio.get_running_loop().time()
                for event in self._line.feed(data):
                    self._hear(event)
                self._to_write.set()
        except (OSError, ssl.SSLError):
            pass  # the line broke; both ends see it
        finally:
            self._is_over = True
            for channel in self._channels.values():
                channel.over("relay.line")
            async with self._written:
                self._written.notify_all()
            writing.cancel()
            watching.cancel()
            pending = [writing, watching, *self._tasks]
            _, late = await asyncio.wait(pending, timeout=2.0)
            for task in late:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            with contextlib.suppress(OSError, ssl.SSLError):
                await self._connection.close()

    async def open(self, opening: Opening) -> Channel:
        """Ask the other side for a service.

        Raises: Refused with its code; Unavailable `relay.line`, `relay.slow`.
        """
        if self._is_over:
            raise Unavailable("relay.line", "the line is down; it is dialled again by itself")
        channel = Channel(self, self._line.open(opening))
        self._channels[channel.number] = channel
        self._to_write.set()
        try:
            async with asyncio.timeout(OPEN_S):
                channel.terms = await channel.opened
        except TimeoutError:
            channel.reset("relay.slow")
            raise Unavailable("relay.slow", "the other side did not answer in time") from None
        return channel

    def accept(self, channel: Channel, terms: Terms) -> None:
        channel.terms = terms
        self._line.accept(channel.number, terms)
        self._to_write.set()

    def refuse(self, channel: Channel, code: str) -> None:
        self._channels.pop(channel.number, None)
        self._line.refuse(channel.number, code)
        channel.over(code)
        self._to_write.set()

    # --- what channels ask --------------------------------------------------------------------------------------

    async def send(self, channel: Channel, data: bytes) -> None:
        self._line.send(channel.number, data)
        self._to_write.set()
        if self._line.unsent(channel.number) > UNSENT_BYTES:
            async with self._written:
                await self._written.wait_for(lambda: self._is_over or self._line.unsent(channel.number) <= UNSENT_BYTES)

    def end(self, number: int) -> None:
        self._line.end(number)
        self._to_write.set()

    def took(self, number: int, count: int) -> None:
        self._line.took(number, count)
        self._to_write.set()

    def reset(self, channel: Channel, code: str) -> None:
        self._channels.pop(channel.number, None)
        self._line.reset(channel.number, code)
        channel.over(code)
        self._to_write.set()

    # --- the two tasks ------------------------------------------------------------------------------------------

    def _hear(self, event: wire.Event) -> None:
        if event.kind == wire.OPEN and event.opening:
            channel = self._channels[event.stream] = Channel(self, event.stream)
            task = asyncio.create_task(self._serve(channel, event.opening), name="relay-stream")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        channel_or_none = self._channels.get(event.stream)
        if channel_or_none is None:
            return
        channel = channel_or_none
        if event.kind == wire.DATA:
            channel.arrived(event.data)
        elif event.kind == wire.ACCEPT and event.terms and not channel.opened.done():
            channel.opened.set_result(event.terms)
        elif event.kind == wire.END:
            channel.over()
        elif event.kind in (wire.REFUSE, wire.RESET):
            del self._channels[event.stream]
            channel.over(event.code or "relay.ended")

    async def _serve(self, channel: Channel, opening: Opening) -> None:
        try:
            await self._asked(channel, opening)
        except (OSError, ssl.SSLError, Unavailable):
            channel.reset("relay.ended")
        except Exception:
            _log.exception("a stream failed; it is closed")
            channel.reset("relay.broken")
        finally:
            self._channels.pop(channel.number, None)

    async def _write(self) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):
            while True:
                self._to_write.clear()
                while data := self._line.frames(WRITE_BYTES):
                    await self._connection.write(data)
                    async with self._written:
                        self._written.notify_all()
                await self._to_write.wait()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            if asyncio.get_running_loop().time() - self._heard_s > SILENT_S:
                with contextlib.suppress(OSError, ssl.SSLError):
                    await self._connection.close()
                return
            self._line.ping()
            self._to_write.set()


async def carry(source: Source, sink: Sink, passed: Callable[[int], Awaitable[None]]) -> None:
    """Copy from `source` to `sink` until the source ends; `passed` hears each count first and may wait or raise."""
    while data := await source.read():
        await passed(len(data))
        await sink.write(data)
    sink.end()


class Source(Protocol):
    async def read(self) -> bytes: ...


class Sink(Protocol):
    async def write(self, data: bytes) -> None: ...
    def end(self) -> None: ...


class Local:
    """A plain TCP connection in the shape of a channel."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(wire.MOST_DATA_BYTES)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def end(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


async def nothing(_count: int) -> None:
    """For `carry` where nobody counts."""


async def join(one: Channel | Local, other: Channel | Local,
               there: Callable[[int], Awaitable[None]] = nothing,
               back: Callable[[int], Awaitable[None]] = nothing) -> str:  # fmt: skip
    """Carry both ways until both have ended; the code of what broke, '' for a proper end.

    A side that breaks takes the other with it: half a conversation is no service.
    """
    tasks = [asyncio.create_task(carry(one, other, there)), asyncio.create_task(carry(other, one, back))]
    code = ""
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            error = task.exception()
            if isinstance(error, (Refused, Unavailable)):
                code = error.code
            elif error is not None:
                code = "relay.broken"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in (one, other):
            if isinstance(side, Local):
                side.close()
            elif code:
                side.reset(code)
    return code
