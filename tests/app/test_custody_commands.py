"""The region key by the command line: how it stands, a new one, into another custody and back to work."""

from __future__ import annotations

import json
import os
from pathlib import Path
from unittest import mock

import msgspec
import pytest
from tests.app.stand import rocade
from tests.notebook import Notebook
from tests.trust.authority.sealing.soft_token import LABEL, PIN, SoftToken

from rocade.app import configuration as settings
from rocade.app import custody_move, doctor, initialise
from rocade.app.configuration import Configuration, Custody
from rocade.app.custodies import custody_of, open_keyring
from rocade.app.local import Hand
from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import Group

NAME = (7_001, int(Group.ROAD))


@pytest.fixture
def region(tmp_path: Path) -> Configuration:
    initialise.create(tmp_path / "eu", "eu", "test.rocade")
    return settings.load(tmp_path / "eu")


async def key(region: Configuration, database: Database) -> bytes:
    """What a process started now has."""
    async with open_keyring(region, database, SystemClock()) as keyring:
        return (await keyring.ensure([NAME]))[NAME]


async def move(region: Configuration, database: Database, to: Custody, *, destroys_old: bool = True) -> Configuration:
    """And the configuration as it is read afterwards."""
    async with open_keyring(region, database, SystemClock()) as keyring:
        notes = Notebook()
        hand = Hand(region, database, notes, SystemClock(), SystemRandom(), keyring)  # type: ignore[arg-type]  # notes are enough
        await custody_move.move(hand, to, destroys_old=destroys_old)
        assert [entry.action for entry in notes.entries] == ["custody.moved"]
    return settings.load(region.root)


async def move_killed_at(place: object, step: str, region: Configuration, database: Database, to: Custody) -> None:
    """The process ends where it would take this step."""
    with mock.patch.object(place, step, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        await move(region, database, to)


async def test_the_region_key_goes_to_another_party_and_back(
    region: Configuration, unsealed: Database, tmp_path: Path
) -> None:
    made = await key(region, unsealed)
    old = custody_of(region)
    assert old.versions() == [1]
    elsewhere = Custody(directory=str(tmp_path / "trustee"), lease_s=30.0)
    moved = await move(region, unsealed, elsewhere)
    assert moved.custody == elsewhere
    assert (old.versions(), custody_of(moved).versions()) == ([], [2])
    assert await key(moved, unsealed) == made
    with pytest.raises(Unavailable, match=r"custody\.down"):
        await key(region, unsealed)
    with SoftToken.made(tmp_path / "token") as token:
        held = Custody(kind="pkcs11", library=token.library, token=LABEL, pin_file=str(token.pin_file))
        third = await move(moved, unsealed, held)
        assert third.custody == held
        assert await key(third, unsealed) == made
        async with open_keyring(third, unsealed, SystemClock()) as keyring:
            await keyring.puncture()
            state = await keyring.state()
        assert (state.version, state.held, state.trouble) == (4, (4,), "")
        assert await key(third, unsealed) == made
    assert PIN not in (region.root / "rocade.toml").read_text()


async def test_a_move_that_was_killed_is_done_again(region: Configuration, unsealed: Database, tmp_path: Path) -> None:
    made = await key(region, unsealed)
    elsewhere = Custody(directory=str(tmp_path / "trustee"))
    before = (region.root / "rocade.toml").read_text()
    await move(region, unsealed, elsewhere, destroys_old=False)
    (region.root / "rocade.toml").write_text(before)  # killed before it was written
    moved = await move(region, unsealed, elsewhere)
    assert await key(moved, unsealed) == made
    assert (custody_of(region).versions(), custody_of(moved).versions()) == ([], [2])


@pytest.mark.parametrize("is_second", [False, True])
async def test_a_move_killed_before_it_destroyed_the_old_key_destroys_it_when_it_is_repeated(
    region: Configuration, unsealed: Database, tmp_path: Path, *, is_second: bool
) -> None:
    """`is_second`: the key goes on to a third custody instead, and both it has left are destroyed."""
    made, first = await key(region, unsealed), custody_of(region)
    second, third = Custody(directory=str(tmp_path / "second")), Custody(directory=str(tmp_path / "third"))
    await move_killed_at(type(first), "destroy", region, unsealed, second)
    moved = settings.load(region.root)
    assert (moved.custody, first.versions()) == (second, [1])
    with pytest.raises(Refused, match=r"custody\.same.*--destroy-old"):
        await move(moved, unsealed, second, destroys_old=False)
    last = await move(moved, unsealed, third if is_second else second)
    assert first.versions() == []
    assert (custody_of(moved).versions() == []) == is_second
    assert await key(last, unsealed) == made
    with pytest.raises(Refused, match=r"custody\.same"):
        await move(last, unsealed, last.custody)
    assert await key(last, unsealed) == made


async def test_a_key_that_came_back_to_where_it_was_to_be_destroyed_stays(
    region: Configuration, unsealed: Database, tmp_path: Path
) -> None:
    made, first = await key(region, unsealed), custody_of(region)
    await move_killed_at(type(first), "destroy", region, unsealed, Custody(directory=str(tmp_path / "second")))
    back = await move(settings.load(region.root), unsealed, region.custody, destroys_old=False)
    with pytest.raises(Refused, match=r"custody\.same"):
        await move(back, unsealed, region.custody)
    assert await key(back, unsealed) == made


async def test_a_key_that_was_not_left_yet_is_destroyed_only_if_the_move_that_leaves_it_says_so(
    region: Configuration, unsealed: Database, tmp_path: Path
) -> None:
    await key(region, unsealed)
    second, third = Custody(directory=str(tmp_path / "second")), Custody(directory=str(tmp_path / "third"))
    await move_killed_at(custody_move.puncturing, "rewrap", region, unsealed, second)
    moved = await move(settings.load(region.root), unsealed, second, destroys_old=False)
    await move(moved, unsealed, third)
    assert (custody_of(region).versions(), custody_of(moved).versions()) == ([1], [])


async def test_moves_that_cannot_be_are_refused(region: Configuration, unsealed: Database, tmp_path: Path) -> None:
    await key(region, unsealed)
    with pytest.raises(Refused, match=r"custody\.same"):
        await move(region, unsealed, Custody(directory=str(region.root / "custody")))
    with pytest.raises(Misconfigured, match=r"custody\.kind"):
        await move(region, unsealed, Custody(kind="clay tablet"))
    initialise.create(tmp_path / "cn", "cn", "test.rocade")
    with pytest.raises(Misconfigured, match=r"custody\.foreign"):
        await move(region, unsealed, Custody(directory=str(tmp_path / "cn" / "custody")))
    region.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (region.socket_directory / "supervisor.pid").write_text(str(os.getpid()))
    with pytest.raises(Refused, match=r"custody\.running"):
        await move(region, unsealed, Custody(directory=str(tmp_path / "trustee")))
    assert not (tmp_path / "trustee").exists()


def test_the_doctor_says_where_the_region_key_is(region: Configuration, tmp_path: Path) -> None:
    def found(custody: Custody) -> tuple[str, str]:
        (finding,) = doctor._custody(msgspec.structs.replace(region, custody=custody))
        return finding.level, finding.seen

    assert found(Custody()) == ("warn", "region key 1 lies beside the tables it protects")
    assert found(Custody(directory=str(tmp_path / "new"))) == ("warn", "no region key yet")
    assert found(Custody(directory=str(region.root / "custody"))) == ("ok", "region key 1 is kept elsewhere")
    level, seen = found(Custody(kind="clay tablet"))
    assert (level, "custody.kind" in seen) == ("fail", True)


@pytest.mark.slow
def test_status_rotation_and_move_by_the_command_line(tmp_path: Path) -> None:
    place, here = tmp_path / "eu", {"ROCADE_CONFIG": str(tmp_path / "eu")}
    rocade("init", place, "--region", "eu")
    assert "region key 1 in files" in rocade("custody", "status", environment=here)
    assert "region key 2; 1 is destroyed; 0 buckets" in rocade("custody", "rotate", environment=here)
    assert "1024 buckets" in rocade("custody", "rotate", "--all", environment=here)
    said = rocade(
        "custody",
        "move",
        "--directory",
        str(tmp_path / "trustee"),
        "--destroy-old",
        "--yes",
        environment=here,
        says="rocade backup --keys-only",
    )
    assert f"region key 4 in files in {tmp_path / 'trustee'}" in said
    state = json.loads(rocade("custody", "status", "--json", environment=here))
    assert (state["version"], state["held"], state["trouble"]) == (4, [4], "")
    (tmp_path / "trustee").rename(tmp_path / "gone")
    assert "custody.down" in rocade("custody", "status", environment=here, code=1)
    rocade("custody", "move", environment=here, code=2)
