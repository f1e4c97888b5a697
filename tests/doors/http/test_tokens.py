"""Operator tokens: seen once, stored as a hash, taken back by deleting a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocade.core.errors import Corrupt, Misconfigured, Refused, Unavailable
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.http import TokenFile, new_token, problems

WRONG = ["", "rocade", "rocade_", "rocade__", "rocade_deadbeef_x", "x", "rocade_\N{SNOWMAN}_x"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_a_new_token_is_valid_and_its_secret_is_not_stored(file: Path) -> None:
    token = new_token(file, SystemRandom(), SystemClock())
    name, secret = token.removeprefix("rocade_").split("_", 1)
    assert TokenFile(file).check(token) == name
    assert secret not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_not(file: Path, wrong: str) -> None:
    token = new_token(file, SystemRandom(), SystemClock())
    assert TokenFile(file).check(wrong) is None
    assert TokenFile(file).check(token[:-1]) is None
    assert TokenFile(file).check(token.replace("rocade", "Rocade")) is None


def test_a_token_is_made_and_taken_back_while_the_server_runs(file: Path) -> None:
    tokens = TokenFile(file)
    assert tokens.check("rocade_x_y") is None
    first = new_token(file, SystemRandom(), SystemClock())
    second = new_token(file, SystemRandom(), SystemClock())
    assert tokens.check(first)
    assert tokens.check(second)
    file.write_text(file.read_text().splitlines()[1] + "\n")
    assert tokens.check(first) is None
    assert tokens.check(second)
    file.unlink()
    assert tokens.check(second) is None


STATUSES = [
    (Refused("access.missing", ""), 401),
    (Refused("vehicles.unknown", ""), 404),
    (Refused("vehicles.exists", ""), 409),
    (Refused("trust.certificate.expired", ""), 403),
    (Refused("quota.messages", ""), 429),
    (Refused("batch.truncated", ""), 400),
    (Refused("quarantine.gone", ""), 410),
    (Unavailable("history.down", ""), 503),
    (Corrupt("twin.corrupt", ""), 500),
    (Misconfigured("app.configuration.missing", ""), 500),
]


@pytest.mark.parametrize(("error", "status"), STATUSES)
def test_the_status_of_an_error_follows_its_family_and_code(error: Refused, status: int) -> None:
    assert problems.status_of(error) == status
