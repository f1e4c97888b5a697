"""Agents killed with signal 9 while messages and prices are on their way: nothing accepted is lost, nothing has two effects."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.agents.dealer.conftest import Hub, hub, place, until
from tests.chance import Seeded

__all__ = ["hub", "place"]
from tests.agents.dealer.test_pair import free_port

from rocade.agents.dealer.store import FILE, Store
from rocade.agents.dealer.tokens import Tokens
from rocade.core.ports import SystemClock, SystemRandom


class Agent:
    """One agent as a program of its own, with its local API."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        settings = place / "dealer.toml"
        settings.write_text(settings.read_text().replace("[local]\nport = 0", f"[local]\nport = {self.port}", 1))
        store = Store(place / FILE, SystemClock(), SystemRandom())
        token = Tokens(store, SystemRandom()).create("dms", ("messages.send", "messages.read", "state.read"), 1)
        store.close()
        self.http = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers={"authorization": f"Bearer {token}"}, timeout=30
        )
        self.program: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(self.place)),
            stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "ROCADE_LOG": "warning"},
        )  # fmt: skip

    async def kill(self) -> None:
        if self.program:
            self.program.send_signal(signal.SIGKILL)
            await self.program.wait()
            self.program = None

    async def state(self) -> dict[str, Any]:
        try:
            answer = await self.http.get("/v1/state")
        except httpx.HTTPError:
            return {}
        return dict(answer.json())

    async def send(self, id: str) -> bool:
        """Whether the agent said that it has the message."""
        body = {
            "recipient": {"brand": "lune"}, "content_class": "technical", "content_type": "text/plain", "id": id,
            "body": base64.b64encode(id.encode()).decode(),
        }  # fmt: skip
        try:
            return (await self.http.post("/v1/messages", json=body)).status_code == 202
        except httpx.HTTPError:
            return False


async def wait_for(agent: Agent, **wanted: object) -> None:
    for _ in range(6000):
        state = await agent.state()
        if (
            state
            and all(state.get(name) == value for name, value in wanted.items())
            and state["hubs"][0]["is_connected"]
        ):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"waited two minutes for {wanted}")


async def test_an_agent_killed_again_and_again_loses_nothing_it_accepted(hub: Hub, place: Path) -> None:
    agent, chance = Agent(place), Seeded(7)
    accepted: list[str] = []
    try:
        for life in range(5):
            await agent.start()
            await wait_for(agent)
            ids = [f"m-{life}-{number}" for number in range(int(chance.uniform() * 60) + 5)]
            accepted += [id for id in ids if await agent.send(id)]
            await agent.kill()
        await agent.start()
        await until(lambda: {*accepted} <= hub.taken.keys())
        assert hub.conflicts == []
        numbers: dict[str, set[int]] = {}
        for said in hub.told("message"):
            numbers.setdefault(str(said["stream"]), set()).add(int(str(said["sequence"])))
        assert all(found == set(range(1, len(found) + 1)) for found in numbers.values())
    finally:
        await agent.kill()
        await agent.http.aclose()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_active_agent_killed_the_standby_has_the_line_and_every_message(hub: Hub, tmp_path: Path) -> None:
    port = free_port()
    agents = []
    for name, words in (("one", f'listen = "127.0.0.1:{port}"'), ("two", f'connect = "127.0.0.1:{port}"')):
        made = hub.enrol(tmp_path / name)
        (made / "dealer.toml").write_text(f"[pair]\n{words}\n" + (made / "dealer.toml").read_text())
        agents.append(Agent(made))
    accepted: list[str] = []
    took_s = []
    try:
        for agent in agents:
            await agent.start()
        for turn in range(3):
            roles = await settled(agents)
            active, standby = roles["active"], roles["standby"]
            for number in range(60):
                if await active.send(id := f"a-{turn}-{number}"):
                    accepted.append(id)
                if number % 10 == 0 and await standby.send(id := f"s-{turn}-{number}"):
                    accepted.append(id)
            began_s = asyncio.get_running_loop().time()
            await active.kill()
            await wait_for(standby, role="active")
            took_s.append(asyncio.get_running_loop().time() - began_s)
            assert await standby.send(f"after-{turn}")
            accepted.append(f"after-{turn}")
            await until(lambda: {*accepted} <= hub.taken.keys())  # what the dead one accepted too, without it
            await active.start()
        assert hub.conflicts == []
        print(json.dumps({"takeovers_s": [round(one, 1) for one in took_s]}))
    finally:
        for agent in agents:
            await agent.kill()
            await agent.http.aclose()


async def settled(agents: list[Agent]) -> dict[str, Agent]:
    for _ in range(1500):
        states = [await agent.state() for agent in agents]
        found = {
            state.get("role"): agent
            for state, agent in zip(states, agents, strict=True)
            if state.get("pair") == "connected"
        }
        if {*found} == {"active", "standby"} and (await found["active"].state())["hubs"][0]["is_connected"]:
            return {str(role): agent for role, agent in found.items()}
        await asyncio.sleep(0.05)
    pytest.fail("the two never settled who is active")
