"""A region's sign-in door over real HTTP with people on a real database, and browsers that hold a passkey in software."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Request, get
from litestar.response import Stream
from tests.clocks import PassingClock
from tests.notebook import Notebook
from tests.unowned import Unowned

sys.path.insert(0, str(Path(__file__).parents[2] / "trust/authority/people"))

from authenticator import Authenticator

from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, Listeners, build, does, loopback_sockets, people_api, signin
from rocade.doors.http.streams import ALIVE, events
from rocade.fabric.database import Database
from rocade.trust.authority.gate import Gate, acts
from rocade.trust.authority.people import People, Person, Site

MINUTE_US = 60_000_000


class Desk:
    """The sign-in door of a region with one person who has one passkey."""

    def __init__(self, people: People, address: str, clock: PassingClock, audit: Notebook) -> None:
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


@get("/ticks", opt=does(acts.LIST_VEHICLES))
async def ticks(request: Request) -> Stream:  # type: ignore[type-arg]
    """A stream that says it is alive twenty times a second."""

    async def frames() -> AsyncIterator[bytes]:
        while True:
            yield ALIVE
            await asyncio.sleep(0.05)

    return events(request, frames())


@pytest.fixture
async def desk(database: Database, tmp_path: Path) -> AsyncIterator[Desk]:
    clock, audit = PassingClock(), Notebook()
    sockets = loopback_sockets(0)
    address = f"http://localhost:{sockets[0].getsockname()[1]}"
    people = People(database, audit, clock, SystemRandom(), Site.at(address), "eu")
    access = Access(lambda *_: None, lambda _: False, Gate("eu", Unowned()), audit, clock, sessions=people)  # type: ignore[arg-type,return-value]
    app = build([*signin.HANDLERS, *people_api.HANDLERS, ticks], {"people": people}, access, version="0")
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
    await asyncio.wait_for(listeners.started(), 30)
    yield
    listeners.stop()
    await asyncio.wait_for(running, 30)
