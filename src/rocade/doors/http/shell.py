"""What surrounds every request, whichever handler answers: an ASGI middleware outside the framework.

In order: give a request id; on the loopback listener refuse any Host but localhost (DNS rebinding) and any
state-changing request a foreign page could have sent; add the security headers; count and time by route template
(never by path: paths carry references). Access lines go to the logger `rocade.http.access` without personal data.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from time import perf_counter
from typing import Any

import msgspec

from rocade.core import request
from rocade.core.errors import Refused
from rocade.core.ports import Random
from rocade.doors.http import problems

_log = logging.getLogger("rocade.http.access")

_POLICY = (
    b"default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    b"worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        _POLICY,
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)


class Traffic:
    """Counters of this process: requests by (method, template, status) and their times by template."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self.seconds: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS_S) + 1))
        self.seconds_sum: defaultdict[str, float] = defaultdict(float)

    def note(self, method: str, template: str, status: int, took_s: float) -> None:
        self.requests[method, template, status] += 1
        self.seconds[template][sum(took_s > bound for bound in BUCKETS_S)] += 1
        self.seconds_sum[template] += took_s


class Shell:
    """Wraps the application for one listener: "mtls" or "loopback"."""

    def __init__(self, app: Any, listener: str, random: Random, traffic: Traffic) -> None:
        self._app = app
        self._listener = listener
        self._random = random
        self._traffic = traffic

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"{self._random.bits(64):016x}"
        scope["rocade.listener"] = self._listener
        scope["rocade.request_id"] = request_id
        started, status = perf_counter(), 0
        at_hand = request.current.set(request.Request(request_id))

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    *SECURITY_HEADERS,
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            if self._listener == "loopback":
                _check_loopback(scope)
            await self._app(scope, receive, send_with_headers)
        except Refused as refusal:
            await _send_problem(send_with_headers, refusal, request_id)
        finally:
            request.current.reset(at_hand)
            template = scope.get("path_template") or "(none)"
            took_s = perf_counter() - started
            self._traffic.note(scope["method"], template, status, took_s)
            _log.info("%s %s %d %.1f ms %s", scope["method"], template, status, took_s * 1e3, request_id)


def _check_loopback(scope: Any) -> None:
    """Raises: Refused `access.host`, `access.cross_site`."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name, _, port = host.partition(":")
    if name != "localhost" or (port and not port.isdigit()):
        raise Refused("access.host", "open this as http://localhost, never by address or another name")
    if scope["method"] in _SAFE_METHODS or headers.get(b"authorization"):
        return
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    if origin != f"http://{host}" or headers.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
        raise Refused("access.cross_site", "only Rocade's own page may ask for this")


async def _send_problem(send: Any, refusal: Refused, request_id: str) -> None:
    status = problems.status_of(refusal)
    body = msgspec.json.encode(problems.document(status, refusal.code, refusal.message, request_id))
    headers = [(b"content-type", b"application/problem+json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
