"""Joining as docs/joining.md tells it: its own commands, from an empty folder to the first price, each part timed.

A whole region run by `rocade serve`, a whole agent run by `rocade dealer run`. Ten minutes are the goal; what it took is printed
and nothing here fails because a machine is slow.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.app.stand import PROGRAM, Region, rocade
from tests.ports import free_port

from rocade.app import configuration as settings

RECIPE = Path(__file__).resolve().parents[2] / "docs/joining.md"
PATIENCE_S = 120.0


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    made = Region(tmp_path / "eu")
    made.init()
    plain = made.configuration
    line = msgspec.structs.replace(plain.exchange, host="127.0.0.1", port=free_port(), processes=1)
    (made.directory / "rocade.toml").write_text(settings.render(msgspec.structs.replace(plain, exchange=line)))
    with made.serving():
        yield made


def parts() -> list[list[str]]:
    """The recipe's commands, one list for each block."""
    blocks = re.findall(r"^```sh\n(.*?)^```", RECIPE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [[line.removeprefix("rocade ") for line in block.splitlines()] for block in blocks]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipe_leads_from_nothing_to_the_first_price(region: Region, tmp_path: Path) -> None:
    network, prices, code, joining, price, many = parts()
    took: dict[str, float] = {}
    began_s = time.monotonic()

    template, *imports = network
    (tmp_path / "sites.csv").write_text(region.rocade(*template.partition(" >")[0].split()))
    for command in imports:
        assert "1 new" in region.rocade(*_here(command, tmp_path))
    (tmp_path / "prices.csv").write_text("ref;price;label\n7701;12,50;Filter\n7702;3,00;Belt\n")
    for command in prices:
        region.rocade(*_here(command, tmp_path))
    took["at the hub"], began_s = time.monotonic() - began_s, time.monotonic()

    made = subprocess.run(
        [*PROGRAM, *code[0].split()], env={**_clean(), "ROCADE_CONFIG": str(region.directory)}, text=True,
        capture_output=True, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    claim, root = made.stdout.strip(), re.findall(r"root ([0-9a-f]{64})", made.stderr)[0]

    init, run = (_here(command, tmp_path) for command in joining)
    names = {"hub.example.org": "localhost", "CODE": claim, "ROOT": root}
    hub = region.configuration
    ports = ("--line-port", hub.exchange.port, "--api-port", hub.http.api_port, "--est-port", hub.est.port)
    folder = {"ROCADE_DEALER": str(tmp_path / "dealer")}
    said = rocade(*(names.get(word, word) for word in init), *map(str, ports), environment=folder)
    assert "/dealer/FR-00123-1" in said
    key = tmp_path / "dealer/hubs/main/key.pem"
    assert key.stat().st_mode & 0o077 == 0
    took["joining"], began_s = time.monotonic() - began_s, time.monotonic()

    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen([*PROGRAM, *run], env={**_clean(), **folder}, stderr=log)
    try:
        asked = price[0].split()
        deadline = time.monotonic() + PATIENCE_S
        while "12.50" not in (said := _try(asked, folder)):
            assert time.monotonic() < deadline, said + (tmp_path / "agent.log").read_text()[-3000:]
            time.sleep(0.5)
        took["first price"] = time.monotonic() - began_s
        assert "main" in rocade(*price[1].split(), environment=folder)
        _restarted(region, tmp_path / "agent.log")
        assert "12.50" in rocade(*asked, environment=folder)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(60)
    told = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items())
    print(f"from nothing to the first price: {sum(took.values()):.1f} s ({told})", file=sys.stderr)

    codes = region.rocade(*_here(many[0], tmp_path))
    assert codes.startswith("1 codes")
    assert (tmp_path / "codes.csv").stat().st_mode & 0o077 == 0
    again = rocade(
        *(names.get(word, word) for word in init),
        *map(str, ports),
        environment=folder,
        code=1,
        says="dealer.hub.joined",
    )
    assert again == ""


def _restarted(region: Region, log: Path) -> None:
    """Support asks the agent to restart: the order goes down its line, and the same program begins anew."""
    started = log.read_text().count("Started server process")
    with region.api() as api:
        api.post("/v1/dealers/sites/FR-00123-1/restart")
        deadline = time.monotonic() + PATIENCE_S
        while log.read_text().count("Started server process") <= started:
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.2)
        assert api.get("/v1/dealers/sites/FR-00123-1/orders")[0]["sent_us"]


def _here(command: str, folder: Path) -> list[str]:
    """A command's words; files in the test's own folder."""
    return [str(folder / word) if word.endswith(".csv") else word for word in command.split()]


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ROCADE_")}


def _try(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [*PROGRAM, *arguments],
        env={**_clean(), **environment},
        text=True,
        capture_output=True,
        check=False,
        timeout=PATIENCE_S,
    )
    return done.stdout + done.stderr
