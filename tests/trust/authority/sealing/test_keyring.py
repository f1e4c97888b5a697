"""Keys by name: made once, found in bulk, destroyed for everybody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rocade.core.errors import Refused
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Group, Keyring

CAR, OTHER = 2**62 + 5, 77
ROAD = (CAR, int(Group.ROAD))


async def erase(database: Database, keyring: Keyring, *owners: int) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring.destroy(connection, owners)


async def until(condition: object, limit_s: float = 30.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.01)


async def test_a_key_is_made_once_and_found_again(keyring: Keyring, database: Database, tmp_path: Path) -> None:
    assert await keyring.fetch([ROAD]) == {}
    made = await keyring.ensure([ROAD, (OTHER, Group.TWIN), (0, Group.INDEX)])
    assert {len(key) for key in made.values()} == {32}
    assert len(set(made.values())) == 3
    assert keyring.held(*ROAD) == made[ROAD]
    again = await Keyring.open(database, FileCustody(tmp_path / "custody"), SystemClock())
    assert again.held(*ROAD) is None
    assert await again.ensure(made) == made
    await again.close()


async def test_a_destroyed_owner_has_no_key_and_never_gets_one(keyring: Keyring, database: Database) -> None:
    await keyring.ensure([ROAD, (OTHER, Group.ROAD)])
    await erase(database, keyring, CAR)
    assert keyring.held(*ROAD) is None
    assert await keyring.ensure([ROAD, (CAR, Group.TWIN), (OTHER, Group.ROAD)]) == {(OTHER, 1): keyring.held(OTHER, 1)}


async def test_the_regions_own_keys_stay(keyring: Keyring, database: Database) -> None:
    with pytest.raises(Refused, match=r"custody\.owner"):
        await erase(database, keyring, 0)


async def test_another_process_forgets_what_was_destroyed(keyring: Keyring, database: Database, tmp_path: Path) -> None:
    other = await Keyring.open(database, FileCustody(tmp_path / "custody"), SystemClock())
    await keyring.ensure([ROAD])
    await other.fetch([ROAD])
    await erase(database, keyring, CAR)
    await until(lambda: other.held(*ROAD) is None)
    await other.close()


async def test_a_key_that_is_being_destroyed_is_not_made_beside_it(
    keyring: Keyring, database: Database, tmp_path: Path
) -> None:
    other = await Keyring.open(database, FileCustody(tmp_path / "custody"), SystemClock())
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring.destroy(connection, [CAR])
        making = asyncio.create_task(other.ensure([ROAD, (OTHER, 1)]))
        await until(lambda: other._buckets)
        assert not making.done()
    assert list(await making) == [(OTHER, 1)]
    assert await keyring.ensure([ROAD]) == {}
    await other.close()


async def test_a_destruction_that_is_taken_back_destroys_nothing(keyring: Keyring, database: Database) -> None:
    made = await keyring.ensure([ROAD])
    with pytest.raises(ZeroDivisionError):
        async with database.pool.acquire() as connection, connection.transaction():
            await keyring.destroy(connection, [CAR])
            raise ZeroDivisionError
    assert await keyring.fetch([ROAD]) == made


async def test_making_and_destroying_at_once_leaves_no_key_of_who_was_destroyed(
    keyring: Keyring, database: Database, tmp_path: Path
) -> None:
    other = await Keyring.open(database, FileCustody(tmp_path / "custody"), SystemClock())
    owners = [*range(1, 61)]

    async def make(ring: Keyring) -> None:
        for first in range(0, 60, 5):
            await ring.ensure([(owner, group) for owner in owners[first : first + 5] for group in (1, 2)])

    async def destroy() -> None:
        for owner in owners[::2]:
            await erase(database, keyring, owner)

    await asyncio.gather(make(keyring), make(other), destroy(), make(keyring), make(other))
    left = await database.pool.fetch(
        "SELECT DISTINCT owner FROM seal_key WHERE wrapped IS NOT NULL AND owner > 0 ORDER BY 1"
    )
    assert [row["owner"] for row in left] == owners[1::2]
    await until(lambda: not any(other.held(owner, 1) for owner in owners[::2]))
    assert await other.fetch([(owner, 1) for owner in owners]) == {
        (owner, 1): keyring.held(owner, 1) for owner in owners[1::2]
    }
    await other.close()


async def test_processes_that_start_at_once_make_one_region_key(unsealed: Database, tmp_path: Path) -> None:
    place = tmp_path / "new" / "custody"
    rings = await asyncio.gather(*(Keyring.open(unsealed, FileCustody(place), SystemClock()) for _ in range(5)))
    assert FileCustody(place).versions() == [1]
    keys = [await ring.ensure([ROAD, (0, Group.INDEX)]) for ring in rings]
    assert all(one == keys[0] for one in keys)
    await asyncio.gather(*(ring.close() for ring in rings))


async def test_keys_stay_the_same_over_a_puncture(keyring: Keyring, database: Database, tmp_path: Path) -> None:
    neighbour = (CAR + 1024, int(Group.ROAD))
    made = await keyring.ensure([ROAD, neighbour, (OTHER, 1)])
    other = await Keyring.open(database, FileCustody(tmp_path / "custody"), SystemClock())
    await other.fetch([(OTHER, 1)])
    await erase(database, keyring, CAR)
    done = await keyring.puncture()
    assert (done.version_before, done.version_after, done.buckets) == (1, 2, 1)
    assert FileCustody(tmp_path / "custody").versions() == [2]
    del made[ROAD]
    assert await other.fetch([ROAD, *made]) == made
    assert await keyring.ensure([ROAD, *made]) == made
    await other.close()
