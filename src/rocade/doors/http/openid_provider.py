"""This region as OpenID Connect provider: the maker's web applications, opened with the passkey a dealer's people have here.

`GET /openid/authorize` (authorisation code, PKCE S256) -> the application's registered address with `code`, `state`, `iss`
-> `POST /openid/token` -> ID token (ES256) and a five-minute access token -> `GET /openid/userinfo`; `GET /openid/end` signs out.
Discovery at /.well-known/openid-configuration, keys at /oauth/jwks. Whoever is not signed in is sent to the sign-in page and
comes back. Until application and address are known to belong together nothing is ever redirected: the error is a page here.
Refused: the implicit and hybrid flows, `request` objects, refresh tokens, addresses that differ by a letter, parameters given
twice. Source: OpenID Connect Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0, RFC 6749, 7636, 9207, 9700.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath, SkipValidation
from litestar.response import Redirect

from rocade.core.errors import Refused
from rocade.doors.http.access import AnyRequest, caller_of, does, require
from rocade.doors.http.bearer import bearer_of
from rocade.doors.http.sessions import no_cookie, secret_of
from rocade.trust.authority.applications import Application, Applications, Asked
from rocade.trust.authority.applications.model import SCOPES, subject_for
from rocade.trust.authority.gate import acts
from rocade.trust.authority.machines import Tokens
from rocade.trust.authority.people import People, Session

FORM_LIMIT_BYTES = 8192
_FORM = "application/x-www-form-urlencoded"
_NO_STORE = {"cache-control": "no-store", "pragma": "no-cache", "referrer-policy": "no-referrer"}
_ERRORS = {
    "openid.application.unknown": ("invalid_client", 401),
    "openid.application.secret": ("invalid_client", 401),
    "openid.grant": ("unsupported_grant_type", 400),
    "openid.response": ("unsupported_response_type", 400),
    "openid.request": ("request_not_supported", 400),
    "openid.scope": ("invalid_scope", 400),
    "openid.role": ("access_denied", 403),
    "openid.passkey": ("access_denied", 403),
    "openid.signin": ("login_required", 403),
    "openid.token.refused": ("invalid_token", 401),
}
"""Our codes in the words of OAuth and OpenID Connect; other codes of a code are an invalid_grant, the rest an invalid_request."""

ApplicationsDependency = NamedDependency[SkipValidation[Applications]]
PeopleDependency = NamedDependency[SkipValidation[People]]


# --- the browser's way -------------------------------------------------------------------------------------------------


@get("/openid/authorize", opt=does(acts.USE_OPENID), include_in_schema=False)
async def authorize(request: AnyRequest, applications: ApplicationsDependency, people: PeopleDependency) -> Redirect:
    """Give the application a code for whoever is signed in here, or send him to sign in first."""
    query = _once(bytes(request.scope["query_string"]))
    application = await applications.by_id(query.get("client_id", ""))
    redirect = query.get("redirect_uri", "")
    if redirect not in application.redirects:
        raise Refused(
            "openid.redirect", "redirect_uri is not, letter by letter, an address this application registered"
        )
    try:
        asked = _asked(query, application, applications)
        session = await _session(request, people)
        if session is None or not _is_fresh(session, query, people):
            if query.get("prompt") == "none":
                raise Refused("openid.signin", "nobody is signed in here, or not lately enough")
            return Redirect(f"/signin?back={quote(_again(query), safe='')}", status_code=303, headers=_NO_STORE)
        await require(request, acts.OPEN_APPLICATION)
        code = await applications.give(application, session, asked)
    except Refused as refusal:
        error, _ = _in_words(refusal.code)
        return _back(redirect, query, applications, error=error, error_description=refusal.message)
    return _back(redirect, query, applications, code=code)


def _asked(query: dict[str, str], application: Application, applications: Applications) -> Asked:
    """Raises: Refused `openid.response`, `openid.request`, `openid.scope`, `openid.challenge`, `openid.invalid`."""
    if query.get("response_type") != "code" or query.get("response_mode", "query") != "query":
        raise Refused("openid.response", "the only response type here is code, in the query")
    if query.keys() & {"request", "request_uri", "registration"}:
        raise Refused("openid.request", "request objects are not supported; send plain parameters")
    asked = Asked(
        query["redirect_uri"], query.get("code_challenge", ""), query.get("nonce", ""), query.get("scope", "")
    )
    applications.check_request(application, asked, query.get("code_challenge_method", ""))
    return asked


def _is_fresh(session: Session, query: dict[str, str], people: People) -> bool:
    """Whether the sign-in is as young as the application wants it."""
    wanted = query.get("max_age", "")
    if query.get("prompt") == "login":
        return False
    if not wanted:
        return True
    if not wanted.isdecimal() or len(wanted) > 9:
        raise Refused("openid.invalid", "max_age is a number of seconds")
    return people.accounts.now_us - session.opened_us <= int(wanted) * 1_000_000


def _again(query: dict[str, str]) -> str:
    """The same request after signing in; a wanted sign-in has then just been."""
    kept = dict(query)
    if kept.get("prompt") == "login":
        del kept["prompt"]
        kept["max_age"] = min(kept.get("max_age", "120"), "120", key=int)
    return f"/openid/authorize?{urlencode(kept)}"


def _back(redirect: str, query: dict[str, str], applications: Applications, **more: str) -> Redirect:
    """To the application; `iss` tells it who answers (RFC 9207)."""
    said = {**more, "iss": applications.issuer, **({"state": query["state"]} if "state" in query else {})}
    return Redirect(f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(said)}", status_code=303, headers=_NO_STORE)


@get("/openid/end", opt=does(acts.USE_OPENID), include_in_schema=False)
async def end(
    request: AnyRequest,
    applications: ApplicationsDependency,
    people: PeopleDependency,
    tokens: NamedDependency[SkipValidation[Tokens]],
) -> Redirect:
    """Sign out here, for an application that shows the ID token it had; then back to an address it registered for that."""
    query = _once(bytes(request.scope["query_string"]))
    claims = tokens.read_id(query.get("id_token_hint", ""))
    application = await applications.by_id(str(claims.get("aud", "")))
    if query.get("client_id", application.id) != application.id:
        raise Refused("openid.hint", "this ID token was given to another application")
    where = query.get("post_logout_redirect_uri", "")
    if where and where not in application.logouts:
        raise Refused("openid.redirect", "this is not an address the application registered for after signing out")
    session = await _session(request, people)
    cookies = []
    if session is not None and claims.get("sub") == subject_for(application.id, session.person.id):
        await people.sessions.end(session)
        cookies = [no_cookie(people.site)]
    if where and "state" in query:
        where += f"{'&' if '?' in where else '?'}{urlencode({'state': query['state']})}"
    return Redirect(where or "/signin", status_code=303, headers=_NO_STORE, cookies=cookies)


async def _session(request: AnyRequest, people: People) -> Session | None:
    secret = secret_of(request.scope)
    return await people.session(secret) if secret else None


# --- the application's way -----------------------------------------------------------------------------------------------


@post("/openid/token", status_code=200, opt=does(acts.USE_OPENID))
async def token(
    request: AnyRequest,
    applications: ApplicationsDependency,
    people: PeopleDependency,
) -> Response[dict[str, Any]]:
    """Trade a code for an ID token and an access token (form: grant_type, code, redirect_uri, code_verifier)."""
    try:
        form = await _form(request)
        application = await applications.proven(*_client(request, form))
        if form.get("grant_type") != "authorization_code":
            raise Refused("openid.grant", "the only grant here is authorization_code")
        given = (form.get("code", ""), form.get("redirect_uri", ""), form.get("code_verifier", ""))
        answer = await applications.redeem(application, *given, people.by_id)
    except Refused as refusal:
        return _refused(request, refusal)
    return Response(answer, status_code=200, headers=_NO_STORE)


@get("/openid/userinfo", opt=does(acts.USE_OPENID))
async def userinfo(
    request: AnyRequest, applications: ApplicationsDependency, people: PeopleDependency
) -> Response[dict[str, Any]]:
    """What an access token tells of a person, as true as it is now."""
    try:
        answer = await applications.userinfo(bearer_of(request.scope), people.by_id)
    except Refused as refusal:
        return _refused(request, refusal)
    return Response(answer, headers=_NO_STORE)


@get("/.well-known/openid-configuration", opt=does(acts.READ_TOKEN_KEYS))
async def discovery(applications: ApplicationsDependency) -> dict[str, object]:
    """What this provider does; everything it does not name, it refuses."""
    url = applications.issuer
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/openid/authorize",
        "token_endpoint": f"{url}/openid/token",
        "userinfo_endpoint": f"{url}/openid/userinfo",
        "end_session_endpoint": f"{url}/openid/end",
        "jwks_uri": f"{url}/oauth/jwks",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "claims_supported": ["sub", "auth_time", "nonce", "name", "locale", "dealer_roles"],
        "prompt_values_supported": ["none", "login"],
        "authorization_response_iss_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
    }


async def _form(request: AnyRequest) -> dict[str, str]:
    """Raises: Refused `openid.invalid`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused("openid.invalid", f"send the parameters as {_FORM}")
    body = await request.body()
    if len(body) > FORM_LIMIT_BYTES or request.scope["query_string"]:
        raise Refused(
            "openid.invalid", f"send the parameters in a body of up to {FORM_LIMIT_BYTES} bytes, none in the address"
        )
    return _once(body)


def _once(query: bytes) -> dict[str, str]:
    """Parameters, each given once. Raises: Refused `openid.invalid`."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=40)
    except ValueError:
        raise Refused("openid.invalid", "the parameters cannot be read") from None
    if len({name for name, _ in pairs}) != len(pairs) or any("\0" in value for _, value in pairs):
        raise Refused("openid.invalid", "a parameter is given twice")
    return {name: value for name, value in pairs if value}


def _client(request: AnyRequest, form: dict[str, str]) -> tuple[str, str]:
    """Id and secret of the application that asks. Raises: Refused `openid.invalid`."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        id, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Refused("openid.invalid", "the Authorization header cannot be read") from None
    id, secret = unquote_plus(id), unquote_plus(secret)
    if "client_secret" in form or form.get("client_id", id) != id or "\0" in id:
        raise Refused("openid.invalid", "the application proves itself in one way, not in two")
    return id, secret


def _in_words(code: str) -> tuple[str, int]:
    """An error of ours in the words of OAuth."""
    if code.startswith("openid.code."):
        return "invalid_grant", 400
    if code.startswith(("people.", "gate.", "access.")):
        return "access_denied", 403
    return _ERRORS.get(code, ("invalid_request", 400))


def _refused(request: AnyRequest, refusal: Refused) -> Response[dict[str, Any]]:
    error, status = _in_words(refusal.code)
    headers = dict(_NO_STORE)
    if status == 401:
        scheme = "Bearer" if error == "invalid_token" else "Basic"
        headers["www-authenticate"] = f'{scheme} realm="rocade", error="{error}"'
    body = {
        "error": error,
        "error_description": refusal.message,
        "code": refusal.code,
        "request_id": cast("dict[str, Any]", request.scope).get("rocade.request_id", ""),
    }
    return Response(body, status_code=status, headers=headers)


# --- the register ----------------------------------------------------------------------------------------------------------


class Wanted(msgspec.Struct, frozen=True):
    """An application to register. `redirect_uris` are compared letter by letter; `has_secret` false = a program in a browser."""

    id: str
    name: str
    redirect_uris: list[str]
    roles: list[str]
    brand: str = ""
    post_logout_redirect_uris: list[str] = []
    scopes: tuple[str, ...] = ("openid", "roles")
    has_secret: bool = True


class ApplicationView(msgspec.Struct, frozen=True):
    """`client_secret` is seen only in the answer to the registration, '' else."""

    id: str
    name: str
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    brand: str
    roles: list[str]
    scopes: list[str]
    has_secret: bool
    added_us: int
    client_secret: str = ""


@get("/v1/applications", opt=does(acts.READ_APPLICATIONS))
async def list_applications(applications: ApplicationsDependency) -> list[ApplicationView]:
    """Registered web applications."""
    return [_view(one) for one in await applications.registered()]


@post("/v1/applications", opt=does(acts.CHANGE_APPLICATIONS))
async def add_application(
    request: AnyRequest, applications: ApplicationsDependency, data: Annotated[Wanted, Body()]
) -> ApplicationView:
    """Register an application, or replace it; its secret is shown once."""
    made, secret = await applications.add(
        data.id, data.name, data.redirect_uris, data.roles, brand=data.brand, logouts=data.post_logout_redirect_uris,
        scopes=data.scopes, has_secret=data.has_secret, actor=caller_of(request).id,
    )  # fmt: skip
    return _view(made, secret)


@delete("/v1/applications/{id:str}", opt=does(acts.CHANGE_APPLICATIONS))
async def drop_application(request: AnyRequest, applications: ApplicationsDependency, id: FromPath[str]) -> None:
    """Take an application off the register; its codes and tokens end."""
    await applications.drop(id, caller_of(request).id)


def _view(one: Application, secret: str = "") -> ApplicationView:
    return ApplicationView(
        one.id, one.name, list(one.redirects), list(one.logouts), one.brand, list(one.roles), list(one.scopes),
        one.secret_hash is not None, one.added_us, secret,
    )  # fmt: skip


REDIRECTS = [authorize, end]
"""Steps a browser walks through: their errors are shown as pages."""
HANDLERS = [token, userinfo, discovery, list_applications, add_application, drop_application]
