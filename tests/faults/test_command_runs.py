"""Commands while everything fails: real hub on PostgreSQL, real executor, lost and doubled messages, kills on both sides.

The whole of it is `benchmarks/charging_faults.py --full` (100,000 runs); a seed that fails here is replayed there with `--seed`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from tests.chance import Seeded
from tests.clocks import SetClock

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from tests.agents.vehicle.command_desk import VEHICLE, Desk
from tests.conftest import make_custody

from charging_faults import Outcome, Run
from rocade.agents.vehicle.command_book import Book
from rocade.agents.vehicle.commands import Executor
from rocade.agents.vehicle.journal import Journal
from rocade.core.ports import SystemClock
from rocade.wire.commands import read_report


def run(url: str, folder: Path, seed: int, runs: int, vehicles: int, round_steps: int = 120) -> Outcome:
    print(f"seed {seed}")
    make_custody(folder / "custody")
    return asyncio.run(Run(url, folder, seed, runs, vehicles, round_steps).run())


def test_nothing_is_done_twice_too_late_or_out_of_order(database_url: str, tmp_path: Path) -> None:
    found = run(database_url, tmp_path, 20261122, 100, 100, 60)
    print(found)
    assert (found.double_effects, found.expired_starts, found.disordered, found.open_at_end) == (0, 0, 0, 0)
    assert found.effects > found.runs // 3
    assert found.messages > found.runs
    assert found.ends["verified"] > found.runs // 2


@pytest.mark.slow
def test_the_same_in_thousands_of_runs_with_kills_on_both_sides(database_url: str, tmp_path: Path) -> None:
    found = run(database_url, tmp_path, int.from_bytes(os.urandom(3)), 5_000, 500)
    print(found)
    assert found.is_clean
    assert min(found.power_cuts, found.hub_kills) > 0


BROKEN = {
    "asks nobody whether it is late": ("_is_late", lambda *_: False, "expired_starts"),
    "forgets to ask what was done before the power failed": ("_recover", lambda *_: False, "double_effects"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", BROKEN)
def test_an_executor_that_is_broken_is_found_out(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, instead, count = BROKEN[what]
    monkeypatch.setattr(Executor, name, instead)
    found = run(database_url, tmp_path, 5, 1_500, 300)
    assert getattr(found, count) > 0
    assert not found.is_clean


@pytest.mark.slow
def test_a_book_that_forgets_versions_is_found_out(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Book, "newest", lambda *_: None)
    found = run(database_url, tmp_path, 5, 300, 150)
    assert min(found.double_effects, found.disordered) > 0


@pytest.mark.slow
def test_a_seed_makes_the_same_world_again(postgres_url: str, tmp_path: Path) -> None:
    from charging_faults import run as run_alone

    first, second = (msgspec.structs.replace(run_alone(200, 7, 50), seconds=0.0) for _ in range(2))
    assert first == second


AGENT = Path(__file__).parent / "command_agent_process.py"


def test_an_agent_that_is_killed_at_any_moment_does_each_command_once(tmp_path: Path) -> None:
    """kill -9 in the middle of real commits; what was not acknowledged comes again, as the hub would send it."""
    desk = Desk(tmp_path / "region", SetClock(SystemClock().now_us()))
    bodies = [desk.seal(desk.command("attention.horn", {"seconds": 1})) for _ in range(24)]
    seed, kills, taken = os.getpid(), 0, 0
    print(f"seed {seed}")
    draw = Seeded(seed)
    while taken < len(bodies):
        process = subprocess.Popen(
            [sys.executable, str(AGENT), str(tmp_path), VEHICLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"up\n"
        for _ in range(1 + draw.bits(5)):
            if taken == len(bodies):
                break
            process.stdin.write(bodies[taken].hex().encode() + b"\n")
            process.stdin.flush()
            if draw.uniform() < 0.2:
                time.sleep(draw.uniform() * 0.005)  # anywhere between reading it and having told it
                break
            assert process.stdout.readline() == b"took\n"
            taken += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
        kills += 1
    did = [line.split()[2] for line in (tmp_path / "did").read_text().splitlines()]
    assert len(did) == len(set(did)) == len(bodies), f"{kills} kills"
    with Journal(tmp_path / "car.sqlite3", SystemClock(), Seeded()) as journal:
        reports = [read_report(body) for _, body in Book(journal.connection).owed(0, 1000)]
    assert {report.id for report in reports if report.state == "applied"} == set(did)
