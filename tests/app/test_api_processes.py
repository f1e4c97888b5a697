"""Several API processes on one machine: they share the ports, the tokens and the register."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.app.stand import Region

from rocade.trust.identity.tls import client_context


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """A region with two API processes."""
    region = Region(tmp_path_factory.mktemp("pair") / "eu")
    region.init()
    file = region.directory / "rocade.toml"
    file.write_text(file.read_text().replace("# processes = 1", "processes = 2", 1))
    with region.serving():
        yield region


def get(region: Region, path: str, context: ssl.SSLContext, token: str = "") -> httpx.Response:
    """One request on a connection of its own, so that the system chooses the process."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    address = f"https://localhost:{region.configuration.http.api_port}{path}"
    return httpx.get(address, headers=headers, verify=context, timeout=30, trust_env=False)


def test_a_token_of_one_process_is_good_at_the_other(pair: Region, tmp_path: Path) -> None:
    token = pair.rocade("access-token").strip()
    own = client_context(pair.directory / "operator")
    deadline = time.monotonic() + 60
    while not {'process="api"', 'process="api-1"'} <= set(
        re.findall(r'process="[\w-]+"', get(pair, "/metrics", own).text)
    ):
        assert time.monotonic() < deadline, "two processes, and each knows of the other"
    answers = [get(pair, "/v1/vehicles", own, token).status_code for _ in range(20)]
    assert answers == [200] * 20
    pair.rocade("client", "rotate", "--withdraw", "--yes")
    fresh = pair.rocade("access-token").strip()
    assert [get(pair, "/v1/vehicles", own, fresh).status_code for _ in range(20)] == [200] * 20
