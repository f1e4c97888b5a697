"""Feeds by server-sent events: from a cursor on, each record once, ends told, what expired told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.services.sharing.conftest import OWNER, PARTY, PATIENCE_S, SPEED, Stand

from rocade.core.errors import Refused
from rocade.services.sharing.streams import Streams, _Following, cursor_of, read_cursor
from rocade.trust.authority.gate import Permit, Principal, Right, acts

DAY_US = 24 * 3_600_000_000


class Reader:
    """A third party's open stream."""

    def __init__(self, stand: Stand, only: str = "") -> None:
        who = Principal("partner", "spiffe://acme", PARTY, "certificate", "eu")
        access = SimpleNamespace(gate=SimpleNamespace(rights=stand.table))
        self.closing = asyncio.Event()
        request: Any = SimpleNamespace(
            app=SimpleNamespace(state=SimpleNamespace(closing=self.closing, access=access)),
            scope={"rocade.permit": Permit(who, acts.FOLLOW_SHARING, "", Right())},
        )
        streams = Streams(stand.bell, stand.lines, DAY_US)
        self._following = _Following(request, stand.feeding, streams, PARTY, only)
        self.last = ""

    async def read(self, count: int, kind: str = "record", cursor: str = "") -> list[dict[str, Any]]:
        """The next events of one kind."""
        found: list[dict[str, Any]] = []
        frames = self._following.frames(*(read_cursor(cursor) if cursor else (0, 0)))
        async with asyncio.timeout(PATIENCE_S):
            async for name, last, data in _events(frames):
                self.last = last
                if name == kind:
                    found.append(data)
                    if len(found) == count:
                        break
        await frames.aclose()  # type: ignore[attr-defined]  # it is a generator
        return found


async def _events(frames: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, str, dict[str, Any]]]:
    async for frame in frames:
        lines = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
        yield lines["event"], lines.get("id", ""), msgspec.json.decode(lines["data"])


async def test_a_reader_that_comes_back_with_its_cursor_misses_nothing_and_reads_nothing_twice(stand: Stand) -> None:
    ref = await stand.vehicle()
    await stand.contract(ref)
    for value in range(65):
        await stand.send(ref, {SPEED: [float(value)]})
    seen: list[float] = []
    cursor = ""
    while len(seen) < 65:
        reader = Reader(stand)
        seen += [one["series"][0]["value"][0] for one in await reader.read(13, cursor=cursor)]
        cursor = reader.last
    assert seen == list(range(65))


async def test_one_stream_carries_all_contracts_of_a_party_and_no_other(stand: Stand) -> None:
    refs = [await stand.vehicle() for _ in range(3)]
    mine = [await stand.contract(ref) for ref in refs]
    for ref in refs:
        await stand.send(ref)
    found = await Reader(stand).read(3)
    assert {one["contract"] for one in found} == {one.id for one in mine}
    (only,) = await Reader(stand, mine[1].id).read(1)
    assert only["contract"] == mine[1].id


async def test_two_contracts_of_one_vehicle_lose_nothing_when_their_reader_is_cut_off_between_them(
    stand: Stand,
) -> None:
    ref = await stand.vehicle()
    both = {(await stand.contract(ref)).id, (await stand.contract(ref)).id}
    await stand.send(ref)
    first = Reader(stand)
    seen = {one["contract"] for one in await first.read(1)}
    seen |= {one["contract"] for one in await Reader(stand).read(2, cursor=first.last)}
    assert seen == both


async def test_what_is_withdrawn_while_a_reader_is_slow_does_not_leave(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    for value in range(5):
        await stand.send(ref, {SPEED: [float(value)]})
    frames = Reader(stand)._following.frames(0, 0)
    first = await anext(frames)
    assert b"event: record" in first
    await stand.sharing.withdraw(ref, OWNER, contract.id)
    await stand.table.refresh()
    async with asyncio.timeout(PATIENCE_S):
        assert b"event: ended" in await anext(frame async for frame in frames if b"event: alive" not in frame)
    await frames.aclose()  # type: ignore[attr-defined]  # it is a generator


async def test_new_contracts_and_new_records_reach_an_open_stream(stand: Stand) -> None:
    reading = asyncio.create_task(Reader(stand).read(1))
    await asyncio.sleep(0)
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.send(ref)
    ((one),) = await reading
    assert one["contract"] == contract.id


async def test_a_withdrawn_contract_says_so_and_gives_nothing_more(stand: Stand) -> None:
    ref, other = await stand.vehicle(), await stand.vehicle()
    contract, stays = await stand.contract(ref), await stand.contract(other)
    reader = Reader(stand)
    reading = asyncio.create_task(reader.read(1, "ended"))
    await stand.send(ref)
    await stand.sharing.withdraw(ref, OWNER, contract.id)
    await stand.send(ref)
    (said,) = await reading
    assert said == {"contract": contract.id, "code": "sharing.contract.ended", "why": "withdrawn"}
    await stand.send(other)
    found = await Reader(stand).read(1)
    assert [one["contract"] for one in found] == [stays.id]


async def test_a_cursor_older_than_what_is_kept_is_told_the_gap(stand: Stand) -> None:
    await stand.contract(await stand.vehicle())
    old_us = stand.clock.now_us() - 2 * DAY_US
    (gap,) = await Reader(stand).read(1, "expired", cursor_of(1, old_us))
    assert gap["from_us"] == old_us
    assert gap["until_us"] > old_us


@pytest.mark.parametrize("text", ["x", "1", "-", "1-", "1-g", "1-2-3", "1" * 20 + "-1"])
def test_cursors_nobody_made_are_refused(text: str) -> None:
    with pytest.raises(Refused) as refused:
        read_cursor(text)
    assert refused.value.code == "sharing.cursor"


async def test_what_leaves_is_a_look_the_owner_can_read(stand: Stand) -> None:
    ref = await stand.vehicle()
    contract = await stand.contract(ref)
    await stand.send(ref)
    await Reader(stand).read(1)
    await stand.looks.settled()
    (look,) = (await stand.looks.of(ref)).looks
    assert (look.actor, look.purpose, look.grant) == ("spiffe://acme", "insurance", contract.grant)
