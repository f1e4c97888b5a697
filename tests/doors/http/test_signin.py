"""Sign-in over real HTTP, with a passkey in software that may lie: what is let in, what is refused, what is written down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

sys.path.insert(0, str(Path(__file__).parents[2] / "trust/authority/people"))

from authenticator import PRESENT, Authenticator, text
from tests.doors.http.conftest import Unowned

from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.doors.http import Access, Listeners, build, loopback_sockets, signin
from rocade.fabric.database import Database
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.people import People, Person, Site

MINUTE_US = 60_000_000


class TurnedClock(SystemClock):
    """The real clock, turned forward at will."""

    ahead_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.ahead_us

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_us / 1e6


class Notes:
    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    async def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def last(self) -> tuple[str, str, str]:
        entry = self.entries[-1]
        return entry.action, entry.outcome, entry.reason


class Desk:
    """The sign-in door of a region with one person who has one passkey."""

    def __init__(self, people: People, address: str, clock: TurnedClock, audit: Notes) -> None:
        self.people, self.address, self.clock, self.audit = people, address, clock, audit
        self.passkey = Authenticator(address)
        self.person: Person

    def browser(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.address, headers={"origin": self.address}, trust_env=False)

    async def enter(self, browser: httpx.AsyncClient, person: Person) -> dict[str, Any]:
        secret = await self.people.link(person.id, "test", 60)
        return await answer(browser, "/v1/signin/link", secret=secret)

    async def register(
        self, browser: httpx.AsyncClient, passkey: Authenticator, touch: str = "", **lies: Any
    ) -> dict[str, Any]:
        options = await answer(browser, "/v1/account/passkeys/options", touch)
        return await answer(browser, "/v1/account/passkeys", credential=passkey.create(options, **lies), name="Laptop")

    async def sign_in(
        self, browser: httpx.AsyncClient, passkey: Authenticator | None = None, **lies: Any
    ) -> dict[str, Any]:
        options = await answer(browser, "/v1/signin/options")
        return await answer(browser, "/v1/signin", credential=(passkey or self.passkey).get(options, **lies))

    async def touch(self, browser: httpx.AsyncClient, act: str, subject: str = "") -> str:
        options = await answer(browser, "/v1/touches/options", act=act, subject=subject)
        return str((await answer(browser, "/v1/touches", credential=self.passkey.get(options)))["touch"])


async def answer(browser: httpx.AsyncClient, path: str, touch: str = "", **body: Any) -> dict[str, Any]:
    """The document of an answer, whether it is what was asked for or a problem."""
    found = await browser.post(path, json=body, headers={"rocade-touch": touch} if touch else {})
    return {"http": found.status_code, **found.json()}


@pytest.fixture
async def desk(database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    clock, audit = TurnedClock(), Notes()
    sockets = loopback_sockets(0)
    address = f"http://localhost:{sockets[0].getsockname()[1]}"
    people = People(database, audit, clock, SystemRandom(), Site.at(address), "eu")
    access = Access(lambda *_: None, lambda _: False, Gate("eu", Unowned()), audit, clock, sessions=people)  # type: ignore[arg-type,return-value]
    app = build(signin.HANDLERS, {"people": people}, access, version="0")
    async with serving(Listeners(app, SystemRandom(), pages=sockets)):
        made = Desk(people, address, clock, audit)
        made.person = await people.add("Ada")
        async with made.browser() as browser:
            assert (await made.enter(browser, made.person))["next"] == "/account"
            assert (await made.register(browser, made.passkey))["http"] == 200
        yield made


@asynccontextmanager
async def serving(listeners: Listeners) -> AsyncIterator[None]:
    running = asyncio.create_task(listeners.serve())
    await asyncio.wait_for(listeners.started(), 10)
    yield
    listeners.stop()
    await asyncio.wait_for(running, 10)


async def test_a_passkey_signs_in_without_any_name_typed(desk: Desk) -> None:
    async with desk.browser() as browser:
        done = await desk.sign_in(browser)
        assert (done["http"], done["person"], done["next"]) == (200, desk.person.id, "/my")
        account = (await browser.get("/v1/account")).json()
    assert (account["name"], account["means"]) == ("Ada", "passkey")
    assert [one["name"] for one in account["passkeys"]] == ["Laptop"]
    assert desk.audit.last() == ("people.sign_in", "done", "")


LIES: dict[str, tuple[Callable[[Desk], dict[str, Any]], str, int]] = {
    "another origin": (lambda desk: {"origin": "http://localhost.example"}, "people.passkey.origin", 403),
    "the same host on another port": (lambda desk: {"origin": "http://localhost:1"}, "people.passkey.origin", 403),
    "a frame of another site": (lambda desk: {"crossOrigin": True}, "people.passkey.origin", 403),
    "another host's hash": (lambda desk: {"host": "example.com"}, "people.passkey.signature", 403),
    "no user verification": (lambda desk: {"flags": PRESENT}, "people.passkey.unverified", 403),
    "another key": (lambda desk: {"key": ec.generate_private_key(ec.SECP256R1())}, "people.passkey.signature", 403),
    "a challenge nobody drew": (lambda desk: {"challenge": text(bytes(32))}, "people.challenge.unknown", 404),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_false_answer_is_refused_and_written_down(desk: Desk, lie: str) -> None:
    lies, code, status = LIES[lie]
    async with desk.browser() as browser:
        refused = await desk.sign_in(browser, **lies(desk))
        assert (refused["code"], refused["http"]) == (code, status)
        assert desk.audit.last() == ("people.sign_in", "refused", code)
        assert (await browser.get("/v1/account")).status_code == 401


async def test_a_replayed_answer_is_refused(desk: Desk) -> None:
    async with desk.browser() as browser:
        options = await answer(browser, "/v1/signin/options")
        credential = desk.passkey.get(options)
        assert (await answer(browser, "/v1/signin", credential=credential))["http"] == 200
        assert (await answer(browser, "/v1/signin", credential=credential))["code"] == "people.challenge.used"


async def test_a_challenge_is_used_up_by_a_false_answer_too(desk: Desk) -> None:
    async with desk.browser() as browser:
        options = await answer(browser, "/v1/signin/options")
        await answer(browser, "/v1/signin", credential=desk.passkey.get(options, flags=PRESENT))
        again = await answer(browser, "/v1/signin", credential=desk.passkey.get(options))
    assert again["code"] == "people.challenge.used"


async def test_a_challenge_belongs_to_the_browser_that_asked(desk: Desk) -> None:
    async with desk.browser() as one, desk.browser() as other:
        options = await answer(one, "/v1/signin/options")
        await answer(other, "/v1/signin/options")
        assert (await answer(other, "/v1/signin", credential=desk.passkey.get(options)))[
            "code"
        ] == "people.challenge.foreign"


async def test_a_challenge_ends_after_two_minutes(desk: Desk) -> None:
    async with desk.browser() as browser:
        options = await answer(browser, "/v1/signin/options")
        desk.clock.ahead_us = 2 * MINUTE_US
        assert (await answer(browser, "/v1/signin", credential=desk.passkey.get(options)))[
            "code"
        ] == "people.challenge.expired"


async def test_a_counter_that_goes_back_is_refused_as_a_copied_key(desk: Desk) -> None:
    async with desk.browser() as browser:
        assert (await desk.sign_in(browser))["http"] == 200
        assert desk.passkey.counter is not None
        desk.passkey.counter -= 1
        assert (await desk.sign_in(browser))["code"] == "people.passkey.counter"
        assert desk.audit.last() == ("people.sign_in", "refused", "people.passkey.counter")


async def test_a_passkey_that_nobody_registered_is_refused(desk: Desk) -> None:
    async with desk.browser() as browser:
        assert (await desk.sign_in(browser, Authenticator(desk.address, b"other")))["code"] == "people.passkey.unknown"


async def test_nonsense_instead_of_a_credential_is_refused(desk: Desk) -> None:
    async with desk.browser() as browser:
        for nonsense in ({}, {"id": "x"}, {"id": 1, "response": []}):
            assert (await answer(browser, "/v1/signin", credential=nonsense))["code"] == "people.passkey.malformed"
        assert (await answer(browser, "/v1/signin", credential="x"))["code"] == "http.request.invalid"


async def test_too_many_wrong_answers_are_made_to_wait(desk: Desk) -> None:
    async with desk.browser() as browser:
        for _ in range(10):
            await desk.sign_in(browser, flags=PRESENT)
        found = await browser.post("/v1/signin", json={"credential": {}})
        assert (found.status_code, found.json()["code"]) == (429, "quota.sign_in")
        assert 0 < int(found.headers["retry-after"]) <= 600
        desk.clock.ahead_us = 10 * MINUTE_US
        assert (await desk.sign_in(browser))["http"] == 200
