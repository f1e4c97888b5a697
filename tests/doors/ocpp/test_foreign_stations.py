"""Charging stations nobody here wrote, in JavaScript: `ocpp-rpc` in strict mode in three versions, `em-ocpp-chargepoint-simulator`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ocpp_stand import Stand, until

from rocade.services.charging.stations import Connector, Limit, Slot

ROOT = Path(__file__).resolve().parents[3]
NODE_MODULES = Path(os.environ.get("NODE_MODULES", ROOT / "build/npm/node_modules"))
HERE = Path(__file__).parent
PLACE = Connector("CP-1", 1)


async def node(package: str, *arguments: str, cwd: Path = HERE, **environment: str) -> Any:
    """Start node; skipped where the packages were not fetched."""
    if shutil.which("node") is None or not (NODE_MODULES / package).is_dir():
        pytest.skip("npm packages are fetched by `python -m rocade.console.vendor --node-modules`")
    return await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=cwd, env={**os.environ, "NODE_MODULES": str(NODE_MODULES), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ready(process: Any) -> None:
    """Its station has begun a transaction and waits for a limit."""
    async with asyncio.timeout(60):
        while (line := await process.stdout.readline()).strip() != b"ready":
            assert line, (await process.stderr.read()).decode()


async def last_words(process: Any) -> Any:
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return json.loads(next(line for line in reversed(output.decode().splitlines()) if line.startswith("{")))


async def limit(stand: Stand) -> None:
    now_us = stand.clock.now_us()
    slots = (Slot(now_us, 4.14), Slot(now_us + 900_000_000, 0.0), Slot(now_us + 1_800_000_000, 11.0))
    await stand.stations.limit(PLACE, Limit(slots, now_us + 3_600_000_000))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "version", [pytest.param("ocpp1.6", marks=SLOW), "ocpp2.0.1", pytest.param("ocpp2.1", marks=SLOW)]
)
async def test_ocpp_rpc_in_strict_mode_finds_nothing_to_say(stand: Stand, version: str) -> None:
    password = await stand.register("CP-1", is_open=True)
    given = {"address": f"ws://127.0.0.1:{stand.port}/ocpp", "id": "CP-1", "password": password, "version": version}
    process = await node("ocpp-rpc", str(HERE / "npm_ocpp_rpc.mjs"), GIVEN=json.dumps(given))
    await ready(process)
    await limit(stand)
    told = await last_words(process)
    assert (told["broken"], told["boot"], told["authorized"]) == ([], "Accepted", "Accepted")
    assert told["profile"]["chargingProfilePurpose"] == "TxProfile"
    [kept] = await stand.stations.transactions("CP-1")
    assert kept.energy_kwh == pytest.approx(3.0)
    standing = await stand.stations.standing(PLACE)
    assert standing is not None
    assert standing.state == "accepted"


async def test_em_ocpp_chargepoint_simulator_charges_a_car(stand: Stand) -> None:
    password = await stand.register("CP-1", is_open=True)
    package = NODE_MODULES / "em-ocpp-chargepoint-simulator"
    address = f"ws://CP-1:{password}@127.0.0.1:{stand.port}/ocpp/CP-1"
    process = await node(package.name, str(package / "build/src/main.js"), "npm_simulator.js", STATION=address)
    await ready(process)
    await limit(stand)
    assert (await last_words(process))["profile"] == "TxProfile"
    [kept] = await until(lambda: stand.stations.transactions("CP-1"))
    assert kept.energy_kwh == pytest.approx(0.022)
