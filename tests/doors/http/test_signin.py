"""Sign-in over real HTTP, with a passkey in software that may lie: what is let in, what is refused, what is written down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.doors.http.signing_in import MINUTE_US, Desk, answer, desk

sys.path.insert(0, str(Path(__file__).parents[2] / "trust/authority/people"))

from authenticator import PRESENT, Authenticator, text

__all__ = ["desk"]


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


async def test_brackets_within_brackets_are_the_callers_fault(desk: Desk) -> None:
    async with desk.browser() as browser:
        for path, before in (("/v1/signin", b'{"credential":'), ("/v1/signin/link", b'{"more":')):
            body = before + b"[" * 100_000 + b"]" * 100_000 + b"}"
            said = await browser.post(path, content=body, headers={"content-type": "application/json"})
            assert (said.status_code, said.json()["code"]) == (400, "http.request.invalid"), path


async def test_too_many_wrong_answers_are_made_to_wait(desk: Desk) -> None:
    async with desk.browser() as browser:
        for _ in range(10):
            await desk.sign_in(browser, flags=PRESENT)
        found = await browser.post("/v1/signin", json={"credential": {}})
        assert (found.status_code, found.json()["code"]) == (429, "quota.sign_in")
        assert 0 < int(found.headers["retry-after"]) <= 600
        desk.clock.ahead_us = 10 * MINUTE_US
        assert (await desk.sign_in(browser))["http"] == 200


@pytest.mark.parametrize("limit_s", [600, pytest.param(2, marks=pytest.mark.slow)])
async def test_signing_out_everywhere_ends_open_streams_within_two_seconds(desk: Desk, limit_s: float) -> None:
    """The promise is the slow form's, for a machine that does nothing else."""
    async with desk.browser() as one, desk.browser() as other:
        await desk.sign_in(one)
        await desk.sign_in(other)
        async with one.stream("GET", "/ticks") as stream:
            lines = stream.aiter_lines()
            await anext(lines)
            assert (await answer(other, "/v1/signout/everywhere"))["code"] == "people.touch.unknown"
            touch = await desk.touch(other, "account.sign_out_everywhere")
            assert (await answer(other, "/v1/signout/everywhere", touch))["ended"] == 3
            began_s = asyncio.get_running_loop().time()
            seen = [line async for line in lines]
        assert asyncio.get_running_loop().time() - began_s <= limit_s
        assert seen[-3] == "event: ended"
        assert "access.session" in seen[-2]
        assert (await one.get("/v1/account")).status_code == 401
        assert (await other.get("/v1/account")).status_code == 401


async def test_a_session_is_ended_by_itself_with_a_touch_for_exactly_it(desk: Desk) -> None:
    async with desk.browser() as lost, desk.browser() as mine:
        await desk.sign_in(lost)
        await desk.sign_in(mine)
        seen = (await mine.get("/v1/account")).json()["sessions"]
        here = next(one["number"] for one in seen if one["is_this"])
        gone = (await lost.get("/v1/account")).json()["sessions"]
        there = next(one["number"] for one in gone if one["is_this"])
        assert {one["number"] for one in seen} > {here, there}

        async def end(number: str, touch: str = "") -> httpx.Response:
            return await mine.delete(f"/v1/account/sessions/{number}", headers={"rocade-touch": touch} if touch else {})

        assert (await end(there)).json()["code"] == "people.touch.unknown"
        another = await desk.touch(mine, "account.session.end", f"number:{here}")
        assert (await end(there, another)).json()["code"] == "people.touch.other"
        assert (await lost.get("/v1/account")).status_code == 200
        touch = await desk.touch(mine, "account.session.end", f"number:{there}")
        assert (await end(there, touch)).json() == {"ended": 1}
        assert desk.audit.entries[-1].action == "people.sign_out"
        assert desk.audit.entries[-1].facts == {"sessions": 1, "number": there}
        assert (await lost.get("/v1/account")).status_code == 401
        assert [one["number"] for one in (await mine.get("/v1/account")).json()["sessions"] if one["is_this"]] == [here]
        touch = await desk.touch(mine, "account.session.end", f"number:{there}")
        assert (await end(there, touch)).json()["code"] == "people.session.unknown"


async def test_who_has_no_passkey_yet_ends_sessions_without_one(desk: Desk) -> None:
    bob = await desk.people.add("Bob")
    async with desk.browser() as one, desk.browser() as other:
        await desk.enter(one, bob)
        await desk.enter(other, bob)
        there = next(x["number"] for x in (await one.get("/v1/account")).json()["sessions"] if not x["is_this"])
        assert (await one.delete(f"/v1/account/sessions/{there}")).json() == {"ended": 1}
        assert (await other.get("/v1/account")).status_code == 401
