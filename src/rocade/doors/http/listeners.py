"""The doors of one application: mutual TLS for the API, loopback http://localhost for the pages, and a public address.

`Listeners.serve` runs both uvicorn servers in the running event loop until `stop()`; open streams are told to end
(`app.state.closing`), requests in work are finished, the rest is cut after `DRAIN_S`. Signals belong to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import uvicorn
from litestar import Litestar

from rocade.core.errors import Misconfigured
from rocade.core.ports import Random
from rocade.doors.handshake import Securing
from rocade.doors.http.access import Access
from rocade.doors.http.peer import PeerCertificateProtocol
from rocade.doors.http.shell import Shell

DRAIN_S = 5


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


class Listeners:
    """`api` = bound sockets served with the TLS context (client certificate required), `pages` = loopback sockets, `public`
    = sockets of the console's public address with their own TLS context, which asks nobody for a certificate.
    """

    def __init__(
        self,
        app: Litestar,
        random: Random,
        *,
        api: Sequence[socket.socket] = (),
        tls: ssl.SSLContext | None = None,
        pages: Sequence[socket.socket] = (),
        public: Sequence[socket.socket] = (),
        public_tls: ssl.SSLContext | None = None,
        public_host: str = "",
    ) -> None:
        if api and (tls is None or tls.verify_mode is not ssl.CERT_REQUIRED):
            raise Misconfigured("http.tls.client_optional", "the API listener must require a client certificate")
        traffic = app.state.traffic
        self._app = app
        self._tls = tls
        self._served: list[tuple[_Server, list[socket.socket]]] = []
        if api:
            shell = Shell(app, "mtls", random, traffic)
            self._served.append((_server(shell, partial(self._securing, self._current_tls)), list(api)))
        if pages:
            self._served.append(
                (_server(Shell(app, "loopback", random, traffic, public_host), PeerCertificateProtocol), list(pages))
            )
        if public:
            if public_tls is None:
                raise Misconfigured("http.tls.public", "set http.public_certificate and http.public_key")
            shell = Shell(app, "public", random, traffic, public_host)
            self._served.append((_server(shell, partial(self._securing, lambda: public_tls)), list(public)))

    async def serve(self) -> None:
        """Run until `stop()`; application start-up and shutdown hooks run around both listeners once."""
        self._app.state.closing = asyncio.Event()
        async with self._app.lifespan():
            await asyncio.gather(*(server.serve(sockets) for server, sockets in self._served))

    async def started(self) -> None:
        """Return when both listeners accept connections."""
        await asyncio.gather(*(server.is_started.wait() for server, _ in self._served))

    def use_context(self, context: ssl.SSLContext) -> None:
        """Present another certificate to connections that come from now on; open ones stay as they are."""
        self._tls = context

    def _securing(self, tls: Callable[[], ssl.SSLContext], **arguments: Any) -> Securing:
        access = cast("Access", self._app.state.access)
        return Securing(tls, access.note_refusal, lambda: PeerCertificateProtocol(**arguments))

    def _current_tls(self) -> ssl.SSLContext:
        assert self._tls is not None
        return self._tls

    def stop(self) -> None:
        self._app.state.closing.set()
        for server, _ in self._served:
            server.should_exit = True


def tcp_socket(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A bound TCP socket; port 0 lets the system choose. `shared` with other processes of this user, among whom the system
    spreads the connections.

    Raises: Misconfigured `http.port.taken`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # the protocol is named because asyncio sets TCP_NODELAY only then: without it each answer waits 40 ms for an ACK
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family is socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise Misconfigured(
            "http.port.taken", f"cannot listen on port {port}: {error.strerror}; set another one"
        ) from error
    return bound


def loopback_sockets(port: int, *, shared: bool = False) -> list[socket.socket]:
    """127.0.0.1 and, where the machine has it, ::1, on the same port: both are what `localhost` may mean."""
    sockets = [tcp_socket("127.0.0.1", port, shared=shared)]
    with contextlib.suppress(OSError, Misconfigured):
        sockets.append(tcp_socket("::1", sockets[0].getsockname()[1], shared=shared))
    return sockets


def _server(app: Shell, protocol: Callable[..., asyncio.Protocol]) -> _Server:
    config = uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", protocol),
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=DRAIN_S,
    )
    return _Server(config)
