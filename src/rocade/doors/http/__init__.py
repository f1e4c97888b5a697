"""HTTP door: the API over mutual TLS for machines, and the console for people on http://localhost or behind a proxy.

The flow of a request: `listeners` (uvicorn, verified client certificate handed over by `peer`) -> `shell` (request id,
host check, cross-site check, security headers, counters) -> Litestar routing -> `access` (every route names its act;
the caller is proven, the gate asked, the look noted) -> the handler -> a document, a stream, or an RFC 9457 problem.
"""

from rocade.doors.http.access import (
    Access,
    AnyRequest,
    caller_of,
    does,
    hidden_from,
    note_look,
    permit_of,
    refs_of,
    require,
    right_of,
    signed_in,
)
from rocade.doors.http.application import build
from rocade.doors.http.listeners import Listeners, loopback_sockets, tcp_socket

__all__ = [
    "Access",
    "AnyRequest",
    "Listeners",
    "build",
    "caller_of",
    "does",
    "hidden_from",
    "loopback_sockets",
    "note_look",
    "permit_of",
    "refs_of",
    "require",
    "right_of",
    "signed_in",
    "tcp_socket",
]
