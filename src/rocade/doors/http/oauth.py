"""OAuth 2 for machines: client credentials proven by the client certificate, tokens bound to it, keys and metadata.

`POST /oauth/token` (form: `grant_type=client_credentials`, `scope=purpose:insurance ...`, `client_id` optional and then
the certificate's own identity) -> `{"access_token", "token_type": "Bearer", "expires_in", "scope"}`. Errors have the
shape of RFC 6749 5.2 (`error`, `error_description`) with Rocade's `code` and `request_id` beside them.
`GET /oauth/jwks`, `GET /.well-known/oauth-authorization-server` (RFC 8414). Refused: parameters given twice, another
grant, a client that names somebody else, a connection without certificate. Rules: docs/trust.md, FAPI 2.0.
"""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import parse_qsl

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.doors.http.peer import peer_certificate
from rocade.trust.authority.gate import acts
from rocade.trust.authority.machines import TOKEN_LIFE_US, Tokens, thumbprint

FORM_LIMIT_BYTES = 4096
_FORM = "application/x-www-form-urlencoded"
_PURPOSE = "purpose:"
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
_ERRORS = {
    "access.token.client": ("invalid_client", 401),
    "access.token.client_id": ("invalid_client", 401),
    "access.token.bare": ("invalid_client", 401),
    "access.token.grant": ("unsupported_grant_type", 400),
    "access.token.purpose": ("invalid_scope", 400),
    "access.token.scope": ("invalid_scope", 400),
    "quota.tokens": ("temporarily_unavailable", 429),
}
"""Our codes in the words of RFC 6749 5.2; everything else is an invalid_request."""


@post("/oauth/token", status_code=200, opt=does(acts.REQUEST_TOKEN))
async def token(
    request: AnyRequest,
    tokens: NamedDependency[SkipValidation[Tokens]],
) -> Response[dict[str, Any]]:
    """Give the client of this connection's certificate a five-minute token bound to that certificate."""
    try:
        certificate = peer_certificate(request.scope)
        if certificate is None:
            raise Refused("access.token.bare", "clients prove themselves by certificate over mutual TLS, nothing else")
        principal = await request.app.state.access.identify(request.scope, acts.REQUEST_TOKEN)
        if principal.kind == "vehicle":  # its name is not told here, and it is no client
            raise Refused("access.token.client", "vehicles get no access tokens")
        identity = Identity.parse(principal.id)
        purposes = _purposes(_form(request, await request.body()), identity)
        issued = await tokens.issue(identity, thumbprint(certificate), purposes)
    except Refused as refusal:
        return _refused(refusal, request)
    granted = purposes or tokens.purposes_of(identity)
    answer = {
        "access_token": issued,
        "token_type": "Bearer",
        "expires_in": TOKEN_LIFE_US // 1_000_000,
        "scope": " ".join(_PURPOSE + purpose for purpose in sorted(granted)),
    }
    return Response(answer, status_code=200, headers=_NO_STORE)


def _form(request: AnyRequest, body: bytes) -> dict[str, str]:
    """The parameters, each given once. Source: RFC 6749 3.2.

    Raises: Refused `access.token.request`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused("access.token.request", f"send the parameters as {_FORM}")
    if request.scope["query_string"]:
        raise Refused("access.token.request", "send the parameters in the body, never in the address")
    if len(body) > FORM_LIMIT_BYTES:
        raise Refused("access.token.request", f"the form may have {FORM_LIMIT_BYTES} bytes")
    try:
        pairs = parse_qsl(body.decode("ascii"), strict_parsing=True)
    except ValueError:
        raise Refused("access.token.request", "the body is no form") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused("access.token.request", "a parameter is given twice")
    if "grant_type" not in dict(pairs):
        raise Refused("access.token.request", "grant_type is missing: client_credentials")
    return dict(pairs)


def _purposes(form: dict[str, str], identity: Identity) -> list[str]:
    """The purposes asked for; empty = all the client is registered for.

    Raises: Refused `access.token.grant`, `access.token.client_id`, `access.token.scope`, `access.token.request`.
    """
    if form["grant_type"] != "client_credentials":
        raise Refused("access.token.grant", "the only grant here is client_credentials")
    if form.get("client_id", identity.uri) != identity.uri:
        raise Refused("access.token.client_id", "client_id names somebody else than the certificate")
    if {"client_secret", "client_assertion"} & form.keys():
        raise Refused(
            "access.token.request", "a certificate proves the client; secrets and assertions are not accepted"
        )
    words = form.get("scope", "").split()
    if not all(word.startswith(_PURPOSE) for word in words):
        raise Refused("access.token.scope", "scopes are purposes: purpose:insurance purpose:research")
    return [word.removeprefix(_PURPOSE) for word in words]


def _refused(refusal: Refused, request: AnyRequest) -> Response[dict[str, Any]]:
    error, status = _ERRORS.get(refusal.code, ("invalid_request", 400))
    if refusal.code.startswith("trust.certificate."):
        error, status = "invalid_client", 401
    request.app.state.access.note_refusal(caller_of(request).id, refusal.code)
    body = {
        "error": error,
        "error_description": refusal.message,
        "code": refusal.code,
        "request_id": cast("dict[str, Any]", request.scope).get("rocade.request_id", ""),
    }
    return Response(body, status_code=status, headers=_NO_STORE)


@get("/oauth/jwks", opt=does(acts.READ_TOKEN_KEYS))
async def keys(tokens: NamedDependency[SkipValidation[Tokens]]) -> dict[str, object]:
    """The public keys of all tokens that are good now, and of the next ones (RFC 7517)."""
    return tokens.published()


@get("/.well-known/oauth-authorization-server", opt=does(acts.READ_TOKEN_KEYS))
async def metadata(tokens: NamedDependency[SkipValidation[Tokens]]) -> dict[str, object]:
    """What this authorisation server does (RFC 8414); everything it does not name, it refuses."""
    url = tokens.place.url
    return {
        "issuer": url,
        "token_endpoint": f"{url}/oauth/token",
        "jwks_uri": f"{url}/oauth/jwks",
        "response_types_supported": [],
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["tls_client_auth"],
        "tls_client_certificate_bound_access_tokens": True,
    }


HANDLERS = [token, keys, metadata]
