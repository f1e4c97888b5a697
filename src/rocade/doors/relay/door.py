"""The hub's end of the relay lines: agents dial in with their certificate, streams are joined as the `Switch` says.

Flow of a line: TLS 1.3 with client certificate -> strict certificate check -> one line a site, the newest wins. Flow of a
stream: the agent asks for a service -> `Switch.open` decides, writes it down and says where -> a TCP connection from here,
or a stream on the line of the site that offers it -> bytes both ways, each counted -> `Route.closed`.
Refused handshakes and streams are audited with their reason; nobody's identity is claimed for a refused handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable, Collection
from typing import Protocol

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.doors.relay.session import Channel, Local, Session, hold_little, join
from rocade.doors.secured import Secured
from rocade.trust.identity.tls import ServerIdentity, handshake_refusal, peer_leaf
from rocade.wire.relay import Opening, Terms

HANDSHAKE_S = 10.0
CONNECT_S = 10.0
MOST_LINES = 10_000
_log = logging.getLogger(__name__)


class Route(Protocol):
    """One permitted stream. `site` '' = `address` is reached from here, else over that site's line."""

    site: str
    address: tuple[str, int]
    service: str
    caller: str
    priority: str

    async def up(self, count: int) -> None:
        """Before `count` bytes go to the service: wait for the rate, or raise Refused `relay.quota.*`."""
        ...

    async def down(self, count: int) -> None: ...

    async def closed(self, code: str) -> None:
        """It is over; '' = properly."""
        ...

    def on_cut(self, cut: Callable[[str], object], /) -> None:
        """`cut(code)` is to be called when the stream may no longer be open."""
        ...


class Switch(Protocol):
    async def open(self, caller: Identity, opening: Opening) -> Route:
        """Decide and write down. Raises: Refused `relay.*`, Unavailable."""
        ...


class Verified(Protocol):
    @property
    def identity(self) -> Identity: ...
    @property
    def serial(self) -> int: ...


class RelayDoor:
    """`await start(host, port)` gives the port; `await close()` ends it."""

    def __init__(
        self,
        identity: ServerIdentity,
        verify: Callable[[bytes], Verified],
        switch: Switch,
        audit: Audit,
        clock: Clock,
    ) -> None:
        self._identity, self._verify, self._switch = identity, verify, switch
        self._audit, self._clock = audit, clock
        self._lines: dict[str, tuple[Session, int, asyncio.Task[None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        self._server = await asyncio.start_server(self._accept, host, port, backlog=1024)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def lines(self) -> list[str]:
        """Sites whose line is up."""
        return list(self._lines)

    def revoked(self, serials: Collection[int]) -> None:
        """End the lines of certificates that were revoked just now."""
        for _session, serial, task in list(self._lines.values()):
            if serial in serials:
                task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = str((writer.get_extra_info("peername") or ("unknown",))[0])
        if len(self._tasks) >= MOST_LINES:
            writer.transport.abort()
            self._refused(f"peer:{peer}", "relay.crowded")
            return
        self._tasks.add(task)
        hold_little(writer.get_extra_info("socket"))
        writer.transport.set_write_buffer_limits(high=1)  # `drain` waits for the kernel: what waits here waits by class
        try:
            secured = Secured(reader, writer, self._identity.context)
            verified = await self._prove(secured, peer)
            if verified:
                await self._line(secured, verified, task)
        except (OSError, TimeoutError, ssl.SSLError):
            pass  # the peer left
        except asyncio.CancelledError:
            pass  # revoked, replaced by a newer line, or the door closes
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await writer.wait_closed()

    async def _prove(self, secured: Secured, peer: str) -> Verified | None:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await secured.handshake()
            leaf = peer_leaf(secured.tls)
            if leaf is None:
                raise Refused("trust.handshake.certificate_missing", "a line needs a client certificate")
            return self._verify(leaf)
        except (OSError, TimeoutError) as error:
            self._refused(f"peer:{peer}", handshake_refusal(error).code)
        except Refused as refusal:
            self._refused(f"peer:{peer}", refusal.code)
        return None

    async def _line(self, secured: Secured, verified: Verified, task: asyncio.Task[None]) -> None:
        site = verified.identity.id
        if older := self._lines.pop(site, None):
            older[2].cancel()

        async def asked(channel: Channel, opening: Opening) -> None:
            await self._stream(session, verified.identity, channel, opening)

        session = Session(secured, asked, is_hub=True)
        self._lines[site] = (session, verified.serial, task)
        try:
            await session.run()
        except Refused as refusal:
            self._refused(verified.identity.uri, refusal.code)
        finally:
            if (now := self._lines.get(site)) and now[0] is session:
                del self._lines[site]

    async def _stream(self, session: Session, caller: Identity, channel: Channel, opening: Opening) -> None:
        try:
            route = await self._switch.open(caller, opening)
        except RocadeError as error:
            session.refuse(channel, error.code)
            return
        code = "relay.broken"
        try:
            far = await self._reach(route, opening)
            session.accept(channel, Terms(route.priority))
            route.on_cut(channel.reset)
            code = await join(channel, far, route.up, route.down)
        except RocadeError as error:
            code = error.code
            session.refuse(channel, code)
        except asyncio.CancelledError:
            code = "relay.line"
            raise
        finally:
            await asyncio.shield(route.closed(code))

    async def _reach(self, route: Route, opening: Opening) -> Channel | Local:
        """The service itself. Raises: Unavailable `relay.site_down`, `relay.unreachable`; Refused by the other site."""
        if not route.site:
            try:
                async with asyncio.timeout(CONNECT_S):
                    return Local(*await asyncio.open_connection(*route.address))
            except (OSError, TimeoutError):
                raise Unavailable("relay.unreachable", "the service does not answer at its address") from None
        line = self._lines.get(route.site)
        if line is None:
            raise Unavailable("relay.site_down", "the site that offers this service has no line now")
        return await line[0].open(Opening(route.service, opening.device, route.caller, route.priority))

    def _refused(self, actor: str, code: str) -> None:
        self._audit.note(AuditEntry(self._clock.now_us(), actor, "relay.line", "door:relay", "refused", code))
