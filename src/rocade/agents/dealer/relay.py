"""The site's end of the relay: local ports that lead to services elsewhere, and services here that others may reach.

Flow: one line dialled out to the hub, again after a growing pause when it breaks. A connection to a local port asks the hub for
that port's service and is joined to the stream, or closed at once when it is refused. A stream the hub opens is joined to the
local service of that name; what is not listed in `offers` is refused here, whatever the hub says: the site has the last word.
Local ports listen on the addresses given and let only `allowed` networks in, so that guests' Wi-Fi reaches nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rocade.core.errors import Misconfigured, Refused, RocadeError, Unavailable
from rocade.doors.relay.session import Channel, Local, Session, hold_little, join
from rocade.trust.identity import tls
from rocade.wire.relay import Opening, Terms

RETRY_S = (1.0, 60.0)
CONNECT_S = 20.0

type Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Entrance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A local port that leads to `service` of a hub. `devices`: names of local addresses, for rules and reports."""

    service: str
    hub: str = "main"
    host: str = "127.0.0.1"
    port: int = 0
    allowed: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    devices: dict[str, str] = {}


class Offer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A service of this site that a hub may connect others to."""

    service: str
    host: str
    port: int
    hub: str = "main"


class Relay:
    """`await start()` listens, `await run(...)` keeps the line for ever, `await close()` ends both."""

    def __init__(self, entrances: Sequence[Entrance], offers: Sequence[Offer]) -> None:
        self._entrances = entrances
        self._offers = {offer.service: offer for offer in offers}
        self._servers: list[asyncio.Server] = []
        self._session: Session | None = None
        self.ports: dict[str, int] = {}
        self.refused: dict[str, int] = {}
        """How often each code was met, for the page and `doctor`."""

    @property
    def is_up(self) -> bool:
        return self._session is not None

    async def start(self) -> None:
        """Raises: Misconfigured `dealer.relay.address`, `dealer.relay.network`."""
        for entrance in self._entrances:
            try:
                networks = [ipaddress.ip_network(network) for network in entrance.allowed]
            except ValueError as error:
                raise Misconfigured(
                    "dealer.relay.network", f"an allowed network is like 192.168.1.0/24: {error}"
                ) from None
            try:
                server = await asyncio.start_server(self._entered(entrance, networks), entrance.host, entrance.port)
            except OSError as error:
                raise Misconfigured(
                    "dealer.relay.address", f"cannot listen on {entrance.host}:{entrance.port}: {error.strerror}"
                ) from error
            self._servers.append(server)
            self.ports[entrance.service] = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        for server in self._servers:
            server.close()

    async def run(
        self,
        context: Callable[[], ssl.SSLContext],
        host: str,
        port: int,
        check: Callable[[bytes], object] = lambda _leaf: None,
    ) -> None:
        """Dial, carry, dial again. `check` raises Refused unless a server certificate is the hub's."""
        pause_s = RETRY_S[0]
        while True:
            began_s = asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(CONNECT_S):
                    streams = await asyncio.open_connection(host, port, ssl=context())
                check(tls.peer_leaf(streams[1].get_extra_info("ssl_object")) or b"")
                hold_little(streams[1].get_extra_info("socket"))
                streams[1].transport.set_write_buffer_limits(high=1)
                self._session = Session(_Dialled(*streams), self._asked, is_hub=False)
                await self._session.run()
            except ssl.SSLError as error:
                self._count(tls.handshake_refusal(error).code)
            except (OSError, TimeoutError):
                self._count("relay.line")
            except Refused as refusal:
                self._count(refusal.code)
            finally:
                self._session = None
            if asyncio.get_running_loop().time() - began_s > RETRY_S[1]:
                pause_s = RETRY_S[0]
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    def _entered(self, entrance: Entrance, networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> Client:
        async def entered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            local = Local(reader, writer)
            try:
                peer = ipaddress.ip_address(str(writer.get_extra_info("peername")[0]).partition("%")[0])
                if not any(peer in network for network in networks):
                    self._count("relay.network")
                    return
                session = self._session
                if session is None:
                    raise Unavailable("relay.line", "the line is down")
                channel = await session.open(Opening(entrance.service, entrance.devices.get(str(peer), "")))
                await join(local, channel)
            except RocadeError as error:
                self._count(error.code)
            except OSError:
                pass  # the device left
            finally:
                local.close()

        return entered

    async def _asked(self, channel: Channel, opening: Opening) -> None:
        session, offer = self._session, self._offers.get(opening.service)
        if session is None or offer is None:
            self._count("relay.not_offered")
            if session:
                session.refuse(channel, "relay.not_offered")
            return
        try:
            async with asyncio.timeout(CONNECT_S):
                local = Local(*await asyncio.open_connection(offer.host, offer.port))
        except (OSError, TimeoutError):
            self._count("relay.unreachable")
            session.refuse(channel, "relay.unreachable")
            return
        session.accept(channel, Terms(opening.priority))
        await join(channel, local)

    def _count(self, code: str) -> None:
        self.refused[code] = self.refused.get(code, 0) + 1


class _Dialled:
    """The agent's own TLS connection in the shape a session wants."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def read(self) -> bytes:
        return await self._reader.read(64 << 10)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self._writer.wait_closed()
