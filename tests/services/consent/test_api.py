"""Consent over HTTP with the real gate: an owner's whole way, what others get, and open streams that end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from typing import Any

import httpx
import msgspec
import pytest
from litestar import get
from litestar.response import Stream
from tests.notebook import Notebook
from tests.services.consent.conftest import DAY_US, NOW_US, SetClock

from rocade.console import live
from rocade.core.data_classes import mask
from rocade.core.errors import Refused
from rocade.doors.http import Access, AnyRequest, build, does
from rocade.doors.http.streams import ALIVE
from rocade.services.consent import Consents, ConsentTable, Looks, api
from rocade.services.consent.model import HANDOVER_US
from rocade.trust.authority.gate import Gate, Principal, acts

ANA, BEN, CLEO, SUE, SAM = (f"person:{number:016x}" for number in range(1, 6))
CAR = 4_000_000_000_000_000_001
MINE = f"/v1/my/vehicles/{CAR}"


class Signed(msgspec.Struct):
    principal: Principal

    def acting(self, act: str) -> Principal:
        return self.principal


class People:
    """Everybody is signed in whose cookie says who he is; the touch is right if it names act and subject."""

    async def session(self, secret: str) -> Signed | None:
        duties = {SUE: "support", SAM: "security"}.get(secret)
        recipient = "operator" if duties else secret
        return Signed(Principal("person", secret, recipient, "passkey", "eu", frozenset([duties] if duties else [])))

    async def redeem_touch(self, session_secret: str, touch: str, act: str, subject: str) -> None:
        if touch != f"{act} {subject}":
            raise Refused("people.touch.unknown", "this touch is for something else")


class Site:
    """The application and its callers."""

    def __init__(self, app: Any, table: ConsentTable, looks: Looks) -> None:
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")
        self.table, self.looks = table, looks

    async def ask(self, who: str, method: str, path: str, touch: str = "", **body: Any) -> Any:
        """The answer's document, or its status with the code of the problem."""
        cookie = SimpleCookie({"rocade_session": who})["rocade_session"].OutputString()
        headers = {"cookie": cookie, "rocade-touch": touch} if touch else {"cookie": cookie}
        await self.table.refresh()
        answer = await self.client.request(method, path, json=body or None, headers=headers)
        found = answer.json() if answer.content else {}
        return (answer.status_code, found["code"]) if answer.status_code >= 400 else found


@get("/map", opt=does(acts.WATCH_FLEET))
async def fleet_map(request: AnyRequest) -> Stream:
    """The stream of the operator's map, with frames of our own."""

    async def frames() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield ALIVE

    return Stream(live._noted(request, frames()), media_type="text/event-stream")


@pytest.fixture
async def site(
    consents: Consents, table: ConsentTable, audit: Notebook, clock: SetClock, database: Any
) -> AsyncIterator[Site]:
    looks = Looks(database, audit, clock)

    def nobody_by_certificate(_der: bytes, _at_us: int) -> Any:
        raise Refused("access.denied", "no certificates here")

    access = Access(
        nobody_by_certificate, lambda _serial: False, Gate("eu", table), audit, clock, sessions=People(), looks=looks
    )
    named = {"consents": consents, "looks": looks, "clock": clock}
    made = Site(build([*api.HANDLERS, fleet_map], named, access, version="0"), table, looks)
    yield made
    await made.client.aclose()
    await looks.close()


async def test_an_owners_whole_way(site: Site, clock: SetClock) -> None:
    code = (await site.ask(SUE, "POST", f"/v1/vehicles/{CAR}/owner-code?purpose=support"))["code"]
    assert (await site.ask(ANA, "POST", "/v1/my/claims", code=code))["ref"] == str(CAR)
    assert [one["relation"] for one in (await site.ask(ANA, "GET", "/v1/my/vehicles"))["items"]] == ["owner"]
    wanted = {"recipient": "partner:grid", "purpose": "charging", "classes": ["energy", "location"]}
    given = await site.ask(ANA, "POST", f"{MINE}/grants", **wanted)
    assert (given["classes"], given["until_us"], given["ended_us"]) == (["location", "energy"], None, None)
    less = await site.ask(ANA, "PATCH", f"{MINE}/grants/{given['id']}", classes=["energy"])
    assert less["replaces"] == given["id"]
    assert (await site.ask(ANA, "DELETE", f"{MINE}/grants/{less['id']}"))["why_ended"] == "withdrawn"
    history = (await site.ask(ANA, "GET", f"{MINE}/grants"))["items"]
    assert [one["why_ended"] for one in history] == ["narrowed", "withdrawn"]

    invited = await site.ask(ANA, "POST", f"{MINE}/guests", classes=["location"], until_us=NOW_US + DAY_US)
    assert (await site.ask(BEN, "POST", "/v1/my/invitations", code=invited["code"]))["relation"] == "driver"
    assert [one["person"] for one in (await site.ask(ANA, "GET", f"{MINE}/guests"))["items"]] == [BEN]
    await site.ask(BEN, "DELETE", f"/v1/my/invitations/{CAR}/{invited['guest']['id']}")
    assert (await site.ask(BEN, "GET", "/v1/my/vehicles"))["items"] == []

    assert await site.ask(ANA, "POST", f"{MINE}/transfer") == (403, "gate.touch")
    sale = await site.ask(ANA, "POST", f"{MINE}/transfer", touch=f"{acts.TRANSFER.name} vehicle:{CAR}")
    await site.ask(ANA, "DELETE", f"{MINE}/transfer")
    assert await site.ask(CLEO, "POST", "/v1/my/claims", code=sale["code"]) == (404, "consent.claim.unknown")
    sale = await site.ask(ANA, "POST", f"{MINE}/transfer", touch=f"{acts.TRANSFER.name} vehicle:{CAR}")
    done = await site.ask(CLEO, "POST", "/v1/my/claims", code=sale["code"])
    clock.us += HANDOVER_US
    assert [one["relation"] for one in (await site.ask(ANA, "GET", "/v1/my/vehicles"))["items"]] == ["former"]
    assert [one["ref"] for one in (await site.ask(CLEO, "GET", "/v1/my/vehicles"))["items"]] == [done["ref"]]
    assert len((await site.ask(ANA, "GET", f"{MINE}/grants"))["items"]) == 2
    assert await site.ask(CLEO, "GET", f"{MINE}/grants") == (403, "gate.denied")
    assert await site.ask(ANA, "GET", f"/v1/my/vehicles/{done['ref']}/looks") == (403, "gate.denied")
    assert await site.ask(ANA, "POST", f"{MINE}/grants", **wanted) == (403, "gate.denied")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/grants", {}),
        ("POST", "/grants", {"recipient": "operator", "purpose": "support", "classes": ["energy"]}),
        ("PATCH", "/grants/grant-1", {"classes": ["energy"]}),
        ("DELETE", "/grants/grant-1", {}),
        ("GET", "/guests", {}),
        ("POST", "/guests", {"classes": ["energy"], "until_us": NOW_US + DAY_US}),
        ("DELETE", "/guests/guest-1", {}),
        ("GET", "/looks", {}),
        ("POST", "/transfer", {}),
        ("DELETE", "/transfer", {}),
        ("POST", "/give-back", {}),
    ],
)
async def test_nobody_but_the_owner_gets_at_his_consents(
    site: Site, consents: Consents, method: str, path: str, body: dict[str, Any]
) -> None:
    await consents.own(CAR, ANA)
    _, code = await consents.invite(CAR, ANA, 1, NOW_US + DAY_US)
    await consents.accept(code, BEN)
    for who in (BEN, CLEO, SUE, SAM):
        assert (await site.ask(who, method, f"{MINE}{path}", **body))[0] == 403
    await site.table.refresh()
    answer = await site.client.request(method, f"{MINE}{path}", json=body or None)
    assert (answer.status_code, answer.json()["code"]) == (401, "access.missing")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"purpose": "curiosity"}, (400, "consent.purpose.unknown")),
        ({"classes": ["secrets"]}, (400, "consent.class.unknown")),
        ({"classes": []}, (400, "consent.class.none")),
        ({"recipient": "all"}, (400, "consent.recipient")),
        ({"until_us": 5}, (400, "consent.period")),
        ({"surprise": 1}, (400, "http.request.invalid")),
        ({"classes": "energy"}, (400, "http.request.invalid")),
    ],
)
async def test_a_malformed_consent_is_refused(
    site: Site, consents: Consents, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    await consents.own(CAR, ANA)
    asked = {"recipient": "partner:grid", "purpose": "charging", "classes": ["energy"]} | body
    assert await site.ask(ANA, "POST", f"{MINE}/grants", **asked) == expected


async def test_operators_see_counts_and_settle_conflicts_with_a_touch(site: Site, consents: Consents) -> None:
    code = await consents.hand_out(CAR, SUE)
    await consents.claim(code, ANA)
    await consents.grant(CAR, ANA, CLEO, "sharing", 8)
    assert await site.ask(BEN, "POST", "/v1/my/claims", code=code) == (409, "consent.claim.conflict")
    seen = await site.ask(SUE, "GET", "/v1/consents")
    assert seen == {
        "owned": 1,
        "items": [{"purpose": "sharing", "data_class": "energy", "recipient": "person", "vehicles": 1}],
    }
    assert (await site.ask(ANA, "GET", "/v1/consents"))[0] == 403
    assert (await site.ask(SUE, "GET", "/v1/ownership/conflicts"))[0] == 403
    (conflict,) = (await site.ask(SAM, "GET", "/v1/ownership/conflicts"))["items"]
    assert (conflict["holder"], conflict["claimant"], conflict["ref"]) == (ANA, BEN, str(CAR))
    path = f"/v1/ownership/conflicts/{conflict['id']}/claimant"
    assert await site.ask(SAM, "POST", path) == (403, "gate.touch")
    touch = f"{acts.SETTLE_CONFLICT.name} id:{conflict['id']}"
    assert (await site.ask(SUE, "POST", path, touch=touch))[0] == 403
    done = await site.ask(SAM, "POST", path, touch=touch)
    assert done["former_ref"] == str(CAR)
    assert [one.person for one in [await consents.owner(int(done["ref"]))] if one] == [BEN]
    assert await site.ask(SAM, "POST", path, touch=touch) == (404, "consent.conflict.unknown")


async def test_the_owner_reads_who_looked(site: Site, consents: Consents, clock: SetClock) -> None:
    await consents.own(CAR, ANA)
    given = await consents.grant(CAR, ANA, BEN, "sharing", 8)
    await site.table.refresh()
    permit = Gate("eu", site.table).permit(
        Principal("person", BEN, BEN, "passkey", "eu"), acts.READ_TWIN, ref=CAR, purpose="sharing", at_us=NOW_US
    )
    for _ in range(3):
        site.looks.note(permit, CAR, acts.READ_TWIN.name, (3,), clock.us)
    await site.looks.settled()
    (look,) = (await site.ask(ANA, "GET", f"{MINE}/looks"))["items"]
    assert (look["actor"], look["grant"], look["purpose"], look["classes"], look["times"]) == (
        BEN, given.id, "sharing", ["energy"], 3,
    )  # fmt: skip
    assert await site.ask(ANA, "GET", f"{MINE}/looks?cursor=x") == (400, "consent.cursor")


async def test_two_tabs_while_rights_change_lose_nothing_and_leak_nothing(site: Site, consents: Consents) -> None:
    await consents.own(CAR, ANA)
    given = await consents.grant(CAR, ANA, "partner:grid", "charging", 9)
    path = f"{MINE}/grants/{given.id}"
    answers = await asyncio.gather(
        site.ask(ANA, "DELETE", path), site.ask(ANA, "PATCH", path, classes=["energy"]), site.ask(ANA, "DELETE", path)
    )
    assert sum(isinstance(one, dict) for one in answers) == 1
    assert {one for one in answers if isinstance(one, tuple)} == {(404, "consent.grant.unknown")}
    live = await consents.grants(CAR, is_live_only=True)
    assert len(live) <= 1


async def test_an_operators_map_is_a_look_at_each_owned_vehicle_on_it(site: Site, consents: Consents) -> None:
    shown, hidden, elsewhere = CAR, CAR + 1, CAR + 2
    for ref in (shown, hidden, elsewhere):
        await consents.own(ref, ANA)
    await consents.grant(shown, ANA, "operator", "operation", mask(["location", "energy"]))
    await consents.grant(hidden, ANA, "operator", "operation", mask(["energy"]))
    await site.table.refresh()
    answer = await site.client.get("/map", headers={"cookie": f'rocade_session="{SUE}"'})
    assert answer.content == ALIVE * 3
    await site.looks.settled()
    (look,) = (await site.looks.of(shown)).looks
    assert (look.actor, look.recipient, look.classes, look.times) == (SUE, "operator", mask(["location"]), 1)
    for ref in (hidden, elsewhere):
        assert (await site.looks.of(ref)).looks == []
