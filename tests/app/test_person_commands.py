"""`rocade person` on a region's own disk: the first operator, everybody in a list, a second link, the end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.app.stand import rocade


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("people") / "eu"
    rocade("init", directory, "--region", "eu")
    return directory


def test_people_are_added_listed_let_in_again_and_ended(region: Path) -> None:
    said = rocade("person", "add", "Ada Lovelace", "--duty", "security", "--duty", "support", "--config", region)
    person, address = said.split()
    assert re.fullmatch(r"person:[0-9a-f]{16}", person)
    assert re.fullmatch(r"http://localhost:8080/signin/link/[A-Za-z0-9_-]{43}", address)
    line = next(one for one in rocade("person", "list", "--config", region).splitlines() if person in one)
    assert re.split(r"\s{2,}", line)[1:5] == ["Ada Lovelace", "security, support", "0", line.split()[-2]]
    again = rocade("person", "link", person, "--hours", "1", "--config", region).strip()
    assert again != address
    rocade("person", "end", person, "--yes", "--config", region)
    ended = next(one for one in rocade("person", "list", "--config", region).splitlines() if person in one)
    assert ended.endswith("ended")
    assert "Ada" not in ended
    rocade("person", "link", person, "--config", region, code=1, says="[people.ended]")


WRONG = [
    (("add", "x" * 81), 1, "[people.invalid]"),
    (("add", "Eve", "--duty", "king"), 2, "king"),
    (("add", "Eve", "--organisation", "garage"), 1, "[people.invalid]"),
    (("link", "person:0000000000000000"), 1, "[people.unknown]"),
    (("link", "Ada"), 1, "[people.unknown]"),
    (("end", "person:zz", "--yes"), 1, "[people.unknown]"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code", "says"), WRONG, ids=str)
def test_wrong_use_is_said_in_a_line(region: Path, words: tuple[str, ...], code: int, says: str) -> None:
    rocade("person", *words, "--config", region, code=code, says=says)
