"""The wheel with the lock of a point of sale, in an empty environment: it joins, follows a list and answers."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest
from tests.agents.dealer.conftest import Hub, until
from tests.house.test_packaging import SERVER_ONLY, bare, environment, wheel

__all__ = ["wheel"]


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_the_agent_runs_from_the_wheel_without_the_server(
    wheel: Path,  # the fixture
    hub: Hub,
    place: Path,
    tmp_path: Path,
) -> None:
    programs = await asyncio.to_thread(environment, tmp_path / "venv", "dealer", wheel)
    installed = {path.name.partition("-")[0] for path in (tmp_path / "venv").rglob("*.dist-info")}
    assert installed & {name.replace("-", "_") for name in SERVER_ONLY - {"litestar"}} == set()
    hub.publish(parts=100)
    settings = place / "dealer.toml"
    lan = '[lan]\naddresses = ["127.0.0.1"]\nport = -1\nnetworks = ["127.0.0.0/8"]\n'
    settings.write_text(lan + settings.read_text().replace("port = 0", "port = -1", 1))
    program = await asyncio.create_subprocess_exec(
        *(str(programs / "rocade"), "dealer", "run", "--dir", str(place)), env=bare(), cwd=tmp_path
    )
    try:
        await until(lambda: any(ack["state"] == "applied" for ack in hub.told("ack")))
        for words in (("price", "REF-000007", "--json"), ("status", "--json")):
            command = [str(programs / "rocade"), "dealer", *words, "--dir", str(place)]
            done = await asyncio.to_thread(
                subprocess.run, command, capture_output=True, text=True, check=False, env=bare(), cwd=tmp_path
            )
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)
    finally:
        program.terminate()
        assert await asyncio.wait_for(program.wait(), 60) == 0
