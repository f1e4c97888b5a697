"""What surrounds every request, whichever handler answers: an ASGI middleware outside the framework.

In order: give a request id; where people come refuse any Host but the console's own (DNS rebinding) and everywhere any
state-changing request a foreign page could have sent; add the security headers; count and time by route template
(never by path: paths carry references). Access lines go to the logger `rocade.http.access` without personal data. Who
reads pages is refused by one, or sent from the loopback's number to its name.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from time import perf_counter
from typing import Any

from litestar import Request
from litestar.response import Redirect

from rocade.core import request
from rocade.core.errors import Refused
from rocade.core.ports import Random
from rocade.doors.http.problems import reads_pages
from rocade.doors.http.sessions import IS_PUBLIC

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
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_HSTS = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")
"""Of the public name alone: on localhost it would close the console's own pages, which are http there."""
FRAMED_BY = "rocade.framed_by"
"""In a request's scope: origins whose pages may show the answer in a frame, "" = any. Set by what is made to be embedded."""
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_COOKIELESS = frozenset({"/openid/token", "/proofs/cosignatures"})
"""Where programs of others post, which prove themselves by what they send and never by a cookie."""
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
    """Wraps the application for one listener: "mtls", "loopback" or "public".

    `public_host`: the name in the console's public address, '' = none; a proxy in front of the loopback listener passes it on.
    """

    def __init__(self, app: Any, listener: str, random: Random, traffic: Traffic, public_host: str = "") -> None:
        self._public_host = public_host
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
                    *_security_headers(scope.get(FRAMED_BY)),
                    *((_HSTS,) if IS_PUBLIC in scope else ()),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            _check_characters(scope)
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except Refused as refusal:
            await self._refuse(scope, refusal)(scope, receive, send_with_headers)
        finally:
            request.current.reset(at_hand)
            template = scope.get("path_template") or "(none)"
            took_s = perf_counter() - started
            self._traffic.note(scope["method"], template, status, took_s)
            _log.info("%s %s %d %.1f ms %s", scope["method"], template, status, took_s * 1e3, request_id)

    def _refuse(self, scope: Any, refusal: Refused) -> Any:
        """The answer to a refused request, as an ASGI application."""
        known: Any = {**scope, "litestar_app": self._app}
        asked: Request[Any, Any, Any] = Request(known)
        if self._listener == "loopback" and refusal.code == "access.host" and (address := _at_localhost(asked)):
            return Redirect(address, status_code=307).to_asgi_response(app=None, request=asked)
        return self._app.state.answer_error(asked, refusal).to_asgi_response(app=None, request=asked)

    def _check(self, scope: Any) -> None:
        """Raises: Refused `access.host`, `access.cross_site`."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        site = headers.get(b"sec-fetch-site", b"same-origin")
        if self._listener == "mtls":  # machines send no origin; a browser that holds a certificate does
            if origin or site not in {b"same-origin", b"none"}:
                raise Refused("access.cross_site", "this listener is for machines, not for pages")
            return
        name, _, port = host.partition(":")
        is_public = bool(self._public_host) and name == self._public_host
        is_local = self._listener == "loopback" and name == "localhost"
        if not (is_public or is_local) or (port and not port.isdigit()):
            raise Refused("access.host", "open this as http://localhost or by its public name, never by an address")
        if is_public:
            scope[IS_PUBLIC] = True
        if is_public and self._listener == "loopback" and (peer := _forwarded_for(headers)):
            scope["client"] = (peer, 0)
        if scope["method"] in _SAFE_METHODS or (scope["path"] in _COOKIELESS and b"cookie" not in headers):
            return
        if origin != f"{'https' if is_public else 'http'}://{host}" or site != b"same-origin":
            raise Refused("access.cross_site", "only Rocade's own page may ask for this")


def _security_headers(framed_by: str | None) -> tuple[tuple[bytes, bytes], ...]:
    if framed_by is None:
        return SECURITY_HEADERS
    policy = _POLICY.replace(b"frame-ancestors 'none'", b"frame-ancestors " + (framed_by or "*").encode("ascii"))
    kept = (b"x-content-type-options", b"referrer-policy", b"permissions-policy")
    return ((b"content-security-policy", policy), *(one for one in SECURITY_HEADERS if one[0] in kept))


def _forwarded_for(headers: dict[bytes, bytes]) -> str:
    """The address the nearest proxy saw."""
    return headers.get(b"x-forwarded-for", b"").decode("latin-1").rpartition(",")[2].strip()


def _check_characters(scope: Any) -> None:
    """A NUL is in no name of ours, and no database takes one.

    Raises: Refused `http.request.invalid`.
    """
    if "\x00" in scope["path"] or b"%00" in scope["query_string"]:
        raise Refused("http.request.invalid", "a NUL character has no place in a path or a query")


def _at_localhost(asked: Request[Any, Any, Any]) -> str:
    """Where a reader of pages finds this page whose address names the loopback by its number; '' = nowhere."""
    name, _, port = asked.headers.get("host", "").rpartition(":")
    if name not in {"127.0.0.1", "[::1]"} or not port.isdecimal() or asked.method != "GET" or not reads_pages(asked):
        return ""
    query = asked.scope["query_string"].decode("latin-1")
    return f"http://localhost:{port}{asked.scope['raw_path'].decode('latin-1')}{'?' + query if query else ''}"
