"""TLS for uvicorn listeners, done here and not by the server, so that a refused handshake can be audited.

asyncio hides failed handshakes from the application. A connection therefore starts in clear, `start_tls` runs at once
with the certificate of the moment (which is how a rolled one is taken up without restart), and only a secured
connection is handed to uvicorn's protocol, with the bytes that came along with the end of the handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any

from rocade.trust.identity.tls import handshake_refusal

HANDSHAKE_TIMEOUT_S = 10.0


class Securing(asyncio.Protocol):
    """One connection until its handshake is done; then `make_protocol()` takes over."""

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        refused: Callable[[str, str], object],
        make_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._context = context
        self._refused = refused
        self._make_protocol = make_protocol
        self._early = bytearray()
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP only
        transport.pause_reading()
        # started here and now, so that TLS has the connection before the first byte is read: uvloop reads from the end
        # of connection_made on, paused or not, and a peer's first flight would end in `_early`
        self._task = asyncio.Task(self._secure(transport), loop=asyncio.get_running_loop(), eager_start=True)

    def data_received(self, data: bytes) -> None:
        """Only what follows the handshake in the same flight gets here."""
        self._early += data

    async def _secure(self, clear: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        peer: Any = clear.get_extra_info("peername") or ("unknown",)
        try:
            secured = await loop.start_tls(
                clear, self, self._context(), server_side=True, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
            )
        except (OSError, TimeoutError) as error:
            self._refused(f"peer:{peer[0]}", handshake_refusal(error).code)
            clear.abort()
            return
        if secured is None or secured.is_closing():
            return
        protocol = self._make_protocol()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)
        if self._early:
            protocol.data_received(bytes(self._early))
