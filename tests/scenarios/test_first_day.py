"""The first day: `rocade demo` as a newcomer types it, and once more in the same folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from tests.app.stand import PROGRAM, Region, rocade

KEYS = [
    "vehicles", "messages_acked", "points", "ack_p50_ms", "ack_p99_ms", "twin_p99_ms", "lag_s", "lost", "duplicated",
    "bytes_per_point",
]  # fmt: skip
SECOND_START_S = 60.0
"""Fifteen on a machine that does nothing else: the slow form below."""


def demo(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROCADE_")}
    return subprocess.Popen(
        [*PROGRAM, "demo", "--dir", str(directory), *arguments], env=clean, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


@pytest.mark.timeout(900)
def test_a_demo_runs_its_time_loses_nothing_and_starts_quickly_the_second_time(tmp_path: Path) -> None:
    began_s = time.monotonic()
    first = demo(tmp_path / "demo", "--vehicles", "20", "--for", "8")
    out, said = first.communicate(timeout=400)
    assert first.returncode == 0, out + said
    print(f"first demo of 8 s: {time.monotonic() - began_s:.1f} s in all", file=sys.stderr)
    summary = json.loads(out.splitlines()[-1])
    assert list(summary) == KEYS
    assert (summary["vehicles"], summary["lost"], summary["duplicated"]) == (20, 0, 0)
    assert summary["messages_acked"] >= 20
    assert summary["points"] > summary["messages_acked"]
    assert 0 < summary["ack_p50_ms"] <= summary["ack_p99_ms"]
    assert summary["twin_p99_ms"] > 0
    assert summary["bytes_per_point"] > 0
    address = re.search(r"http://localhost:\d+", said)
    assert address is not None
    assert re.findall(r"rocade (vehicles|status|audit verify) --config ", said) == [
        "vehicles",
        "status",
        "audit verify",
    ]

    second = demo(tmp_path / "demo", "--vehicles", "20")
    try:
        started_s = started_after(second)
        assert all(opens(link) for link in links_of(second)), "a printed link opens nothing"
        region = Region(tmp_path / "demo")
        assert len(region.rocade("vehicles").splitlines()) == 21
        assert json.loads(region.rocade("audit", "verify"))["ok"] is True
        time.sleep(2)
    finally:
        second.send_signal(signal.SIGINT)
        out, said = second.communicate(timeout=240)
    assert second.returncode == 0, said
    assert json.loads(out.splitlines()[-1])["lost"] == 0, "Ctrl-C ends it like the end of its time"
    print(f"second start: {started_s:.1f} s", file=sys.stderr)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_second_start_takes_less_than_fifteen_seconds(tmp_path: Path) -> None:
    for limit_s in (SECOND_START_S, 15.0):
        run = demo(tmp_path / "demo", "--vehicles", "20", "--for", "1")
        started_s = started_after(run)
        run.communicate(timeout=60)
        assert started_s < limit_s


def links_of(process: subprocess.Popen[str]) -> list[str]:
    """The five links it prints once it runs."""
    assert process.stderr is not None
    found: list[str] = []
    for line in process.stderr:
        found += re.findall(r"http://localhost:\d+/signin/link/\S+", line)
        if len(found) == 5:
            return found
    raise AssertionError(f"the demo ended before it had printed five links: {found}")


def opens(link: str) -> bool:
    """Whether somebody is welcomed behind it, asks to be let in, and is."""
    site, _, rest = link.partition("/signin/link/")
    secret = {"secret": rest.partition("?")[0]}
    with httpx.Client(base_url=site, headers={"origin": site}, trust_env=False, timeout=30) as browser:
        if 'data-act="link"' not in browser.get(link).text:
            return False
        until_s = time.monotonic() + 120
        while not browser.post("/v1/signin/link/asks", json=secret).json()["is_confirmed"]:
            if time.monotonic() > until_s:
                return False
            time.sleep(0.2)
        return browser.post("/v1/signin/link", json=secret).is_success


def started_after(process: subprocess.Popen[str]) -> float:
    """Seconds from the command to its running, as it says itself."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        if found := re.search(r"Rocade is running \(in ([\d.]+) s\)", line):
            return float(found[1])
        said.append(line)
    raise AssertionError(f"the demo ended before it ran: {''.join(said)}")


def test_a_demo_that_cannot_start_says_why_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/rocade.toml").write_text("nonsense = 1\n")
    rocade("demo", "--dir", tmp_path / "demo", "--for", "1", code=1, says="[app.configuration.invalid]")
