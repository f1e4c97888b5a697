"""Workers share partitions; the fence decides between two that claim the same one."""

from __future__ import annotations

import asyncio

import pytest
from tests.clocks import SetClock

from rocade.core.errors import Unavailable
from rocade.fabric.database import Database, Leases


def leases(database: Database, owner: str, clock: SetClock, ttl_s: float = 60.0) -> Leases:
    return Leases(database, "history", "telemetry", owner, ttl_s, clock)


async def settle(*workers: Leases, clock: SetClock) -> None:
    """Two rounds: in the first everybody lets go, in the second everybody takes."""
    for _ in range(2):
        clock.move(20.0)
        for worker in workers:
            await worker.renew()


async def test_one_worker_holds_all_partitions(database: Database) -> None:
    worker = leases(database, "a", SetClock())
    assert await worker.renew() == list(range(64))


@pytest.mark.parametrize("count", [2, 3, 5])
async def test_workers_share_fairly_and_no_partition_has_two_owners(database: Database, count: int) -> None:
    clock = SetClock()
    workers = [leases(database, f"w{number}", clock) for number in range(count)]
    await settle(*workers, clock=clock)
    held = [worker.partitions for worker in workers]
    assert sorted(partition for each in held for partition in each) == list(range(64))
    assert max(map(len, held)) - min(map(len, held)) <= 1


async def test_release_hands_over_at_once(database: Database) -> None:
    clock = SetClock()
    first, second = leases(database, "a", clock), leases(database, "b", clock)
    await settle(first, second, clock=clock)
    await first.release()
    assert first.partitions == []
    clock.move(20.0)
    assert await second.renew() == list(range(64))


async def test_a_dead_workers_partitions_move_when_its_time_is_over(database: Database) -> None:
    first, second = (Leases(database, "history", "telemetry", owner, 0.9) for owner in "ab")
    started = asyncio.get_running_loop().time()  # before the first takes them: a busy machine only makes it longer
    await first.renew()
    held = await second.renew()
    assert held == [] or asyncio.get_running_loop().time() - started > 0.8  # it was that long under way
    while await second.renew() != list(range(64)):
        await asyncio.sleep(0.05)
    assert asyncio.get_running_loop().time() - started > 0.8
    assert first.partitions == []


async def test_of_two_workers_that_claim_one_partition_the_fence_decides(database: Database) -> None:
    stale = Leases(database, "history", "telemetry", "stale", 0.3)
    await stale.renew()
    await asyncio.sleep(0.4)  # it sleeps through its time and does not know
    fresh = leases(database, "fresh", SetClock())
    assert await fresh.renew() == list(range(64))
    async with database.pool.acquire() as connection:
        with pytest.raises(Unavailable, match=r"lease\.lost"):
            async with connection.transaction():
                await stale.guard(connection, [7])
        async with connection.transaction():
            await fresh.guard(connection, [7])


async def test_a_takeover_waits_for_a_guarded_commit(database: Database) -> None:
    stale = Leases(database, "history", "telemetry", "stale", 0.3)
    await stale.renew()
    fresh = leases(database, "fresh", SetClock())
    async with database.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await stale.guard(connection, range(64))
        await asyncio.sleep(0.4)
        taking = asyncio.create_task(fresh.renew())
        await asyncio.sleep(0.3)
        assert not taking.done()
        await transaction.commit()
        assert await taking == list(range(64))


async def test_renewing_asks_the_database_only_each_third_of_the_time_to_live(database: Database) -> None:
    clock = SetClock()
    worker = leases(database, "a", clock)
    await worker.renew()
    await database.pool.execute("DELETE FROM lease_member")
    clock.move(19.0)
    await worker.renew()
    assert await database.pool.fetchval("SELECT count(*) FROM lease_member") == 0
    clock.move(1.1)
    await worker.renew()
    assert await database.pool.fetchval("SELECT count(*) FROM lease_member") == 1


async def test_what_is_held_ends_by_itself_when_it_cannot_be_renewed(database: Database) -> None:
    clock = SetClock()
    worker = leases(database, "a", clock)
    await worker.renew()
    clock.move(60.1)
    assert worker.partitions == []
