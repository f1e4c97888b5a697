"""The agent is a guest on a small machine: what a real process holds with 500,000 parts, read from the kernel."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import Hub

MOST_MIB = 150


def resident_mib(pid: int) -> dict[str, float]:
    """Now, and the most it ever was (`VmHWM`)."""
    lines = "".join(Path(f"/proc/{pid}/{file}").read_text() for file in ("smaps_rollup", "status")).splitlines()
    names = ("Rss", "Pss", "VmHWM")
    return {name: int(line.split()[1]) / 1024 for line in lines for name in names if line.startswith(f"{name}:")}


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_with_half_a_million_parts_it_stays_below_150_mib(hub: Hub, place: Path) -> None:
    parts = await asyncio.to_thread(hub.publish, parts=500_000)
    settings = place / "dealer.toml"
    lan = '[lan]\naddresses = ["127.0.0.1"]\nport = -1\nnetworks = ["127.0.0.0/8"]\n'
    settings.write_text(lan + settings.read_text().replace("port = 0", "port = -1", 1))
    figures = {}
    for name in ("loaded", "started again"):
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(place)),
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "ROCADE_LOG": "warning"},
        )  # fmt: skip
        try:
            await acknowledged(hub, parts.seq)
            await asyncio.to_thread(parts.release, {f"REF-{at:06}": 9 for at in range(0, 500_000, 50)})
            hub.push_head(parts)
            await acknowledged(hub, parts.seq)
            figures[name] = {key: round(value) for key, value in resident_mib(program.pid).items()}
        finally:
            program.kill()
            await program.wait()
    print(json.dumps(figures))
    assert figures["loaded"]["Rss"] <= MOST_MIB, figures
    assert figures["started again"]["Rss"] <= MOST_MIB, figures


async def acknowledged(hub: Hub, seq: int) -> None:
    for _ in range(3000):
        if any(ack["seq"] == seq and ack["state"] == "applied" for ack in hub.told("ack")):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"number {seq} was not applied")
