"""Sign-in in a real Chromium with a virtual authenticator: first passkey, second, loss and recovery, sign out everywhere."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from keyed import DerivedKeys, keyed
from playwright.sync_api import Browser, BrowserContext, CDPSession, Route, expect
from playwright.sync_api import Page as BrowserPage
from tests.unowned import Unowned
from toytown import Notes, Proven, Served, Toys, leave, services, sockets

from rocade.console import applications as application_pages
from rocade.console import pages
from rocade.console.application import Module
from rocade.console.languages import COOKIE
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import Access, openid_provider
from rocade.fabric.database import Database
from rocade.trust.authority.applications import Applications, StaffRole
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.people import People, Person, Site


class House:
    """The console with people on a real database; `do` runs something of theirs in a loop of its own."""

    def __init__(self, url: str, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._database = keyed(self.do(Database.connect(url)))
        self.audit = Notes()
        bound = sockets(0)
        site = Site.at(f"http://localhost:{bound[0].getsockname()[1]}")
        self.people = People(self._database, self.audit, SystemClock(), SystemRandom(), site, "eu")
        served = People(Lazy(url), self.audit, SystemClock(), SystemRandom(), site, "eu")  # type: ignore[arg-type]
        gate = Gate("eu", Unowned())
        access = Access(lambda *_: Proven("nobody"), lambda _: False, gate, self.audit, SystemClock(), sessions=served)
        staff = Parts()
        self.applications = Applications(
            self._database, self.audit, SystemClock(), SystemRandom(), site.origin, repr, staff
        )
        asked = Applications(Lazy(url), self.audit, SystemClock(), SystemRandom(), site.origin, repr, staff)  # type: ignore[arg-type]
        openid = Module(
            [*openid_provider.HANDLERS, pages.router([*openid_provider.REDIRECTS, *application_pages.HANDLERS])],
            {"applications": asked},
        )
        built, _ = services(Toys(3), directory, people=served, access=access, modules=[openid])
        self.served = Served(built, bound)

    def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def link(self, person: Person) -> str:
        return f"{self.served.address}/signin/link/{self.do(self.people.link(person.id, 'test', 600))}"

    def close(self) -> None:
        self.do(self._database.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class Parts:
    """Everybody sells parts."""

    def staff_roles(self, person: str, brand: str, at_us: int) -> list[StaffRole]:
        return [StaffRole("FR-1", "FR-1-1", brand, "parts")]


class Lazy:
    """A database whose pool is opened by the loop that serves, at its first use."""

    keyring = DerivedKeys()

    def __init__(self, url: str) -> None:
        self._url = url
        self._opened: asyncio.Task[Database] | None = None

    @property
    def pool(self) -> Lazy:
        return self

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        if self._opened is None:
            self._opened = asyncio.create_task(Database.connect(self._url, 2))
        async with (await self._opened).pool.acquire() as connection:
            yield connection


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> Iterator[House]:
    made = House(database_url, tmp_path)
    with made.served:
        yield made
    made.close()


class Device:
    """A browser on a device that has one passkey store."""

    def __init__(self, browser: Browser) -> None:
        self.context: BrowserContext = browser.new_context(locale="en-GB")
        self.page: BrowserPage = self.context.new_page()
        self._cdp: CDPSession = self.context.new_cdp_session(self.page)
        self._cdp.send("WebAuthn.enable")
        self.authenticator = self.plug()

    def plug(self, *, transport: str = "internal") -> str:
        options = {
            "protocol": "ctap2", "transport": transport, "hasResidentKey": True, "hasUserVerification": True,
            "isUserVerified": True, "automaticPresenceSimulation": True,
        }  # fmt: skip
        return str(self._cdp.send("WebAuthn.addVirtualAuthenticator", {"options": options})["authenticatorId"])

    def unplug(self) -> None:
        self._cdp.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.authenticator})

    def verify_user(self, is_verified: bool) -> None:
        self._cdp.send(
            "WebAuthn.setUserVerified", {"authenticatorId": self.authenticator, "isUserVerified": is_verified}
        )

    def credentials(self) -> list[dict[str, Any]]:
        found = self._cdp.send("WebAuthn.getCredentials", {"authenticatorId": self.authenticator})
        return list(found["credentials"])

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def enter(self, link: str) -> None:
        self.page.goto(link)
        self.press("Go on")
        self.page.wait_for_url("**/account")

    def register(self, name: str) -> None:
        self.page.locator("form[data-act=add] input").fill(name)
        self.press("Add a passkey")


@pytest.fixture
def device(browser: Browser) -> Iterator[Callable[[], Device]]:
    made: list[Device] = []

    def make() -> Device:
        made.append(Device(browser))
        return made[-1]

    yield make
    for one in made:
        leave(one.context)


def test_a_persons_way_from_the_first_link_to_signing_out_everywhere(
    house: House, device: Callable[[], Device]
) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    laptop = device()
    laptop.enter(house.link(ada))
    expect(laptop.page.get_by_text("You came in by a link")).to_be_visible()
    laptop.register("Laptop")
    laptop.page.wait_for_url("**/my")
    assert len(laptop.credentials()) == 1

    laptop.page.goto(f"{house.served.address}/account")
    expect(laptop.page.locator(".keys").first).to_contain_text("Laptop")
    lost = house.do(house.people.redeem_link(house.do(house.people.link(ada.id, "test", 600))))
    laptop.page.reload()
    laptop.page.get_by_role("button", name="Sign out: One-time link").click()
    expect(laptop.page.locator("#sessions li")).to_have_count(1)
    assert house.do(house.people.session(lost)) is None
    laptop.press("Sign out everywhere")
    laptop.page.get_by_role("dialog").get_by_role("button", name="Sign out everywhere").click()
    laptop.page.wait_for_url("**/signin")
    laptop.page.goto(f"{house.served.address}/account")
    laptop.page.wait_for_url("**/signin?back=/account")

    laptop.press("Sign in with a passkey")
    laptop.page.wait_for_url("**/account")
    expect(laptop.page.get_by_text("this browser")).to_be_visible()


def test_a_second_passkey_takes_a_touch_of_the_first_and_lets_in_alone(
    house: House, device: Callable[[], Device]
) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    laptop = device()
    laptop.enter(house.link(ada))
    laptop.register("Laptop")
    laptop.page.wait_for_url("**/my")
    laptop.page.goto(f"{house.served.address}/account")
    held: list[Route] = []
    laptop.page.route("**/v1/account/passkeys/options", lambda route: held.append(route))  # noqa: PLW0108 - the library marks what it is given
    with laptop.page.expect_request("**/v1/account/passkeys/options"):
        laptop.register("Key ring")
    laptop.unplug()
    laptop.authenticator = laptop.plug(transport="usb")
    held[0].continue_()
    expect(laptop.page.locator(".keys").first).to_contain_text("Key ring")
    names = [one.name for one in house.do(house.people.passkeys.list(ada.id))]
    assert names == ["Laptop", "Key ring"]
    assert [entry.facts for entry in house.audit.entries if entry.action == "people.touch"] == [
        {"act": "account.passkey.add"}
    ]

    laptop.page.get_by_role("button", name="Remove: Laptop").click()
    laptop.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(laptop.page.locator(".keys").first).not_to_contain_text("Laptop")
    laptop.page.locator(".account summary").click()
    laptop.page.locator(".account").get_by_role("button", name="Sign out").click()
    laptop.page.wait_for_url("**/signin")
    laptop.press("Sign in with a passkey")
    laptop.page.wait_for_url("**/my")
    assert [one.name for one in house.do(house.people.passkeys.list(ada.id))] == ["Key ring"]


def test_who_lost_the_passkey_is_recovered_by_a_second_person_and_the_old_one_ends(
    house: House, device: Callable[[], Device]
) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    grace = house.do(house.people.add("Grace Hopper", duties=("support",)))
    laptop, desk = device(), device()
    laptop.enter(house.link(ada))
    laptop.register("Laptop")
    laptop.page.wait_for_url("**/my")
    desk.enter(house.link(grace))
    desk.register("Desk")
    desk.page.wait_for_url("**/")

    desk.page.goto(f"{house.served.address}/recovery")
    desk.page.get_by_label("Name").fill("lovelace")
    desk.press("Find")
    desk.page.get_by_role("button", name="Recover… Ada Lovelace").click()
    desk.page.get_by_role("dialog").get_by_role("button", name="End passkeys and make a link").click()
    link = desk.page.locator("#secret").inner_text()
    laptop.page.goto(f"{house.served.address}/account")
    laptop.page.wait_for_url("**/signin?back=/account")
    laptop.press("Sign in with a passkey")
    expect(laptop.page.get_by_text("This passkey was removed or replaced")).to_be_visible()

    phone = device()
    phone.enter(link)
    phone.register("Phone")
    phone.page.wait_for_url("**/my")
    assert [one.name for one in house.do(house.people.passkeys.list(ada.id))] == ["Phone"]


def test_a_device_that_does_not_verify_its_user_gets_nowhere(house: House, device: Callable[[], Device]) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    laptop = device()
    laptop.enter(house.link(ada))
    laptop.register("Laptop")
    laptop.page.wait_for_url("**/my")
    laptop.context.clear_cookies()
    laptop.page.goto(f"{house.served.address}/signin")
    laptop.verify_user(False)
    laptop.press("Sign in with a passkey")
    expect(laptop.page.get_by_text("Nothing was confirmed")).to_be_visible()
    assert laptop.page.url.endswith("/signin")


def test_a_used_link_says_so_and_opens_nothing(house: House, device: Callable[[], Device]) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    link = house.link(ada)
    laptop, other = device(), device()
    other.page.goto(link)
    expect(other.page.get_by_text("Welcome, Ada Lovelace")).to_be_visible()
    laptop.enter(link)
    other.press("Go on")
    expect(other.page.get_by_text("This link was used already")).to_be_visible()
    other.page.reload()
    expect(other.page.get_by_role("heading", name="This link opens nothing")).to_be_visible()


def test_an_invitation_that_travelled_shows_a_number_and_goes_on_once_it_is_confirmed(
    house: House, device: Callable[[], Device]
) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    phone = device()
    phone.page.goto(f"{house.served.address}/signin/link/{house.do(house.people.link(ada.id, 'invitation', 86_400))}")
    phone.press("Go on")
    number = phone.page.locator("#number")
    expect(number).to_have_text(re.compile(r"^\d{4} \d{4}$"))
    house.do(house.people.links.confirm(ada.id, number.inner_text(), "local"))
    phone.page.wait_for_url("**/account")


def test_a_duty_is_lent_for_some_acts_until_a_day_and_taken_back(house: House, device: Callable[[], Device]) -> None:
    ada = house.do(house.people.add("Ada Lovelace"))
    grace = house.do(house.people.add("Grace Hopper", duties=("security",)))
    desk = device()
    desk.enter(house.link(grace))
    desk.register("Desk")
    desk.page.wait_for_url("**/")
    desk.page.goto(f"{house.served.address}/people")
    desk.page.locator(f"#{ada.id.replace(':', '-')}").get_by_role("link", name="Duties").click()
    desk.page.get_by_label("Duty", exact=True).select_option("support")
    desk.page.get_by_label("Only for these acts").fill("people.find")
    desk.press("Lend a duty")
    expect(desk.page.locator("#held")).to_contain_text("people.find")
    (lent,) = house.do(house.people.by_id(ada.id)).duties
    assert (lent.duty, lent.scope, lent.granted_by) == ("support", "people.find", grace.id)
    assert lent.until_us
    desk.page.get_by_role("button", name="Take back: Support").click()
    expect(desk.page.locator("#held")).to_contain_text("No duty")
    assert house.do(house.people.by_id(ada.id)).duties == ()


WORDS = [
    ("en", "Warranty asks who you are", "Do not allow"),
    ("fr", "Warranty demande qui vous êtes", "Ne pas autoriser"),
    ("zh", "Warranty 想知道您是谁", "不允许"),
]


def test_an_application_asks_and_what_was_allowed_is_taken_back(house: House, device: Callable[[], Device]) -> None:
    back = "https://warranty.example/callback"
    house.do(house.applications.add("warranty", "Warranty", [back], ["parts"], scopes=["openid", "roles", "profile"]))
    ada = house.do(house.people.add("Ada Lovelace"))
    laptop = device()
    laptop.enter(house.link(ada))
    laptop.register("Laptop")
    laptop.page.wait_for_url("**/my")
    laptop.page.route(f"{back}*", lambda route: route.fulfill(body="the application"))
    request = (
        f"{house.served.address}/openid/authorize?response_type=code&client_id=warranty&redirect_uri={back}&state=s1"
        "&scope=openid+profile&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256"
    )
    for language, asks, deny in WORDS[::-1]:
        laptop.context.add_cookies([{"name": COOKIE, "value": language, "url": house.served.address}])
        laptop.page.goto(request)
        expect(laptop.page.get_by_role("heading", name=asks)).to_be_visible()
        laptop.press(deny)
        laptop.page.wait_for_url(f"{back}?error=access_denied*")
    laptop.page.goto(request)
    expect(laptop.page.get_by_text("leads to warranty.example")).to_be_visible()
    expect(laptop.page.locator("#learns li")).to_have_count(2)
    expect(laptop.page.get_by_text("It may ask for five minutes")).to_be_visible()
    laptop.page.get_by_label("Do not ask me again for 30 days").check()
    laptop.press("Allow")
    laptop.page.wait_for_url(f"{back}?code=*&state=s1")
    unasked = laptop.context.request.get(request, max_redirects=0)
    assert unasked.headers["location"].startswith(f"{back}?code=")

    laptop.page.goto(f"{house.served.address}/account")
    expect(laptop.page.locator("#applications li")).to_contain_text("Your name and language")
    laptop.page.get_by_role("button", name="Take back: Warranty").click()
    expect(laptop.page.locator("#applications")).to_have_count(0)
    laptop.page.goto(request)
    expect(laptop.page.get_by_role("heading", name="Warranty asks who you are")).to_be_visible()
