"""Tests in several processes: all run once, what they say is shown, surroundings stay as long as they should, a death is a failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOUSE = Path(__file__).parent
CONFTEST = f"""
import os, sys, time
import pytest
sys.path.insert(0, {str(HOUSE)!r})
from processes import Processes

@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    Processes(session, 2, lambda item: item.path.name).run()
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    return True

def note(word):
    with open({{folder!r}} + "/notes", "a") as notes:
        notes.write(word + chr(10))

@pytest.fixture(scope="session", autouse=True)
def whole():
    note("session begins")
    yield
    note("session ends")

@pytest.fixture(scope="module", autouse=True)
def module(request):
    note(f"{{{{request.module.__name__}}}} begins")
    yield
    note(f"{{{{request.module.__name__}}}} ends")
"""
GOOD = "import pytest\n\n@pytest.mark.parametrize('number', range(5))\ndef test_good(number, tmp_path): pass\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST.format(folder=str(tmp_path)))
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"test_{name}.py").write_text(GOOD)
    return tmp_path


def run(suite: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--rootdir", str(suite), *arguments]
    done = subprocess.run(command, cwd=suite, text=True, capture_output=True, timeout=100, check=False)
    return done.returncode, done.stdout + done.stderr


def notes(suite: Path) -> list[str]:
    return (suite / "notes").read_text().splitlines()


def test_every_file_is_run_once_and_surroundings_are_made_once_a_process(suite: Path) -> None:
    code, said = run(suite)
    assert (code, "20 passed" in said) == (0, True), said
    for name in ("test_a", "test_b", "test_c", "test_d"):
        assert notes(suite).count(f"{name} begins") == notes(suite).count(f"{name} ends") == 1
    assert notes(suite).count("session begins") == notes(suite).count("session ends") == 2


def test_what_fails_warns_or_ends_badly_is_shown(suite: Path) -> None:
    (suite / "test_b.py").write_text(
        "import warnings, pytest\n"
        "def test_wrong():\n    print('said before')\n    assert 1 + 1 == 3\n"
        "def test_warning(): warnings.warn('beware of this')\n"
        "def test_skipped(): pytest.skip('not here')\n"
        "@pytest.fixture\ndef bad():\n    yield\n    raise OSError('the end is bad')\n"
        "def test_end(bad): pass\n"
    )
    code, said = run(suite)
    assert code == 1, said
    assert "1 failed, 17 passed, 1 skipped, 1 warning, 1 error" in said, said
    assert all(one in said for one in ("assert (1 + 1) == 3", "said before", "beware of this", "the end is bad"))


def test_a_process_that_dies_fails_its_test_and_the_rest_is_run_by_another(suite: Path) -> None:
    (suite / "test_a.py").write_text(
        "import os\ndef test_1(): pass\ndef test_2(): os._exit(7)\ndef test_3(): pass\ndef test_4(): pass\n"
    )
    code, said = run(suite)
    assert code == 1
    assert "1 failed, 18 passed" in said, said
    assert "the process of this test ended with 7" in said


def test_a_session_that_ends_badly_fails_and_the_first_failure_may_end_all(suite: Path) -> None:
    (suite / "test_a.py").write_text(
        "import pytest\n@pytest.fixture(scope='session')\ndef bad():\n    yield\n    raise OSError('lost at the end')\n"
        "def test_1(bad): pass\n"
    )
    code, said = run(suite)
    assert (code, "16 passed, 1 error" in said, "lost at the end" in said) == (1, True, True), said
    (suite / "test_a.py").write_text("def test_1(): assert not 'wrong'\n")
    for name in ("b", "c", "d"):
        (suite / f"test_{name}.py").write_text("import time\n" + "def test_1(): time.sleep(1)\n")
    code, said = run(suite, "-x")
    assert (code, "stopping after 1 failures" in said) == (1, True), said
    assert "3 passed" not in said


def test_a_library_with_threads_of_its_own_is_not_imported_while_tests_are_collected(suite: Path) -> None:
    (suite / "chdb.py").write_text("")
    (suite / "test_a.py").write_text(
        f"import sys\nsys.path.insert(0, {str(suite)!r})\nimport chdb\ndef test_1(): pass\n"
    )
    code, said = run(suite)
    assert (code, "must be imported where used: ['chdb']" in said) == (4, True), said
