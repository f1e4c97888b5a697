"""Two agents of one site: one holds the line, both hold everything, the standby takes over and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.agents.dealer.conftest import QUICK, Hub, until
from tests.agents.dealer.test_agent import a_draft
from tests.ports import free_port

from rocade.agents.dealer import pair
from rocade.agents.dealer.agent import Dealer
from rocade.core.errors import Unavailable
from rocade.wire.exchange import Address, Message


@pytest.fixture(autouse=True)
def _no_disk_is_too_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair, "KEPT_WITHIN_S", 30.0)


class Two:
    """Both halves, each startable and stoppable by itself."""

    def __init__(self, hub: Hub, directory: Path) -> None:
        self.port = free_port()
        self.places = [directory / "one", directory / "two"]
        for place, words in zip(
            self.places, (f'listen = "127.0.0.1:{self.port}"', f'connect = "127.0.0.1:{self.port}"'), strict=True
        ):
            hub.enrol(place)
            settings = place / "dealer.toml"
            settings.write_text(f"[pair]\n{words}\ntakeover_s = 3.0\n{settings.read_text()}")
        self.agents: list[Dealer | None] = [None, None]
        self._tasks: list[asyncio.Task[None] | None] = [None, None]

    def start(self, which: int) -> Dealer:
        agent = self.agents[which] = Dealer.open(self.places[which], backoff=QUICK)
        self._tasks[which] = asyncio.create_task(agent.run())
        return agent

    async def stop(self, which: int) -> None:
        task, agent = self._tasks[which], self.agents[which]
        if task and agent:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            agent.close()
        self._tasks[which] = self.agents[which] = None


@contextlib.asynccontextmanager
async def two_of(hub: Hub, directory: Path) -> AsyncIterator[Two]:
    two = Two(hub, directory)
    try:
        yield two
    finally:
        await two.stop(0)
        await two.stop(1)


async def settled(two: Two, hub: Hub) -> tuple[Dealer, Dealer]:
    """Both started and joined: (the active one, the standby), whichever is which."""
    agents = [two.start(0), two.start(1)]

    def found() -> list[Dealer]:
        return [one for one in agents if role(one) == "active" and one.hub().line.is_connected]

    await until(
        lambda: all(one.pair.is_joined for one in agents) and len(found()) == 1
        and {role(one) for one in agents} == {"active", "standby"}
    )  # fmt: skip
    active = found()[0]
    return active, agents[1 - agents.index(active)]


def role(agent: Dealer) -> str:
    return agent.standing().role


async def test_exactly_one_is_active_and_the_other_holds_the_same(hub: Hub, tmp_path: Path) -> None:
    parts = hub.publish(parts=100)
    async with two_of(hub, tmp_path) as two:
        one, other = await settled(two, hub)
        assert not other.hub().line.is_connected
        await until(lambda: all(a.prices.lists() for a in (one, other)))
        parts.release({"REF-000001": 5})
        hub.push_head(parts)
        await until(lambda: [a.prices.lists()[0]["number"] for a in (one, other)] == [2, 2])
        hub.deliver(message_to_us("from-brand-1"))
        await until(lambda: [m.id for m in other.inbox.after("eu", 0)] == ["from-brand-1"])
        assert one.inbox.after("eu", 0)[0].cursor == other.inbox.after("eu", 0)[0].cursor
        await one.send("", a_draft(1))
        await other.send("", a_draft(2))
        await until(lambda: [a.outbox.counts() for a in (one, other)] == [{"taken": 2}, {"taken": 2}])
        assert sorted(hub.taken) == ["dms-1", "dms-2"]
        assert (await other.send("", a_draft(1))).id == "dms-1"  # a retry at the other agent is the same message
        assert hub.conflicts == []


async def test_the_standby_takes_over_and_nothing_is_lost_or_doubled(hub: Hub, tmp_path: Path) -> None:
    hub.publish(parts=10)
    async with two_of(hub, tmp_path) as two:
        one, other = await settled(two, hub)
        first = two.agents.index(one)
        taken_before = other.pair.takeovers
        accepted = []
        for number in range(200):
            if number == 100:
                await two.stop(first)
            agent = two.agents[first] or other
            accepted.append((await agent.send("", a_draft(number))).id)
        await until(lambda: role(other) == "active" and other.hub().line.is_connected)
        await until(lambda: not other.outbox.counts().get("waiting"))
        assert sorted(hub.taken) == sorted(accepted)
        assert hub.conflicts == []
        back = two.start(first)
        await until(lambda: back.pair.is_joined and role(back) == "standby")
        await until(lambda: not back.outbox.counts().get("waiting"))
        assert (role(other), other.pair.takeovers) == ("active", taken_before + 1)
        streams: dict[str, list[int]] = {}
        for said in {m["id"]: m for m in hub.told("message")}.values():
            streams.setdefault(str(said["stream"]), []).append(int(str(said["sequence"])))
        assert len(streams) == 2
        assert all(sorted(numbers) == list(range(1, len(numbers) + 1)) for numbers in streams.values())


async def test_cut_off_from_each_other_the_hub_decides_and_what_was_accepted_still_arrives(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_of(hub, tmp_path) as two:
        one, other = await settled(two, hub)

        async def nobody(*_: Any, **__: Any) -> None:
            raise OSError

        for half in (one.pair, other.pair):
            monkeypatch.setattr(half, "_converse", nobody)
        assert other.pair._peer
        other.pair._peer.transport.abort()
        await until(lambda: role(other) == "active" and other.hub().line.is_connected)
        await until(lambda: role(one) == "standby")
        alone = (await one.send("", a_draft(7))).id  # accepted by the one that has no line and no pair
        assert one.outbox.counts() == {"waiting": 1}
        monkeypatch.undo()
        await until(lambda: alone in hub.taken)
        await until(lambda: {role(one), role(other)} == {"standby", "active"})


async def test_what_only_one_disk_would_hold_is_refused_where_it_is_set_so(hub: Hub, tmp_path: Path) -> None:
    two = Two(hub, tmp_path)
    settings = two.places[0] / "dealer.toml"
    settings.write_text(settings.read_text().replace("takeover_s = 3.0", "takeover_s = 3.0\naccept_alone = false"))
    try:
        one, other = await settled(two, hub)
        strict = two.agents[0]
        assert strict
        kept = (await strict.send("", a_draft(1))).id
        await until(lambda: kept in hub.taken)
        await hub.shut()
        held = (await strict.send("", a_draft(2))).id  # the other one holds it too
        await two.stop(1)
        await until(lambda: not strict.pair.is_joined and not strict.hub().line.is_connected)
        with pytest.raises(Unavailable, match="try again later") as refused:
            await strict.send("", a_draft(3))
        assert refused.value.code == "dealer.pair.alone"
        assert held not in hub.taken
        assert strict.outbox.counts()["waiting"] == 1
        assert {one, other} >= {strict}
    finally:
        await two.stop(0)
        await two.stop(1)


async def test_a_stranger_is_not_let_into_a_pair(hub: Hub, tmp_path: Path) -> None:
    async with two_of(hub, tmp_path) as two:
        hub.region.credential(hub.region.identity("dealer", "FR-00999-1")).write(two.places[1] / "hubs/eu")
        one, other = two.start(0), two.start(1)
        await until(lambda: any(code == "dealer.pair.stranger" for _, _, code, _ in one.store.troubles()))
        assert not one.pair.is_joined
        await until(lambda: role(other) == "active")


def message_to_us(id: str) -> Message:
    return Message(
        id=id, sender="spiffe://test.rocade/eu/partner/brand", recipient=Address(site="FR-00123-1"), stream="news",
        sequence=1, content_class="technical", content_type="text/plain", created_us=1, body=b"hello",
    )  # fmt: skip
