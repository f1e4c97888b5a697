"""`rocade command` on a running region with a simulated car on its line; processes of the region die on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.app.stand import Region, rocade

from rocade.agents.vehicle.convoy import Order, Seat
from rocade.app.commands.command import instant_us, parameters_of
from rocade.core.errors import Refused

PATIENCE_S = 60
VIN = "VF1CMND0000000001"


@contextlib.contextmanager
def driving(region: Region, identity: Path) -> Iterator[None]:
    """One car, plugged in and connected, in a process of its own."""
    seat = Seat(VIN, "electric_suv", str(identity), is_plugged=True, charge_percent=50.0)
    order = Order(host="localhost", port=region.configuration.mqtt.port, seats=(seat,), batch_s=1)
    process = subprocess.Popen(
        [sys.executable, "-m", "rocade.agents.vehicle.convoy"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(msgspec.json.encode(order) + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            if json.loads(line).get("acknowledged_batches"):
                break
        yield
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.fixture(scope="module")
def car(region: Region) -> Iterator[Region]:
    identity = region.enrol(VIN, region.directory.parent / VIN, "--brand", "hyundai", "--model", "Kona")
    with driving(region, identity):
        yield region


def told(region: Region, *arguments: str, **more: Any) -> list[str]:
    """The states that `--wait` shows, in order."""
    return [line.split()[1] for line in region.rocade("command", VIN, *arguments, "--wait", **more).splitlines()]


LIFE = ["created", "queued", "sent", "accepted", "applied", "verified"]


def test_a_car_is_told_to_do_something_and_its_telemetry_proves_it(car: Region) -> None:
    states = told(car, "charge.limit", "75", "--by", "+10m", "--key", "once")
    assert states == [state for state in LIFE if state in states]
    assert states[-1] == "verified"
    assert told(car, "charge.limit", "75", "--by", "+10m", "--key", "once") == states  # the same command
    (listed,) = [line for line in car.rocade("command", VIN).splitlines() if "verified" in line]
    with car.api() as api:
        why = api.get(f"/v1/why/command:{listed.split()[-1]}", language="en")["sentences"]
    assert any("telemetry measured after the act proved it" in one["text"] for one in why)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"act": "charge.limit", "parameters": {"percent": 5}}, "command.parameters.malformed"),
    ({"act": "doors.open"}, "command.act.unknown"),
    ({"act": "charge.stop", "by_us": 1}, "command.deadline"),
    ({"act": "charge.limit", "parameters": {"percent": 90}, "key": "once"}, "command.key.reused"),
    ({"act": "charge.stop", "why": "so"}, "http.request.invalid"),
]


def test_what_cannot_be_meant_is_answered_with_its_code(car: Region) -> None:
    car.rocade("command", VIN, "charge.limit", "much", code=1, says="command.parameters.malformed")
    with car.api() as api:
        ref = api.get(f"/v1/vehicles/by-id/{VIN}")["ref"]
        for body, code in WRONG:
            with pytest.raises(Refused) as refusal:
                api.send(f"/v1/vehicles/{ref}/commands", json=body)
            assert refusal.value.code == code
        for path in ("/v1/commands/" + "0" * 32, "/v1/commands/no-such-id/events"):
            with pytest.raises(Refused, match=r"^command\.unknown"):
                api.get(path)
        able = {one["act"]: one for one in api.get(f"/v1/vehicles/{ref}/commands/acts")}
        assert able["doors.unlock"]["needs_touch"]
        assert able["charge.start"]["may"]


@pytest.mark.parametrize("role", ["gateway", pytest.param("worker", marks=pytest.mark.slow)])
def test_a_command_is_done_although_a_process_of_the_region_dies(car: Region, role: str) -> None:
    with car.api() as api:
        processes = api.get("/v1/status")["processes"]
    (pid,) = {one["values"]["pid"] for one in processes if one["role"] == role}
    os.kill(pid, signal.SIGKILL)
    percent = {"gateway": "61", "worker": "62"}[role]
    assert told(car, "charge.limit", percent, "--by", "+10m")[-1] == "verified"


NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
TIMES = [
    ("10:00", "2026-11-22T10:00+00:00"),
    ("07:00", "2026-11-23T07:00+00:00"),
    ("+30m", "2026-11-22T10:00+00:00"),
    ("+1.5h", "2026-11-22T11:00+00:00"),
    ("2026-12-01T07:00+01:00", "2026-12-01T06:00+00:00"),
]


@pytest.mark.parametrize(("text", "at"), TIMES)
def test_a_deadline_is_read_as_people_write_it(text: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert instant_us(text, NOW) == int(datetime.fromisoformat(at).timestamp() * 1e6)


@pytest.mark.parametrize("text", ["", "25:00", "7", "+m", "+xh", "tomorrow", "2026-13-01T00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(Refused, match=r"^app\.time\.unreadable"):
        instant_us(text, NOW)


def test_parameters_go_by_their_order_or_by_name() -> None:
    assert parameters_of("charge.limit", ("80", "16"), NOW) == {"percent": 80, "current_a": 16}
    assert parameters_of("charge.limit", ("current_a=6.5", "80"), NOW) == {"percent": 80, "current_a": 6.5}
    slots = parameters_of("charge.schedule", ("10:00/11:00/7.4,12:00/13:00/3",), NOW)["slots"]
    assert [(end - begin, power) for begin, end, power in slots] == [(3_600_000_000, 7.4), (3_600_000_000, 3.0)]
    for given in (("80", "16", "7"), ("1/2",)):
        with pytest.raises(Refused, match=r"^command\.parameters\.malformed"):
            parameters_of("charge.schedule" if "/" in given[0] else "charge.limit", given, NOW)


def test_help_needs_no_region() -> None:
    assert "charge.limit PERCENT" in rocade("command", "--help")
