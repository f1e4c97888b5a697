"""Signing in with an external account, against the foreign provider `oidc-provider` run as a process."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey
from litestar import Litestar
from tests.notebook import Notebook
from tests.unowned import Unowned

sys.path.insert(0, str(Path(__file__).parents[2] / "trust/authority/people"))

from authenticator import Authenticator
from tests.ports import free_port

from rocade.core.errors import Misconfigured, RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import Access, Listeners, build, loopback_sockets, openid, signin
from rocade.fabric.database import Database
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.people import People, Site

VERSION = "9.13.3"
HERE = Path(__file__).parent
BUILT = HERE.parents[2] / "build" / "npm" / "node_modules"


@pytest.fixture(scope="session")
def modules() -> Path:
    """A node_modules with oidc-provider in it: that of `make test`, else one of its own, kept between runs."""
    if (BUILT / "oidc-provider").exists():
        return BUILT
    folder = Path(tempfile.gettempdir()) / f"rocade-oidc-provider-{VERSION}"
    if not (folder / "node_modules" / "oidc-provider").exists():
        folder.mkdir(exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run([*command, f"oidc-provider@{VERSION}"], check=True, capture_output=True, timeout=100)
    return folder / "node_modules"


class Foreign:
    """The provider's process; started again it has other keys, as after a rotation."""

    def __init__(self, modules: Path, folder: Path, redirect: str, secret: str) -> None:
        self.port = free_port()
        self.issuer = f"http://localhost:{self.port}"
        self._script = folder / "provider.mjs"
        shutil.copyfile(HERE / "oidc_provider.mjs", self._script)
        (folder / "node_modules").symlink_to(modules)
        self._client: dict[str, Any] = {
            "client_id": "rocade", "redirect_uris": [redirect], "id_token_signed_response_alg": "ES256",
            **({"client_secret": secret} if secret else {"token_endpoint_auth_method": "none"}),
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self, kid: str) -> None:
        key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": kid}, private=True).as_dict(
            private=True
        )
        given = {"issuer": self.issuer, "port": self.port, "client": self._client, "keys": [key]}
        self._process = subprocess.Popen(
            ["node", str(self._script), json.dumps(given)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        assert any(line.strip() == "ready" for line in self._process.stdout)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()


class Stand:
    """A region's door with that provider configured."""

    def __init__(
        self, people: People, provider: openid.Provider, foreign: Foreign, audit: Notebook, address: str
    ) -> None:
        self.people, self.provider, self.foreign, self.audit, self.address = people, provider, foreign, audit, address

    def browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.address, headers={"origin": self.address}, trust_env=False)

    async def enter(self, browser: httpx.AsyncClient, name: str) -> str:
        """Sign somebody new in by a link; his id."""
        person = await self.people.add(name)
        secret = await self.people.link(person.id, "test", 60)
        assert (await browser.post("/v1/signin/link", json={"secret": secret})).status_code == 200
        return person.id

    async def connect(self, browser: httpx.AsyncClient, login: str) -> httpx.Response:
        location = (await browser.post("/v1/account/openid")).json()["location"]
        return await browser.get(await at_provider(location, login))

    async def sign_in(self, browser: httpx.AsyncClient, login: str) -> httpx.Response:
        begun = await browser.get("/signin/openid?back=/account")
        assert begun.status_code == 303
        return await browser.get(await at_provider(begun.headers["location"], login))


async def at_provider(location: str, login: str) -> str:
    """Sign in at the provider's own pages, as a person would; the address it sends the browser back to."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        answer = await browser.get(location)
        while True:
            while answer.is_redirect:
                target = str(answer.url.join(answer.headers["location"]))
                if "/signin/openid/back" in target:
                    return target
                answer = await browser.get(target)
            action = re.search(r'action="([^"]+)"', answer.text)
            prompt = re.search(r'name="prompt" value="(\w+)"', answer.text)
            assert action is not None, answer.text[:2000]
            assert prompt is not None, answer.text[:2000]
            form = {"prompt": prompt[1], "login": login, "password": "any"}
            answer = await browser.post(str(answer.url.join(action[1])), data=form)


@pytest.fixture(
    params=["", pytest.param("a client's secret", marks=pytest.mark.slow)], ids=["public client", "with a secret"]
)
async def stand(
    request: pytest.FixtureRequest, database: Database, modules: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stand]:
    sockets, audit = loopback_sockets(0), Notebook()
    address = f"http://localhost:{sockets[0].getsockname()[1]}"
    people = People(database, audit, SystemClock(), SystemRandom(), Site.at(address), "eu")
    foreign = Foreign(modules, tmp_path, f"{address}{openid.BACK}", request.param)
    monkeypatch.setattr(openid, "TIMEOUT_S", 60.0)
    foreign.start("first")
    provider = openid.Provider(openid.Settings(foreign.issuer, "rocade", request.param, "Elsewhere"), address)
    access = Access(lambda *_: None, lambda _: False, Gate("eu", Unowned()), audit, SystemClock(), sessions=people)  # type: ignore[arg-type,return-value]
    app: Litestar = build(
        [*signin.HANDLERS, *openid.REDIRECTS, *openid.HANDLERS],
        {"people": people, "openid": provider},
        access,
        version="0",
    )
    listeners = Listeners(app, SystemRandom(), pages=sockets)
    running = asyncio.create_task(listeners.serve())
    await asyncio.wait_for(listeners.started(), 30)
    try:
        yield Stand(people, provider, foreign, audit, address)
    finally:
        foreign.stop()
        listeners.stop()
        await asyncio.wait_for(running, 30)
        await provider.close()


async def test_an_account_is_connected_then_lets_its_person_in_and_keys_may_change(stand: Stand) -> None:
    async with stand.browser() as browser:
        ada = await stand.enter(browser, "Ada")
        done = await stand.connect(browser, "ada@elsewhere")
        assert (done.status_code, done.headers["location"]) == (303, "/account")
    async with stand.browser() as browser:
        done = await stand.sign_in(browser, "ada@elsewhere")
        assert (done.status_code, done.headers["location"]) == (303, "/account")
        account = (await browser.get("/v1/account")).json()
        assert (account["person"], account["means"]) == (ada, "openid")
    stand.foreign.stop()
    await asyncio.to_thread(stand.foreign.start, "second")
    stand.provider._keys = (stand.provider._keys[0] - openid.AGAIN_S, stand.provider._keys[1])  # type: ignore[index]
    async with stand.browser() as browser:
        assert (await stand.sign_in(browser, "ada@elsewhere")).status_code == 303
        assert (await browser.get("/v1/account")).json()["person"] == ada


@pytest.mark.parametrize("stand", [""], indirect=True)
async def test_an_account_nobody_connected_opens_nothing(stand: Stand) -> None:
    async with stand.browser() as browser:
        refused = await stand.sign_in(browser, "stranger@elsewhere")
        assert (refused.status_code, refused.json()["code"]) == (404, "people.openid.unknown")
        assert (await browser.get("/v1/account")).status_code == 401
    assert stand.audit.entries[-2].reason == "people.openid.unknown"


@pytest.mark.slow
@pytest.mark.parametrize("stand", [""], indirect=True)
async def test_an_account_belongs_to_one_person(stand: Stand) -> None:
    async with stand.browser() as one, stand.browser() as other:
        await stand.enter(one, "Ada")
        await stand.enter(other, "Bob")
        assert (await stand.connect(one, "shared@elsewhere")).status_code == 303
        assert (await stand.connect(one, "shared@elsewhere")).status_code == 303
        taken = await stand.connect(other, "shared@elsewhere")
        assert taken.json()["code"] == "people.openid.taken"


@pytest.mark.parametrize("stand", [""], indirect=True)
async def test_what_comes_back_wrong_is_refused(stand: Stand) -> None:
    async with stand.browser() as browser, stand.browser() as other:
        await stand.enter(browser, "Ada")
        await stand.connect(browser, "ada@elsewhere")
        begun = await browser.get("/signin/openid")
        back = await at_provider(begun.headers["location"], "ada@elsewhere")
        told = {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}

        async def come(who: httpx.AsyncClient, **changes: str) -> str:
            return str((await who.get(openid.BACK, params={**told, **changes})).json().get("code"))

        assert await come(other) == "people.challenge.foreign"
        assert await come(browser) == "people.challenge.used"
        for changes, code in (
            ({"state": "x"}, "people.challenge.unknown"),
            ({"state": ""}, "people.challenge.unknown"),
        ):
            assert await come(browser, **changes) == code
        for changes, code in (
            ({"iss": "http://localhost:1"}, "people.openid.issuer"),
            ({"code": ""}, "people.openid.denied"),
            ({"code": "invented"}, "people.openid.denied"),
        ):
            begun = await browser.get("/signin/openid")
            state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]
            assert await come(browser, **{"state": state, **changes}) == code


@pytest.mark.parametrize("stand", [""], indirect=True)
async def test_who_has_a_passkey_touches_it_before_an_account_is_connected(stand: Stand) -> None:
    async with stand.browser() as browser:
        await stand.enter(browser, "Ada")
        key = Authenticator(stand.address)
        options = (await browser.post("/v1/account/passkeys/options")).json()
        body = {"credential": key.create(options), "name": "Key"}
        assert (await browser.post("/v1/account/passkeys", json=body)).status_code == 200
        assert (await browser.post("/v1/account/openid")).json()["code"] == "people.touch.unknown"
        asked = {"act": "account.passkey.add", "subject": ""}
        options = (await browser.post("/v1/touches/options", json=asked)).json()
        touch = (await browser.post("/v1/touches", json={"credential": key.get(options)})).json()["touch"]
        given = await browser.post("/v1/account/openid", headers={"rocade-touch": touch})
        assert given.json()["location"].startswith(stand.foreign.issuer)


@pytest.mark.parametrize("stand", [""], indirect=True)
async def test_a_provider_that_is_away_is_said_to_be_away(stand: Stand) -> None:
    stand.foreign.stop()
    async with stand.browser() as browser:
        down = await browser.get("/signin/openid")
    assert (down.status_code, down.json()["code"]) == (503, "people.openid.down")


ODD: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "another name": ({"issuer": "https://other.example"}, "people.openid.issuer"),
    "no endpoints": (b'{"issuer": "http://localhost:1"}', "people.openid.down"),
    "no document": (b"<html>", "people.openid.down"),
    "a huge one": (b" " * (openid.ANSWER_LIMIT_BYTES + 1), "people.openid.down"),
    "an endpoint in clear": ({"token_endpoint": "http://example.org/token"}, "people.openid.address"),
}


@pytest.mark.parametrize("how", ODD)
async def test_a_provider_that_describes_itself_oddly_is_not_used(how: str) -> None:
    said, code = ODD[how]
    whole = {"issuer": "http://localhost:1", "authorization_endpoint": "http://localhost:1/auth",
             "token_endpoint": "http://localhost:1/token", "jwks_uri": "http://localhost:1/jwks"}  # fmt: skip
    body = said if isinstance(said, bytes) else json.dumps({**whole, **said}).encode()
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, content=body)))
    provider = openid.Provider(openid.Settings("http://localhost:1", "rocade"), "http://localhost:8080", client)
    with pytest.raises(RocadeError, match=re.escape(code)):
        await provider._metadata()
    await provider.close()


def test_a_provider_in_clear_is_refused_at_start() -> None:
    with pytest.raises(Misconfigured):
        openid.Provider(openid.Settings("http://example.org", "rocade"), "http://localhost:8080")
