"""A dealer agent's file: a bit that turned in it is refused, turned back, or changes nothing; versions without sums are not taken for damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner, Result
from tests.power_cut import SECTOR, torn

from rocade.agents.dealer.store import _SCHEMA, FILE, Store, accept_damage, find_damage
from rocade.app.commands.dealer import dealer
from rocade.core.errors import Corrupt, RocadeError
from rocade.core.ports import SystemClock, SystemRandom

type Content = dict[str, list[tuple[object, ...]]]
TAKEN_US = 0x0123_4567_89AB
HEADER, FRAME = 32, 24 + 4096
ROWS = {
    "fact": (("words:{0}", "{0}"), 2),
    "outbox": ((None, "north", "message", "m-{0}", "orders:1f3a09c2", 1, '{"site":"s-1"}', "order", "json", 900, 5, "a", "b{0}", b"\x01", 1, "", "", TAKEN_US, 0, 0), 12),
    "stream": (("north", "orders:{0}", 7), 3),
    "receipt": (("north", "m-{0}", "received", 5, 6, b"signed" * 90), 9),
    "inbox": (("north", 0, "service:hub", "i-{0}", "heads", 3, "price", "json", 8, b"sealed" * 900), 4),
    "trouble": ((None, 5, "north", "dealer.disk", "the disk was full"), 3),
    "token": (("hash{0}", "dms", "send,read", 5, 99, 0, 0), 2),
    "staff": ((None, "Ana", "manager", 5, 0), 2),
    "passkey": ((b"id", 1, b"key" * 30, 4, 5), 1),
    "link": (("link{0}", 1, 99, 0), 2),
    "session": (("session{0}", 1, 5, 99), 2),
    "offer": (("0.{0}.0", "c" * 64, "better", 5, "accepted", "user:1000", 6, 7, "done"), 2),
}  # fmt: skip


def rows_of(table: str) -> Iterator[tuple[object, ...]]:
    row, count = ROWS[table]
    for number in range(count):
        given = [one.format(number) if isinstance(one, str) and "{0}" in one else one for one in row]
        yield tuple(number if table == "inbox" and place == 1 else one for place, one in enumerate(given))


def insert(connection: sqlite3.Connection, table: str, row: tuple[object, ...]) -> None:
    connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(row))})", row)


def opened(place: Path) -> Store:
    return Store(place / FILE, SystemClock(), SystemRandom())


def content(store: Store) -> Content:
    return {table: store.rows(f"SELECT * FROM {table}") for table in ROWS}


def filled(place: Path) -> Store:
    """Some rows in every table, in many transactions."""
    place.mkdir()
    store = opened(place)
    for table in ROWS:
        for row in rows_of(table):
            with store.write() as write:
                write(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", *row)
    with store.write() as write:
        write("UPDATE outbox SET state = 3, decided_us = 44 WHERE number < 5")
        write("DELETE FROM outbox WHERE number > 10")
        write("INSERT OR REPLACE INTO stream VALUES ('north', 'orders:1', 8)")
        write("INSERT OR IGNORE INTO receipt VALUES ('north', 'm-1', 'received', 0, 0, x'')")
    return store


def turn(file: Path, bit: int) -> None:
    with file.open("r+b") as changing:
        changing.seek(bit // 8)
        byte = changing.read(1)[0]
        changing.seek(bit // 8)
        changing.write(bytes([byte ^ 1 << bit % 8]))


def seed() -> Random:
    number = int(os.environ.get("ROCADE_SEED") or 11)
    print(f"seed {number}")
    return Random(number)


@pytest.mark.parametrize("bits", [400, pytest.param(40_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_turned_bit_is_refused_or_changes_nothing(tmp_path: Path, bits: int) -> None:
    store = filled(tmp_path / "whole")
    whole = content(store)
    store.close()
    size, dice, outcomes = (tmp_path / "whole" / FILE).stat().st_size * 8, seed(), Counter[str]()
    header = range(0, 8 * 100, max(1, 20_000 // bits))
    for bit in [*header, *(dice.randrange(size) for _ in range(bits))]:
        shutil.copytree(tmp_path / "whole", tmp_path / "turned")
        turn(tmp_path / "turned" / FILE, bit)
        try:
            store = opened(tmp_path / "turned")
            assert content(store) == whole, f"bit {bit}"
            outcomes["harmless"] += 1
            store.close()
        except RocadeError as error:
            outcomes[error.code] += 1
        shutil.rmtree(tmp_path / "turned")
    print(dict(outcomes))
    assert outcomes.keys() <= {"harmless", "dealer.damaged", "dealer.disk"}
    assert outcomes["dealer.damaged"] > bits // 10
    assert outcomes["dealer.disk"] <= max(2, len(header) // 20), "what SQLite takes for a file that it may not write"


@pytest.mark.parametrize("bit", range(48))
def test_each_bit_of_a_number_that_sqlite_would_take_is_named_with_its_row(tmp_path: Path, bit: int) -> None:
    filled(tmp_path / "d").close()
    file = tmp_path / "d" / FILE
    turn(file, file.read_bytes().index(TAKEN_US.to_bytes(6)) * 8 + bit)
    assert len(found := find_damage(file)) == 1
    assert found[0].startswith("outbox ")
    assert found[0].endswith(" has changed")
    with pytest.raises(Corrupt, match=r"dealer\.damaged.*outbox \d+ has changed"):
        opened(tmp_path / "d")


@pytest.mark.parametrize("bits", [120, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_bit_that_turned_after_a_kill_loses_nothing_in_silence(tmp_path: Path, bits: int) -> None:
    """In the write-ahead file or in the database under it; in the last transaction it may be taken for a write that was cut off."""
    store = filled(tmp_path / "open")
    before = content(store)
    last = (tmp_path / "open" / f"{FILE}-wal").stat().st_size
    store.keep_fact("last", "one")
    whole = content(store)
    shutil.copytree(tmp_path / "open", tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    store.close()
    dice, outcomes = seed(), Counter[str]()
    for name in (f"{FILE}-wal", FILE):
        size = (tmp_path / "killed" / name).stat().st_size
        for bit in [*range(0, HEADER * 8, max(1, 2000 // bits)), *(dice.randrange(size * 8) for _ in range(bits))]:
            shutil.copytree(tmp_path / "killed", tmp_path / "turned")
            turn(tmp_path / "turned" / name, bit)
            try:
                store = opened(tmp_path / "turned")
                seen = content(store)
                store.close()
                if seen == before and name != FILE and bit >= last * 8:
                    outcomes["taken for a cut"] += 1
                else:
                    assert seen == whole, f"bit {bit} of {name}"
                    outcomes["all there"] += 1
            except RocadeError as error:
                outcomes[error.code] += 1
            shutil.rmtree(tmp_path / "turned")
    print(dict(outcomes))
    assert outcomes.keys() <= {"all there", "dealer.damaged", "dealer.disk", "taken for a cut"}
    assert outcomes["all there"] > outcomes.total() // 2
    assert outcomes["taken for a cut"] <= -(-outcomes.total() // 50)


def test_more_than_a_bit_is_damage_if_a_later_transaction_lies_behind_it(tmp_path: Path) -> None:
    store = filled(tmp_path / "open")
    shutil.copytree(tmp_path / "open", tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    store.close()
    ahead = tmp_path / "killed" / f"{FILE}-wal"
    changed = bytearray(ahead.read_bytes())
    changed[HEADER + FRAME * 9 + 600 : HEADER + FRAME * 9 + 600 + SECTOR] = Random(1).randbytes(SECTOR)
    ahead.write_bytes(changed)
    with pytest.raises(Corrupt, match=r"dealer\.damaged.*flushed later lies behind"):
        opened(tmp_path / "killed")


@pytest.mark.parametrize("files", [6, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_power_cut_soon_after_another_is_no_damage(tmp_path: Path, files: int) -> None:
    """What was not flushed reaches the disk sector by sector or not at all; SQLite goes on over what the cut before left."""
    dice = seed()
    for number in range(files):
        folder, stored, ahead = tmp_path / f"{number}.0", b"", b""
        may_be = list[Content]()
        for cut in range(6):
            file, beside = folder / FILE, folder / f"{FILE}-wal"
            folder.mkdir()
            if stored:
                file.write_bytes(stored)
                beside.write_bytes(ahead)
            store = opened(folder)
            seen = content(store)
            assert seen in may_be or not may_be, f"file {number}, cut {cut}"
            for step in range(dice.randrange(2, 6)):
                before, may_be = beside.read_bytes() if beside.exists() else b"", [content(store)]
                with store.write() as write:
                    for _ in range(dice.randrange(1, 9)):
                        row = next(rows_of(table := dice.choice(("fact", "receipt", "inbox", "stream"))))
                        write(
                            f"INSERT OR REPLACE INTO {table} VALUES ({','.join('?' * len(row))})",
                            *(
                                dice.randrange(1 << 40) if type(one) is int else f"{one!s}{step}{cut}"
                                for one in row[:-1]
                            ),
                            row[-1],
                        )
            may_be.append(content(store))
            stored, after = file.read_bytes(), beside.read_bytes()
            store.close()
            ahead, folder = torn(before, after, dice), tmp_path / f"{number}.{cut + 1}"


def test_a_file_from_before_there_were_sums_gets_them(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as old:
        old.executescript(_SCHEMA)
        old.execute("INSERT INTO fact VALUES ('epoch', '1f3a09c2')")
        for table in ROWS:
            for row in rows_of(table):
                insert(old, table, row)
        old.commit()
    store = opened(tmp_path)
    assert store.epoch == "1f3a09c2"
    store.close()
    turn(tmp_path / FILE, (tmp_path / FILE).read_bytes().index(TAKEN_US.to_bytes(6)) * 8)
    with pytest.raises(Corrupt, match=r"outbox \d+ has changed"):
        opened(tmp_path)


def test_a_version_without_sums_may_write_and_its_rows_get_theirs_at_the_next_start(tmp_path: Path) -> None:
    """As after an update that was taken back: what it knows is the tables, not what stands beside them."""
    filled(tmp_path / "d").close()
    file = tmp_path / "d" / FILE
    with closing(sqlite3.connect(file)) as old:
        old.executescript(_SCHEMA)
        old.execute("DELETE FROM outbox WHERE number IN (SELECT number FROM outbox LIMIT 3)")
        old.execute("UPDATE outbox SET state = 4, taken_us = ?", (TAKEN_US + 1,))
        old.execute("INSERT OR IGNORE INTO receipt VALUES ('north', 'm-1', 'received', 0, 0, x'')")
        for table in ROWS:
            for row in rows_of(table):
                if table != "outbox":
                    insert(old, table, row)
        old.commit()
    assert find_damage(file) == []
    opened(tmp_path / "d").close()
    turn(file, file.read_bytes().index((TAKEN_US + 1).to_bytes(6)) * 8)
    with pytest.raises(Corrupt, match=r"outbox \d+ has changed"):
        opened(tmp_path / "d")


def test_rows_that_went_and_numbers_that_fell_are_damage(tmp_path: Path) -> None:
    filled(tmp_path / "d").close()
    file = tmp_path / "d" / FILE
    with closing(sqlite3.connect(file)) as changing:
        triggers = changing.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            changing.execute(f"DROP TRIGGER {name}")
        changing.execute("DELETE FROM token WHERE hash = 'hash1'")
        changing.execute("INSERT INTO link VALUES ('made up', 1, 2, 3)")
        changing.execute("UPDATE sqlite_sequence SET seq = 2 WHERE name = 'staff'")
        changing.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'outbox'")
        changing.commit()
    assert set(find_damage(file)) == {
        "the schema has changed", "token 'hash1' is gone", "link 'made up' has changed", "the last number of outbox has changed",
    }  # fmt: skip
    accept_damage(file)
    assert find_damage(file) == []
    store = opened(tmp_path / "d")
    with store.write() as write:
        ((number,),) = write("INSERT INTO staff (name, role, made_us) VALUES ('Bo', 'parts', 1) RETURNING id")
    assert number == 3
    store.close()
    assert find_damage(file) == []


def test_a_look_at_a_killed_agent_s_file_does_not_take_what_lies_behind_a_turned_bit(tmp_path: Path) -> None:
    store = filled(tmp_path / "open")
    whole = content(store)
    shutil.copytree(tmp_path / "open", tmp_path / "killed", ignore=shutil.ignore_patterns("*-shm"))
    store.close()
    turn(tmp_path / "killed" / f"{FILE}-wal", (HEADER + FRAME * 9 + 600) * 8)
    assert find_damage(tmp_path / "killed" / FILE) == []
    store = opened(tmp_path / "killed")
    assert content(store) == whole
    store.close()


def test_a_damaged_file_is_taken_as_it_stands_after_people_have_looked(tmp_path: Path) -> None:
    filled(tmp_path / "d").close()
    file = tmp_path / "d" / FILE
    turn(file, file.read_bytes().index(TAKEN_US.to_bytes(6)) * 8)
    (tmp_path / "d" / "dealer.toml").write_text("")

    def mend(*options: str) -> Result:
        return CliRunner().invoke(dealer, ["mend", "--dir", str(tmp_path / "d"), *options])

    looked = mend()
    assert looked.exit_code == 1
    assert looked.output.startswith("outbox ")
    with pytest.raises(Corrupt, match=r"dealer\.damaged"):
        opened(tmp_path / "d")
    taken = mend("--accept")
    assert taken.exit_code == 0, taken.output
    store = opened(tmp_path / "d")
    assert [code for _, _, code, text in store.troubles(1) if text.startswith("taken as it stands: outbox ")]
    store.close()
    assert mend().output == "the file is whole, nothing was done\n"


def test_a_file_whose_structure_is_broken_is_not_taken(tmp_path: Path) -> None:
    filled(tmp_path / "d").close()
    file = tmp_path / "d" / FILE
    before = bytearray(file.read_bytes())
    before[4096 * 5 : 4096 * 5 + 8] = bytes(8)
    file.write_bytes(before)
    with pytest.raises(Corrupt, match=r"dealer\.damaged"):
        accept_damage(file)
