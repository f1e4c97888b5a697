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
