"""A maker's back end as it was seen to behave, over real HTTP: accepted is not done, asleep may end in an error, tokens end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.clocks import SetClock

from rocade.core.catalogue import standard
from rocade.core.errors import Unavailable
from rocade.services.vehicles.commands import Deliverer
from rocade.services.vehicles.commands.makers import FORMS, MakerLine
from rocade.services.vehicles.commands.makers.psa import Psa
from rocade.trust.identity import envelope
from rocade.trust.identity.keys import new_key
from rocade.wire.commands import ACTS, COMMAND_TYPE, Command, Report, encode, encode_down

VIN = "VF3AAAAAAAA000001"
RECORDED: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "recorded_psa.json").read_text())
KEY = new_key()


class BackEnd:
    """Plays recordings: each request starts the next one; answers are there from their second on, by the fake clock."""

    def __init__(self, clock: SetClock) -> None:
        self.clock = clock
        self.script: list[str] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.good_token = "t1"
        self.is_down = False
        self._answers: list[tuple[int, dict[str, Any]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, path, _ = line.decode().split()
            headers = dict[str, str]()
            while (header := (await reader.readline()).decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            status, answer = self.answer(method, path, json.loads(body or b"null"))
            content = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content))
            await writer.drain()
        writer.close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.is_down:
            return 503, None
        if path == "/token":
            self.good_token = f"t{int(self.good_token[1:]) + 1}"
            return 200, {"access_token": self.good_token}
        if method == "POST":
            self.requests.append((path, body))
            name = "token ended" if body["access_token"] != self.good_token else self.script.pop(0)
            for said in RECORDED[name]:
                at_us = self.clock.now_us() + int(said["at_s"] * 1e6)
                answer = {key: value for key, value in said.items() if key != "at_s"}
                self._answers.append((at_us, answer | {"correlation_id": body["correlation_id"]}))
            return 202, None
        due = [answer for at_us, answer in self._answers if at_us <= self.clock.now_us()]
        self._answers = [one for one in self._answers if one[0] > self.clock.now_us()]
        return 200, due


class Http:
    """The transport of this back end."""

    def __init__(self, base: str) -> None:
        self.client = httpx.AsyncClient(base_url=base, trust_env=False)
        self._token = "t1"

    async def post(self, service: str, body: bytes) -> None:
        answer = await self.client.post(service, content=body)
        if answer.status_code >= 500:
            raise Unavailable("command.maker.down", "the back end does not answer")

    async def token(self, *, is_new: bool) -> str:
        if is_new:
            self._token = (await self.client.post("/token")).json()["access_token"]
        return self._token


class Stage:
    """Line, back end and clock together."""

    def __init__(self, clock: SetClock, back_end: BackEnd, http: Http, brand: str = "peugeot") -> None:
        self.clock, self.back_end, self.http = clock, back_end, http
        self.reports: list[Report] = []
        self.line = self.new_line(brand)
        self._number = 0

    def new_line(self, brand: str = "peugeot") -> MakerLine:
        commands = standard().brands[brand].commands
        assert commands.dialect
        return MakerLine(commands, FORMS[commands.dialect.form](), self.http, self.report, self.clock)

    async def report(self, vehicle_id: str, report: Report) -> None:
        assert vehicle_id == VIN
        self.reports.append(report)

    def command(self, act: str, parameters: dict[str, Any] | None = None, **more: Any) -> Command:
        self._number += 1
        fields: dict[str, Any] = {
            "id": f"{self._number:032x}", "vehicle": VIN, "lane": ACTS[act].lane, "version": self._number, "act": act,
            "parameters": parameters or {}, "issued_us": self.clock.now_us(), "expires_us": self.clock.now_us() + 600_000_000,
        }  # fmt: skip
        return Command(**(fields | more))

    async def order(self, command: Command) -> None:
        """Hand it in, and wait until the back end or a report of this command has it."""
        requests, told = len(self.back_end.requests), len(self.reports)
        sealed = envelope.seal(COMMAND_TYPE, encode(command), KEY)
        assert await self.line.send(VIN, "command", encode_down(sealed, ""))
        await until(
            lambda: len(self.back_end.requests) > requests or any(one.id == command.id for one in self.reports[told:])
        )

    async def pass_time(self, seconds: float) -> list[tuple[str, str]]:
        """States told meanwhile."""
        self.clock.at_us += int(seconds * 1e6)
        told = len(self.reports)
        for answer in (await self.http.client.get("/answers")).json():
            await self.line.heard(json.dumps(answer).encode())
        return [(report.state, report.code) for report in self.reports[told:]]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    clock = SetClock()
    back_end = BackEnd(clock)
    server = await asyncio.start_server(back_end.serve, "127.0.0.1", 0)
    http = Http(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    made = Stage(clock, back_end, http)
    yield made
    await made.line.close()
    await http.client.aclose()
    server.close()


async def test_an_accepted_command_is_done_when_its_end_says_so(stage: Stage) -> None:
    stage.back_end.script = ["done"]
    await stage.order(stage.command("charge.start"))
    assert await stage.pass_time(1) == [("accepted", "")]
    assert await stage.pass_time(2) == [("applied", "")]
    service, body = stage.back_end.requests[0]
    assert (service, body["req_parameters"]["type"], body["vin"]) == ("/VehCharge", "immediate", VIN)


async def test_asleep_may_end_in_an_error_89_seconds_later(stage: Stage) -> None:
    stage.back_end.script = ["asleep, then an error 89 s later"]
    await stage.order(stage.command("charge.start"))
    assert await stage.pass_time(4) == [("accepted", ""), ("waking", "")]
    assert await stage.pass_time(84) == []
    assert await stage.pass_time(2) == [("rejected", "command.maker.refused")]
    assert stage.reports[-1].result == {"maker_code": "300"}


async def test_a_token_that_ended_is_renewed_and_the_same_command_goes_again_once(stage: Stage) -> None:
    stage.back_end.good_token, stage.back_end.script = "t5", ["asleep, then done"]
    command = stage.command("climate.precondition", {"temperature_c": 21.0, "until_us": stage.clock.now_us() + 10**9})
    await stage.order(command)
    assert await stage.pass_time(1) == []
    assert [body["correlation_id"][:32] for _, body in stage.back_end.requests] == [command.id] * 2
    assert stage.back_end.requests[0][1]["correlation_id"] != stage.back_end.requests[1][1]["correlation_id"]
    assert await stage.pass_time(4) == [("accepted", ""), ("waking", "")]
    assert await stage.pass_time(30) == [("applied", "")]


async def test_a_token_that_is_refused_again_ends_the_command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stale(*, is_new: bool) -> str:
        return "stale" if is_new else "old"

    monkeypatch.setattr(stage.http, "token", stale)
    await stage.order(stage.command("doors.lock"))
    assert await stage.pass_time(1) == []
    assert await stage.pass_time(1) == [("rejected", "command.maker.token")]


async def test_a_token_refresh_never_replays_a_start_that_was_overtaken_or_has_expired(stage: Stage) -> None:
    """One slot for the last request of all cars would replay the wrong one here."""
    stage.back_end.good_token, stage.back_end.script = "t2", ["done"]
    start = stage.command("charge.start")
    await stage.order(start)
    stage.back_end.script = ["done"]
    stage.back_end.good_token = "t1"
    await stage.order(stage.command("charge.stop"))
    told = await stage.pass_time(3)
    assert [report.state for report in stage.reports if report.id == start.id] == ["superseded"]
    assert told == [("accepted", ""), ("applied", "")]
    assert [body["req_parameters"]["type"] for _, body in stage.back_end.requests] == ["immediate", "delayed"]
    stage.back_end.good_token = "t9"
    late = stage.command("charge.start", expires_us=stage.clock.now_us() + 5_000_000)
    await stage.order(late)
    assert await stage.pass_time(6) == [("expired", "")]
    assert len(stage.back_end.requests) == 3


async def test_a_start_that_is_overtaken_while_its_token_is_renewed_does_not_go(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, asked = asyncio.Event(), asyncio.Event()

    async def slow(*, is_new: bool) -> str:
        if is_new:
            asked.set()
            await renewed.wait()
        return "t2" if is_new or asked.is_set() else "t1"

    monkeypatch.setattr(stage.http, "token", slow)
    stage.back_end.good_token, stage.back_end.script = "t2", ["done", "done"]
    start = stage.command("charge.start")
    await stage.order(start)
    waiting = asyncio.create_task(stage.pass_time(1))
    await asyncio.wait_for(asked.wait(), 30)
    await stage.order(stage.command("charge.stop"))
    renewed.set()
    await waiting
    await stage.pass_time(3)
    assert [body["req_parameters"]["type"] for _, body in stage.back_end.requests] == ["immediate", "delayed"]
    assert [report.state for report in stage.reports if report.id == start.id] == ["superseded"]


async def test_what_the_hub_repeats_is_not_handed_in_twice(stage: Stage) -> None:
    stage.back_end.script = ["done"]
    horn = stage.command("attention.horn", {"seconds": 2})
    await stage.order(horn)
    await stage.pass_time(1)
    await stage.order(horn)
    assert await stage.pass_time(3) == [("applied", "")]
    await stage.order(horn)
    assert len(stage.back_end.requests) == 1
    assert {report.state for report in stage.reports} == {"accepted", "applied"}


async def test_a_back_end_that_is_down_is_tried_again_with_the_hubs_next_repetition(stage: Stage) -> None:
    command = stage.command("charge.start")
    stage.back_end.is_down = True
    sealed = encode_down(envelope.seal(COMMAND_TYPE, encode(command), KEY), "")
    assert await stage.line.send(VIN, "command", sealed)
    await until(lambda: not stage.line._tasks)
    stage.back_end.is_down, stage.back_end.script = False, ["done"]
    await stage.order(command)
    assert await stage.pass_time(3) == [("accepted", ""), ("applied", "")]


async def test_a_line_started_anew_repeats_states_and_no_moments(stage: Stage) -> None:
    horn, lock = stage.command("attention.horn", {"seconds": 1}), stage.command("doors.lock")
    stage.back_end.script = ["silence", "silence", "done"]
    await stage.order(horn)
    await stage.order(lock)
    stage.clock.at_us += 1
    stage.line = stage.new_line()
    await stage.order(horn)
    await stage.order(lock)
    assert [service for service, _ in stage.back_end.requests] == ["/Horn", "/Doors", "/Doors"]
    assert (stage.reports[0].state, stage.reports[0].code) == ("rejected", "command.interrupted")
    assert await stage.pass_time(3) == [("accepted", ""), ("applied", "")]


async def test_answers_that_belong_to_nothing_change_nothing(stage: Stage) -> None:
    stage.back_end.script = ["done"]
    await stage.order(stage.command("charge.start"))
    for strange in (b"", b"[]", b"{}", b'{"correlation_id": "x", "return_code": "0"}', b"\xff",
                    json.dumps({"correlation_id": "f" * 49, "return_code": "0"}).encode(),
                    json.dumps({"correlation_id": f"{1:032x}" + "1" * 17, "return_code": "0"}).encode()):  # fmt: skip
        await stage.line.heard(strange)
    assert stage.reports == []


async def test_wakes_keep_to_what_the_maker_allows(stage: Stage) -> None:
    """Six in twenty minutes: the seventh waits for its turn, and expires when it does not come."""
    stage.back_end.script = ["done"] * 8
    for _ in range(6):
        await stage.order(stage.command("power.wake"))
        await stage.pass_time(60)
    waits = stage.command("power.wake", expires_us=stage.clock.now_us() + 3_600_000_000)
    assert await stage.line.send(VIN, "command", encode_down(envelope.seal(COMMAND_TYPE, encode(waits), KEY), ""))
    await until(lambda: stage.line.counters.waited > 0)
    assert len(stage.back_end.requests) == 6
    stage.clock.at_us += 841_000_000
    await until(lambda: len(stage.back_end.requests) == 7)
    assert await stage.pass_time(3) == [("accepted", ""), ("applied", "")]


@pytest.mark.parametrize("act", ["charge.limit", "charge.schedule", "charge.timer", "location.report"])
async def test_what_the_back_end_does_not_know_is_said_at_once(stage: Stage, act: str) -> None:
    await stage.order(stage.command(act))
    assert [(report.state, report.code) for report in stage.reports] == [("rejected", "command.maker.unsupported")]


def test_every_act_the_brand_file_promises_has_a_request() -> None:
    parameters = {"attention.horn": {"seconds": 1}, "attention.lights": {"seconds": 1}}
    for brand in standard().brands.values():
        if brand.commands.dialect:
            for act, ability in brand.commands.acts.items():
                command = Command(id="a" * 32, vehicle=VIN, lane="x", version=1, act=act, issued_us=1, expires_us=2,
                                  parameters=parameters.get(act, {}))  # fmt: skip
                assert ability != "yes" or Psa().request(command, "token", 1_795_000_000_000_000), (brand.brand, act)


class Memory:
    """A transport that keeps what is handed in."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []

    async def post(self, _service: str, body: bytes) -> None:
        self.posted.append(json.loads(body))

    async def token(self, *, is_new: bool) -> str:
        return f"token {is_new}"


async def test_the_hub_speaks_to_a_maker_as_to_a_gateways_door(hub: Any) -> None:
    """The real deliverer hands down, the real reports take what the line says: asleep, then the error, seen in the life."""
    vehicle = await hub.add_vehicle("peugeot", "e-208")
    memory, commands = Memory(), standard().brands["peugeot"].commands

    async def report(_vehicle_id: str, report: Report) -> None:
        await hub.say(vehicle, report)

    line = MakerLine(commands, Psa(), memory, report, hub.clock)
    connected = {int(vehicle.ref): hub.gateway(vehicle)[0]._connected[int(vehicle.ref)]}
    deliverer = Deliverer(hub.database, connected, line, hub.capabilities, hub.clock)
    ordered = await hub.order(vehicle, "charge.start")
    await deliverer.deliver({int(vehicle.ref)}, {int(vehicle.ref)})
    await until(lambda: len(memory.posted) == 1)
    for said in RECORDED["asleep, then an error 89 s later"]:
        answer = {key: value for key, value in said.items() if key != "at_s"}
        await line.heard(json.dumps(answer | {"correlation_id": memory.posted[0]["correlation_id"]}).encode())
    standing = await hub.commands.standing(ordered.id)
    assert (standing.state, standing.code, standing.result) == (
        "rejected", "command.maker.refused", {"maker_code": "300"}
    )  # fmt: skip
    assert [moment.state for moment in standing.life] == ["created", "queued", "sent", "accepted", "waking", "rejected"]
    await line.close()
