"""The ClickHouse HTTP shape over a local socket, as far as the driver `clickhouse-connect` uses it.

Flow of a request: `POST /?query=...&setting=...&param_x=...` -> settings onto this connection's session -> INSERT bodies to
the writer, everything else to the readers -> answer whole (`wait_end_of_query=1`) or chunk by chunk.
One thread and one engine session a connection. Refuses: bodies over `BODY_BYTES`, anything but POST and GET /ping.
A failure before the first byte is a status with `X-ClickHouse-Exception-Code`; after it, the connection is cut, so that
half an answer never looks whole. Source: the engine's HTTP interface documentation; the driver's requests.
"""

from __future__ import annotations

import logging
import re
import socket
import socketserver
import sys
import threading
import time
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from chdb import ChdbError

from rocade.core.errors import RocadeError
from rocade.fabric.history.engine import Engine, Session

_log = logging.getLogger(__name__)
BODY_BYTES = 256 << 20
IDLE_S = 120.0
YIELDING = {"os_threads_nice_value_query": "5"}
"""Inserts yield the processor to reads: somebody waits for an answer, nobody for an insert."""
TRANSPORT_SETTINGS = frozenset(
    {
        *("buffer_size", "client_protocol_version", "compress", "database", "decompress", "default_format"),
        *("enable_http_compression", "http_headers_progress_interval_ms", "query", "query_id", "quota_key", "role"),
        *("send_progress_in_http_headers", "session_check", "session_id", "session_timeout", "wait_end_of_query"),
    }
)
"""Parameters of the HTTP interface itself; all others are engine settings."""
_INSERT = re.compile(r"\s*INSERT\s+INTO\s.*?\sFORMAT\s+(\w+)\s*\Z", re.IGNORECASE | re.DOTALL)
_FORMAT = re.compile(r"\sFORMAT\s+\w+\s*;?\s*\Z", re.IGNORECASE)
_ERROR = re.compile(r"Code: (\d+)\.")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: Server
    _session: Session | None = None

    def do_GET(self) -> None:
        self._answer(200, b"Ok.\n") if self.path.startswith("/ping") else self._answer(404, b"")

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if length > BODY_BYTES or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._answer(413, b"send a body of known length below 256 MiB")
            return
        body = self.rfile.read(length)
        request = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if self.headers.get_content_type() == "multipart/form-data":
            request |= _form(self.headers["Content-Type"], body)
        elif body.startswith(b"INSERT "):
            statement, _, body = body.partition(b"\n")
            request["query"] = statement.decode()
        elif "query" not in request:
            request["query"] = body.decode()
        with self.server.in_flight:
            self._run(request, body)

    def _run(self, request: dict[str, str], body: bytes) -> None:
        statement = request["query"]
        insert = _INSERT.match(statement)
        parameters = {key[6:]: value for key, value in request.items() if key.startswith("param_")}
        settings = {k: v for k, v in request.items() if k not in TRANSPORT_SETTINGS and not k.startswith("param_")}
        answer_format = request.get("default_format", "TabSeparated")
        try:
            session = self._open_session()
            session.set(settings if insert is None else YIELDING | settings)
            if insert is not None:
                session.insert(statement[: insert.start(1)].rsplit(None, 1)[0], insert[1], body)
                return self._answer(200, b"")
            if request.get("wait_end_of_query") == "1" or not _FORMAT.search(statement):
                return self._answer(200, session.run(statement, answer_format, parameters))
            self._stream(session, statement, answer_format, parameters)
        except (ChdbError, RuntimeError, RocadeError) as error:
            self._fail(str(error))

    def _stream(self, session: Session, statement: str, answer_format: str, parameters: dict[str, str]) -> None:
        begun = False
        try:
            with session.stream(statement, answer_format, parameters) as pieces:
                for piece in pieces:
                    if not begun:
                        self._head(200, [("Transfer-Encoding", "chunked")])
                        begun = True
                    if len(piece):
                        self.wfile.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
        except (ChdbError, RuntimeError, RocadeError):
            if not begun:
                raise
            self.close_connection = True  # no closing chunk: the client sees a broken answer
            return
        if begun:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self._answer(200, b"")

    def _open_session(self) -> Session:
        if self._session is None:
            self._session = self.server.engine.session()
        return self._session

    def finish(self) -> None:
        super().finish()
        if self._session is not None:
            self._session.close()

    def _fail(self, message: str) -> None:
        found = _ERROR.search(message)
        code = found[1] if found else "1002"
        self._answer(404 if code in {"60", "81"} else 500, message.encode(), [("X-ClickHouse-Exception-Code", code)])

    def _answer(self, status: int, body: bytes | memoryview, headers: list[tuple[str, str]] | None = None) -> None:
        self._head(status, [*(headers or []), ("Content-Length", str(len(body)))])
        if len(body):
            self.wfile.write(body)

    def _head(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.send_response_only(status)
        for name, value in [("X-ClickHouse-Timezone", "UTC"), *headers]:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing: statements may carry references."""


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form; the driver sends one when parameters are too long for a URL."""
    form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields = {}
    for part in form.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        fields[str(part.get_param("name", header="content-disposition"))] = content.decode()
    return fields


class InFlight:
    """Counts running requests, so that a stopping store can wait for them."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        end = time.monotonic() + timeout_s
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, max(0.0, end - time.monotonic()))


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, engine: Engine, listener: socket.socket) -> None:
        super().__init__(("", 0), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.engine = engine
        self.in_flight = InFlight()

    def handle_error(self, *_: Any) -> None:
        """A client that left in the middle is no event; anything else is a fault of this file."""
        error = sys.exception()
        if not isinstance(error, OSError):
            _log.error("history request failed", exc_info=error)
