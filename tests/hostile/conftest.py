"""The crossroads, started once for each file that stands there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.patience import patience

from rocade.fabric.history.process import StoreProcess

__all__ = ["patience"]


@pytest.fixture(scope="module")
def road(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, patience: None
) -> Iterator[object]:
    """A region's API over PostgreSQL and a history store, with everybody who could stand before it."""
    from tests.hostile import crossroads

    database_url = crossroads.new_database(postgres_url, f"crossroads_{abs(hash(request.module.__name__)):x}")
    with tempfile.TemporaryDirectory(prefix="rocade-xr-") as place:
        history = StoreProcess(Path(place))
        try:
            with crossroads.Crossroads(tmp_path_factory.mktemp("crossroads"), database_url, history.start()) as region:
                yield region
        finally:
            history.stop()
