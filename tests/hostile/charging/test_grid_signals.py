"""Whoever would turn a depot off, or learn of it: partners of other depots, persons, replays, floods, malformed signals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.services.charging.conftest import HOUR_US, Stand
from tests.services.dealers.standing import Asked
from tests.unowned import Unowned

from rocade.core.identifiers import Identity
from rocade.doors.http.application import build
from rocade.fabric.database import Database
from rocade.services.charging import ChargeSite, LimitNode
from rocade.services.charging.grid import Grid, api
from rocade.trust.authority.gate import Gate, Principal, nobody, of_certificate

SECURITY = Principal("person", "person:00000000000000aa", "operator", "passkey", "eu", frozenset({"security"}))
SUPPORT = Principal("person", "person:00000000000000bb", "operator", "passkey", "eu", frozenset({"support"}))
OWNER = Principal("person", "person:00000000000000cc", "person:00000000000000cc", "passkey", "eu")
NORD = "/v1/charging/sites/nord"


def machine(kind: str, id: str) -> Principal:
    return of_certificate(Identity("rocade.test", "eu", kind, id))


NETZ, OTHER, DEALER = machine("partner", "netz"), machine("partner", "other"), machine("dealer", "netz")


class Door:
    def __init__(self, stand: Stand) -> None:
        self.stand, self.grid = stand, Grid(stand.charging)
        gate = Gate("eu", Unowned())
        self._access = Asked(lambda *_: None, lambda _: False, gate, stand.audit, stand.clock)  # type: ignore[arg-type,return-value]
        app = build(api.HANDLERS, {"grid": self.grid, "clock": stand.clock}, self._access, version="0")
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")  # type: ignore[arg-type]

    async def ask(
        self, who: Principal, method: str, path: str, *, touch: bool = True, body: Any = None, raw: bytes | None = None
    ) -> Any:
        """The answer's document, or the code of its refusal."""
        self._access.who = who
        headers = {"rocade-touch": "x"} if touch else {}
        content = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        if content is not None:
            headers["content-type"] = "application/json"
        answer = await self.client.request(method, path, content=content, headers=headers)
        found = answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else {}
        assert answer.status_code < 500, answer.text
        return found["code"] if answer.status_code >= 400 else found


@pytest.fixture
async def door(database: Database) -> AsyncIterator[Door]:
    stand = Stand(database)
    for site in ("nord", "sued"):
        await stand.charging.put_site(
            ChargeSite(site, site, "Europe/Paris", (LimitNode("root", "", 40.0),)), "operator:x"
        )
    made = Door(stand)
    await made.grid.bind("nord", "partner:netz", "operator:x")
    await made.grid.bind("sued", "partner:other", "operator:x")
    yield made
    await made.client.aclose()


SIGNAL = {"signal": "s-1", "limit_kw": 5.0, "duration_s": 3600}


async def test_only_who_is_bound_may_signal_or_read(door: Door) -> None:
    calls = [
        ("POST", "/dimming", SIGNAL), ("GET", "/dimming", None), ("GET", "/dimming/s-1", None), ("DELETE", "/dimming/s-1", None),
    ]  # fmt: skip
    for who in (OTHER, DEALER, OWNER, SECURITY):
        for method, tail, body in calls:
            there = await door.ask(who, method, NORD + tail, body=body)
            nowhere = await door.ask(who, method, f"/v1/charging/sites/nowhere{tail}", body=body)
            assert there == nowhere == "charging.site.unknown", (who.id, method, tail)
    assert await door.stand.charging.dimmings("nord") == []


async def test_the_bound_partner_and_the_support_duty_may(door: Door) -> None:
    found = await door.ask(NETZ, "POST", f"{NORD}/dimming", body=SIGNAL)
    assert (found["state"], found["received"]["party"], found["received"]["via"]) == ("active", "partner:netz", "http")
    found = await door.ask(SUPPORT, "POST", f"{NORD}/dimming", body=SIGNAL | {"signal": "s-2"})
    assert found["received"]["via"] == "desk"
    assert len((await door.ask(NETZ, "GET", f"{NORD}/dimming"))["items"]) == 2
    assert (await door.ask(NETZ, "DELETE", f"{NORD}/dimming/s-1"))["state"] == "called_off"


async def test_binding_takes_the_security_duty_and_a_touch(door: Door) -> None:
    path = f"{NORD}/grid/partner:new"
    for who in (SUPPORT, OWNER, NETZ):
        assert await door.ask(who, "PUT", path) == "gate.denied"
    assert await door.ask(SECURITY, "PUT", path, touch=False) == "gate.touch"
    assert await door.ask(SECURITY, "PUT", path) == {}
    assert (
        await door.ask(machine("partner", "new"), "POST", f"{NORD}/dimming", body=SIGNAL | {"signal": "n"})
        != "charging.site.unknown"
    )
    assert await door.ask(SECURITY, "DELETE", path) == {}
    assert await door.ask(machine("partner", "new"), "GET", f"{NORD}/dimming") == "charging.site.unknown"


async def test_a_replayed_signal_does_not_bring_an_ended_one_back_by_itself(door: Door) -> None:
    """A signal has absolute instants once it is taken in; one that is over is refused, so a late copy does nothing."""
    begin, end = "2027-01-15T08:00:00Z", "2027-01-15T09:00:00Z"
    body = {"signal": "s-1", "limit_kw": 0.0, "start": begin, "end": end}
    await door.ask(NETZ, "POST", f"{NORD}/dimming", body=body)
    door.stand.clock.move(hours=1.1)
    assert await door.ask(NETZ, "POST", f"{NORD}/dimming", body=body) == "charging.dimming.past"
    assert [one["state"] for one in (await door.ask(NETZ, "GET", f"{NORD}/dimming"))["items"]] == ["over"]


async def test_a_hundred_copies_at_once_are_one_signal(door: Door) -> None:
    body = {"signal": "s-1", "limit_kw": 5.0, "start": "2027-01-15T08:00:00Z", "duration_s": 600}
    await asyncio.gather(*(door.ask(NETZ, "POST", f"{NORD}/dimming", body=body) for _ in range(100)))
    (found,) = (await door.ask(NETZ, "GET", f"{NORD}/dimming"))["items"]
    assert found["received"]["times"] == 100
    proof = (await door.ask(NETZ, "GET", f"{NORD}/dimming/s-1"))["proof"]
    assert [line["what"] for line in proof] == ["received"]


BAD: list[tuple[str, Any, str]] = [
    ("below nothing", SIGNAL | {"limit_kw": -1}, "charging.dimming.limit"),
    ("no number", SIGNAL | {"limit_kw": "five"}, "http.request.invalid"),
    ("huge", SIGNAL | {"limit_kw": 1e300}, "charging.dimming.limit"),
    ("no end", {"signal": "s", "limit_kw": 5}, "charging.dimming.end"),
    ("two ends", SIGNAL | {"end": "2027-01-15T09:00:00Z"}, "charging.dimming.end"),
    (
        "backwards",
        {"signal": "s", "limit_kw": 5, "start": "2027-01-15T10:00:00Z", "end": "2027-01-15T09:00:00Z"},
        "charging.dimming.period",
    ),
    ("no time", SIGNAL | {"duration_s": 0}, "charging.dimming.period"),
    (
        "over",
        {"signal": "s", "limit_kw": 5, "start": "2027-01-14T10:00:00Z", "end": "2027-01-14T11:00:00Z"},
        "charging.dimming.past",
    ),
    ("a year", SIGNAL | {"duration_s": 365 * 86_400}, "charging.dimming.long"),
    ("endless", SIGNAL | {"duration_s": 1 << 80}, "charging.dimming.end"),
    ("far away", SIGNAL | {"duration_s": 1 << 50}, "charging.dimming.end"),
    ("no id", SIGNAL | {"signal": ""}, "charging.dimming.signal"),
    ("an id with a line end", SIGNAL | {"signal": "a\nb"}, "charging.dimming.signal"),
    ("an id with NUL", SIGNAL | {"signal": "a\0b"}, "charging.dimming.signal"),
    ("a long id", SIGNAL | {"signal": "x" * 129}, "charging.dimming.signal"),
    ("an unknown field", SIGNAL | {"force": True}, "http.request.invalid"),
    ("a list", [SIGNAL], "http.request.invalid"),
]


async def test_what_is_no_signal_is_refused_and_changes_nothing(door: Door) -> None:
    for name, body, code in BAD:
        assert await door.ask(NETZ, "POST", f"{NORD}/dimming", body=body) == code, name
    for raw in (b"", b"\0", b"[", b"[]", b"null", b"{}", b'"x"', b"[" * 100_000, b"\xff\xfe"):
        found = await door.ask(NETZ, "POST", f"{NORD}/openadr", raw=raw)
        assert found in ("openadr.shape", "openadr.id", "openadr.size") or found == {"items": [], "ignored": {}}, raw[
            :20
        ]
    assert await door.stand.charging.dimmings("nord") == []


async def test_an_event_half_of_which_is_bad_is_not_half_taken_in(door: Door) -> None:
    """The second interval lasts too long: neither it nor the first is there afterwards."""
    intervals = [
        {"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}]},
        {"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [5]}], "intervalPeriod": {"start": "2027-01-15T10:00:00Z", "duration": "P90D"}},
    ]  # fmt: skip
    event = {
        "programID": "p",
        "id": "ev",
        "intervalPeriod": {"start": "2027-01-15T09:00:00Z", "duration": "PT1H"},
        "intervals": intervals,
    }
    assert await door.ask(NETZ, "POST", f"{NORD}/openadr", body=event) == "charging.dimming.long"
    assert await door.stand.charging.dimmings("nord") == []


async def test_a_partner_does_not_learn_which_car_did_what(door: Door) -> None:
    from rocade.services.charging.grid import Proof, store

    await door.ask(NETZ, "POST", f"{NORD}/dimming", body=SIGNAL)
    async with door.stand.database.pool.acquire() as connection:
        line = Proof(door.stand.clock.now_us() + HOUR_US, "told", 4711, 3.7, "charge.limit")
        await store.add_proof(connection, door.stand.charging.columns, "nord", "s-1", [(line, "told 1")])
    told = [(await door.ask(who, "GET", f"{NORD}/dimming/s-1"))["proof"][-1]["ref"] for who in (NETZ, SUPPORT)]
    assert told == [0, 4711]


async def test_the_report_is_for_operators_alone(door: Door) -> None:
    for who in (NETZ, OWNER, nobody("peer:192.0.2.9")):
        assert await door.ask(who, "GET", f"{NORD}/report") in ("gate.denied", "access.missing")
    assert (await door.ask(SUPPORT, "GET", f"{NORD}/report"))["sessions"] == 0
    assert await door.ask(SUPPORT, "GET", f"{NORD}/report?from_us=5&until_us=4") == "charging.report.period"
