"""The checklist of docs/trust.md points at tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs/trust.md").read_text("utf-8").partition("### Rules of the FAPI 2.0")[2].partition("\n## ")[0]
ROWS = [line.split("|")[1:4] for line in SECTION.splitlines() if line.startswith("| ") and "---" not in line][1:]


def test_the_checklist_is_there() -> None:
    assert len(ROWS) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip()[:40])
def test_each_rule_points_at_a_test_that_exists(row: list[str]) -> None:
    found = re.fullmatch(r" `([\w/]+\.py)::(\w+)` ", row[2])
    assert found, f"no test named: {row[2]}"
    tree = ast.parse((ROOT / "tests" / found[1]).read_text("utf-8"))
    functions = {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert found[2] in functions
