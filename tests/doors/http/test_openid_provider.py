"""This region as OpenID provider before an outside client (Authlib): the whole way, and every refusal with its word.

Real: HTTP over a socket, people with passkeys, the table of sites, signing keys. The browser and the application are two clients.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from authlib.common.security import generate_token
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.jwk import KeySet
from litestar.types import ControllerRouterHandler
from tests.clocks import PassingClock
from tests.doors.http.signing_in import Authenticator, Desk, serving
from tests.notebook import Notebook
from tests.services.dealers.conftest import DEALERS, GROUPS, site
from tests.unowned import Unowned

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, Listeners, loopback_sockets, openid_provider, people_api, signin
from rocade.doors.http.application import build
from rocade.doors.http.oauth import HANDLERS as OAUTH
from rocade.fabric.database import Database
from rocade.services.dealers import BrandAt, Dealers, SiteTable
from rocade.trust.authority.applications import Applications
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.machines import Place, Tokens
from rocade.trust.authority.people import People, Site

BACK = "https://warranty.example/callback"
AFTER = "https://warranty.example/bye"


class Stand(Desk):
    """A region with one dealer's parts seller, and a registered application."""

    applications: Applications
    dealers: Dealers
    table: SiteTable
    tokens: Tokens
    secret: str

    def client(self, **more: Any) -> AsyncOAuth2Client:
        """The application, as Authlib makes it."""
        settings = {"client_id": "warranty", "client_secret": self.secret, "redirect_uri": BACK, "scope": "openid roles profile",
                    "code_challenge_method": "S256", "trust_env": False}  # fmt: skip
        return AsyncOAuth2Client(**{**settings, **more})

    async def ask(self, browser: httpx.AsyncClient, **changed: str | None) -> httpx.Response:
        """An authorisation request, with some parameters otherwise (None = left out); allowed where he is asked."""
        plain = {"response_type": "code", "client_id": "warranty", "redirect_uri": BACK, "scope": "openid roles", "state": "s1",
                 "nonce": "n1", "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                 "code_challenge_method": "S256"}  # fmt: skip
        asked = {name: value for name, value in {**plain, **changed}.items() if value is not None}
        return await self.allow(browser, await browser.get("/openid/authorize", params=asked))

    async def allow(self, browser: httpx.AsyncClient, answer: httpx.Response, **more: bool) -> httpx.Response:
        """What comes after he allowed what he is asked; an answer that asks nothing as it is."""
        address = urlsplit(answer.headers.get("location", ""))
        if address.path != "/openid/consent":
            return answer
        decision = {"query": address.query, "allow": True, **more}
        return await browser.post("/v1/account/applications", json=decision)

    async def trade(self, given: str, /, **changed: Any) -> httpx.Response:
        """A code at the token door, with some parameters otherwise."""
        form = {"grant_type": "authorization_code", "code": given, "redirect_uri": BACK,
                "code_verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "client_id": "warranty",
                "client_secret": self.secret}  # fmt: skip
        async with httpx.AsyncClient(base_url=self.address, trust_env=False) as application:
            values = {name: value for name, value in {**form, **changed}.items() if value is not None}
            return await application.post("/openid/token", data=values)

    async def code(self, browser: httpx.AsyncClient, **changed: str | None) -> str:
        return said(await self.ask(browser, **changed))["code"]


def where_to(answer: httpx.Response) -> str:
    """Where the browser goes: a redirect of a page, or what a decision answered."""
    assert answer.status_code in {200, 303}, answer.text
    return str(answer.headers["location"] if answer.status_code == 303 else answer.json()["location"])


def said(answer: httpx.Response) -> dict[str, str]:
    """What a redirect back to the application carries."""
    where = urlsplit(where_to(answer))
    assert f"{where.scheme}://{where.netloc}{where.path}" == BACK, where_to(answer)
    return {name: values[0] for name, values in parse_qs(where.query).items()}


@pytest.fixture
async def stand(database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    clock, audit, random = PassingClock(), Notebook(), SystemRandom()
    sockets = loopback_sockets(0)
    address = f"http://localhost:{sockets[0].getsockname()[1]}"
    people = People(database, audit, clock, random, Site.at(address), "eu")
    dealers = Dealers(database, audit, clock, random)
    now_us = clock.now_us()
    renault = BrandAt("renault", True, True, now_us - 9)
    await dealers.put(
        [site("FR-1-1", opened_us=now_us - 99, brands=(renault,)), site("FR-2-1", "FR-2", opened_us=now_us - 99)],
        DEALERS,
        GROUPS,
    )
    table = await SiteTable.open(database, clock)
    tokens = await Tokens.open(database, tmp_path, Place("rocade.test", "eu", address), audit, clock, random)
    applications = Applications(database, audit, clock, random, address, tokens.sign_id, table)
    access = Access(lambda *_: None, lambda _: False, Gate("eu", Unowned(), sites=table), audit, clock, sessions=people)  # type: ignore[arg-type,return-value]
    handlers: list[ControllerRouterHandler] = [
        *signin.HANDLERS, *people_api.HANDLERS, *OAUTH, *openid_provider.HANDLERS, *openid_provider.REDIRECTS
    ]  # fmt: skip
    given = {"people": people, "tokens": tokens, "applications": applications}
    async with serving(Listeners(build(handlers, given, access, version="0"), random, pages=sockets)):
        made = Stand(people, address, clock, audit)
        made.applications, made.dealers, made.table, made.tokens = applications, dealers, table, tokens
        made.person = await people.add("Ada Martin", organisation="dealer:FR-1", language="fr")
        await dealers.give_role(made.person.id, "dealer:FR-1", "FR-1-1", "parts", brand="renault")
        await table.refresh()
        _, made.secret = await applications.add(
            "warranty", "Warranty", [BACK], ["parts", "manager"], brand="renault", logouts=[AFTER],
            scopes=["openid", "roles", "profile"],
        )  # fmt: skip
        async with made.browser() as browser:
            await made.enter(browser, made.person)
            assert (await made.register(browser, made.passkey))["http"] == 200
        yield made
    await tokens.close()
    await table.close()


@pytest.fixture
async def browser(stand: Stand) -> AsyncIterator[httpx.AsyncClient]:
    """Ada's, signed in with her passkey."""
    async with stand.browser() as opened:
        assert (await stand.sign_in(opened))["http"] == 200
        yield opened


async def test_an_outside_client_goes_the_whole_way(stand: Stand) -> None:
    async with stand.client() as application, stand.browser() as browser:
        answer = await browser.get("/.well-known/openid-configuration")
        found = answer.json()
        keys = KeySet.import_key_set((await browser.get(found["jwks_uri"])).json())
        verifier, nonce = generate_token(48), generate_token(20)
        location, state = application.create_authorization_url(
            found["authorization_endpoint"], code_verifier=verifier, nonce=nonce
        )
        sent = await browser.get(location)
        assert sent.headers["location"].startswith("/signin?back=%2Fopenid%2Fauthorize%3F")
        assert (await stand.sign_in(browser))["http"] == 200
        answered = await stand.allow(browser, await browser.get(location))
        assert said(answered)["iss"] == found["issuer"]
        token = await application.fetch_token(
            found["token_endpoint"],
            authorization_response=where_to(answered),
            code_verifier=verifier,
            state=state,
        )
        signed = jwt.decode(token["id_token"], keys, algorithms=["ES256"])
        claims = CodeIDToken(
            signed.claims, signed.header, {"iss": {"value": found["issuer"]}, "aud": {"value": "warranty"}},
            {"nonce": nonce, "client_id": "warranty", "access_token": token["access_token"]},
        )  # fmt: skip
        claims.validate()
        assert claims["dealer_roles"] == [{"dealer": "FR-1", "site": "FR-1-1", "brand": "renault", "role": "parts"}]
        assert (claims["name"], claims["locale"]) == ("Ada Martin", "fr")
        told = (await application.get(found["userinfo_endpoint"])).json()
        assert told["sub"] == claims["sub"]
        assert stand.person.id not in str(claims)
        ended = await browser.get(
            found["end_session_endpoint"],
            params={"id_token_hint": token["id_token"], "post_logout_redirect_uri": AFTER, "state": "z"},
        )
        assert ended.headers["location"] == f"{AFTER}?state=z"
        assert (await browser.get("/v1/account")).status_code == 401
        assert (await application.get(found["userinfo_endpoint"])).status_code == 401
        with pytest.raises(OAuthError) as refused:
            await application.fetch_token(
                found["token_endpoint"],
                authorization_response=where_to(answered),
                code_verifier=verifier,
                state=state,
            )
        assert refused.value.error == "invalid_grant"


async def test_a_code_that_comes_twice_ends_what_it_became(stand: Stand, browser: httpx.AsyncClient) -> None:
    code = await stand.code(browser)
    first = (await stand.trade(code)).json()
    bearer = {"authorization": f"Bearer {first['access_token']}"}
    async with httpx.AsyncClient(base_url=stand.address, headers=bearer, trust_env=False) as application:
        assert (await application.get("/openid/userinfo")).status_code == 200
        assert (await stand.trade(code)).json()["code"] == "openid.code.used"
        assert (await application.get("/openid/userinfo")).json()["code"] == "openid.token.refused"
    assert "name" not in first["id_token"]


TRADES: list[tuple[str, dict[str, Any]]] = [
    ("openid.code.unknown", {"code": "guess"}),
    ("openid.code.verifier", {"code_verifier": "a" * 43}),
    ("openid.code.verifier", {"code_verifier": None}),
    ("openid.code.verifier", {"redirect_uri": f"{BACK}/"}),
    ("openid.application.secret", {"client_secret": "guess"}),
    ("openid.application.secret", {"client_secret": None}),
    ("openid.application.unknown", {"client_id": "nobody"}),
    ("openid.code.unknown", {"client_id": "other", "client_secret": None}),
    ("openid.grant", {"grant_type": "password"}),
    ("openid.grant", {"grant_type": "refresh_token"}),
]


async def test_a_wrong_trade_is_refused_and_the_code_is_good_once(stand: Stand, browser: httpx.AsyncClient) -> None:
    await stand.applications.add("other", "Other", [BACK], ["parts"], has_secret=False)
    for code, changed in TRADES:
        answer = await stand.trade(await stand.code(browser), **changed)
        assert (answer.json()["code"], answer.status_code in {400, 401}) == (code, True), changed
        assert answer.headers["cache-control"] == "no-store"


async def test_codes_and_tokens_run_out(stand: Stand, browser: httpx.AsyncClient) -> None:
    late = await stand.code(browser)
    good = (await stand.trade(await stand.code(browser))).json()
    stand.clock.ahead_us += 60_000_000
    assert (await stand.trade(late)).json()["code"] == "openid.code.expired"
    stand.clock.ahead_us += 240_000_000
    bearer = {"authorization": f"Bearer {good['access_token']}"}
    async with httpx.AsyncClient(base_url=stand.address, headers=bearer, trust_env=False) as application:
        assert (await application.get("/openid/userinfo")).status_code == 401


NEVER_SENT: list[tuple[str, dict[str, str | None]]] = [
    ("openid.application.unknown", {"client_id": "nobody"}),
    ("openid.redirect", {"redirect_uri": "https://evil.example/callback"}),
    ("openid.redirect", {"redirect_uri": f"{BACK}?x=1"}),
    ("openid.redirect", {"redirect_uri": BACK.replace("https", "http")}),
    ("openid.redirect", {"redirect_uri": None}),
]


async def test_nothing_is_sent_to_an_address_that_is_not_registered(stand: Stand, browser: httpx.AsyncClient) -> None:
    for code, changed in NEVER_SENT:
        answer = await stand.ask(browser, **changed)
        assert answer.json()["code"] == code, changed
        assert "location" not in answer.headers


async def test_a_parameter_given_twice_is_refused(stand: Stand, browser: httpx.AsyncClient) -> None:
    answer = await browser.get(f"/openid/authorize?client_id=warranty&redirect_uri={BACK}&redirect_uri={BACK}")
    assert answer.json()["code"] == "openid.invalid"


SENT_BACK: list[tuple[str, dict[str, str | None]]] = [
    ("unsupported_response_type", {"response_type": "token"}),
    ("unsupported_response_type", {"response_type": "code id_token"}),
    ("unsupported_response_type", {"response_mode": "fragment"}),
    ("request_not_supported", {"request": "e30.e30."}),
    ("invalid_scope", {"scope": "roles"}),
    ("invalid_scope", {"scope": "openid offline_access"}),
    ("invalid_request", {"code_challenge": None}),
    ("invalid_request", {"code_challenge_method": "plain"}),
    ("invalid_request", {"max_age": "-1"}),
]


async def test_an_error_of_the_request_goes_back_to_the_application(stand: Stand, browser: httpx.AsyncClient) -> None:
    for error, changed in SENT_BACK:
        told = said(await stand.ask(browser, **changed))
        assert (told["error"], told["state"], told["iss"]) == (error, "s1", stand.address), changed
        assert "code" not in told


async def test_who_may_not_enter_gets_no_code(stand: Stand, browser: httpx.AsyncClient) -> None:
    stranger, other = await stand.people.add("Bob"), await stand.people.add("Eve", organisation="dealer:FR-2")
    await stand.dealers.give_role(other.id, "dealer:FR-2", "FR-2-1", "accounts")
    await stand.table.refresh()
    for person in (stranger, other):
        passkey = Authenticator(stand.address, person.name.encode())
        async with stand.browser() as own:
            await stand.enter(own, person)
            assert said(await stand.ask(own))["error"] == "access_denied"  # by a link: no passkey has proven him
            assert (await stand.register(own, passkey))["http"] == 200
            assert (await stand.sign_in(own, passkey))["http"] == 200
            assert said(await stand.ask(own))["error"] == "access_denied"
    reasons = {entry.reason for entry in stand.audit.entries if entry.action == "openid.code"}
    assert reasons >= {"openid.passkey", "openid.role"}
    async with stand.browser() as nobody:
        assert said(await stand.ask(nobody, prompt="none"))["error"] == "login_required"


async def test_a_role_that_ends_between_code_and_token_lets_nobody_in(stand: Stand, browser: httpx.AsyncClient) -> None:
    code = await stand.code(browser)
    for one in await stand.dealers.roles_at("FR-1-1"):
        await stand.dealers.end_role(one.id, "FR-1-1")
    await stand.table.refresh()
    assert (await stand.trade(code)).json()["code"] == "openid.role"


async def test_a_wanted_fresh_sign_in_is_asked_for_once(stand: Stand, browser: httpx.AsyncClient) -> None:
    sent = await stand.ask(browser, prompt="login")
    back = parse_qs(urlsplit(sent.headers["location"]).query)["back"][0]
    assert "prompt" not in back
    assert "max_age=120" in back
    assert (await stand.sign_in(browser))["http"] == 200
    assert "code" in said(await stand.allow(browser, await browser.get(back)))
    stand.clock.ahead_us += 3_000_000_000
    assert (await stand.ask(browser, max_age="60")).headers["location"].startswith("/signin")


async def test_another_ones_id_token_ends_no_session(stand: Stand, browser: httpx.AsyncClient) -> None:
    hint = (await stand.trade(await stand.code(browser))).json()["id_token"]
    head, body, _ = hint.split(".")
    for forged in ("", "x", f"{head}.{body}.", hint[:-4] + "AAAA", await _access_token(stand)):
        answer = await browser.get("/openid/end", params={"id_token_hint": forged})
        assert answer.json()["code"] == "openid.hint"
    answer = await browser.get(
        "/openid/end", params={"id_token_hint": hint, "post_logout_redirect_uri": "https://evil.example"}
    )
    assert answer.json()["code"] == "openid.redirect"
    bob, passkey = await stand.people.add("Bob"), Authenticator(stand.address, b"bob")
    async with stand.browser() as own:
        await stand.enter(own, bob)
        assert (await stand.register(own, passkey))["http"] == 200
        assert (await own.get("/openid/end", params={"id_token_hint": hint})).status_code == 303
        assert (await own.get("/v1/account")).status_code == 200


async def _access_token(stand: Stand) -> str:
    """A machine's access token is signed with the same key and is no ID token."""
    return await stand.tokens.issue(Identity("rocade.test", "eu", "operator", "cli"), "t" * 43, [])


async def test_an_id_token_opens_nothing_here(stand: Stand, browser: httpx.AsyncClient) -> None:
    hint = (await stand.trade(await stand.code(browser))).json()["id_token"]
    with pytest.raises(Refused, match=r"access\.token\.type"):
        stand.tokens.check(hint, "t" * 43, stand.clock.now_us())


async def test_a_page_elsewhere_cannot_post_with_a_cookie(stand: Stand, browser: httpx.AsyncClient) -> None:
    answer = await browser.post(
        "/openid/token", data={"grant_type": "authorization_code"}, headers={"origin": "https://evil.example"}
    )
    assert (answer.status_code, answer.json()["code"]) == (403, "access.cross_site")


ADDRESSES = [
    "http://warranty.example/x",
    "https://warranty.example/x#y",
    "https://a:b@warranty.example/",
    "javascript:alert(1)",
    "https://",
    "",
]


async def test_an_address_that_could_be_misused_is_not_registered(stand: Stand) -> None:
    for address in ADDRESSES:
        with pytest.raises(Refused, match=r"openid\.invalid"):
            await stand.applications.add("x1", "X", [address], ["parts"])


async def test_nothing_is_told_before_he_allowed_it_and_a_refusal_is_written_down(
    stand: Stand, browser: httpx.AsyncClient
) -> None:
    asked = {"response_type": "code", "client_id": "warranty", "redirect_uri": BACK, "scope": "openid roles", "state": "s1",
             "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}  # fmt: skip
    for _ in range(2):  # an allowed request is no leave for the next one
        answer = await browser.get("/openid/authorize", params=asked)
        assert answer.headers["location"].startswith("/openid/consent?")
        assert "code" in said(await stand.allow(browser, answer))
    told = said(await stand.allow(browser, answer, allow=False))
    assert (told["error"], told["state"], told["iss"]) == ("access_denied", "s1", stand.address)
    assert stand.audit.last() == ("openid.consent", "refused", "openid.consent.denied")
    silent = await browser.get("/openid/authorize", params={**asked, "prompt": "none"})
    assert said(silent)["error"] == "consent_required"
    forged = {"query": "client_id=warranty&redirect_uri=https://evil.example", "allow": True}
    assert (await browser.post("/v1/account/applications", json=forged)).json()["code"] == "openid.redirect"


async def test_who_does_not_want_to_be_asked_again_is_asked_when_more_is_wanted(
    stand: Stand, browser: httpx.AsyncClient
) -> None:
    asked = {"response_type": "code", "client_id": "warranty", "redirect_uri": BACK, "scope": "openid roles",
             "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}  # fmt: skip

    async def is_asked(**changed: str) -> bool:
        answer = await browser.get("/openid/authorize", params={**asked, **changed})
        return bool(answer.headers["location"].startswith("/openid/consent?"))

    await stand.allow(browser, await browser.get("/openid/authorize", params=asked), remember=True)
    assert not await is_asked()
    assert "code" in said(await browser.get("/openid/authorize", params={**asked, "prompt": "none"}))
    assert await is_asked(scope="openid roles profile")
    assert await is_asked(prompt="consent")
    _, stand.secret = await stand.applications.add("warranty", "Warranty 2", [BACK], ["parts"], brand="renault")
    assert await is_asked(), "it was registered anew"
    await stand.allow(browser, await browser.get("/openid/authorize", params=asked), remember=True)
    assert not await is_asked()
    stand.clock.ahead_us += 30 * 86_400_000_000
    await stand.table.refresh()
    assert (await stand.sign_in(browser))["http"] == 200
    assert await is_asked()
    await stand.allow(browser, await browser.get("/openid/authorize", params=asked), remember=True)
    await stand.people.end(stand.person.id)
    assert await stand.applications.consents_of(stand.person.id) == [], "who is forgotten allows nothing"


async def test_an_application_that_cannot_prove_itself_asks_each_time(stand: Stand, browser: httpx.AsyncClient) -> None:
    await stand.applications.add("in-a-browser", "Page", [BACK], ["parts"], has_secret=False)
    asked = {"response_type": "code", "client_id": "in-a-browser", "redirect_uri": BACK, "scope": "openid",
             "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "code_challenge_method": "S256"}  # fmt: skip
    for _ in range(2):
        answer = await browser.get("/openid/authorize", params=asked)
        assert answer.headers["location"].startswith("/openid/consent?")
        assert "code" in said(await stand.allow(browser, answer, remember=True))


async def test_a_consent_is_seen_and_taken_back_and_ends_what_it_became(
    stand: Stand, browser: httpx.AsyncClient
) -> None:
    token = (await stand.trade(await stand.code(browser))).json()["access_token"]
    (seen,) = (await browser.get("/v1/account/applications")).json()
    assert (seen["id"], seen["scopes"], seen["is_remembered"]) == ("warranty", ["openid", "roles"], False)
    late = await stand.code(browser)
    assert (await browser.delete("/v1/account/applications/warranty")).json() == {"ended": 1}
    assert stand.audit.last() == ("openid.consent.end", "done", "")
    async with httpx.AsyncClient(base_url=stand.address, trust_env=False) as application:
        told = await application.get("/openid/userinfo", headers={"authorization": f"Bearer {token}"})
    assert told.json()["code"] == "openid.token.refused"
    assert (await stand.trade(late)).json()["code"] == "openid.code.unknown"
    assert (await browser.get("/v1/account/applications")).json() == []
    again = await browser.delete("/v1/account/applications/warranty")
    assert (again.status_code, again.json()["code"]) == (404, "openid.consent.unknown")


async def test_two_applications_know_a_person_by_two_names(stand: Stand, browser: httpx.AsyncClient) -> None:
    _, secret = await stand.applications.add("parts-shop", "Shop", [BACK], ["parts"])
    subs = set()
    for id, proof in (("warranty", stand.secret), ("parts-shop", secret)):
        code = await stand.code(browser, client_id=id)
        token = (await stand.trade(code, client_id=id, client_secret=proof)).json()["access_token"]
        async with httpx.AsyncClient(base_url=stand.address, trust_env=False) as application:
            told = await application.get("/openid/userinfo", headers={"authorization": f"Bearer {token}"})
        subs.add(told.json()["sub"])
    assert len(subs) == 2
    await stand.applications.drop("parts-shop")
    assert (await stand.ask(browser, client_id="parts-shop")).json()["code"] == "openid.application.unknown"
