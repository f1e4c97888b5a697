"""Keys parts go when their time is over, whatever state a kill has left them in; no region removes another's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.app.backup.conftest import Place

from rocade.app import backing_up, initialise
from rocade.app.backup import keeping, store
from rocade.app.backup.progress import Progress
from rocade.core.ports import SystemClock
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import Group, Keyring

OLD, YOUNG, DAYS_OLD = "keys-20200101T000000.000000Z", "keys-29990101T000000.000000Z", "keys-20200102T000000.000000Z"


def keep(place: Place, to: Path, days: float) -> str:
    """Another part beside those that are there; its folder."""
    wanted = backing_up.wanted(place.configuration, None, str(to), None, days, keys_only=True)
    return backing_up.back_up(place.configuration, wanted, Progress())[0].split()[2]


def parts(to: Path) -> set[str]:
    return {path.name for path in to.iterdir()}


def killed(to: Path, folder: str, source: Path) -> None:
    """A part whose writer was killed while the region's key went out: no manifest, and half a file besides."""
    shutil.copytree(source, to / folder)
    (to / folder / "manifest.json").unlink()
    (to / folder / "clear/custody/.1.key.77.new").write_bytes(b"half a key")


@pytest.mark.parametrize("days", [7, 0])
def test_parts_that_were_never_finished_go_and_others_as_their_days_say(
    yesterday: Place, tmp_path: Path, days: float
) -> None:
    source, to = max(yesterday.keys.iterdir()), tmp_path / "keys"
    assert (source / "clear/custody").is_dir(), "the region's key is in it"
    killed(to, OLD, source)
    killed(to, YOUNG, source)
    shutil.copytree(source, to / DAYS_OLD)
    initialise.create(tmp_path / "cn", "cn", "test.rocade")
    shutil.copytree(to / OLD, to / "keys-20200103T000000.000000Z")
    (to / "keys-20200103T000000.000000Z" / keeping.TRUST).write_bytes((tmp_path / "cn/trust/trust.pem").read_bytes())
    made = keep(yesterday, to, days)
    stay = {made, YOUNG, "keys-20200103T000000.000000Z"} | (set() if days else {DAYS_OLD})
    assert parts(to) == stay


async def test_keys_tell_whom_they_know_to_be_erased_and_no_backup_is_one(database: Database, keyring: Keyring) -> None:
    backup, before, after = 4711, 5, 6
    await keyring.ensure([(backup, Group.BACKUP), (before, Group.ROAD), (after, Group.ROAD)])
    between_us = 0
    for owners in ([before], [after, backup]):
        between_us = SystemClock().now_us()
        async with database.pool.acquire() as connection, connection.transaction():
            await keyring.destroy(connection, owners)
    assert await store.destroyed_since(database.url, between_us - 1) == {after}
    assert await store.destroyed_since(database.url, 0) == {before, after}
