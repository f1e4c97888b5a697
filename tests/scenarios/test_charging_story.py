"""A driver says "60 % in six hours, cheap", and it happens: a real region, a simulated car over mutual TLS, commands that prove themselves.

The car charges as it is plugged in; the goal makes it wait for cheap hours, by command, and telemetry proves that it stopped; a
correction of the prices makes it start; the charging process is killed and the whole region restarted in the midst; the cable
is pulled, and the session is written with its cost against charged at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.app.stand import Region

from rocade.agents.vehicle.convoy import Command, Order, Seat
from rocade.app import configuration as settings

VIN = "VR3UHZKXZNT123456"
PATIENCE_S = 90
HOUR = timedelta(hours=1)


class Driver:
    """One simulated electric car that stands at a charger, as a process."""

    def __init__(self, region: Region, identity: Path) -> None:
        seat = Seat(VIN, "electric_car", str(identity), is_plugged=True, charge_percent=40.0)
        order = Order(host="localhost", port=region.configuration.mqtt.port, seats=(seat,), batch_s=2)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rocade.agents.vehicle.convoy"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.says(order)

    def says(self, line: msgspec.Struct) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(line) + b"\n")
        self._process.stdin.flush()

    def unplugs(self) -> None:
        self.says(Command(unplug=VIN))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(name="region")
def a_region(tmp_path: Path) -> Iterator[Region]:
    region = Region(tmp_path / "eu")
    region.init()
    wanted = msgspec.structs.replace(region.configuration, charging=settings.Charging(processes=1))
    (region.directory / "rocade.toml").write_text(settings.render(wanted))
    with region.serving():
        yield region


def until(ask: Any, is_there: Any, within_s: float = PATIENCE_S) -> Any:
    """The first answer that is as wanted."""
    deadline = time.monotonic() + within_s
    answer: Any = None
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            answer = ask()
            if is_there(answer):
                return answer
        time.sleep(0.3)
    raise AssertionError(f"never: {answer}")


def prices(folder: Path, name: str, *values: float) -> Path:
    """A file of hourly prices from this hour on."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    lines = [f"{(hour + at * HOUR).isoformat()};{value}" for at, value in enumerate(values)]
    file = folder / f"{name}.csv"
    file.write_text("start;price [EUR/MWh]\n" + "\n".join(lines) + "\n")
    return file


def charging_pid(region: Region) -> int:
    with region.api() as api:
        return next(
            int(one["values"]["pid"]) for one in api.get("/v1/status")["processes"] if one["role"] == "charging"
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_goal_a_plan_a_car_that_obeys_and_a_session_with_its_cost(region: Region, tmp_path: Path) -> None:
    identity = region.enrol(VIN, tmp_path / "car", "--brand", "peugeot", "--model", "e-208", "--powertrain", "electric")
    driver = Driver(region, identity)
    try:
        with region.api() as api:
            ref = api.get("/v1/vehicles", id=VIN)["items"][0]["ref"]
        path = f"/v1/vehicles/{ref}/charging"

        def standing() -> Any:
            with region.api() as api:
                return api.get(path)

        # it hangs at the cable and charges by itself: a session began, nobody wants anything
        first = until(standing, lambda one: one["now"]["is_charging"] and one["session"])
        assert (first["state"], first["goal"]) == ("charging", None)
        session = first["session"]["id"]

        # a goal; this hour is the dearest, so the car is told to wait, and telemetry proves that it does
        region.rocade("charging", "tariff", "fr", "--zone", "Europe/Paris", "--currency", "EUR")
        file = prices(tmp_path, "first", 500, 400, 90, 80, 300, 300, 300, 300)
        said = region.rocade("charging", "import", "fr", file)
        assert said.startswith("8 values")
        region.rocade("charging", "car", VIN, "--capacity", "48", "--power", "22", "--taper-from", "95")
        ready = (datetime.now(UTC) + 6 * HOUR).isoformat()
        preview = region.rocade("charging", "goal", VIN, "60", "--by", ready, "--tariff", "fr", "--dry-run")
        assert "charged at once" in preview
        region.rocade("charging", "goal", VIN, "60", "--by", ready, "--tariff", "fr")
        waits = until(standing, lambda one: not one["now"]["is_charging"])
        assert waits["state"] == "waiting"
        assert waits["plan"]["at_once_minor"] > waits["plan"]["cost_minor"]

        def commands() -> Any:
            with region.api() as api:
                return api.get(f"/v1/vehicles/{ref}/commands")["items"]

        proven = until(commands, lambda found: {"charge.limit", "charge.schedule"} <= verified(found))
        assert all(one["by"] for one in proven)
        why = region.rocade("why", f"charging:{ref}")
        assert "waits until" in why

        # the charging process is killed; what follows is done by the one that takes its place
        killed = charging_pid(region)
        os.kill(killed, signal.SIGKILL)
        until(lambda: charging_pid(region), lambda pid: pid != killed)

        # the prices are corrected: now is cheapest, and the car starts
        region.rocade("charging", "import", "fr", prices(tmp_path, "second", -50, 400, 390, 380, 300, 300, 300, 300))
        starts = until(standing, lambda one: one["now"]["is_charging"])
        assert starts["plan"]["cause"] == "charging.replan.prices"
        assert starts["session"]["id"] == session, "one plugging in, one session"

        # the whole region is restarted in the midst
        versions = starts["plan"]["version"]
        region.stop()
        region.start()
        again = until(standing, lambda one: one["now"]["is_charging"] and one["session"]["energy_kwh"] > 0.1, 180)
        assert again["session"]["id"] == session
        assert again["plan"]["version"] >= versions
        repeated = [one for one in commands() if one["act"] == "charge.limit"]
        assert len(repeated) == 1, "what the car knows is not told again"

        # the cable is pulled: the session is written with its cost
        driver.unplugs()
        until(standing, lambda one: not one["now"]["is_plugged"])

        def ended() -> Any:
            with region.api() as api:
                return api.get(f"{path}/sessions")["items"]

        (written,) = until(ended, lambda found: found and found[0]["ended_us"])
        assert (written["id"], written["source"], written["currency"]) == (session, "telemetry", "EUR")
        assert written["energy_kwh"] > 0.1
        assert written["cost_minor"] != 0
        assert written["soc_end"] > written["soc_begin"]
        assert session in region.rocade("charging", "sessions", VIN)
        assert "tariff fr" in region.rocade("why", f"session:{session}")
        until(standing, lambda one: one["state"] in ("moving", "unplugged"))

        # from now on it belongs to a depot, whose board shows it
        depot = tmp_path / "depot.json"
        limits = [{"id": "grid", "limit_kw": 50}, {"id": "row-a", "parent": "grid", "current_a": 32}]
        depot.write_bytes(
            msgspec.json.encode({"name": "Depot Nord", "zone": "Europe/Paris", "tariff": "fr", "nodes": limits})
        )
        region.rocade("charging", "site", "depot-nord", depot)
        region.rocade("charging", "place", "depot-nord", VIN, "--node", "row-a", "--priority", "2")
        board = region.rocade("charging", "board", "depot-nord")
        assert "Depot Nord" in board
        assert "peugeot e-208" in board
        assert VIN not in board
        with region.api() as api:
            shape = api.get("/v1/charging/sites/depot-nord/flexibility")
            assert (shape["cars"], max(shape["max_kw"])) == (0, 0.0)
            assert api.get("/v1/charging/sites/depot-nord")["nodes"][1]["parent"] == "grid"
        region.rocade("charging", "stop", VIN)
        until(standing, lambda one: one["state"] == "stopped")
    finally:
        driver.close()


def verified(commands: Any) -> set[str]:
    return {one["act"] for one in commands if one["state"] == "verified"}
