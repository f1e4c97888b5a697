"""A drop folder: whole files are taken once, half-written ones are left alone, and each gets an answer that helps."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.clocks import SetClock

from rocade.core.errors import Refused, Unavailable
from rocade.doors.sftp import Accepted, DropFolder, Given
from rocade.wire.resources import PRICE_CHANGE, from_csv, to_json
from rocade.wire.resources.xml_form import to_xml

HEADER = "list;seq;ref;currency;price_minor;valid_from\n"
LINE = "acme-fr-retail;7;1610001234;EUR;1999;2025-10-09T08:53:20Z\n"


class Office:
    """Takes rows; refuses references that begin with X; is closed when told so."""

    def __init__(self) -> None:
        self.given: list[Given] = []
        self.fault: Exception | None = None

    async def __call__(self, given: Given) -> Sequence[Accepted]:
        if self.fault is not None:
            raise self.fault
        self.given.append(given)
        return [
            Accepted(code="parts.unknown", message="no such part") if row.ref.startswith("X") else Accepted(row.ref)
            for row in given.rows
        ]


class Stand:
    def __init__(self, directory: Path, **more: Any) -> None:
        self.directory, self.clock, self.office = directory, SetClock(0), Office()
        self.folder = DropFolder(directory, self.office, self.clock, **more)

    async def settle(self) -> int:
        """Two looks with enough time between."""
        first = await self.folder.look()
        self.clock.move(3)
        return first + await self.folder.look()

    def names(self) -> list[str]:
        return sorted(file.name for file in self.directory.iterdir())

    def answer(self, name: str) -> list[dict[str, str]]:
        with (self.directory / f"{name}.answer.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture
def stand(tmp_path: Path) -> Stand:
    return Stand(tmp_path / "in")


async def test_a_folder_on_somebody_elses_disk_keeps_names_and_answers_alone(tmp_path: Path) -> None:
    stand = Stand(tmp_path / "in", keeps=False)
    for name, line in (("price-change-1.csv", LINE), ("price-change-2.csv", LINE.replace("1610001234", "X"))):
        (stand.directory / name).write_text(HEADER + line)
    assert await stand.settle() == 2
    left = {file.name: file.read_bytes() for file in stand.directory.iterdir() if not file.name.endswith(".answer.csv")}
    assert left == {"price-change-1.csv.taken": b"", "price-change-2.csv.refused": b""}


async def test_a_settled_file_is_taken_and_answered_line_by_line(stand: Stand) -> None:
    name = "price-change-1.csv"
    (stand.directory / name).write_text(HEADER + LINE + LINE.replace("1610", "1611"))
    assert await stand.folder.look() == 0, "seen for the first time: it may still be growing"
    assert await stand.settle() == 1
    assert stand.names() == [f"{name}.answer.csv", f"{name}.taken"]
    assert [(row["line"], row["outcome"], row["reference"]) for row in stand.answer(name)] == [
        ("2", "taken", "1610001234"),
        ("3", "taken", "1611001234"),
    ]


async def test_a_growing_file_is_left_alone(stand: Stand) -> None:
    file = stand.directory / "price-change-1.csv"
    file.write_text(HEADER)
    for number in range(5):
        assert await stand.folder.look() == 0
        with file.open("a") as more:
            more.write(LINE.replace("1610", f"16{number}0"))
        stand.clock.move(3)
    assert await stand.settle() == 1
    assert len(stand.office.given[0].rows) == 5


@pytest.mark.parametrize(
    "name", ["price-change.csv.part", ".price-change.csv", "price-change.tmp", "price-change.csv.filepart"]
)
async def test_names_in_the_making_are_not_touched_and_a_rename_finishes_them(stand: Stand, name: str) -> None:
    (stand.directory / name).write_text(HEADER + LINE)
    assert await stand.settle() == 0
    (stand.directory / name).rename(stand.directory / "price-change.csv")
    assert await stand.settle() == 1


async def test_a_file_cut_in_its_last_line_waits_and_is_refused_when_it_grows_no_more(stand: Stand) -> None:
    file = stand.directory / "price-change-1.csv"
    file.write_text(HEADER + LINE + LINE[:-9])
    assert await stand.settle() == 0
    assert stand.names() == [file.name]
    with file.open("a") as more:
        more.write(LINE[-9:])
    assert await stand.settle() == 1
    (stand.directory / "price-change-2.csv").write_text(HEADER + LINE[:-9])
    await stand.settle()
    stand.clock.move(120)
    assert await stand.settle() == 1
    assert "price-change-2.csv.refused" in stand.names()
    assert [row["code"] for row in stand.answer("price-change-2.csv")] == ["formats.csv.unfinished"]


async def test_one_wrong_line_refuses_the_whole_file_and_says_which(stand: Stand) -> None:
    name = "price-change-1.csv"
    (stand.directory / name).write_text(HEADER + LINE + LINE.replace("1999", "19,99") + LINE)
    await stand.settle()
    assert stand.office.given == []
    assert [(row["line"], row["outcome"], row["code"]) for row in stand.answer(name)] == [
        ("2", "not taken", ""),
        ("3", "refused", "formats.value"),
        ("4", "not taken", ""),
    ]


async def test_what_the_office_refuses_stands_in_the_answer(stand: Stand) -> None:
    name = "price-change-1.csv"
    (stand.directory / name).write_text(HEADER + LINE + LINE.replace("1610", "X610"))
    await stand.settle()
    assert [row["code"] for row in stand.answer(name)] == ["", "parts.unknown"]
    stand.office.fault = Refused("prices.closed", "no prices from here")
    (stand.directory / name).write_text(HEADER + LINE)
    await stand.settle()
    assert stand.answer(name)[0]["message"] == "no prices from here"


async def test_a_closed_office_loses_nothing(stand: Stand) -> None:
    stand.office.fault = Unavailable("office.closed", "come back later")
    (stand.directory / "price-change-1.csv").write_text(HEADER + LINE)
    assert await stand.settle() == 0
    assert stand.names() == ["price-change-1.csv"]
    stand.office.fault = None
    assert await stand.settle() == 1


async def test_xml_and_json_are_read_by_their_endings(stand: Stand) -> None:
    rows = from_csv((HEADER + LINE).encode(), PRICE_CHANGE).rows
    (stand.directory / "price-change.xml").write_bytes(to_xml(rows, PRICE_CHANGE))
    (stand.directory / "price-change.json").write_bytes(to_json(rows))
    assert await stand.settle() == 2
    assert [given.rows[0].ref for given in stand.office.given] == ["1610001234"] * 2


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("holiday.jpg", b"\xff\xd8", "drop.name"),
        ("price-change.pdf", b"%PDF", "drop.ending"),
        (
            "price-change.csv",
            (HEADER + LINE.replace("1610001234", "pi\u00e8ce")).encode("cp1252"),
            "formats.csv.encoding",
        ),
        ("price-change.xml", b"<!DOCTYPE a><a/>", "xml.dtd"),
    ],
)
async def test_what_cannot_be_read_is_refused_at_once(stand: Stand, name: str, content: bytes, code: str) -> None:
    (stand.directory / name).write_bytes(content)
    await stand.settle()
    assert [row["code"] for row in stand.answer(name)] == [code]


async def test_a_folder_of_an_old_system_can_have_its_encoding(tmp_path: Path) -> None:
    stand = Stand(tmp_path, encoding="cp1252")
    (tmp_path / "price-change.csv").write_bytes((HEADER + LINE.replace("1610001234", "pi\u00e8ce")).encode("cp1252"))
    assert await stand.settle() == 1
    assert stand.office.given[0].rows[0].ref == "pi\u00e8ce"


async def test_two_watchers_take_a_file_once(stand: Stand) -> None:
    second = DropFolder(stand.directory, stand.office, stand.clock)
    (stand.directory / "price-change-1.csv").write_text(HEADER + LINE)
    for _ in range(2):
        await stand.folder.look()
        await second.look()
        stand.clock.move(3)
    assert len(stand.office.given) == 1


async def test_what_a_crash_left_claimed_is_taken_at_the_next_start(tmp_path: Path) -> None:
    (tmp_path / ".price-change-1.csv.working").write_text(HEADER + LINE)
    stand = Stand(tmp_path)
    assert await stand.settle() == 1


async def test_a_link_is_no_file(stand: Stand, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text(HEADER + LINE)
    (stand.directory / "price-change.csv").symlink_to(tmp_path / "secret.csv")
    assert await stand.settle() == 0
