"""How the agent speaks HTTP: to the dealer's software on this machine, and over TLS to the staff's tablets and nobody else.

`Listener` serves one application by uvicorn on given sockets. On the LAN a connection from outside the allowed networks is
cut off before the first byte of TLS: guests' Wi-Fi learns nothing, not even a certificate. What surrounds every request
(`Shell`): the name it was asked by (against DNS rebinding), the page it came from (against other sites), security headers.
Errors are RFC 9457 problem documents, or pages for browsers (`problem_of`).
Refuses: `dealer.web.host`, `dealer.web.cross_site`; Misconfigured `dealer.web.address`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Collection, Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rocade.core.errors import Misconfigured, Refused, RocadeError, Unavailable
from rocade.doors.handshake import Securing

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 1 << 20
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_STATUS = {"unknown": 404, "missing": 401, "session": 401, "ended": 401, "scope": 403, "conflict": 409, "exists": 409,
           "size": 413, "busy": 429, "cross_site": 403, "host": 421, "manager": 403}  # fmt: skip

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Listener:
    """One uvicorn server in the running event loop. `tls` None = clear, for the loopback address."""

    def __init__(
        self,
        app: Any,
        sockets: Sequence[socket.socket],
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        networks: Sequence[Network] = (),
        turned_away: Callable[[str], None] = lambda _peer: None,
    ) -> None:
        def protocol(**arguments: Any) -> asyncio.Protocol:
            inner = HttpToolsProtocol(**arguments)
            if tls is None:
                return inner
            return Door(tls, lambda _peer, code: log.info("page: %s", code), lambda: inner, networks, turned_away)

        config = uvicorn.Config(
            app, http=cast("type[asyncio.Protocol]", protocol), ws="none", lifespan="off", interface="asgi3",
            log_config=None, access_log=False, proxy_headers=False, server_header=False, date_header=True,
            timeout_keep_alive=30, timeout_graceful_shutdown=3, limit_concurrency=200,
        )  # fmt: skip
        self._server, self._sockets = _Server(config), list(sockets)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self._server.serve(self._sockets)
        finally:
            for one in self._sockets:
                one.close()

    async def started(self) -> None:
        await self._server.is_started.wait()

    def stop(self) -> None:
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and with an event that says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_started = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_started.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Door(Securing):
    """A connection on the LAN: its address first, then TLS, then HTTP."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        refused: Callable[[str, str], object],
        make_protocol: Callable[[], asyncio.Protocol],
        networks: Sequence[Network],
        turned_away: Callable[[str], None],
    ) -> None:
        super().__init__(context, refused, make_protocol)
        self._networks, self._turned_away = networks, turned_away

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP only
        peer: Any = transport.get_extra_info("peername") or ("",)
        if not is_within(str(peer[0]), self._networks):
            self._turned_away(str(peer[0]))
            transport.abort()
            return
        super().connection_made(transport)


def is_within(peer: str, networks: Sequence[Network]) -> bool:
    """Whether an address belongs to one of the networks; what is no address belongs to none."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def bound(address: str, port: int) -> socket.socket:
    """A socket bound to one address. Raises: Misconfigured `dealer.web.address`."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((address, port))
    except OSError as error:
        made.close()
        raise Misconfigured(
            "dealer.web.address", f"cannot listen on {address} port {port}: {error.strerror}; set another one"
        ) from error
    return made


class Shell:
    """Wraps an application: `hosts` are the names it may be asked by."""

    def __init__(self, app: Any, scheme: str, hosts: Collection[str]) -> None:
        self._app, self._scheme, self._hosts = app, scheme, {host.lower() for host in hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message.get("headers", ())}
                message["headers"] = [
                    *message.get("headers", ()),
                    *(pair for pair in HEADERS if pair[0] not in own),
                ]
            await send(message)

        try:
            self._check(scope)
        except Refused as refusal:
            status, body = document(refusal)
            headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
            await send_with_headers({"type": "http.response.start", "status": status, "headers": headers})
            await send_with_headers({"type": "http.response.body", "body": body})
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Any) -> None:
        """Raises: Refused `dealer.web.host`, `dealer.web.cross_site`."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and ":" in host else host
        if name.strip("[]") not in self._hosts:
            raise Refused("dealer.web.host", "this page does not answer to that name")
        if scope["method"] in _SAFE:
            return
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        is_own = origin == f"{self._scheme}://{host}" or (not origin and self._scheme == "http")
        if not is_own or headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
            raise Refused("dealer.web.cross_site", "only the agent's own page may ask for this")


def status_of(error: RocadeError) -> int:
    """The HTTP status of an error, by the last word of its code."""
    if isinstance(error, Unavailable):
        return 503
    if not isinstance(error, Refused):
        return 500
    return _STATUS.get(error.code.rpartition(".")[2], 400)


def document(error: RocadeError) -> tuple[int, bytes]:
    """Status and problem document of an error; what is wrong inside is not told outside."""
    status = status_of(error)
    detail = error.message if status != 500 else "The agent's own data is not as it should be; see its log."
    said = {
        "type": f"urn:rocade:error:{error.code}", "title": HTTPStatus(status).phrase, "status": status,
        "detail": detail, "code": error.code,
    }  # fmt: skip
    return status, msgspec.json.encode(said)
