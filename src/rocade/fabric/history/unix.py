"""HTTP connections over one local socket, in the form the driver's HTTP library (urllib3) expects."""

from __future__ import annotations

import socket
from typing import Any

from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection


class UnixPool(PoolManager):
    """A pool manager whose every request goes to the socket at `path`, whatever host the URL names."""

    def __init__(self, path: str, connections: int) -> None:
        super().__init__()
        self._path, self._connections = path, connections
        self._pool = _Pool(path, connections)

    def connection_from_host(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def clear(self) -> None:
        """Close idle connections; later requests open new ones."""
        idle, self._pool = self._pool, _Pool(self._path, self._connections)
        idle.close()


class _Pool(HTTPConnectionPool):
    def __init__(self, path: str, connections: int) -> None:
        super().__init__("localhost", maxsize=connections)
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        return _Connection(self._path)


class _Connection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def _new_conn(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            raise
        return connection
