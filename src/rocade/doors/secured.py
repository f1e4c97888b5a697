"""TLS over a plain asyncio connection, handshake in our own hands: its failure and the peer's address are known together.

asyncio's and uvloop's own TLS transports hide failed handshakes from the application. Source: RFC 8446; the standard
library's `ssl.MemoryBIO`.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

_READ_BYTES = 16 * 1024


class Secured:
    """One TLS connection, server side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: ssl.SSLContext) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        """Raises: what `tls.handshake_refusal` names."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer
                raise
            else:
                return await self._flush()

    async def read(self) -> bytes:
        """What the peer sent next; b"" at its end."""
        while True:
            try:
                return self.tls.read(_READ_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()
                try:
                    await self._fill()
                except ConnectionError:
                    return b""
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, data: bytes) -> None:
        self.tls.write(data)
        await self._flush()

    async def close(self) -> None:
        with contextlib.suppress(ssl.SSLError, OSError):  # the peer need not say goodbye first
            self.tls.unwrap()
        await self._flush()

    async def _fill(self) -> None:
        data = await self._reader.read(_READ_BYTES)
        if not data:
            raise ConnectionResetError("the peer left")
        self._incoming.write(data)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())
            await self._writer.drain()
