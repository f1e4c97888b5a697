"""The store's key: the region's own, the same at each start, and given up when custody no longer confirms it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import msgspec
import pytest
from databases import execute

from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.storing import leased_key
from rocade.core.errors import Misconfigured, Unavailable

PATIENCE_S = 60.0
LEASE_S = 10.0
"""A machine that stands still for as long has none."""


@pytest.fixture
def region(tmp_path: Path, database_url: str) -> settings.Configuration:
    execute(database_url, "TRUNCATE seal_bucket, seal_key, seal_gone")  # keys of other tests' custody
    initialise.create(tmp_path / "region", "eu", "test.rocade")
    made = settings.load(tmp_path / "region")
    custody = msgspec.structs.replace(made.custody, lease_s=LEASE_S)
    return msgspec.structs.replace(made, database_url=database_url, custody=custody)


def test_the_key_is_the_same_at_each_start_and_the_store_ends_when_custody_is_cut(
    region: settings.Configuration,
) -> None:
    ended, again = threading.Event(), threading.Event()
    key = leased_key(region, ended.set)
    assert len(key) == 32
    assert leased_key(region, again.set) == key
    assert not ended.wait(LEASE_S + 1), "custody answers, so the lease goes on"
    shutil.move(region.root / region.custody.directory, region.root / "taken away")
    assert ended.wait(PATIENCE_S)
    assert again.wait(PATIENCE_S)
    with pytest.raises(Unavailable, match=r"custody\."):
        leased_key(region, ended.set)
    shutil.move(region.root / "taken away", region.root / region.custody.directory)
    assert leased_key(region, ended.set) == key
    shutil.rmtree(region.root / region.custody.directory)


def test_without_a_database_there_is_no_key(region: settings.Configuration) -> None:
    with pytest.raises(Misconfigured, match=r"app\.database\.unset"):
        leased_key(msgspec.structs.replace(region, database_url=""), print)
