"""docs/batch-vectors.json says what the format is; this code agrees, and the script still writes the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from programs import tool

from rocade.wire.batch import CODES, check_many, decode_many

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "docs" / "batch-vectors.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def script() -> Any:
    return tool("batch_vectors")


@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda vector: vector["name"])
def test_each_accepted_vector_says_what_is_written_beside_it(script: Any, vector: dict[str, Any]) -> None:
    assert script.described(bytes.fromhex(vector["hex"])) == vector["says"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["code"])
def test_each_refused_vector_is_refused_with_its_code(vector: dict[str, Any]) -> None:
    body = bytes.fromhex(vector["hex"])
    assert decode_many([body]).reasons == [vector["code"]]
    if vector["code"] != "batch.words":  # an index outside the words is a value, which the gateway does not look at
        assert check_many([body]).reasons == [vector["code"]]


def test_the_script_writes_this_file(script: Any) -> None:
    fresh = script.vectors()
    for old, new in zip(VECTORS["accepted"], fresh["accepted"], strict=True):
        assert old["says"] == new["says"]
        if old["name"] != "zstd":  # another zstd version may pack the same bytes otherwise
            assert old["hex"] == new["hex"]


def test_the_specification_lists_every_code() -> None:
    text = (ROOT / "docs" / "batch.md").read_text("utf-8")
    assert [code for code, meaning in CODES.items() if f"| `{code}` | {meaning} |" not in text] == []
