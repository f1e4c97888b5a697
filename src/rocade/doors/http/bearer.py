"""Where an access token may stand in a request: one `Authorization: Bearer` header, and nowhere else.

A token in the address ends up in logs, histories and referrers, so one is refused even where it would not be needed.
Source: RFC 6750 2.1, 2.3; FAPI 2.0 Security Profile, requirements for resource servers.
"""

from __future__ import annotations

from typing import Any

from rocade.core.errors import Refused


def bearer_of(scope: Any) -> str:
    """The access token of a request, '' if it has none.

    Raises: Refused `access.token.query` (one in the address), `access.token.many` (two headers).
    """
    if b"access_token=" in scope["query_string"]:
        raise Refused("access.token.query", "send the access token in the Authorization header, never in the address")
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if not found:
        return ""
    if len(found) > 1:
        raise Refused("access.token.many", "send one Authorization header")
    scheme, _, token = found[0].partition(b" ")
    return token.strip().decode("latin-1") if scheme.lower() == b"bearer" else ""
