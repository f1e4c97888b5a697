"""One car, two owners and an insurer, through the browser and over mutual TLS, on a region as `rocade serve` runs it.

The operator enrols a car and hands out its code; its owner comes by a one-time link, registers a passkey, claims the car and
sees it live; she lets an insurer see one kind of data for one purpose; the insurer's program reads exactly that with a
token bound to its certificate; she sees the look, withdraws, and the insurer's open stream ends; she sells the car; the
buyer sees nothing of her time, and she nothing of his.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.app.stand import PLACED, Region
from tests.browser import WHOLE

from rocade.trust.identity.tls import client_context

VIN = "VR3UHZKXZNT123456"
FLAGS = ("--no-sandbox", "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
AUTHENTICATOR = {
    "protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True,
    "isUserVerified": True, "automaticPresenceSimulation": True,
}  # fmt: skip


class Car:
    """The car as its telematics unit: it sends what a log says."""

    def __init__(self, region: Region, folder: Path) -> None:
        self._region, self._folder = region, folder
        self.identity = region.enrol(VIN, folder / "car", "--brand", "peugeot", "--model", "e-208")
        (folder / "car.toml").write_text(PLACED)

    def drives(self, seconds: int, charge: float, name: str) -> None:
        """The last seconds, ending now."""
        begin = datetime.now(UTC) - timedelta(seconds=seconds)
        lines = ["time,speed,charge,lat,lon"]
        for second in range(seconds):
            at = (begin + timedelta(seconds=second)).isoformat()
            lines.append(f"{at},{40 + second % 7},{charge + 1 - second / seconds:.2f},{46.5 + second * 1e-4:.5f},2.4")
        log = self._folder / f"{name}.csv"
        log.write_text("\n".join(lines) + "\n")
        self._region.rocade("replay", log, "--identity", self.identity, "--mapping", self._folder / "car.toml")


class Person:
    """Somebody with a phone that holds a passkey."""

    def __init__(self, browser: Browser, region: Region, name: str) -> None:
        self.id, link = region.rocade("person", "add", name).split()
        self.context = browser.new_context(viewport={"width": 360, "height": 740}, locale="en")
        self.address = f"http://localhost:{region.configuration.http.pages_port}"
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        cdp = self.context.new_cdp_session(self.page)
        cdp.send("WebAuthn.enable")
        cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        self.page.goto(link)
        self.page.get_by_role("button", name="Go on").click()
        self.page.wait_for_url("**/account")
        self.page.locator("form[data-act=add] input").fill("Phone")
        self.page.get_by_role("button", name="Add a passkey").click()
        self.page.wait_for_url("**/my")

    def open(self, path: str, page: Page | None = None) -> Page:
        page = page or self.page
        page.goto(self.address + path)
        return page

    def claims(self, code: str) -> str:
        """The vehicle's reference."""
        page = self.open("/my/claim")
        page.fill("#f-code", code)
        page.get_by_role("button", name="This is my vehicle").click()
        page.wait_for_url(re.compile(r"/my/\d+"))
        return page.url.rpartition("/")[2]


class Insurer:
    """A partner's program: a certificate, tokens bound to it, and one open stream."""

    def __init__(self, region: Region, folder: Path) -> None:
        self._region = region
        self.identity = region.enrol("assur-nord", folder / "insurer", "--kind", "partner")
        region.rocade("client", "add", "--id", "assur-nord", "--purpose", "insurance")
        self._address = f"https://localhost:{region.configuration.http.api_port}"
        self.events: list[str] = []
        self.ended_s = 0.0

    def _client(self, token: str) -> httpx.Client:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        tls = client_context(self.identity)
        return httpx.Client(base_url=self._address, verify=tls, headers=headers, timeout=60, trust_env=False)

    def token(self) -> str:
        return self._region.rocade("access-token", "--identity", self.identity, "--purpose", "insurance").strip()

    def reads(self, path: str, token: str) -> httpx.Response:
        with self._client(token) as client:
            return client.get(path)

    def watches(self, ref: str, token: str) -> threading.Thread:
        def run() -> None:
            with self._client(token) as client, client.stream("GET", f"/v1/stream?ref={ref}") as answer:
                self.events.extend(line for line in answer.iter_lines() if line)
            self.ended_s = time.monotonic()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=WHOLE, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    made = Region(tmp_path_factory.mktemp("story") / "eu")
    made.init()
    with made.serving():
        yield made


def signals(answer: httpx.Response) -> set[str]:
    return {str(one["name"]) for one in answer.json()["signals"]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_story_of_a_car_two_owners_and_an_insurer(region: Region, browser: Browser, tmp_path: Path) -> None:
    car, insurer = Car(region, tmp_path), Insurer(region, tmp_path)
    with region.api() as operator:
        ref = operator.get("/v1/vehicles", id=VIN)["items"][0]["ref"]
        code = operator.post(f"/v1/vehicles/{ref}/owner-code")["code"]

    lea = Person(browser, region, "Léa")
    assert lea.claims(code) == ref
    page = lea.open(f"/my/{ref}")
    expect(page.locator("#glance")).to_contain_text("not sent anything yet")
    car.drives(300, 74, "hers")
    expect(page.locator("#glance .level strong")).to_contain_text("74", timeout=20_000)
    lea.open(f"/my/{ref}/trips")
    expect(page.locator(".trips li")).to_have_count(1, timeout=20_000)

    token = insurer.token()
    refused = insurer.reads(f"/v1/vehicles/{ref}/twin", token)
    assert (refused.status_code, refused.json()["code"]) == (403, "gate.denied")

    lea.open(f"/my/{ref}/sharing")
    page.get_by_role("button", name="Allow: Partner assur-nord, insurance").click()
    expect(page.locator(".said")).to_contain_text("may now see it")
    allowed = until(lambda: insurer.reads(f"/v1/vehicles/{ref}/twin", token), lambda answer: answer.status_code == 200)
    assert signals(allowed) == {"Vehicle.Speed"}, "driving and condition; this car says no more of them"
    assert insurer.reads(f"/v1/vehicles/{ref}/twin?purpose=research", token).status_code == 403
    assert insurer.reads(f"/v1/vehicles/{ref}/trips", token).status_code == 403
    assert insurer.reads(f"/v1/vehicles/{ref}/twin", "").status_code == 403, "a certificate alone proves no purpose"

    watching = insurer.watches(ref, token)
    until(lambda: insurer.events, bool)
    looks = lea.open(f"/my/{ref}/looks", lea.context.new_page())
    expect(looks.locator(".looks li").first).to_contain_text("Partner assur-nord", timeout=15_000)
    expect(looks.locator(".looks li").first).to_contain_text("insurance")
    looks.locator(".looks .why").first.click()
    expect(looks.locator("main")).to_contain_text("insur", timeout=15_000)

    page.get_by_role("button", name="Take back: Partner assur-nord, insurance").click()
    expect(page.locator(".said")).to_contain_text("open connections included")
    withdrawn_s = time.monotonic()
    watching.join(15)
    assert insurer.ended_s, "the stream is still open"
    assert insurer.ended_s - withdrawn_s < 2.0
    assert insurer.reads(f"/v1/vehicles/{ref}/twin", token).status_code == 403
    assert not [line for line in insurer.events if "Latitude" in line or "StateOfCharge" in line]

    lea.open(f"/my/{ref}/handover")
    page.check(".sure input")
    page.get_by_role("button", name="Make the code").click()
    sale = page.inner_text("#the-code")
    max_ = Person(browser, region, "Max")
    new = max_.claims(sale)
    assert new != ref
    time.sleep(8)  # what it measured before the change is hers, whenever it comes
    car.drives(5, 51, "his")
    his = max_.open(f"/my/{new}")
    expect(his.locator("#glance .level strong")).to_contain_text("51", timeout=30_000)
    data: Any = max_.context.request.get(
        f"{max_.address}/my/{new}/download/file?since=2020-01-01&until=2099-01-01&format=json"
    ).json()
    charges = [one["value"] for one in data if one["signal"].endswith("StateOfCharge.Displayed")]
    assert charges
    assert max(charges) < 60, "nothing of her time"
    assert max_.context.request.get(f"{max_.address}/my/{ref}").status == 403
    assert lea.context.request.get(f"{lea.address}/my/{new}").status == 403
    lea.open("/my")
    expect(page.locator(".wheels")).to_have_count(0)
    hers: Any = lea.context.request.get(
        f"{lea.address}/my/{ref}/download/file?since=2020-01-01&until=2099-01-01&format=json"
    ).json()
    assert min(one["value"] for one in hers if one["signal"].endswith("StateOfCharge.Displayed")) > 70, (
        "hers stays hers"
    )


def until(ask: Any, is_there: Any, within_s: float = 15.0) -> Any:
    """The first answer that is as wanted."""
    deadline = time.monotonic() + within_s
    while not is_there(answer := ask()):
        assert time.monotonic() < deadline, f"never: {answer}"
        time.sleep(0.2)
    return answer
