"""One TLS connection on a non-blocking socket: read a record, write what fits, say goodbye; and the poller of them all.

`Poller` keeps three epoll sets (greeting: listener, handshakes, farewells; reading; writing) and hangs each as one file
descriptor into the event loop, so a turn costs one system call for many connections, a reconnecting fleet gets its
share of every turn and no more, and back-pressure is one call: the reading set is taken out of the loop.

One `SSL_read` returns at most one record (16 KiB) and we always ask for that much, so nothing ever waits inside OpenSSL
and level-triggered polling is exact. Why not asyncio's streams: docs/decisions/0008-mqtt-door.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import Callable

_RECORD_BYTES = 16_384
_TURN_READS = 128
_TURN_GREETINGS = 4


class Poller:
    """Three epoll sets inside one asyncio or uvloop loop; a callback is called with the descriptor that is ready."""

    def __init__(self, greet: Callable[[int], None], read: Callable[[int], None], write: Callable[[int], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._greeting, self._reading, self._writing = select.epoll(), select.epoll(), select.epoll()
        self._greet, self._read, self._write = greet, read, write
        self._loop.add_reader(self._greeting.fileno(), self._turn, self._greeting, _TURN_GREETINGS, greet)
        self._loop.add_reader(self._writing.fileno(), self._turn, self._writing, _TURN_READS, write)
        self.is_reading = False
        self.resume()

    @staticmethod
    def _turn(ready: select.epoll, most: int, callback: Callable[[int], None]) -> None:
        for descriptor, _events in ready.poll(0, most):
            callback(descriptor)

    def pause(self) -> None:
        """Read from no established connection until `resume`."""
        if self.is_reading:
            self.is_reading = False
            self._loop.remove_reader(self._reading.fileno())

    def resume(self) -> None:
        if not self.is_reading:
            self.is_reading = True
            self._loop.add_reader(self._reading.fileno(), self._turn, self._reading, _TURN_READS, self._read)

    def greet(self, descriptor: int, events: int = select.EPOLLIN) -> None:
        self._greeting.register(descriptor, events)

    def change_greeting(self, descriptor: int, events: int) -> None:
        self._greeting.modify(descriptor, events)

    def end_greeting(self, descriptor: int) -> None:
        _forget(self._greeting, descriptor)

    def start_reading(self, descriptor: int) -> None:
        self._reading.register(descriptor, select.EPOLLIN)

    def stop_reading(self, descriptor: int) -> None:
        _forget(self._reading, descriptor)

    def start_writing(self, descriptor: int) -> None:
        self._writing.register(descriptor, select.EPOLLOUT)

    def stop_writing(self, descriptor: int) -> None:
        _forget(self._writing, descriptor)

    def close(self) -> None:
        self.pause()
        self._loop.remove_reader(self._greeting.fileno())
        self._loop.remove_reader(self._writing.fileno())
        for ready in (self._greeting, self._reading, self._writing):
            ready.close()


def _forget(ready: select.epoll, descriptor: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        ready.unregister(descriptor)


class Link:
    """The bytes of one established connection."""

    __slots__ = ("_poller", "_unsent", "descriptor", "is_read", "peer", "tls")

    def __init__(self, tls: ssl.SSLSocket, peer: str, poller: Poller) -> None:
        self.tls = tls
        self.descriptor = tls.fileno()
        self.peer = peer
        self._poller = poller
        self._unsent: bytearray | None = None
        self.is_read = True
        poller.start_reading(self.descriptor)

    @property
    def unsent_bytes(self) -> int:
        return len(self._unsent) if self._unsent else 0

    def read(self) -> bytes | None:
        """What one record holds; b"" when the peer is gone, None when there is nothing yet."""
        try:
            return self.tls.read(_RECORD_BYTES)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._want_write()
            return None
        except OSError:
            return b""

    def write(self, data: bytes | bytearray) -> None:
        """Send now what the socket takes, keep the rest; a broken connection is found by the next read."""
        if self._unsent:
            self._unsent += data
            return
        self._unsent = bytearray(data)
        self.flush()

    def flush(self) -> None:
        unsent = self._unsent
        try:
            while unsent:
                del unsent[: self.tls.write(bytes(unsent[:_RECORD_BYTES]))]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._want_write()
            return
        except OSError:
            pass
        self._unsent = None
        self._poller.stop_writing(self.descriptor)

    def _want_write(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._poller.start_writing(self.descriptor)

    def hold(self) -> None:
        """Read no more from this connection until `release`."""
        if self.is_read:
            self.is_read = False
            self._poller.stop_reading(self.descriptor)

    def release(self) -> None:
        if not self.is_read:
            self.is_read = True
            self._poller.start_reading(self.descriptor)

    def part(self) -> socket.socket:
        """End TLS and hand out the bare socket, its sending half closed."""
        self._poller.stop_reading(self.descriptor)
        self._poller.stop_writing(self.descriptor)
        with contextlib.suppress(OSError, ValueError):
            self.tls.unwrap()
        bare = socket.socket(fileno=self.tls.detach())
        with contextlib.suppress(OSError):
            bare.shutdown(socket.SHUT_WR)
        return bare
