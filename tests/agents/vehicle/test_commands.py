"""A vehicle obeys what is proven, newest first, once, in time; and says so until it is heard."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.agents.vehicle.command_desk import MINUTE_US, VEHICLE, Car, Desk, Machine, PowerCut
from tests.chance import Seeded
from tests.clocks import SetClock

from rocade.agents.vehicle.commands import Executor
from rocade.agents.vehicle.journal import Journal
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import SystemClock
from rocade.wire.commands import Command, encode_down, read_down, read_report

HOUR_US = 60 * MINUTE_US


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk") / "region", SetClock(SystemClock().now_us() + 10 * MINUTE_US))


@pytest.fixture
def make_car(desk: Desk, tmp_path: Path) -> Callable[..., Car]:
    def make(**more: Any) -> Car:
        return Car(desk, desk.clock, tmp_path / "car.sqlite3", **more)

    return make


@pytest.fixture
def car(make_car: Callable[..., Car]) -> Car:
    return make_car()


def test_a_command_is_told_accepted_then_applied_and_done_once(car: Car, desk: Desk) -> None:
    assert car.take(desk.command("charge.start")) == [("accepted", ""), ("applied", "")]
    assert car.machine.acts == ["charge.start"]


def test_a_command_delivered_again_is_answered_again_and_not_done_again(car: Car, desk: Desk) -> None:
    command = desk.command("attention.horn", {"seconds": 2})
    car.take(command)
    assert car.take(command) == [("applied", "")]
    assert car.machine.acts == ["attention.horn"]


def test_an_older_version_that_comes_late_is_superseded_and_told_which_one_counts(car: Car, desk: Desk) -> None:
    old, new = desk.command("charge.start"), desk.command("charge.stop")
    car.take(new)
    car.executor.receive(desk.seal(old))
    (report,) = car.reports()
    assert (report.id, report.state, report.result) == (old.id, "superseded", {"newest": new.version})
    assert car.machine.acts == ["charge.stop"]


def test_lanes_do_not_hold_each_other_up(car: Car, desk: Desk) -> None:
    first, second = desk.command("doors.lock"), desk.command("charge.limit", {"percent": 70})
    car.take(second)
    car.take(first)
    assert car.machine.acts == ["charge.limit", "doors.lock"]


def test_another_command_under_a_version_that_was_used_is_refused(car: Car, desk: Desk) -> None:
    first = desk.command("charge.start")
    car.take(first)
    assert car.take(desk.command("charge.stop", version=first.version)) == [("rejected", "command.version.used")]
    assert car.machine.acts == ["charge.start"]


def test_a_sleeping_vehicle_says_that_it_wakes_up_and_acts_when_awake(car: Car, desk: Desk) -> None:
    car.machine.awake = False
    assert car.take(
        desk.command("climate.precondition", {"temperature_c": 21, "until_us": desk.clock.now_us() + HOUR_US})
    ) == [("accepted", ""), ("waking", "")]
    car.executor.tick()
    assert (car.told(), car.machine.acts) == ([], [])
    car.machine.awake = True
    car.executor.tick()
    assert (car.told(), car.machine.acts) == ([("applied", "")], ["climate.precondition"])


def test_what_expires_while_the_vehicle_wakes_up_is_never_done(car: Car, desk: Desk) -> None:
    car.machine.awake = False
    car.take(desk.command("charge.start", expires_us=desk.clock.now_us() + MINUTE_US))
    desk.clock.move(61)
    car.machine.awake = True
    car.executor.tick()
    assert (car.told(), car.machine.acts) == ([("expired", "")], [])


@pytest.mark.parametrize("before_s", [-60, 0, 1.9])
def test_a_command_that_comes_too_late_by_the_clocks_doubt_is_expired(car: Car, desk: Desk, before_s: float) -> None:
    expires_us = desk.clock.now_us() + int(before_s * 1e6)
    assert car.take(desk.command("charge.start", issued_us=expires_us - MINUTE_US, expires_us=expires_us)) == [
        ("expired", "")
    ]
    assert car.machine.acts == []


def test_an_expired_command_still_makes_older_ones_of_its_lane_obsolete(car: Car, desk: Desk) -> None:
    start = desk.command("charge.start")
    car.take(desk.command("charge.stop", expires_us=desk.clock.now_us()))
    assert car.take(start) == [("superseded", "")]
    assert car.machine.acts == []


def test_a_command_waits_for_its_time_and_a_newer_one_takes_its_place(car: Car, desk: Desk) -> None:
    later_us = desk.clock.now_us() + 5 * MINUTE_US
    start = desk.command("charge.start", not_before_us=later_us)
    assert car.take(start) == [("accepted", "")]
    assert car.executor.due_us == later_us
    assert car.take(desk.command("charge.stop")) == [("superseded", ""), ("accepted", ""), ("applied", "")]
    desk.clock.move(301)
    car.executor.tick()
    assert car.machine.acts == ["charge.stop"]


def test_a_command_whose_time_has_come_is_done(car: Car, desk: Desk) -> None:
    car.take(desk.command("charge.start", not_before_us=desk.clock.now_us() + 5 * MINUTE_US))
    desk.clock.move(300)
    car.executor.tick()
    assert car.machine.acts == ["charge.start"]


def test_a_clock_that_lags_is_moved_up_by_what_is_signed(car: Car, desk: Desk) -> None:
    ahead_us = desk.clock.now_us() + 4 * MINUTE_US
    car.take(desk.command("doors.lock", issued_us=ahead_us, expires_us=ahead_us + HOUR_US))
    assert car.take(desk.command("charge.start", expires_us=ahead_us)) == [("expired", "")]


def test_what_the_machine_refuses_is_rejected_with_its_reason(car: Car, desk: Desk) -> None:
    car.machine.refuses["charge.start"] = Refused("command.vehicle.unplugged", "no cable")
    assert car.take(desk.command("charge.start"))[-1] == ("rejected", "command.vehicle.unplugged")


def test_what_the_machine_cannot_do_now_is_tried_again(car: Car, desk: Desk) -> None:
    car.machine.refuses["attention.horn"] = Unavailable("command.vehicle.busy", "later")
    assert car.take(desk.command("attention.horn", {"seconds": 1})) == [("accepted", "")]
    car.machine.refuses.clear()
    car.executor.tick()
    assert (car.told(), car.machine.acts) == ([("applied", "")], ["attention.horn"])


def altered(desk: Desk) -> bytes:
    """The signature of one command under the content of another."""
    good, chain = read_down(desk.seal(desk.command("charge.stop")))
    other, _ = read_down(desk.seal(desk.command("charge.start")))

    mixed = msgspec.json.decode(other) | {"signatures": msgspec.json.decode(good)["signatures"]}
    return encode_down(msgspec.json.encode(mixed), chain)


BAD: dict[str, tuple[str, Callable[[Desk], bytes]]] = {
    "for another vehicle": ("command.target", lambda d: d.seal(d.command("charge.start", vehicle="VF1AAAAA000000002"))),
    "from the future": (
        "command.time.future",
        lambda d: d.seal(
            d.command("charge.start", issued_us=d.clock.now_us() + HOUR_US, expires_us=d.clock.now_us() + 2 * HOUR_US)
        ),
    ),
    "for ever": ("command.time.life", lambda d: d.seal(d.command("charge.start", expires_us=d.clock.now_us() + 200 * HOUR_US))),
    "signed before its key": (
        "trust.signer.time",
        lambda d: d.seal(d.command("charge.start", issued_us=d.clock.now_us() - 300 * HOUR_US)),
    ),
    "signed by another service": (
        "trust.signer.unknown",
        lambda d: d.seal(d.command("charge.start"), d.credential("exchange")),
    ),
    "signed by a vehicle": (
        "trust.certificate.kind",
        lambda d: d.seal(d.command("charge.start"), d.credential("VF1AAAAA000000009", "vehicle")),
    ),
    "a statement of another type": (
        "trust.envelope.type",
        lambda d: d.seal(d.command("charge.start"), payload_type="application/json"),
    ),
    "altered": ("trust.envelope.signature", altered),
    "under a chain that is none": ("trust.signer.unknown", lambda d: d.seal(d.command("charge.start")).replace(b"CERT", b"CRET")),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_proves_nothing_is_not_done_and_says_why(car: Car, desk: Desk, what: str) -> None:
    code, make = BAD[what]
    car.executor.receive(make(desk))
    assert car.told() == [("rejected", code)]
    assert (car.machine.acts, car.executor.book.newest("charging.power")) == ([], None)


@pytest.mark.parametrize("body", [b"", b"{}", b"null", b"\xff" * 100, b'{"command":{},"chain":""}', b"[" * 90_000])
def test_bytes_that_are_no_command_are_taken_and_forgotten(car: Car, body: bytes) -> None:
    car.executor.receive(body)
    assert (car.told(), car.executor.refused) == ([], 1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"act": "charge.discharge"}, "command.act.unknown"),
        ({"act": "doors.unlock", "lane": "charging.power"}, "command.malformed"),
        ({"act": "charge.limit", "lane": "charging.limit", "parameters": {"percent": 300}}, "command.parameters.malformed"),
        (
            {"act": "charge.timer", "lane": "charging.timer", "parameters": {"departure_us": 1, "target_percent": 80}},
            "command.parameters.time",
        ),
    ],
)  # fmt: skip
def test_a_proven_command_that_makes_no_sense_is_rejected(
    car: Car, desk: Desk, change: dict[str, Any], code: str
) -> None:
    assert car.take(desk.command(**change)) == [("rejected", code)]
    assert car.machine.acts == []


def test_a_forged_copy_does_not_make_a_command_look_rejected(car: Car, desk: Desk) -> None:
    command = desk.command("charge.start")
    car.take(command)
    car.executor.receive(desk.seal(command, desk.credential("exchange")))
    assert car.told() == [("applied", "")]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(0, 3), st.binary(max_size=4))
def test_a_damaged_command_does_nothing_and_breaks_nothing(car: Car, desk: Desk, at: int, cut: int, put: bytes) -> None:
    """Whatever is cut, flipped or put in: it is done as it was signed, or not at all."""
    command = desk.command("doors.unlock")
    body = bytearray(desk.seal(command))
    place = at % len(body)
    body[place : place + cut] = put
    car.executor.receive(bytes(body))
    assert car.machine.did in ([], [command])
    car.machine.did.clear()


def test_reports_are_repeated_until_they_are_acknowledged_also_after_a_power_cut(car: Car, desk: Desk) -> None:
    car.executor.receive(desk.seal(desk.command("charge.start")))
    first = car.executor.book.owed(0, 10)
    car.kill()
    car.start()
    assert car.executor.book.owed(0, 10) == first
    assert car.told() == [("accepted", ""), ("applied", "")]
    assert car.told() == []


def test_a_version_is_not_forgotten_over_a_power_cut(car: Car, desk: Desk) -> None:
    old, new = desk.command("charge.start"), desk.command("charge.stop")
    car.take(new)
    car.kill()
    car.start()
    assert car.take(old) == [("superseded", "")]
    assert car.machine.acts == ["charge.stop"]


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("act", ["attention.horn", "charge.limit"])
def test_power_lost_while_acting(
    make_car: Callable[..., Car], desk: Desk, act: str, when: str, remembers: bool
) -> None:
    """Nothing happens twice. A machine without memory sets a lasting state again and leaves a moment alone."""
    car = make_car(remembers=remembers)

    def cut() -> None:
        raise PowerCut

    setattr(car.machine, when, cut)
    command = desk.command(act, {"seconds": 1} if act == "attention.horn" else {"percent": 60})
    with pytest.raises(PowerCut):
        car.executor.receive(desk.seal(command))
    car.kill()
    setattr(car.machine, when, lambda: None)
    car.start()
    told = [one for one in car.told() if one[0] != "accepted"]
    if remembers:
        assert (car.machine.acts, told) == ([act], [("applied", "")])
    elif act == "attention.horn":
        done = [act] if when == "after" else []
        assert (car.machine.acts, told) == (done, [("rejected", "command.interrupted")])
    else:
        assert (set(car.machine.acts), told) == ({act}, [("applied", "")])
    assert car.take(command)[-1] == told[-1]


def test_what_was_begun_and_cannot_be_known_is_not_called_expired(make_car: Callable[..., Car], desk: Desk) -> None:
    car = make_car(remembers=False)

    def cut() -> None:
        raise PowerCut

    car.machine.after = cut
    with pytest.raises(PowerCut):
        car.executor.receive(desk.seal(desk.command("charge.start", expires_us=desk.clock.now_us() + MINUTE_US)))
    car.kill()
    desk.clock.move(60)
    car.start()
    assert (car.machine.acts, car.told()[-1]) == (["charge.start"], ("rejected", "command.interrupted"))


def test_a_start_that_was_begun_and_not_done_is_not_done_after_its_deadline(car: Car, desk: Desk) -> None:
    def cut() -> None:
        raise PowerCut

    car.machine.before = cut
    with pytest.raises(PowerCut):
        car.executor.receive(desk.seal(desk.command("charge.start", expires_us=desk.clock.now_us() + MINUTE_US)))
    car.kill()
    car.machine.before = lambda: None
    desk.clock.move(60)
    car.start()
    assert (car.machine.acts, car.told()[-1]) == ([], ("expired", ""))


def test_nothing_is_acknowledged_or_done_when_it_cannot_be_written(
    car: Car, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    car.journal.connection.execute("PRAGMA query_only = ON")
    with pytest.raises(Unavailable, match=r"journal\.full"):
        car.executor.receive(desk.seal(desk.command("charge.start")))
    assert car.machine.acts == []
    car.journal.connection.execute("PRAGMA query_only = OFF")
    assert car.take(desk.command("charge.start"))[-1] == ("applied", "")


def test_reports_owed_are_bounded(car: Car, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocade.agents.vehicle.command_book.MOST_REPORTS", 20)
    newest: Command | None = None
    for _ in range(30):
        newest = desk.command("doors.lock")
        car.executor.receive(desk.seal(newest))
    reports = car.reports()
    assert len(reports) == 20
    assert newest is not None
    assert (reports[-1].id, reports[-1].state) == (newest.id, "applied")


def test_an_enrolled_vehicle_needs_its_directory_its_journal_and_its_machine(desk: Desk, tmp_path: Path) -> None:
    desk.region.credential(desk.region.identity("vehicle", VEHICLE)).write(tmp_path / "identity")
    machine = Machine()
    with Journal(tmp_path / "car.sqlite3", desk.clock, Seeded()) as journal:
        executor = Executor.of_directory(tmp_path / "identity", journal, machine, desk.clock)
        executor.receive(desk.seal(desk.command("doors.lock")))
    assert machine.acts == ["doors.lock"]


def test_the_example_of_the_documents_obeys(desk: Desk, tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/vehicle-commands.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    desk.region.credential(desk.region.identity("vehicle", VEHICLE)).write(tmp_path / "identity")
    names: dict[str, Any] = {
        "path": tmp_path / "car.sqlite3", "identity_dir": tmp_path / "identity", "clock": desk.clock, "random": Seeded(),
        "host": "localhost", "port": 1,
    }  # fmt: skip
    exec(compile(code, "vehicle-commands.md", "exec"), names)  # noqa: S102  the document's own example
    agent = names["agent"]
    for act in ("charge.stop", "charge.start"):
        agent.received("command", desk.seal(desk.command(act)))
    told = [read_report(body) for _, body in agent.executor.book.owed(0, 10)]
    assert [(report.state, report.code) for report in told] == [
        ("accepted", ""), ("applied", ""), ("accepted", ""), ("rejected", "command.vehicle.unsupported")
    ]  # fmt: skip
    names["journal"].close()
