"""This region as OpenID Connect provider: the maker's web applications, opened with the passkey a dealer's people have here.

`GET /openid/authorize` (authorisation code, PKCE S256) -> the person is asked at /openid/consent (the console's page, which posts
to /v1/account/applications), unless he wanted this application not to ask for 30 days -> the application's registered address with `code`, `state`, `iss`
-> `POST /openid/token` -> ID token (ES256) and a five-minute access token -> `GET /openid/userinfo`; `GET /openid/end` signs out.
Discovery at /.well-known/openid-configuration, keys at /oauth/jwks. Whoever is not signed in is sent to the sign-in page and
comes back. Until application and address are known to belong together nothing is ever redirected: the error is a page here.
Refused: the implicit and hybrid flows, `request` objects, refresh tokens, addresses that differ by a letter, parameters given
twice. Source: OpenID Connect Core 1.0, Discovery 1.0, RP-Initiated Logout 1.0, RFC 6749, 7636, 9207, 9700.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, cast
from urllib.parse import parse_qsl, quote, unquote_plus, urlencode, urlsplit

import msgspec
from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation
from litestar.response import Redirect

from rocade.core.errors import Refused
from rocade.doors.http import openid_register
from rocade.doors.http.access import AnyRequest, does, require, session_of
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
    "openid.consent.required": ("consent_required", 403),
    "openid.consent.denied": ("access_denied", 403),
    "openid.token.refused": ("invalid_token", 401),
}
"""Our codes in the words of OAuth and OpenID Connect; other codes of a code are an invalid_grant, the rest an invalid_request."""

ApplicationsDependency = NamedDependency[SkipValidation[Applications]]
PeopleDependency = NamedDependency[SkipValidation[People]]


# --- the browser's way -------------------------------------------------------------------------------------------------


@get("/openid/authorize", opt=does(acts.USE_OPENID), include_in_schema=False)
async def authorize(request: AnyRequest, applications: ApplicationsDependency, people: PeopleDependency) -> Redirect:
    """Give the application a code for whoever is signed in here and allows it; send him to sign in, or to be asked, first."""
    query, application = await _named(bytes(request.scope["query_string"]), applications)
    try:
        asked = _asked(query, application, applications)
        session = await _session(request, people)
        if session is None or not _is_fresh(session, query, people):
            if "none" in _prompts(query):
                raise Refused("openid.signin", "nobody is signed in here, or not lately enough")
            return Redirect(_to_sign_in(query), status_code=303, headers=_NO_STORE)
        await require(request, acts.OPEN_APPLICATION)
        if "consent" in _prompts(query):
            applications.check_entry(application, session)
            return _to_ask(query)
        code = await applications.give(application, session, asked)
    except Refused as refusal:
        if refusal.code == "openid.consent.required" and "none" not in _prompts(query):
            return _to_ask(query)
        return _back(_refusal_to(query, applications, refusal))
    return _back(_answer_to(query, applications, code=code))


async def _named(query_string: bytes, applications: Applications) -> tuple[dict[str, str], Application]:
    """The parameters, and the application, of which the address to come back to is known to be.

    Raises: Refused `openid.invalid`, `openid.application.unknown`, `openid.redirect`.
    """
    query = _once(query_string)
    application = await applications.by_id(query.get("client_id", ""))
    if query.get("redirect_uri", "") not in application.redirects:
        raise Refused(
            "openid.redirect", "redirect_uri is not, letter by letter, an address this application registered"
        )
    return query, application


async def asked_by(query: str, applications: Applications) -> tuple[Application, Asked]:
    """What a request asks for and who asks, for the page that shows it. Raises: Refused `openid.*`."""
    parameters, application = await _named(query.encode(), applications)
    return application, _asked(parameters, application, applications)


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
    if "login" in _prompts(query):
        return False
    if not wanted:
        return True
    if not wanted.isdecimal() or len(wanted) > 9:
        raise Refused("openid.invalid", "max_age is a number of seconds")
    return people.accounts.now_us - session.opened_us <= int(wanted) * 1_000_000


def _prompts(query: dict[str, str]) -> set[str]:
    return set(query.get("prompt", "").split())


def _again(query: dict[str, str]) -> str:
    """The same request after signing in; a wanted sign-in has then just been."""
    kept = dict(query)
    if "login" in _prompts(kept):
        kept["prompt"] = " ".join(sorted(_prompts(kept) - {"login"}))
        kept["max_age"] = min(kept.get("max_age", "120"), "120", key=int)
    return f"/openid/authorize?{urlencode({name: value for name, value in kept.items() if value})}"


def _to_sign_in(query: dict[str, str]) -> str:
    return f"/signin?back={quote(_again(query), safe='')}"


def _to_ask(query: dict[str, str]) -> Redirect:
    """To the page that says what is asked."""
    return Redirect(f"/openid/consent?{urlsplit(_again(query)).query}", status_code=303, headers=_NO_STORE)


def _answer_to(query: dict[str, str], applications: Applications, **more: str) -> str:
    """The application's address with an answer; `iss` tells it who answers (RFC 9207)."""
    redirect = query["redirect_uri"]
    said = {**more, "iss": applications.issuer, **({"state": query["state"]} if "state" in query else {})}
    return f"{redirect}{'&' if '?' in redirect else '?'}{urlencode(said)}"


def _refusal_to(query: dict[str, str], applications: Applications, refusal: Refused) -> str:
    return _answer_to(query, applications, error=_in_words(refusal.code)[0], error_description=refusal.message)


def _back(address: str) -> Redirect:
    return Redirect(address, status_code=303, headers=_NO_STORE)


# --- what he allows ------------------------------------------------------------------------------------------------------


class Decision(msgspec.Struct, frozen=True):
    """What somebody said to a request; `query` is that of /openid/authorize. `remember`: do not ask for 30 days."""

    query: str
    allow: bool
    remember: bool = False


class AllowedView(msgspec.Struct, frozen=True):
    """`is_remembered` false = it was for one request, and what that became ends at `until_us` at the latest."""

    id: str
    name: str
    scopes: list[str]
    is_remembered: bool
    given_us: int
    until_us: int


@post("/v1/account/applications", status_code=200, opt=does(acts.OPEN_APPLICATION))
async def decide(
    request: AnyRequest, applications: ApplicationsDependency, people: PeopleDependency, data: JSONBody[Decision]
) -> Response[dict[str, str]]:
    """Allow an application's request or not; `location` is where the browser goes with the answer."""
    session = session_of(request)
    query, application = await _named(data.query.encode(), applications)
    try:
        asked = _asked(query, application, applications)
        if not data.allow:
            raise applications.deny(application, session)
        if not _is_fresh(session, query, people):
            return Response({"location": _to_sign_in(query)}, headers=_NO_STORE)
        code = await applications.agree(application, session, asked, remember=data.remember)
    except Refused as refusal:
        return Response({"location": _refusal_to(query, applications, refusal)}, headers=_NO_STORE)
    return Response({"location": _answer_to(query, applications, code=code)}, headers=_NO_STORE)


@get("/v1/account/applications", opt=does(acts.READ_ACCOUNT))
async def list_allowed(request: AnyRequest, applications: ApplicationsDependency) -> list[AllowedView]:
    """What one has allowed web applications, as far as it still holds."""
    return await allowed_views(applications, session_of(request))


async def allowed_views(applications: Applications, session: Session) -> list[AllowedView]:
    return [
        AllowedView(one.id, one.name, consent.scope.split(), consent.is_remembered, consent.given_us, consent.until_us)
        for one, consent in await applications.consents_of(session.person.id)
    ]


@delete("/v1/account/applications/{id:str}", status_code=200, opt=does(acts.OPEN_APPLICATION))
async def withdraw(request: AnyRequest, applications: ApplicationsDependency, id: FromPath[str]) -> dict[str, int]:
    """Take back what one allowed an application: its tokens end now, and it has to ask again."""
    await applications.withdraw(session_of(request).person.id, id)
    return {"ended": 1}


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
        "prompt_values_supported": ["none", "login", "consent"],
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


REDIRECTS = [authorize, end]
"""Steps a browser walks through: their errors are shown as pages."""
HANDLERS = [
    token, userinfo, discovery, decide, list_allowed, withdraw, *openid_register.HANDLERS
]  # fmt: skip
