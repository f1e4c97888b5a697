"""HTTP door: the API for operators and partners over mutual TLS, and the read-only pages on http://localhost.

The flow of a request: `listeners` (uvicorn, verified client certificate handed over by `peer`) -> `shell` (request id,
host check, cross-site check, security headers, counters) -> Litestar routing -> `access` (every route names its
audience, everything else is refused) -> the handler -> a document, a stream, or an RFC 9457 problem from `problems`.
"""

from rocade.doors.http.access import (
    EVERYBODY,
    OPERATORS,
    PAGES,
    READERS,
    Access,
    AnyRequest,
    Audience,
    Caller,
    caller_of,
)
from rocade.doors.http.application import build
from rocade.doors.http.listeners import Listeners, loopback_sockets, tcp_socket
from rocade.doors.http.tokens import TokenFile, new_token

__all__ = [
    "EVERYBODY",
    "OPERATORS",
    "PAGES",
    "READERS",
    "Access",
    "AnyRequest",
    "Audience",
    "Caller",
    "Listeners",
    "TokenFile",
    "build",
    "caller_of",
    "loopback_sockets",
    "new_token",
    "tcp_socket",
]
