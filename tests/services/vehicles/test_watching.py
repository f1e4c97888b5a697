"""Who waits for a vehicle is woken when its twin is written: one query for all, none while nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import time

import numpy as np
import pytest

from rocade.fabric.database import Database
from rocade.services.vehicles import twin
from rocade.services.vehicles.watching import LOOK_S, TwinWatch
from rocade.trust.authority.sealing import keyring_of


async def write(database: Database, *refs: int) -> None:
    rows = [twin.Row(ref, 1, 0, None, None, None, twin.pack(np.zeros(0, twin.SLOT), ())) for ref in refs]
    async with database.pool.acquire() as connection, connection.transaction():
        await twin.upsert_many(connection, rows, keyring_of(database))


async def test_only_who_waits_for_this_vehicle_is_woken(database: Database) -> None:
    await write(database, 1, 2)
    watch = TwinWatch(twin.TwinStore(database))
    with watch.of(1) as first, watch.of(2) as second:
        assert await first.wait(30)
        assert await second.wait(30)
        await write(database, 1)
        assert await first.wait(30)
        assert not await second.wait(2 * LOOK_S)


async def test_a_thousand_who_wait_cost_one_query_a_look_and_none_afterwards(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, asked = twin.TwinStore(database), []
    before = store.written

    async def counted(refs: list[int]) -> dict[int, int]:
        asked.append(len(refs))
        return await before(refs)

    monkeypatch.setattr(store, "written", counted)
    watch = TwinWatch(store)
    with contextlib.ExitStack() as stack:
        begun_s = time.monotonic()
        waiting = [stack.enter_context(watch.of(ref % 100)) for ref in range(1_000)]
        await asyncio.gather(*(changed.wait(3 * LOOK_S) for changed in waiting))
        async with asyncio.timeout(30):
            while len(asked) < 2:
                await asyncio.sleep(LOOK_S)
        took_s = time.monotonic() - begun_s
        assert set(asked) == {100}
        assert len(asked) <= took_s / LOOK_S
    many = len(asked)
    await asyncio.sleep(3 * LOOK_S)
    assert len(asked) <= many + 1
