"""Two regions side by side on one machine: nothing of one is anything in the other, and only what two people let go crosses."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from cryptography import x509
from tests.app.stand import Region

from rocade.core.errors import RocadeError
from rocade.trust.identity.tls import client_context
from rocade.wire import mqtt as wire

pytestmark = pytest.mark.slow
"""Two whole platforms; the rules of the wall by themselves are tests/services/crossing."""
VIN = "VF1WALLS000000001"
FLEET = 12


class Pair(NamedTuple):
    eu: Region
    cn: Region
    car: Path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both made by one operator under one trust domain: the wall must not rest on a name that differs."""
    folder = tmp_path_factory.mktemp("walls")
    eu, cn = Region(folder / "eu" / "region"), Region(folder / "cn" / "region", "cn")
    for one in (eu, cn):
        one.directory.parent.mkdir()
        one.init()
    with eu.serving(), cn.serving():
        for number in range(FLEET):
            eu.enrol(f"BIKE-WALL-{number:04}", folder / f"bike{number}", "--vehicle-kind", "bicycle", "--powertrain", "none",
                     "--brand", "lune")  # fmt: skip
        yield Pair(eu, cn, eu.enrol(VIN, folder / "car", "--brand", "renault", "--model", "Zoe"))


def test_they_share_no_key_no_certificate_and_no_byte_of_a_vehicle(pair: Pair) -> None:
    keys = [
        {path.read_bytes() for path in one.directory.rglob("*.pem")} for one in (pair.eu, pair.cn)
    ]  # fmt: skip
    roots = [
        x509.load_pem_x509_certificate((one.directory / "trust" / "trust.pem").read_bytes())
        for one in (pair.eu, pair.cn)
    ]
    assert keys[0]
    assert not keys[0] & keys[1]
    assert roots[0].public_key() != roots[1].public_key()
    found = [
        path for path in pair.cn.directory.rglob("*")
        if path.is_file() and not path.is_symlink() and VIN.encode() in path.read_bytes()
    ]  # fmt: skip
    assert found == []


async def _greeting(port: int, identity: Path, authority: Path) -> wire.Connack:
    """Connect as a car that trusts the server of `authority`, and shows its own certificate."""
    context = client_context(identity)
    context.load_verify_locations(authority / "trust" / "trust.pem")
    context.check_hostname = False
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        writer.write(wire.encode(wire.Connect(VIN, 5), 5))
        decoder = wire.Decoder(5)
        while data := await asyncio.wait_for(reader.read(4096), 30):
            for packet in decoder.feed(data):
                assert isinstance(packet, wire.Connack)
                return packet
        raise ConnectionError("closed without a word")
    finally:
        writer.close()


async def test_a_vehicle_of_one_is_refused_in_the_other(pair: Pair) -> None:
    own = await _greeting(pair.eu.configuration.mqtt.port, pair.car, pair.eu.directory)
    assert own.reason == 0
    try:
        foreign = await _greeting(pair.cn.configuration.mqtt.port, pair.car, pair.cn.directory)
        assert foreign.reason != 0
    except (ConnectionError, ssl.SSLError):
        pass
    deadline = time.monotonic() + 30
    while not (refused := _refusals(pair.cn, "trust.")) and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
    assert refused, "the refusal stands in the audit log of the region that refused"


def _refusals(region: Region, code: str) -> list[str]:
    with region.api() as api:
        return [
            one["reason"] for one in api.get("/v1/audit", outcome="refused", limit=100)["items"]
            if one["reason"].startswith(code)
        ]  # fmt: skip


def test_an_operator_of_one_is_nobody_in_the_other(pair: Pair) -> None:
    context = client_context(pair.eu.directory / "operator")
    context.load_verify_locations(pair.cn.directory / "trust" / "trust.pem")
    address = f"https://localhost:{pair.cn.configuration.http.api_port}"
    with httpx.Client(verify=context, base_url=address, trust_env=False) as client:
        try:
            answer = client.get("/v1/vehicles")
            assert answer.status_code in {401, 403}
        except httpx.TransportError:
            pass  # the handshake already said no


def test_nothing_crosses_but_what_two_people_let_go(pair: Pair, tmp_path: Path) -> None:
    eu, cn = pair.eu, pair.cn
    today = datetime.now(UTC).date()
    asked = ("--from", str(today - timedelta(days=3)), "--until", str(today))
    said = eu.rocade("crossing", "draft", "fleet.models", "--to", "cn", *asked)
    assert f"lune bicycle none {FLEET}" in " ".join(said.split())
    assert VIN not in said
    assert "1 (fewer than 10 vehicles)" in said, "one Zoe alone would be somebody's"
    eu.rocade("crossing", "fetch", "1", "--out", tmp_path / "early.json", code=1, says="crossing.not_released")
    eu.rocade("crossing", "release", "1", "--yes", code=1, says="crossing.same_person")
    ben = tmp_path / "ben"
    eu.enrol("ben", ben, "--kind", "operator")
    eu.rocade("crossing", "release", "1", "--yes", "--identity", ben)
    packet = tmp_path / "crossing-1.json"
    eu.rocade("crossing", "fetch", "1", "--out", packet)
    cn.rocade("crossing", "accept", packet, code=1, says="crossing.neighbour.unknown")
    cn.rocade("crossing", "pin", "eu", eu.directory / "trust" / "trust.pem")
    assert "accepted number 1 of region eu" in cn.rocade("crossing", "accept", packet)
    eu.rocade("crossing", "pin", "cn", cn.directory / "trust" / "trust.pem")
    eu.rocade("crossing", "accept", packet, code=1, says="crossing")
    with cn.api() as api:
        arrived = api.get("/v1/crossing/arrivals/eu/1")
    assert [row[-1] for row in arrived["rows"]] == [FLEET]
    for one in (eu, cn):
        assert json.loads(one.rocade("audit", "verify"))["ok"] is True


def test_a_foreign_bundle_is_no_key_to_the_command_line(pair: Pair) -> None:
    """The command line of one region, pointed at the other's port with its own identity."""
    from rocade.app.client import ApiClient

    address = f"https://localhost:{pair.cn.configuration.http.api_port}"
    with ApiClient(pair.eu.configuration, address) as api, pytest.raises(RocadeError):
        api.get("/v1/vehicles")
