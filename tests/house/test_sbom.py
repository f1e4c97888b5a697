"""`make sbom`: the inventory is valid, whole, and names both OpenSSLs of a process."""

from __future__ import annotations

import json
import re
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest
from programs import tool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("sbom") / "sbom.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sbom", "--output", str(path)])
        assert tool("sbom").main() == 0  # it validates what it writes
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_the_inventory_is_valid_and_holds_every_locked_package(document: dict[str, Any]) -> None:
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    held = {(one["name"], one["version"]) for one in document["components"]}
    locked = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/demo.txt").read_text("utf-8"), re.MULTILINE)
    assert len(locked) > 40
    assert set(locked) <= held
    assert any(one["purl"].startswith("pkg:npm/") for one in document["components"])


def test_both_openssls_are_named(document: dict[str, Any]) -> None:
    named = [one["description"] for one in document["components"] if one["name"] == "openssl"]
    assert len(named) == 2
    assert any(ssl.OPENSSL_VERSION in one for one in named)
