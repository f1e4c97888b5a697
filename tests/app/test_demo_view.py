"""The commands a demo proposes can be copied into the shell it was started from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rocade.app.demo_view import program, shown


@pytest.mark.parametrize(
    ("called", "path", "proposed"),
    [
        ("clone/.venv/bin/rocade", "", "clone/.venv/bin/rocade"),
        ("bin/rocade", "bin", "rocade"),
        ("bin/rocade", "other", "bin/rocade"),
        ("src/rocade/__main__.py", "", f"{sys.executable} -m rocade"),
    ],
)
def test_the_demo_proposes_commands_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, path: str, proposed: str
) -> None:
    for folder in ("bin", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rocade").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / path) if path else "")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    assert program() == proposed


def test_a_path_is_shown_from_here_and_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "my demo") == "'my demo'"
    assert shown(Path("/elsewhere")) == "/elsewhere"
