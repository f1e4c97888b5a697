"""Hand the verified client certificate of a TLS connection to the application.

No ASGI server does it today, so uvicorn's httptools protocol is subclassed: `scope["extensions"]["tls"]` then holds
`{"client_certificate_der": bytes | None}`. This touches uvicorn's insides; tests/doors/http/test_peer.py guards it over
real mutual TLS and docs/decisions/0021-http-door.md says when to drop it.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

Scope = dict[str, Any]


class PeerCertificateProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, plus the peer certificate in each request's scope."""

    _extensions: dict[str, Any]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self._extensions = {} if tls is None else {"tls": {"client_certificate_der": tls.getpeercert(True)}}

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast("Scope", self.scope)["extensions"] = self._extensions


def peer_certificate(scope: Any) -> bytes | None:
    """The DER leaf that TLS verified for this request's connection, or None."""
    tls = (scope.get("extensions") or {}).get("tls") or {}
    return cast("bytes | None", tls.get("client_certificate_der"))
