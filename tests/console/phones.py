"""People with phones, and what they agreed: what the tests of the owners' pages share."""

from __future__ import annotations

from typing import Any

import toytown
from household import Household
from playwright.sync_api import Browser, CDPSession, Page

from rocade.core import data_classes

GARAGE, INSURER = "dealer:garage-ronville", "partner:assur-nord"


class Phone:
    """One small browser of one person, in English; what it asked for and complained of is kept."""

    def __init__(self, browser: Browser, house: Household, who: str, **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 360, "height": 740}, **{"locale": "en", **options})
        self.house, self.who = house, who
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page = self.tab()
        if who:
            house.sign_in(self.page, who)

    def tab(self) -> Page:
        page = self.context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: toytown.is_complaint(said) and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def open(self, path: str, page: Page | None = None) -> Page:
        page = page or self.page
        page.goto(self.house.address + path)
        return page

    def leave(self) -> None:
        """End what the pages hold open."""
        toytown.leave(self.context)

    def foreign(self) -> list[str]:
        own = (self.house.address + "/", f"blob:{self.house.address}/", "data:")
        return [url for url in self.requests if not url.startswith(own)]


def forget(house: Household) -> None:
    for name in ("e208", "c3", "volta", "lune"):
        ref, owner = house.ref(name), house.persons["Léa"]
        for grant in house.call(house.consents.grants(ref, True)):
            house.call(house.consents.withdraw(ref, owner, grant.id))
        for guest in house.call(house.consents.guests(ref, True)):
            house.call(house.consents.end(ref, owner, guest.id))


def grants(house: Household, name: str = "e208") -> list[tuple[str, str, tuple[str, ...]]]:
    found = house.call(house.consents.grants(house.ref(name), True))
    return [(one.recipient, one.purpose, data_classes.names(one.classes)) for one in found]


def allow(house: Household, *classes: str, recipient: str = GARAGE, purpose: str = "maintenance") -> str:
    work = house.consents.grant(house.ref("e208"), house.persons["Léa"], recipient, purpose, data_classes.mask(classes))
    return house.call(work).id


def with_passkey(phone: Phone) -> CDPSession:
    """An authenticator for this phone, and a passkey registered by the account page."""
    cdp = phone.context.new_cdp_session(phone.page)
    cdp.send("WebAuthn.enable")
    cdp.send(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
                     "isUserVerified": True, "automaticPresenceSimulation": True}},
    )  # fmt: skip
    house = phone.house
    secret = house.call(house.people.link(house.persons[phone.who], "test", 600))
    page = phone.open(f"/signin/link/{secret}")
    page.get_by_role("button", name="Go on").click()
    page.wait_for_url("**/account")
    page.locator("form[data-act=add] input").fill("Phone")
    page.get_by_role("button", name="Add a passkey").click()
    page.wait_for_url("**/my")
    return cdp
