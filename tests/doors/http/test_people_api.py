"""What operators do for people, over real HTTP and the real gate: by duty, by touch, never for oneself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.doors.http.signing_in import Desk, answer, desk

sys.path.insert(0, str(Path(__file__).parents[2] / "trust/authority/people"))

from authenticator import Authenticator

__all__ = ["desk"]

DAY_US = 86_400_000_000


class Clerk:
    """An operator at a browser with a passkey of his own."""

    def __init__(self, desk: Desk, browser: httpx.AsyncClient, id: str, key: Authenticator) -> None:
        self.desk, self.browser, self.id, self.key = desk, browser, id, key

    @classmethod
    async def at(cls, desk: Desk, browser: httpx.AsyncClient, *duties: str) -> Clerk:
        person = await desk.people.add("Grace Hopper", duties)
        key = Authenticator(desk.address, person.id.encode())
        await desk.enter(browser, person)
        assert (await desk.register(browser, key))["http"] == 200
        return cls(desk, browser, person.id, key)

    async def touch(self, act: str, subject: str = "") -> str:
        options = await answer(self.browser, "/v1/touches/options", act=act, subject=subject)
        return str((await answer(self.browser, "/v1/touches", credential=self.key.get(options)))["touch"])

    async def does(
        self, method: str, path: str, act: str, subject: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """One act with its touch."""
        headers = {"rocade-touch": await self.touch(act, subject)}
        found = await self.browser.request(method, path, json=body, headers=headers)
        return {"http": found.status_code, **found.json()}


async def test_support_finds_and_recovers_somebody_and_the_link_lets_in(desk: Desk) -> None:
    async with desk.browser() as browser, desk.browser() as fresh, desk.browser() as old:
        clerk = await Clerk.at(desk, browser, "support")
        await desk.sign_in(old)
        found = (await browser.get("/v1/people/found", params={"name": "aD"})).json()
        assert [(one["person"], one["name"]) for one in found] == [(desk.person.id, "Ada")]
        path = f"/v1/people/{desk.person.id}/recovery"
        given = await clerk.does("POST", path, "people.recover", desk.person.id)
        assert given["address"] == f"{desk.address}/signin/link/{given['secret']}"
        assert (await old.get("/v1/account")).status_code == 401
        entered = await answer(fresh, "/v1/signin/link", secret=given["secret"])
        assert (entered["person"], entered["next"]) == (desk.person.id, "/account")


async def test_an_invitation_that_travels_lets_in_who_tells_its_number(desk: Desk) -> None:
    bob = await desk.people.add("Bob")
    async with desk.browser() as browser, desk.browser() as his, desk.browser() as thiefs:
        clerk = await Clerk.at(desk, browser, "security")
        given = await clerk.does("POST", f"/v1/people/{bob.id}/link?hours=48", "people.link", f"{bob.id}?hours=48")
        desk.clock.ahead_us += 47 * 3_600_000_000
        assert (await desk.sign_in(browser, clerk.key))["http"] == 200
        for opened in (his, thiefs):
            assert (await answer(opened, "/v1/signin/link", secret=given["secret"]))[
                "code"
            ] == "people.link.unconfirmed"
        await answer(thiefs, "/v1/signin/link/asks", secret=given["secret"])
        asked = await answer(his, "/v1/signin/link/asks", secret=given["secret"])
        assert asked["is_confirmed"] is False
        query = f"number={asked['number']}"
        path = f"/v1/people/{bob.id}/confirmation?{query}"
        assert (await answer(browser, path))["code"] == "gate.touch"
        other = await clerk.does("POST", path, "people.link", f"{bob.id}?number=12345678")
        assert other["code"] == "people.touch.other", "a touch confirms one number"
        assert (await clerk.does("POST", path, "people.link", f"{bob.id}?{query}"))["confirmed"] == 1
        assert (await answer(his, "/v1/signin/link/asks", secret=given["secret"]))["is_confirmed"] is True
        refused = await answer(thiefs, "/v1/signin/link", secret=given["secret"])
        assert refused["code"] == "people.link.unconfirmed"
        assert (await answer(his, "/v1/signin/link", secret=given["secret"]))["person"] == bob.id


TOUCHLESS = ["recovery", "link", "duties"]


@pytest.mark.parametrize("what", TOUCHLESS)
async def test_without_a_touch_nothing_is_done(desk: Desk, what: str) -> None:
    async with desk.browser() as browser:
        await Clerk.at(desk, browser, "support", "security")
        refused = await answer(browser, f"/v1/people/{desk.person.id}/{what}?duty=release&until_us={1 << 52}")
        assert (refused["http"], refused["code"]) == (403, "gate.touch")
    assert len(await desk.people.passkeys.list(desk.person.id)) == 1


async def test_a_touch_for_one_person_recovers_no_other(desk: Desk) -> None:
    async with desk.browser() as browser:
        clerk = await Clerk.at(desk, browser, "support")
        bob = await desk.people.add("Bob")
        refused = await clerk.does("POST", f"/v1/people/{desk.person.id}/recovery", "people.recover", bob.id)
        assert refused["code"] == "people.touch.other"
    assert len(await desk.people.passkeys.list(desk.person.id)) == 1


ROLES: dict[str, tuple[tuple[str, ...], dict[str, int]]] = {
    "nobody's operator": ((), {"list": 403, "find": 403, "add": 403, "recover": 403, "lend": 403, "end": 403}),
    "support": (("support",), {"list": 403, "find": 200, "add": 403, "recover": 200, "lend": 403, "end": 403}),
    "security": (("security",), {"list": 200, "find": 403, "add": 201, "recover": 403, "lend": 201, "end": 200}),
    "release": (("release",), {"list": 403, "find": 403, "add": 403, "recover": 403, "lend": 403, "end": 403}),
}


@pytest.mark.parametrize("role", ROLES)
async def test_each_duty_does_what_is_its_own(desk: Desk, role: str) -> None:
    duties, expected = ROLES[role]
    ada, got = desk.person.id, {}
    async with desk.browser() as browser:
        clerk = await Clerk.at(desk, browser, *duties)
        lend = f"duty=support&only=enrolment&until_us={desk.clock.now_us() + DAY_US}"
        got["list"] = (await browser.get("/v1/people")).status_code
        got["find"] = (await browser.get("/v1/people/found", params={"name": "a"})).status_code
        got["add"] = (await clerk.does("POST", "/v1/people", "people.add", "", {"name": "Bob"}))["http"]
        got["recover"] = (await clerk.does("POST", f"/v1/people/{ada}/recovery", "people.recover", ada))["http"]
        got["lend"] = (await clerk.does("POST", f"/v1/people/{ada}/duties?{lend}", "people.duties", f"{ada}?{lend}"))[
            "http"
        ]
        got["end"] = (await clerk.does("DELETE", f"/v1/people/{ada}", "people.end", ada))["http"]
    assert got == expected


async def test_nobody_acts_for_himself(desk: Desk) -> None:
    async with desk.browser() as browser:
        clerk = await Clerk.at(desk, browser, "security", "support")
        me, until_us = clerk.id, desk.clock.now_us() + DAY_US
        lend = f"duty=release&until_us={until_us}"
        for method, path, act, query in (
            ("POST", f"/v1/people/{me}/recovery", "people.recover", ""),
            ("POST", f"/v1/people/{me}/link", "people.link", ""),
            ("POST", f"/v1/people/{me}/duties", "people.duties", f"?{lend}"),
            ("DELETE", f"/v1/people/{me}", "people.end", ""),
        ):
            refused = await clerk.does(method, path + query, act, me + query)
            assert refused["code"] == "people.self", path
            assert desk.audit.last()[1:] == ("refused", "people.self")


async def test_a_lent_duty_opens_and_its_end_closes_what_it_covers(desk: Desk) -> None:
    async with desk.browser() as browser, desk.browser() as hers:
        clerk = await Clerk.at(desk, browser, "security")
        await desk.sign_in(hers)
        find = {"params": {"name": "a"}}
        assert (await hers.get("/v1/people/found", **find)).status_code == 403
        query = f"?duty=support&only=people.find&until_us={desk.clock.now_us() + DAY_US}"
        path = f"/v1/people/{desk.person.id}/duties{query}"
        lent = await clerk.does("POST", path, "people.duties", desk.person.id + query)
        assert (await hers.get("/v1/people/found", **find)).status_code == 200
        number = lent["number"]
        path = f"/v1/people/{desk.person.id}/duties/{number}"
        subject = f"duty:{number} {desk.person.id}"
        assert (await clerk.does("DELETE", path, "people.duties", subject))["http"] == 200
        assert (await hers.get("/v1/people/found", **find)).status_code == 403


async def test_an_invited_person_gets_a_new_link_until_there_is_a_passkey(desk: Desk) -> None:
    async with desk.browser() as browser:
        clerk = await Clerk.at(desk, browser, "security")
        bob = (await clerk.does("POST", "/v1/people", "people.add", "", {"name": "Bob"}))["person"]
        assert (await clerk.does("POST", f"/v1/people/{bob}/link", "people.link", bob))["secret"]
        refused = await clerk.does("POST", f"/v1/people/{desk.person.id}/link", "people.link", desk.person.id)
        assert (refused["http"], refused["code"]) == (409, "people.passkey.exists")
        unknown = await clerk.does("POST", "/v1/people/person:00/link", "people.link", "person:00")
        assert (unknown["http"], unknown["code"]) == (404, "people.unknown")
