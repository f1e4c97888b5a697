"""After a puncture no older copy of the key tables gives a key; killed at any step it loses nothing and is ended later."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.trust.authority.sealing import dying

from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import FileCustody, Group, Keyring
from rocade.trust.authority.sealing.puncturing import rewrap
from rocade.trust.authority.sealing.wrapping import bucket_aad

GONE, NEIGHBOUR, OTHER = (2**62 + 5, int(Group.ROAD)), (5, int(Group.ROAD)), (99, int(Group.PERSON))
TABLES = ("seal_bucket", "seal_key", "seal_gone")
type Copy = dict[str, list[asyncpg.Record]]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "custody"


async def another(database: Database, place: Path) -> Keyring:
    """The keyring of another process."""
    return await Keyring.open(database, FileCustody(place), SystemClock())


async def erase(database: Database, keyring: Keyring) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring.destroy(connection, [GONE[0]])


async def copy_tables(database: Database) -> Copy:
    return {name: await database.pool.fetch(f"SELECT * FROM {name}") for name in TABLES}


async def put_back(database: Database, copy: Copy) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        for name, rows in copy.items():
            await connection.execute(f"DELETE FROM {name}")
            if rows:
                await connection.copy_records_to_table(name, records=[tuple(row) for row in rows])


async def assert_useless(database: Database, place: Path, copy: Copy) -> None:
    """With this copy of the tables and all that custody holds now, not one bucket key can be had."""
    custody = FileCustody(place)
    now = await copy_tables(database)
    for row in copy["seal_bucket"][::64]:
        for version in custody.versions():
            with pytest.raises(Corrupt, match=r"custody\.wrap"):
                custody.unwrap(version, row["wrapped"], bucket_aad(row["bucket"], row["generation"]))
    await put_back(database, copy)
    thief = await another(database, place)
    with pytest.raises(Unavailable, match=r"custody\.refused"):
        await thief.fetch([GONE])
    await thief.close()
    await put_back(database, now)


async def test_every_older_copy_of_the_tables_is_useless(database: Database, keyring: Keyring, place: Path) -> None:
    made = await keyring.ensure([GONE, NEIGHBOUR, OTHER])
    assert NEIGHBOUR[0] % 1024 == GONE[0] % 1024
    before = await copy_tables(database)
    await erase(database, keyring)
    between = await copy_tables(database)
    await put_back(database, before)  # destroyed, but not punctured: an older copy still gives it
    thief = await another(database, place)
    assert await thief.fetch([GONE]) == {GONE: made[GONE]}
    await thief.close()
    await put_back(database, between)
    await keyring.puncture()
    for copy in (before, between):
        await assert_useless(database, place, copy)
    assert await keyring.fetch(made) == {name: made[name] for name in (NEIGHBOUR, OTHER)}
    second = await keyring.puncture()
    assert (second.version_before, second.version_after, second.buckets) == (2, 3, 0)
    assert await keyring.fetch([OTHER]) == {OTHER: made[OTHER]}


@pytest.mark.parametrize("step", dying.STEPS)
async def test_a_puncture_killed_at_any_step_loses_nothing_and_is_ended(
    database: Database, keyring: Keyring, place: Path, step: str
) -> None:
    made = await keyring.ensure([GONE, NEIGHBOUR, OTHER])
    before = await copy_tables(database)
    await erase(database, keyring)
    child = await asyncio.create_subprocess_exec(sys.executable, dying.__file__, database.url, str(place), step)
    assert await child.wait() == -signal.SIGKILL
    left = {name: made[name] for name in (NEIGHBOUR, OTHER)}
    assert await keyring.fetch(made) == left, "who was running goes on"
    again = await another(database, place)
    assert await again.fetch(made) == left, "who starts afterwards too"
    is_ended = await database.pool.fetchval("SELECT is_punctured FROM seal_gone")
    assert is_ended == (step in ("committed", "destroyed")), "a committed puncture is ended by the next start"
    if not is_ended:
        done = await again.puncture()
        assert (done.version_after, done.buckets) == (2, 1), "what was made already is used"
    assert FileCustody(place).versions() == [2]
    await assert_useless(database, place, before)
    assert await again.fetch(made) == left
    await again.close()


async def test_tables_are_kept_apart_before_the_old_key_is_destroyed(
    database: Database, keyring: Keyring, place: Path
) -> None:
    kept: list[Any] = []

    async def keep() -> None:
        kept.append((await copy_tables(database), FileCustody(place).versions()))
        if len(kept) <= 3:
            raise Refused("test.disk", "full")

    made = await keyring.ensure([OTHER])
    keyring.keep = keep
    for _ in range(3):
        with pytest.raises(Refused):
            await keyring.puncture()
        assert FileCustody(place).versions() == [1, 2], "a copy that failed destroys nothing, and makes no more keys"
    assert await keyring.fetch([OTHER]) == made
    await keyring.puncture()
    assert [versions for _, versions in kept[3:]] == [[1, 2], [2, 3]], "the one that began is ended first"
    copy, _ = kept[-1]
    assert FileCustody(place).versions() == [3]
    await put_back(database, copy)
    other = await another(database, place)
    assert await other.fetch([OTHER]) == made
    await other.close()


async def test_tables_that_custody_does_not_know_cannot_make_it_destroy_its_key(
    database: Database, keyring: Keyring, place: Path
) -> None:
    await keyring.ensure([OTHER])
    old = await copy_tables(database)
    await keyring.puncture()
    new = await copy_tables(database)
    await put_back(database, old)
    stale = await another(database, place)
    with pytest.raises(Unavailable, match=r"custody\.refused"):
        await stale.puncture()
    await stale.close()
    assert FileCustody(place).versions() == [2]
    await put_back(database, new)
    assert len(await keyring.fetch([OTHER])) == 1


async def test_keys_are_made_and_read_while_a_puncture_runs(database: Database, keyring: Keyring, place: Path) -> None:
    other = await another(database, place)
    rounds = 6

    async def make() -> dict[Any, bytes]:
        made: dict[Any, bytes] = {}
        for number in range(40):
            made |= await other.ensure([(1000 * number + at, 1) for at in range(20)])
        return made

    async def puncture() -> None:
        for _ in range(rounds):
            await keyring.puncture(everything=True)

    made, _ = await asyncio.gather(make(), puncture())
    assert len(made) == 800
    assert await other.fetch(made) == await keyring.fetch(made) == made
    assert FileCustody(place).versions() == [rounds + 1]
    await other.close()


async def test_a_region_moves_to_another_custody(database: Database, keyring: Keyring, place: Path) -> None:
    made = await keyring.ensure([OTHER])
    new = FileCustody(place.with_name("new"))
    for _ in range(2):  # the second time, as after a kill, changes nothing
        assert await rewrap(database.pool, FileCustody(place), new) == 2
    assert (FileCustody(place).versions(), new.versions()) == ([1], [2])
    moved = await another(database, place.with_name("new"))
    assert await moved.fetch([OTHER]) == made
    await moved.close()
    old = await another(database, place)
    with pytest.raises(Unavailable, match=r"custody\.refused"):
        await old.fetch([OTHER])
    await old.close()


async def test_who_has_the_tables_but_not_custody_has_no_key(
    database: Database, keyring: Keyring, place: Path, tmp_path: Path
) -> None:
    made = await keyring.ensure([GONE, NEIGHBOUR, OTHER])
    text = b"".join(bytes(value) for rows in (await copy_tables(database)).values() for row in rows for value in row.values()
                    if isinstance(value, bytes))  # fmt: skip
    keys = [*made.values(), (place / "1.key").read_bytes()]
    assert len(text) > 1024 * 60
    assert not [key for key in keys if key in text]
    host = await another(database, tmp_path / "no custody")
    with pytest.raises(Unavailable, match=r"custody\.down"):
        await host.fetch(made)
    await host.close()
    (tmp_path / "guessed").mkdir()
    FileCustody(tmp_path / "guessed").create()
    host = await another(database, tmp_path / "guessed")
    with pytest.raises(Corrupt, match=r"custody\.wrap"):
        await host.fetch(made)
    await host.close()
