"""An external OpenID Connect provider as one more way to sign in: authorization code with PKCE, discovered, keys followed.

Flow: GET /signin/openid -> the provider's page -> GET /signin/openid/back -> code exchanged, ID token verified (the provider's
keys are fetched again when a token names one that is not known) -> session. `POST /v1/account/openid` begins the same way for
somebody signed in, who connects his account first. Refuses what `trust.authority.people.openid` refuses, `people.openid.denied`
(the provider said no), Unavailable `people.openid.down`. One provider per region; https, or http on localhost.
"""

from __future__ import annotations

from time import monotonic
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation
from litestar.response import Redirect

from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.doors.http.access import AnyRequest, does, peer_of, session_of
from rocade.doors.http.sessions import BROWSER, browser_cookie, secret_of, session_cookie
from rocade.doors.http.signin import NO_STORE, home_of, touch_of
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import People, Session
from rocade.trust.authority.people.openid import Begun, verify

TIMEOUT_S = 5.0
KEYS_S = 600.0
AGAIN_S = 5.0
"""Keys are fetched again after `KEYS_S`, or, for a key id that is not known, at most every `AGAIN_S`."""
ANSWER_LIMIT_BYTES = 256 * 1024
BACK = "/signin/openid/back"


class Settings(msgspec.Struct, frozen=True):
    """`name` is what the button says; `secret` '' = a public client, for which PKCE is enough."""

    issuer: str
    client_id: str
    secret: str = ""
    name: str = "OpenID"


class Metadata(msgspec.Struct, frozen=True):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class Tokens(msgspec.Struct, frozen=True):
    id_token: str


class Provider:
    """One provider, discovered at its first use. `site` is this region's own address."""

    def __init__(self, settings: Settings, site: str, client: httpx.AsyncClient | None = None) -> None:
        check_address(settings.issuer)
        self.settings = settings
        self._redirect = f"{site}{BACK}"
        self._client = client or httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)
        self._found: Metadata | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def address(self, begun: Begun) -> str:
        """Where the browser goes to sign in."""
        query = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._redirect,
            "scope": "openid",
            "state": begun.state,
            "nonce": begun.nonce,
            "code_challenge": begun.challenge,
            "code_challenge_method": "S256",
        }
        endpoint = (await self._metadata()).authorization_endpoint
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def subject(self, code: str, verifier: str, nonce: str, now_us: int) -> str:
        """Exchange a code; whom the ID token names.

        Raises: Refused `people.openid.*`, Unavailable `people.openid.down`.
        """
        found, settings = await self._metadata(), self.settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect,
            "code_verifier": verifier,
        }
        if settings.secret:
            answer = await self._ask(
                "POST", found.token_endpoint, data=form, auth=(settings.client_id, settings.secret)
            )
        else:
            answer = await self._ask("POST", found.token_endpoint, data={**form, "client_id": settings.client_id})
        token = _decoded(answer, Tokens).id_token
        try:
            return verify(token, await self._key_set(KEYS_S), settings.issuer, settings.client_id, nonce, now_us)
        except Refused as refusal:
            if refusal.code != "people.openid.key":
                raise
        return verify(token, await self._key_set(AGAIN_S), settings.issuer, settings.client_id, nonce, now_us)

    async def close(self) -> None:
        await self._client.aclose()

    async def _metadata(self) -> Metadata:
        if self._found is None:
            address = f"{self.settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = _decoded(await self._ask("GET", address), Metadata)
            if found.issuer != self.settings.issuer:
                raise Refused(
                    "people.openid.issuer", "the provider calls itself by another name than the one configured"
                )
            for endpoint in (found.authorization_endpoint, found.token_endpoint, found.jwks_uri):
                check_address(endpoint)
            self._found = found
        return self._found

    async def _key_set(self, age_s: float) -> KeySet:
        """The provider's public keys, not older than `age_s`."""
        if self._keys is None or monotonic() - self._keys[0] > age_s:
            body = await self._ask("GET", (await self._metadata()).jwks_uri)
            try:
                shown = [key for key in msgspec.json.decode(body)["keys"] if key.get("kty") != "oct"]
                self._keys = monotonic(), KeySet.import_key_set({"keys": shown})
            except (JoseError, msgspec.DecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
                raise Unavailable("people.openid.down", "the provider shows no keys that can be read") from error
        return self._keys[1]

    async def _ask(self, method: str, address: str, **how: Any) -> bytes:
        try:
            async with self._client.stream(method, address, headers={"accept": "application/json"}, **how) as answer:
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > ANSWER_LIMIT_BYTES:
                        raise Unavailable("people.openid.down", "the provider's answer is too large")
        except httpx.HTTPError as error:
            raise Unavailable("people.openid.down", f"the provider does not answer: {type(error).__name__}") from error
        if 400 <= answer.status_code < 500:
            raise Refused("people.openid.denied", "the provider refused; begin again")
        if answer.status_code != 200:
            raise Unavailable("people.openid.down", f"the provider answers with status {answer.status_code}")
        return body


def _decoded[T](body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise Unavailable("people.openid.down", "the provider's answer cannot be read") from error


def check_address(address: str) -> None:
    """Raises: Misconfigured `people.openid.address`."""
    parts = urlsplit(address)
    if parts.scheme != "https" and (parts.scheme, parts.hostname) != ("http", "localhost"):
        raise Misconfigured("people.openid.address", "a provider is reached by https, or on http://localhost")


async def _session(request: AnyRequest, people: People) -> Session | None:
    secret = secret_of(request.scope)
    return await people.session(secret) if secret else None


@get("/signin/openid", opt=does(acts.SIGN_IN), include_in_schema=False)
async def begin(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    openid: NamedDependency[SkipValidation[Provider]],
    back: FromQuery[str] = "",
) -> Redirect:
    """Send the browser to the provider."""
    people.passkeys.begin(peer_of(request.scope))
    browser = secret_of(request.scope, BROWSER) or people.new_browser()
    address = await openid.address(await people.accounts.begin(browser, local(back)))
    return Redirect(address, status_code=303, headers=NO_STORE, cookies=[browser_cookie(browser, people.site)])


@post("/v1/account/openid", status_code=200, opt=does(acts.ADD_PASSKEY))
async def connect(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    openid: NamedDependency[SkipValidation[Provider]],
) -> Response[dict[str, str]]:
    """Where the browser goes to connect an external account. Needs a touch where there is a passkey, like a further passkey."""
    session = session_of(request)
    await people.check_further(session, touch_of(request), acts.ADD_PASSKEY.name)
    browser = secret_of(request.scope, BROWSER) or people.new_browser()
    location = await openid.address(await people.accounts.begin(browser, "/account", session))
    return Response({"location": location}, headers=NO_STORE, cookies=[browser_cookie(browser, people.site)])


@get(BACK, opt=does(acts.SIGN_IN), include_in_schema=False)
async def come_back(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    openid: NamedDependency[SkipValidation[Provider]],
) -> Redirect:
    """The provider sent the browser back: finish the sign-in, or the connecting."""
    peer, issuer = peer_of(request.scope), openid.settings.issuer
    state, code, iss = (request.query_params.get(name, "") for name in ("state", "code", "iss"))
    people.passkeys.failures.check(peer)
    session = await _session(request, people)
    try:
        taken = await people.accounts.take(secret_of(request.scope, BROWSER), state, session)
        if iss and iss != issuer:
            raise Refused("people.openid.issuer", "another provider answered")
        if not code:
            raise Refused("people.openid.denied", "the provider did not let you in")
        subject = await openid.subject(code, taken.verifier, taken.nonce, people.accounts.now_us)
    except Refused as refusal:
        people.passkeys.refused(refusal, "people.sign_in", peer, "")
        raise
    if taken.person and session is not None:
        await people.accounts.connect(session, issuer, subject)
        return Redirect("/account", status_code=303, headers=NO_STORE)
    secret, person = await people.accounts.sign_in(issuer, subject, peer)
    where = taken.back or home_of(person, 1)
    return Redirect(where, status_code=303, headers=NO_STORE, cookies=[session_cookie(secret, people.site)])


def local(address: str) -> str:
    """The address of a page of ours, or ''."""
    is_ours = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_ours else ""


REDIRECTS = [begin, come_back]
"""Steps a browser walks through: their errors are shown as pages."""
HANDLERS = [connect]
