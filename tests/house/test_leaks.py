"""The search for secrets in log lines finds each kind that is planted, and names none of them again."""

from __future__ import annotations

import importlib
import logging
import subprocess
import sys
from pathlib import Path

import leaks
import pytest

from rocade.trust.authority.people.parts import Parts
from rocade.trust.identity import keys

PLANTED = {
    "vehicle": ("VF1PLANTED0000042", "read VF1PLANTED0000042 again"),
    "name": ("Zoé Lafontaine-Planted", "hello Zoé Lafontaine-Planted"),
    "secret": ("q2V0_planted-4711-abcdefghij", "GET /x?link=q2V0_planted-4711-abcdefghij HTTP"),
    "claim code": ("K7PL-4NTED-23XYZ", '{"code":"K7PL-4NTED-23XYZ"}'),
    "token": ("aaa4711.bbb0815.signature_planted_42", "token aaa4711.bbb0815.signature_planted_42 seen"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_made_is_found_in_a_line_and_hidden_in_the_report(kind: str) -> None:
    value, line = PLANTED[kind]
    if kind == "claim code":
        value, line = value.replace("-", ""), line.replace("-", "")
    watch = leaks.Watch()
    watch.note(kind, value)
    watch.lines += ["nothing here", line]
    (leak,) = [one for one in watch.found() if one.startswith(f"{kind} in")]
    assert max(leaks.WORD.findall(value), key=len) not in leak


SHAPED = {
    "a vehicle's number": "batch of VR3UPHNKSKT101603 refused",
    "a private key": "-----BEGIN EC PRIVATE KEY-----",
    "a token": "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwYXJ0bmVyIn0.c2lnbmF0dXJlLXBsYW50ZWQ",
    "a session": "cookie: rocade_session=x",
    "a bearer": "authorization: Bearer abcdefghijklmnop",
    "a one-time link": "http://localhost:1/signin/link/abcdefghijklmnop",
}


@pytest.mark.parametrize("shape", leaks.SHAPES)
def test_what_another_process_made_is_found_by_its_shape(shape: str) -> None:
    watch = leaks.Watch()
    watch.lines += [SHAPED[shape], "GET /v1/vehicles/{ref} 200 1.2 ms 0123456789abcdef", "person:0123456789abcdef"]
    assert [one.partition(" in: ")[0] for one in watch.found()] == [shape]


def test_records_of_our_loggers_and_log_files_are_searched(tmp_path: Path) -> None:
    watch = leaks.Watch()
    logger = logging.getLogger("planted.elsewhere")
    lines = leaks._Lines(watch.lines)
    logger.propagate = False
    logger.addHandler(lines)
    logger.warning("with %s", "arguments", extra={"facts": {"vin": "VF1PLANTED0000043"}})
    try:
        raise ValueError("VF1PLANTED0000044")
    except ValueError:
        logger.exception("a stack")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/worker.log").write_text("first VF1PLANTED0000045\n")
    keys.keep_private(tmp_path / "key.pem", keys.new_key())
    body = (tmp_path / "key.pem").read_text().splitlines()[1]
    watch.collect(tmp_path)
    (tmp_path / "logs/worker.log").open("a").write(f"second {body}\n")
    watch.collect(tmp_path)
    (tmp_path / "logs/worker.log").unlink()  # this session is searched too
    kinds = [one.partition(" in: ")[0] for one in watch.found()]
    assert kinds == ["a vehicle's number"] * 3 + ["private key"]


@pytest.mark.parametrize("path", leaks.MAKERS)
def test_every_maker_is_there(path: str) -> None:
    module, _, name = path.partition(":")
    holder, _, method = name.partition(".")
    assert hasattr(getattr(importlib.import_module(module), holder), method)


def test_this_session_is_watched(leak_watch: leaks.Watch, tmp_path: Path) -> None:
    made = Parts.secret(_Drawn())  # type: ignore[arg-type]  # only its randomness is asked
    assert made in leak_watch.words
    assert any(line.startswith("rocade.planted hello") for line in _logged("hello", leak_watch))


class _Drawn:
    @property
    def random(self) -> _Drawn:
        return self

    def bits(self, count: int) -> int:
        return (1 << count) - 4711


def _logged(text: str, watch: leaks.Watch) -> list[str]:
    logging.getLogger("rocade.planted").debug(text)
    return watch.lines


PLANTED_TEST = """
import logging, sys
sys.path.insert(0, {house!r})
from leaks import watching as leak_watch

def test_a(leak_watch):
    leak_watch.note("secret", "planted-secret-4711")
    logging.getLogger("rocade.x").info("oh no: planted-secret-4711")
"""


def test_a_run_with_a_planted_leak_fails(tmp_path: Path) -> None:
    house = str(Path(__file__).parent)
    (tmp_path / "test_planted.py").write_text(PLANTED_TEST.format(house=house))
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    assert "secret in: rocade.x oh no: ***" in done.stdout
