"""What a station was answered is in the table, whenever the door's process is killed; what it was not, it sends again."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import websockets
from tests.notebook import Notebook

from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.charging.stations import Connector, Station, Stations, Tags

PROGRAM = Path(__file__).with_name("station_process.py")
STATIONS = 5


async def talk(port: int, id: str, password: str, answered: set[tuple[str, int]]) -> None:
    """Send meter values, each with a register of its own, until the line breaks."""
    proof = {"Authorization": "Basic " + base64.b64encode(f"{id}:{password}".encode()).decode()}
    with contextlib.suppress(websockets.WebSocketException, OSError, EOFError):
        async with websockets.connect(
            f"ws://127.0.0.1:{port}/{id}",
            subprotocols=["ocpp1.6"],
            additional_headers=proof,  # type: ignore[list-item]
        ) as socket:
            number = max((seen for name, seen in answered if name == id), default=0)
            while True:
                number += 1
                value = {"timestamp": "2026-11-01T00:00:00Z", "sampledValue": [{"value": str(number)}]}
                await socket.send(
                    json.dumps([2, str(number), "MeterValues", {"connectorId": 1, "meterValue": [value]}])
                )
                while True:
                    answer: Any = json.loads(await socket.recv())
                    if answer[0] == 2:
                        await socket.send(json.dumps([4, answer[1], "NotSupported", "", {}]))
                    elif answer[1] == str(number):
                        assert answer[0] == 3
                        answered.add((id, number))
                        break


@pytest.mark.slow
async def test_a_killed_door_loses_nothing_it_has_answered(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    seed = random.randrange(1 << 30)
    print("seed", seed)
    draw = random.Random(seed)
    clock = SystemClock()
    stations = Stations(database, Tags(tmp_path / "stations.key", SystemRandom()), Notebook(), clock, SystemRandom())
    passwords = {
        id: await stations.register(Station(id=id, profile=1), "test") for id in map("CP-{}".format, range(STATIONS))
    }
    answered: set[tuple[str, int]] = set()
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(PROGRAM), database_url, str(tmp_path), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        port = int(await asyncio.wait_for(process.stdout.readline(), 60))
        talking = [asyncio.create_task(talk(port, id, password, answered)) for id, password in passwords.items()]
        before = len(answered)
        async with asyncio.timeout(60):
            while len(answered) < before + 100 + draw.randrange(200):
                await asyncio.sleep(0.001)
        process.kill()
        await process.wait()
        await asyncio.wait_for(asyncio.gather(*talking), 60)
        kept = [
            (id, int(one.energy_wh or 0))
            for id in passwords
            for one in await stations.meter(Connector(id, 1), 0, 1 << 62)
        ]
        assert answered <= set(kept)
        assert len(kept) == len(set(kept)), "sent again, kept once"
    assert len(answered) > 600
