"""What no tracked file may hold, and rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BINARY = (".pbf", ".woff2", ".png", ".gz", ".parquet", ".arrow", ".bin", ".mf4")
FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"/(?:home|Users)/[a-z]|(?<!\w)/(?:wor" + r"k|roo" + r"t)/"),
    "a package index's host": re.compile(
        r"pypi\." + r"org|python" + r"hosted\.org|registry\.npm" + r"js|deb\.deb" + r"ian|--(?:extra-)?index-" + r"url"
    ),
    "a loose end": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b"),
    "a secret": re.compile(r"-----BEGIN (?:EC |RSA )?PRIVATE KEY-----\n[A-Za-z0-9+/]{40}"),
    "a conflict": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
}
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc", "data", "stuff"}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.fail("this test needs the git repository")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


TRACKED = tracked()
SOURCES = [file for file in TRACKED if file.suffix == ".py" and (ROOT / "src") in file.parents]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_holds(what: str) -> None:
    found = []
    for file in TRACKED:
        if file.suffix in BINARY or file == Path(__file__):
            continue
        match = FORBIDDEN[what].search(file.read_text("utf-8"))
        if match:
            found.append(f"{file.relative_to(ROOT)}: {match[0]!r}")
    assert found == []


def test_no_tracked_file_is_large() -> None:
    large = [f"{file.relative_to(ROOT)}" for file in TRACKED if file.stat().st_size > 400 * 1024]
    assert large == []


def test_files_stay_short_enough_to_read() -> None:
    long = {str(file.relative_to(ROOT)): len(file.read_text("utf-8").splitlines()) for file in SOURCES}
    assert {name: lines for name, lines in long.items() if lines > 500} == {}


def test_names_say_something() -> None:
    assert [
        str(f.relative_to(ROOT)) for f in SOURCES if EMPTY_NAMES & {f.stem, f.parent.name} and "commands" not in f.parts
    ] == []


STORES = {"store", "ledger", "twin", "footprint", "sessions"}
"""Files of a service that speak to an engine: a ledger and a twin are relational halves of a store whose other half is
the history; a footprint asks the engine what its tables weigh."""


def test_sql_is_written_in_fabric_authority_stores_and_migrations_only() -> None:
    statement = re.compile(r"\b(?:SELECT .* FROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL)
    wrong = set()
    for file in SOURCES:
        parts = file.relative_to(ROOT / "src/rocade").parts
        if parts[0] not in {"services", "doors", "console"} or file.stem in STORES or "migrations" in parts:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and statement.search(node.value):
                wrong.add("/".join(parts))
    assert sorted(wrong) == []


def public_names(service: str) -> set[str]:
    tree = ast.parse((ROOT / "src/rocade/services" / service / "__init__.py").read_text("utf-8"))
    assigned = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return {str(name) for value in assigned for name in ast.literal_eval(value)}


def test_a_service_uses_another_ones_public_names_only() -> None:
    wrong = []
    for file in SOURCES:
        parts = file.relative_to(ROOT / "src/rocade").parts
        if parts[0] != "services" or len(parts) < 3:
            continue
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rocade.services."):
                other, *inner = (node.module or "").split(".")[2:]
                used = {inner[0]} if inner else {alias.name for alias in node.names}
                if other != parts[1] and used - public_names(other):
                    wrong.append(f"{'/'.join(parts)}: {node.module} {sorted(used)}")
    assert wrong == []


def test_the_clock_and_chance_are_handed_in() -> None:
    calls = re.compile(r"\btime\.time(?:_ns)?\(|\bdatetime\.now\(|^(?:import|from) (?:random|secrets)\b", re.MULTILINE)
    found = []
    for file in SOURCES:
        name = str(file.relative_to(ROOT / "src/rocade"))
        if name != "core/ports.py" and not name.startswith("app/"):
            found += [f"{name}: {match[0]}" for match in calls.finditer(file.read_text("utf-8"))]
    assert found == []


def test_nothing_is_left_unwritten() -> None:
    assert [str(file.relative_to(ROOT)) for file in SOURCES if "NotImplementedError" in file.read_text("utf-8")] == []
