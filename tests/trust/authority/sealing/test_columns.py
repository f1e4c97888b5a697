"""Sealed columns and their blind indexes on a real keyring."""

from __future__ import annotations

import pytest

from rocade.core.errors import Corrupt, Misconfigured, Refused
from rocade.fabric.database import Database
from rocade.trust.authority.sealing import REGION, Group, Keyring
from rocade.trust.authority.sealing.columns import Column, Columns, Index, begins

NAME = Column("person.name", Group.PERSON)
INDEX = Index(bytes(32))


async def test_a_sealed_value_opens_in_its_own_place_alone(database: Database) -> None:
    columns = Columns(database)
    [sealed, other] = await columns.seal_text(NAME, [(7, 1, "Ottilie"), (8, 1, "Ottilie")])
    assert b"Ottilie" not in sealed
    assert sealed[13:] != other[13:], "a key each"
    assert await columns.open_text(NAME, [(7, 1, sealed), (8, 1, other)]) == ["Ottilie", "Ottilie"]
    for column, owner, row in ((NAME, 7, 2), (NAME, 8, 1), (Column("passkey.name", Group.PERSON), 7, 1)):
        with pytest.raises(Corrupt, match=r"seal\.broken"):
            await columns.open(column, [(owner, row, sealed)])


async def test_what_is_not_sealed_is_not_read(database: Database) -> None:
    await Columns(database).seal_text(NAME, [(7, 0, "x")])
    with pytest.raises(Corrupt, match=r"seal\.broken"):
        await Columns(database).open(NAME, [(7, 0, b"planted in clear, and long enough to be sealed")])


async def test_who_was_erased_has_no_name_any_more(database: Database, keyring: Keyring) -> None:
    columns = Columns(database)
    sealed = await columns.seal_text(NAME, [(7, 0, "Ottilie"), (8, 0, "Gerd")])
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring.destroy(connection, [7])
    rows = [(7, 0, sealed[0]), (8, 0, sealed[1])]
    assert await columns.open(NAME, rows) == [None, b"Gerd"]
    assert await columns.open_text(NAME, rows) == ["", "Gerd"]
    with pytest.raises(Refused, match=r"seal\.erased"):
        await columns.seal_text(NAME, [(8, 0, "Gerd"), (7, 0, "Ottilie")])


async def test_without_keys_nothing_is_read_and_the_start_says_so(database: Database) -> None:
    columns, database.keyring = Columns(database), None
    with pytest.raises(Misconfigured, match=r"seal\.unset"):
        await columns.index()


async def test_every_process_of_a_region_has_the_same_index(database: Database, keyring: Keyring) -> None:
    exact = (await Columns(database).index()).exact("vehicle.id", "VF1")
    assert len(exact) == 16
    assert exact == Index((await keyring.fetch([(REGION, Group.INDEX)]))[REGION, Group.INDEX]).exact(
        "vehicle.id", "VF1"
    )
    assert exact != (await Columns(database).index()).exact("vehicle_session.id", "VF1"), "columns cannot be joined"


def test_a_number_is_found_by_each_of_its_endings_from_four_characters_on() -> None:
    marks = INDEX.endings("vehicle.id", "VF3ABCDEFGG123456")
    assert len(marks) == 14 * 8
    for ending in ("3456", "123456", "gg123456", "vf3abcdefgg123456"):
        assert INDEX.ending("vehicle.id", ending) in marks, ending
    for other in ("456", "12345", "VF3ABC", "3457"):
        assert INDEX.ending("vehicle.id", other) not in marks, other
    assert INDEX.endings("vehicle.id", "M-1") == b""


FOUND = [
    ("Ottilie Quarrington", "quarr", True),
    ("Ottilie Quarrington", "ott quarrington", True),
    ("Ottilie Quarrington", "arring", False),
    ("Ottilie Quarrington", "quarx", False),
    ("Anne-Sophie Petit", "sop", True),
    ("Bartholomäus Ö", "bartholomä ö", True),
    ("欧阳泽宇", "泽宇", True),
    ("欧阳泽宇", "欧", True),
    ("欧阳泽宇", "字", False),
    ("Li", "l", True),
    ("Li", "lin", False),
]


@pytest.mark.parametrize(("name", "asked", "is_found"), FOUND)
def test_a_name_is_found_by_how_its_words_begin(name: str, asked: str, is_found: bool) -> None:
    assert begins(name, asked) == is_found
    marks = INDEX.beginnings("person.name", name)
    if is_found:
        assert all(mark in marks for mark in INDEX.beginning("person.name", asked)), "the marks lead to it"
    assert len(marks) % 2 == 0
