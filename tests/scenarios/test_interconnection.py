"""A till that works, as docs/interconnection.md tells it: a whole region, two whole agents, services at the hub and at a site.

Everything runs as a process of its own and is told what to do by commands: offer, foretell, allow, use, look, pay, close.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tests.app.stand import PROGRAM, Region, rocade
from tests.ports import free_port

from rocade.app import configuration as settings

PATIENCE_S = 120.0
SITES = ("FR-00001-1", "FR-00002-1")


@pytest.fixture
def region(tmp_path: Path) -> Iterator[Region]:
    made = Region(tmp_path / "eu")
    made.init()
    plain = made.configuration
    changed = msgspec.structs.replace(
        plain,
        exchange=msgspec.structs.replace(plain.exchange, host="127.0.0.1", port=free_port(), processes=1),
        relay=msgspec.structs.replace(plain.relay, host="127.0.0.1", port=free_port()),
    )
    (made.directory / "rocade.toml").write_text(settings.render(changed))
    with made.serving():
        yield made


@contextlib.contextmanager
def service(name: bytes) -> Iterator[int]:
    """Something that listens and answers with its name and what it heard."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(name + b" heard " + connection.recv(1024))

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(server.getsockname()[1])
    finally:
        server.close()


def asked(port: int, words: bytes) -> bytes:
    """What a device hears at a port; b"" when it is closed instead."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 30) as device:
        device.sendall(words)
        device.shutdown(socket.SHUT_WR)
        heard = b""
        while data := device.recv(1024):
            heard += data
        return heard
    return b""


def until(is_so: Callable[[], object], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def joined(region: Region, site: str, place: Path) -> None:
    """An agent's folder, made by the two commands of docs/joining.md."""
    hub = region.configuration
    code = region.rocade("dealers", "join", site).split()[0]
    ports = {"line": hub.exchange.port, "api": hub.http.api_port, "est": hub.est.port, "relay": hub.relay.port}
    words = [word for name, port in ports.items() for word in (f"--{name}-port", str(port))]
    root = region.directory / "trust/trust.pem"
    rocade("dealer", "init", "--hub", "localhost", "--code", code, "--root", root, *words, "--dir", place)


@contextlib.contextmanager
def running(place: Path, more: str) -> Iterator[None]:
    """The agent as a process, with these settings besides."""
    file = place / "dealer.toml"
    file.write_text(f"[local]\nport = {free_port()}\n{file.read_text()}\n{more}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROCADE_")}
    with (place.parent / f"{place.name}.log").open("wb") as log:
        agent = subprocess.Popen([*PROGRAM, "dealer", "run", "--dir", str(place)], env=clean, stderr=log)
    try:
        yield
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait(60)


@pytest.mark.timeout(400)
def test_two_sites_use_services_of_the_hub_and_of_each_other(region: Region, tmp_path: Path) -> None:
    text = "site;dealer;dealer_name;country;name;timezone;brands;opened\n" + "".join(
        f"{site};{site[:8]};Garage {site};FR;Garage {site};Europe/Paris;renault:sells+services;2001-01-01\n"
        for site in SITES
    )
    (tmp_path / "sites.csv").write_text(text)
    region.rocade("dealers", "import", tmp_path / "sites.csv")
    one, two = (tmp_path / site for site in SITES)
    for site, place in zip(SITES, (one, two), strict=True):
        joined(region, site, place)
    till, scanner = free_port(), free_port()
    entrances = "".join(
        f'[[entrance]]\nservice = "{name}"\nport = {port}\ndevices = {{ "127.0.0.1" = "counter" }}\n'
        for name, port in (("till", till), ("scanner", scanner))
    )
    with service(b"payments") as payments, service(b"scanner") as scans:
        offer = f'[[offer]]\nservice = "scanner"\nhost = "127.0.0.1"\nport = {scans}\n'
        region.rocade(
            "interconnect", "offer", "till", "--host", "127.0.0.1", "--port", str(payments), "--class", "card"
        )
        region.rocade(
            "interconnect", "offer", "scanner", "--at", SITES[1], "--host", "127.0.0.1", "--port", str(scans)
        )  # fmt: skip
        with running(one, entrances), running(two, offer):
            told = lambda: region.rocade("interconnect", "openings")  # noqa: E731

            def refused() -> bool:
                assert asked(till, b"x") == b"", "nothing is open before a rule says so"
                return "till" in region.rocade("interconnect", "openings", "--refused")

            until(refused, told)
            foretold = region.rocade("interconnect", "allow", "till", "--to", "country:FR", "--dry-run")
            assert "would open till to 2 more sites" in foretold
            assert asked(till, b"x") == b"", "a dry run opens nothing"
            assert "opens till to 2 more sites" in region.rocade("interconnect", "allow", "till", "--to", "country:FR")
            region.rocade("interconnect", "allow", "scanner", "--to", f"site:{SITES[0]}", "--at-once", "1")
            reach = region.rocade("interconnect", "reach", "--service", "scanner", "--site", SITES[0])
            assert "open by rule" in reach
            until(lambda: asked(till, b"12.50") == b"payments heard 12.50", told)
            until(lambda: asked(scanner, b"page") == b"scanner heard page", told)

            openings = told()
            assert "counter" in openings
            assert "relay." in openings, "the refusal stands there with its code"
            assert "counter" in region.rocade("interconnect", "devices", "--site", SITES[0])
            assert SITES[1] not in region.rocade("interconnect", "devices")

            line = ("interconnect", "line", SITES[0], "old-network", "--kbit", "2000", "--price", "390.00", "--private")
            region.rocade(*line)
            assert "lines cost 390.00 EUR a month" in region.rocade("interconnect", "report")

            rules = region.rocade("interconnect", "services")
            number = next(row.split()[0] for row in rules.splitlines() if "country:FR" in row)
            region.rocade("interconnect", "disallow", number)
            until(lambda: asked(till, b"x") == b"", told)
            until(
                lambda: asked(scanner, b"still") == b"scanner heard still", lambda: f"the other rule stands; {told()}"
            )
    assert json.loads(region.rocade("audit", "verify"))["ok"] is True
