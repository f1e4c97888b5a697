"""What bandit names in our source is justified here, by rule and by place; anything else fails `make check`."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SQL = ("store.py", "ledger.py", "twin.py", "footprint.py", "dump.py", "sessions.py")
JUSTIFIED: dict[str, tuple[str, tuple[str, ...]]] = {
    "B101": ("asserts tell types what the line before has made sure of; no check of input is one", ("",)),
    "B104": ("doors listen on all addresses unless told otherwise: that is what they are for", ("app/configuration.py", "doors/")),
    "B105": ("words of protocols and names of settings, no secrets", ("doors/http/", "fabric/database/embedded.py", "services/charging/stations/", "trust/authority/applications/")),
    "B107": ("'' = no secret to show", ("doors/http/", "services/")),
    "B311": ("drawn demonstrations and the spread of waiting times; secrets come from core.ports.Random", ("agents/", "app/demo")),
    "B404": ("programs are started from fixed lists", ("app/", "fabric/", "agents/", "trust/", "console/", "services/")),
    "B406": ("escaping of text for a configuration, nothing is parsed", ("fabric/history/",)),
    "B603": ("programs are started from fixed lists, never through a shell", ("app/", "fabric/", "agents/", "trust/", "console/", "services/")),
    "B606": ("the program replaces itself by itself, without a shell", ("app/commands/dealer.py",)),
    "B608": ("names of tables and columns are constants; every value is a parameter (tests/house/test_repository.py keeps SQL in these places)", ("fabric/", *SQL, "agents/", "trust/authority/", "services/")),
    "B704": ("a drawing made by the library itself", ("console/operator/desk.py",)),
}  # fmt: skip
"""By rule: why, and where alone it may stand (a folder, or a file's end)."""


def test_the_rules_left_out_are_those_justified_here() -> None:
    skips = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["bandit"]["skips"]
    assert set(skips) == set(JUSTIFIED)
    assert all(why for why, _ in JUSTIFIED.values())


@pytest.mark.slow
def test_what_bandit_names_is_justified_where_it_stands() -> None:
    command = [sys.executable, "-m", "bandit", "-q", "-r", str(ROOT / "src"), "-f", "json"]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    assert not said["errors"]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for one in said["results"]:
        found[one["test_id"]].add(str(Path(one["filename"]).relative_to(ROOT / "src/rocade")))
        assert one["issue_severity"] != "HIGH", one
    assert set(found) <= set(JUSTIFIED), found.keys() - JUSTIFIED.keys()
    for rule, places in found.items():
        _, allowed = JUSTIFIED[rule]
        astray = [place for place in places if not any(place.startswith(one) or place.endswith(one) for one in allowed)]
        assert not astray, f"{rule} in {astray}"
