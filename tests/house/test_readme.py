"""The README's commands are real: each make target exists, each rocade command parses, and the first two do what is said."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from rocade.app.cli import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
MAKE = sorted(set(re.findall(r"`(make [^`]+)`", README)) | set(re.findall(r"^(make .+)$", README, re.MULTILINE)))
ROCADE = sorted(set(re.findall(r"`rocade ([^`]+)`", README)))


def test_the_readme_names_the_commands_a_newcomer_needs() -> None:
    assert {"make demo", "make test", "make real", "make check", "make bench"} <= set(MAKE)


@pytest.mark.parametrize("command", MAKE)
def test_a_make_command_of_the_readme_exists(command: str) -> None:
    done = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False, env=plain()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ROCADE)
def test_a_rocade_command_of_the_readme_exists(command: str) -> None:
    group: click.Command = main
    for word in shlex.split(command):
        if not isinstance(group, click.Group):
            break
        assert word in group.commands
        group = group.commands[word]


def test_the_folders_of_the_readme_exist() -> None:
    folders = re.findall(
        r"^((?:src|tests|docs|tools|deploy|examples|benchmarks|requirements)[\w/]*/) ", README, re.MULTILINE
    )
    assert len(folders) >= 15
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_clean_clone_runs_the_demo_as_the_readme_says(tmp_path: Path) -> None:
    clone = tmp_path / "rocade"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = subprocess.run(
        ["make", "demo", "ARGS=--for 20 --vehicles 50"],
        cwd=clone,
        capture_output=True,
        text=True,
        check=False,
        env=plain(),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["vehicles"] == 50
    assert (summary["lost"], summary["duplicated"]) == (0, 0)
    left = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert left.stdout == "", "the demo left something in the repository that git does not ignore"


def plain() -> dict[str, str]:
    """An environment in which make is not told anything by the make that may run this test."""
    return {k: v for k, v in os.environ.items() if k not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "VIRTUAL_ENV"}}
