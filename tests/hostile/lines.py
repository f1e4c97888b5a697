"""A caller's kept connection, by the standard library: who asks ten thousand times spends most of it in an HTTP client otherwise.

It brings what the role's own client would: cookies, token, origin, certificate.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

PATIENCE_S = 120.0
LOST = (ConnectionError, http.client.HTTPException)


class Answer(NamedTuple):
    status_code: int
    headers: Mapping[str, str]
    """As sent; asked for in any case."""
    content: bytes

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def json(self) -> Any:
        return json.loads(self.content)


class Line:
    def __init__(self, client: httpx.Client, verify: ssl.SSLContext | None) -> None:
        self._client = client
        where, port = client.base_url.host, client.base_url.port
        self._open = (
            http.client.HTTPSConnection(where, port, context=verify, timeout=PATIENCE_S)
            if verify
            else http.client.HTTPConnection(where, port, timeout=PATIENCE_S)
        )

    def ask(self, method: str, path: str, query: Mapping[str, str]) -> Answer:
        """The whole answer; of a stream its beginning, after which this end hangs up."""
        headers = {
            name: self._client.headers[name] for name in ("origin", "authorization") if name in self._client.headers
        }
        headers["accept"] = "application/json"
        if kept := "; ".join(f"{one.name}={one.value}" for one in self._client.cookies.jar):
            headers["cookie"] = kept
        target = f"{path}?{urlencode(query)}" if query else path
        is_kept = self._open.sock is not None
        try:
            answer = self._send(method, target, headers)
        except LOST:
            self._open.close()
            if not is_kept:
                raise
            answer = self._send(method, target, headers)  # the server had hung up on an idle one
        return answer

    def _send(self, method: str, target: str, headers: Mapping[str, str]) -> Answer:
        self._open.request(method, target, headers=dict(headers))
        came = self._open.getresponse()
        answer = Answer(came.status, came.headers, b"")
        if not answer.is_stream:
            return answer._replace(content=came.read())
        self.close()
        return answer

    def close(self) -> None:
        self._open.close()
