"""Where the real data lies: `ROCADE_DATA`, else ../shared/data beside the repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    place = Path(os.environ.get("ROCADE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not place.is_dir():
        pytest.skip("no real data here; set ROCADE_DATA")
    return place


@pytest.fixture(scope="session")
def examples() -> Path:
    return Path(__file__).parents[2] / "examples"
