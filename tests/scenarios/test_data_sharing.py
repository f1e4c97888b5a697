"""An owner has her car's data sent to an insurer, on a region as `rocade serve` runs it, to a real web server over TLS.

She names it on her phone; it takes the contract up by the command line, sets its webhook, holds a stream and fetches a Parquet file; what her
car sends reaches it by all three; its server answers 500 for a while and nothing is lost; she reads the log and the looks,
ends the contract, and nothing more leaves; she takes everything home in one zip, which explains itself.
"""

from __future__ import annotations

import asyncio
import io
import json
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
from playwright.sync_api import Browser, expect
from standardwebhooks import Webhook
from tests.app.stand import PROGRAM, Region
from tests.scenarios.test_owner_story import VIN, Car, Person, browser, until
from tests.services.sharing.receiver import Receiver, make_identity

from rocade.app import configuration as settings

__all__ = ["browser"]
PATIENCE_S = 60.0


class Server:
    """The insurer's web server, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver(make_identity(folder))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.receiver.open(), self._loop).result(30)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.receiver.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


@pytest.fixture
def region(tmp_path: Path, server: Server) -> Iterator[Region]:
    made = Region(tmp_path / "eu")
    made.init()
    own = settings.Sharing(processes=1, networks=("127.0.0.0/8", "::1/128"), roots=str(server.receiver.identity))
    changed = msgspec.structs.replace(made.configuration, sharing=own)
    (made.directory / "rocade.toml").write_text(settings.render(changed))
    with made.serving():
        yield made


class Insurer:
    """The third party, by the command line."""

    def __init__(self, region: Region, folder: Path) -> None:
        self._region = region
        self.identity = region.enrol("assur-nord", folder / "insurer", "--kind", "partner")
        region.rocade("client", "add", "--id", "assur-nord", "--purpose", "insurance")
        self._follow: subprocess.Popen[str] | None = None
        self.records: list[dict[str, Any]] = []
        self.said: list[str] = []

    def does(self, *words: str, **more: Any) -> str:
        return self._region.rocade("sharing", *words, "--identity", str(self.identity), **more)

    def contract(self) -> str:
        return next(word for word in self.does("contracts").split() if word.startswith("contract-"))

    def follows(self, contract: str) -> None:
        words = ("sharing", "follow", contract, "--identity", self.identity, "--config", self._region.directory)
        self._follow = subprocess.Popen(
            [*PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._follow is not None
        assert self._follow.stdout is not None
        assert self._follow.stderr is not None
        self.records.extend(json.loads(line) for line in self._follow.stdout)
        self.said.extend(self._follow.stderr)

    def ends(self) -> int:
        """The exit code of the stream's reader, once it ended by itself."""
        assert self._follow is not None
        return self._follow.wait(PATIENCE_S)

    def close(self) -> None:
        if self._follow is not None and self._follow.poll() is None:
            self._follow.kill()


def values(found: list[dict[str, Any]], signal: str) -> list[float]:
    return [
        value for one in found for series in one["series"] if series["signal"] == signal for value in series["value"]
    ]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_owner_has_her_data_sent_and_takes_them_back(
    region: Region, server: Server, browser: Browser, tmp_path: Path
) -> None:
    car, insurer, receiver = Car(region, tmp_path), Insurer(region, tmp_path), server.receiver
    region.rocade(
        "sharing", "terms", "--compensation", "Cost of delivery", "--withhold",
        "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", "--reason", "a supplier's calibration",
    )  # fmt: skip
    with region.api() as operator:
        ref = operator.get("/v1/vehicles", id=VIN)["items"][0]["ref"]
        code = operator.post(f"/v1/vehicles/{ref}/owner-code")["code"]
    lea = Person(browser, region, "Léa")
    assert lea.claims(code) == ref
    car.drives(30, 74, "before")
    region.settled()

    page = lea.open(f"/my/{ref}/feeds")
    page.select_option("#f-party", label="Partner assur-nord")
    page.select_option("#f-purpose", "insurance")
    for name in ("driving", "energy"):
        page.check(f"input[name=classes][value={name}]")
    page.check("input[name=ways][value=webhook]")
    page.get_by_role("button", name="Share", exact=True).click()
    expect(page.locator(".said")).to_contain_text("can take the contract up")
    contract = insurer.contract()
    secret = ""
    insurer.does("webhook", contract, receiver.url(), code=1, says="sharing.contract.offered")
    assert "kept back (a supplier's calibration)" in insurer.does("accept", contract)
    secret = insurer.does("webhook", contract, receiver.url()).split()[-1]
    insurer.does("webhook", contract, "https://192.168.0.1/x", code=1, says="webhooks.address.private")
    insurer.follows(contract)

    try:
        receiver.status = 500
        until(lambda: _takes(car, insurer), bool, PATIENCE_S)
        region.settled()
        receiver.status = 204
        insurer.does("webhook", contract, "--resume")
        until(receiver.taken, bool, PATIENCE_S)
        car.drives(20, 60, "after")
        region.settled()
        until(
            lambda: (
                len(values(receiver.taken(), "Vehicle.Speed")) >= len(values(insurer.records, "Vehicle.Speed")) > 20
            ),
            bool,
            PATIENCE_S,
        )
        for _, headers, body in receiver.got:
            Webhook(secret).verify(body, headers)
        everything = json.dumps(receiver.taken() + insurer.records)
        assert "StateOfCharge" not in everything.replace(json.dumps(receiver.taken()[0]["withheld"]), ""), "withheld"
        assert "Latitude" not in everything
        assert VIN not in everything
        assert ref not in everything

        out = tmp_path / "cars.parquet"
        insurer.does("fetch", contract, "--out", str(out))
        table = pyarrow.parquet.read_table(out)
        assert set(table.column("signal").to_pylist()) == {"Vehicle.Speed"}
        assert set(table.column("origin").to_pylist()) == {"raw"}

        page = lea.open(f"/my/{ref}/feeds")
        page.locator("#board summary").first.click()
        expect(page.locator("#board")).to_contain_text("taken up")
        looks = lea.open(f"/my/{ref}/looks", lea.context.new_page())
        expect(looks.locator(".looks li").first).to_contain_text("Partner assur-nord", timeout=15_000)

        page.get_by_role("button", name="End: Partner assur-nord, insurance").click()
        expect(page.locator(".said")).to_contain_text("Nothing more is sent")
        assert insurer.ends() == 0, "the stream says that it ended, and its reader stops"
        until(lambda: receiver.taken(kind="sharing.ended"), bool, PATIENCE_S)
        told = len(receiver.taken())
        car.drives(10, 50, "later")
        region.settled()
        assert len(receiver.taken()) == told
        insurer.does("fetch", contract, "--out", str(out), code=1, says="sharing.contract.ended")
    finally:
        insurer.close()

    answer = lea.context.request.get(f"{lea.address}/my/{ref}/download/all", timeout=60_000)
    found = zipfile.ZipFile(io.BytesIO(answer.body()))
    assert found.testzip() is None
    index = found.read("index.html").decode()
    assert "Vehicle.CurrentLocation.Latitude" in index
    for name in ("driving", "energy", "location"):
        rows = pyarrow.parquet.read_table(io.BytesIO(found.read(f"data/{name}.parquet")))
        lines = found.read(f"data/{name}.csv").decode().splitlines()
        columns = json.loads(found.read(f"data/{name}.json"))
        assert rows.num_rows == len(lines) - 1 == sum(len(one["value"]) for one in columns) > 0
    agreed = json.loads(found.read("agreements/contracts.json"))
    assert [one["why_ended"] for one in agreed] == ["withdrawn"]
    assert json.loads(found.read("agreements/vehicle.json"))[0]["id"] == VIN
    assert {"agreements/commands.json", "agreements/goals.json", "derived/trips.json"} <= set(found.namelist())
    (tmp_path / "opened").mkdir()
    found.extractall(tmp_path / "opened")
    opened = browser.new_page()
    opened.goto((tmp_path / "opened" / "index.html").as_uri())
    expect(opened.locator("h1")).to_have_text("Data of your vehicle")
    for link in opened.locator("a").all():
        assert (tmp_path / "opened" / str(link.get_attribute("href"))).exists()


def _takes(car: Car, insurer: Insurer) -> bool:
    """Whether the stream's reader has what the car sends now (it may not have been connected when the last was sent)."""
    car.drives(15, 70, f"drive-{len(insurer.records)}-{id(insurer)}")
    try:
        return bool(until(lambda: insurer.records, bool, 5))
    except AssertionError:
        return False
