"""Every test of this package runs on PostgreSQL 18 (the wheel's) and on 15 (Debian's, the oldest that Rocade supports)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import forgetful_server, make_template

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture(scope="session", params=["18", "15"])
def release(request: pytest.FixtureRequest) -> str:
    """Which PostgreSQL this test runs on."""
    return str(request.param)


@pytest.fixture(scope="session")
def binaries(release: str) -> Path | None:
    """Its programs; None = the wheel's."""
    if release == "18":
        return None
    if not (DEBIAN_15 / "postgres").exists():
        pytest.fail("PostgreSQL 15 is missing, install the packages of packages.txt")
    return DEBIAN_15


@pytest.fixture(scope="session")
def postgres_url(binaries: Path | None) -> Iterator[str]:
    """Takes the place of the session's one server, so that `database` is of this release too."""
    with forgetful_server(binaries) as url:
        yield url


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """Of this server, whatever ran before on the session's own."""
    return make_template(postgres_url)
