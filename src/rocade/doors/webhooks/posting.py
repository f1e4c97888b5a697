"""One POST to an address that somebody else chose: over TLS, to a public address only, no further than that.

The name is resolved here, every address it has is looked at, and the connection goes to the one that was looked at, so that a
name cannot change its mind in between. Redirects are not followed, answers are read up to a few kilobytes and not used.
Names are looked up in threads of their own: a name server that never answers holds up nothing else of the process.
Refuses: `webhooks.address.*`. What cannot be reached is Unavailable and tried again later.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import h11
import msgspec

from rocade.core.errors import Refused, Unavailable

TIMEOUT_S = 15.0
LOOK_UP_S = 10.0
LOOK_UPS = 256
"""Names looked up at once; a silent name server keeps a thread for longer than anybody waits."""
CLOSE_S = 2.0
ANSWER_LIMIT_BYTES = 16 * 1024
URL_LIMIT = 400

type Address = IPv4Address | IPv6Address
type Sign = Callable[[], Mapping[str, str]]
"""Gives the headers of a request when its connection stands, at the last moment; what it raises is not sent."""
_NAT64, _SIX_TO_FOUR = IPv6Address("64:ff9b::"), IPv6Address("2002::")


class Target(msgspec.Struct, frozen=True):
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and port as a request names them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"


def target_of(url: str) -> Target:
    """An address that may be written to at all. Raises: Refused `webhooks.address.malformed`."""

    def refuse(why: str) -> Refused:
        return Refused("webhooks.address.malformed", f"a webhook's address is https://name/path: {why}")

    if len(url) > URL_LIMIT or not url.isascii() or not url.isprintable() or " " in url:
        raise refuse(f"at most {URL_LIMIT} plain characters")
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise refuse("its port is no number") from None
    if parts.scheme != "https" or not parts.hostname:
        raise refuse("it begins with https://")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise refuse("no user, password or fragment")
    if port != 443 and not 1024 <= port <= 65_535:
        raise refuse("port 443, or above 1023")
    query = f"?{parts.query}" if parts.query else ""
    return Target(parts.hostname, port, (parts.path or "/") + query)


def is_public(address: Address) -> bool:
    """Whether an address is anybody's: not this machine, this network, a shared or reserved range, or one that hides such."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address.packed[:12] == _NAT64.packed[:12]:
            inner = IPv4Address(address.packed[12:])
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


class Poster:
    """`post` sends one request, `kept` makes a connection for many. `may_reach` decides about addresses (the default: public ones)."""

    def __init__(self, context: ssl.SSLContext | None = None, may_reach: Callable[[Address], bool] = is_public) -> None:
        self._context = context or ssl.create_default_context()
        self._may_reach = may_reach
        self._looking = ThreadPoolExecutor(LOOK_UPS, thread_name_prefix="names")

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises: Refused `webhooks.address.*`; Unavailable `webhooks.unreachable`."""
        line = self.kept(url)
        try:
            return await line.post(lambda: headers, body, is_last=True)
        finally:
            await line.close()

    def kept(self, url: str) -> Kept:
        """A connection that is opened at its first post and used again. Raises: Refused `webhooks.address.malformed`."""
        return Kept(self, target_of(url))

    async def connect(self, target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Raises: Refused `webhooks.address.private`; OSError."""
        address = await self.resolve(target)
        return await asyncio.open_connection(
            str(address), target.port, ssl=self._context, server_hostname=target.host, limit=2 * ANSWER_LIMIT_BYTES
        )

    async def resolve(self, target: Target) -> Address:
        """The address to connect to; if any of a name's addresses is not public, none is used.

        Raises: Refused `webhooks.address.private`; OSError.
        """
        looked_up = asyncio.get_running_loop().run_in_executor(
            self._looking, socket.getaddrinfo, target.host, target.port
        )
        async with asyncio.timeout(LOOK_UP_S):
            found = {str(one[4][0]).partition("%")[0] for one in await looked_up}
        addresses = sorted((ip_address(one) for one in found), key=lambda one: (one.version, one.packed))
        if not addresses or not all(map(self._may_reach, addresses)):
            raise Refused("webhooks.address.private", "the name leads to an address that is not public")
        return addresses[0]


class Kept:
    """One connection to one receiver: opened when needed, used again while he keeps it, by one poster at a time.

    A kept connection that turns out to be closed is opened again once; the receiver knows a repetition by its `webhook-id`.
    """

    def __init__(self, poster: Poster, target: Target) -> None:
        self._poster = poster
        self._target = target
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter, h11.Connection] | None = None

    async def post(self, sign: Sign, body: bytes, *, is_last: bool = False) -> int:
        """The status of the answer. Raises: Refused `webhooks.address.*`; Unavailable `webhooks.unreachable`; what `sign` raises."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                was_kept = self._open is not None
                try:
                    return await self._post(sign, body, is_last=is_last)
                except (OSError, h11.ProtocolError):
                    await self.close()
                    if not was_kept:
                        raise
                return await self._post(sign, body, is_last=is_last)
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            await self.close()
            raise Unavailable(
                "webhooks.unreachable", f"the receiver could not be reached: {type(error).__name__}"
            ) from error
        except BaseException:
            self._cut()
            raise

    async def _post(self, sign: Sign, body: bytes, *, is_last: bool) -> int:
        if self._open is None:
            self._open = (
                *await self._poster.connect(self._target),
                h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_LIMIT_BYTES),
            )
        reader, writer, http = self._open
        more = {"connection": "close" if is_last else "keep-alive"}
        status = await _exchange(reader, writer, http, self._target, {**more, **sign()}, body)
        if http.our_state is h11.DONE and http.their_state is h11.DONE and not is_last:
            http.start_next_cycle()
        else:
            await self.close()
        return status

    def _cut(self) -> None:
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    async def close(self) -> None:
        if self._open is not None:
            writer, self._open = self._open[1], None
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await writer.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    http: h11.Connection,
    target: Target,
    headers: Mapping[str, str],
    body: bytes,
) -> int:
    """One request, one answer; its body is read so that the receiver is not cut off, and forgotten."""
    head = {"host": target.authority, "content-length": str(len(body)), "content-type": "application/json"}
    request = h11.Request(method="POST", target=target.path, headers=[*head.items(), *headers.items()])
    writer.write(http.send(request) + http.send(h11.Data(data=body)) + http.send(h11.EndOfMessage()))
    await writer.drain()
    status, size = 0, 0
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            content = await reader.read(8192)
            if not content and not status:
                raise ConnectionResetError("the receiver closed before it answered")
            size += len(content)
            if size > ANSWER_LIMIT_BYTES:
                return status
            http.receive_data(content)
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed) or event is h11.PAUSED:
            return status
