"""A charging station of the package `ocpp` on a whole running region: registered, limited, ordered by the command line, over TLS."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
import websockets
from tests.app.stand import Region
from tests.ports import free_port

from rocade.app import configuration as settings

sys.path.insert(0, str(Path(__file__).parents[1] / "doors/ocpp"))
sys.path.insert(0, str(Path(__file__).parents[1] / "services/charging/stations"))

from chargers import Character, Charger16


class Life(threading.Thread):
    """A station that charges until it is told to end, in a thread of its own."""

    def __init__(self, port: int, password: str, trust: Path) -> None:
        super().__init__(daemon=True)
        self.port, self.password, self.trust = port, password, trust
        self.character = Character()
        self.has_begun, self.is_over = threading.Event(), threading.Event()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self.live())
        except BaseException as error:
            self.failure = error
            self.has_begun.set()

    async def live(self) -> None:
        context = ssl.create_default_context(cafile=str(self.trust))
        proof = "Basic " + base64.b64encode(f"CP-1:{self.password}".encode()).decode()
        connecting = websockets.connect(
            f"wss://localhost:{self.port}/ocpp/CP-1",
            subprotocols=["ocpp1.6"],  # type: ignore[list-item]
            ssl=context,
            additional_headers={"Authorization": proof},
        )
        async with connecting as socket:
            point: Any = Charger16("CP-1", socket, self.character)
            listening = asyncio.create_task(point.start())
            await point.begin()
            await point.tick()
            self.has_begun.set()
            await asyncio.to_thread(self.is_over.wait)
            await point.tick()
            await point.end()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


@pytest.mark.slow
def test_a_station_is_registered_limited_and_looked_at(tmp_path: Path) -> None:
    region = Region(tmp_path / "eu")
    region.init()
    port, plain = free_port(), region.configuration
    changed = msgspec.structs.replace(
        plain,
        charging=msgspec.structs.replace(plain.charging, processes=1),
        ocpp=msgspec.structs.replace(plain.ocpp, host="127.0.0.1", port=port),
    )
    (region.directory / "rocade.toml").write_text(settings.render(changed))
    with region.serving():
        password = region.rocade("stations", "add", "CP-1", "--site", "yard", "--open").strip()
        assert re.fullmatch(r"[0-9A-Z]{20}", password)
        region.rocade("stations", "add", "CP-1", code=1, says="stations.exists")
        region.rocade("stations", "add", "no name", code=1, says="stations.invalid")
        station = Life(port, password, region.directory / "trust" / "trust.pem")
        station.start()
        assert station.has_begun.wait(120)
        assert station.failure is None
        assert "Maker M16" in region.rocade("stations", "list", "--site", "yard")
        assert "accepted by tx in A" in region.rocade("stations", "limit", "CP-1", "4.14", "--hours", "1")
        [held] = station.character.held.values()
        assert float(held["rows"][0]["limit"]) == 6
        said = region.rocade("stations", "show", "CP-1")
        assert re.search(r"^1 +4\.14 .* accepted +tx A", said, re.MULTILINE)
        number = re.search(r"^(\d+) +1 +2\d{3}-", said, re.MULTILINE)
        assert number
        region.rocade("stations", "stop", "CP-1", "--transaction", number[1], code=1, says="ocpp.station.error")
        assert "11000" in region.rocade("stations", "values", "CP-1")
        region.rocade("stations", "unlimit", "CP-1")
        region.rocade("stations", "unlimit", "CP-1", code=1, says="stations.limit.unknown")
        reference = region.rocade("stations", "tag", "--tag", "VAN-7-TAG", "--label", "van 7").strip()
        assert "van 7" in region.rocade("stations", "tags")
        region.rocade("stations", "untag", reference)
        station.is_over.set()
        station.join(60)
        assert station.failure is None
        assert "booted" in region.rocade("stations", "events")
    logs = "".join(
        file.read_text("utf-8", "replace") for file in (region.directory / "logs").rglob("*") if file.is_file()
    )
    assert password not in logs
    assert "VAN-7-TAG" not in logs
