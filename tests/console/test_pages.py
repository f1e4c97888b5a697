"""The pages in a real browser: they load, live, ask no other host, and say nothing wrong on the console."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import toytown
from playwright.sync_api import Browser, Page
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from tests.ports import free_port

from rocade.doors.http import listeners
from rocade.fabric.history import connect
from rocade.fabric.history.process import StoreProcess

SIZES = [(1280, 800), (360, 740)]
LANGUAGES = [("en", "Fleet"), ("fr", "Flotte"), ("zh-CN", "车队"), ("de", "Fleet")]


class Town(NamedTuple):
    address: str
    toys: toytown.Toys
    plugs: toytown.Plugs


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Eighty vehicles; the first has a drive in a real history store."""
    toys, plugs = toytown.Toys(80), toytown.Plugs()
    with tempfile.TemporaryDirectory(prefix="rocade-pages-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        toytown.run(toytown.drive(process.url, toys, next(iter(toys.vehicles))))
        services, _ = toytown.services(
            toys, tmp_path_factory.mktemp("pages"), chaos=plugs, history=connect(process.url)
        )
        with toytown.Served(services) as served:
            yield Town(served.address, toys, plugs)
        process.stop()


class Visit:
    """One page with everything it asked for and complained of."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda said: toytown.is_complaint(said) and self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def open(self, path: str) -> Page:
        toytown.sign_in(self.page, self.address)
        self.page.goto(self.address + path)
        return self.page

    def foreign(self) -> list[str]:
        own = (self.address + "/", f"blob:{self.address}/", "data:")
        return [url for url in self.requests if not url.startswith(own)]


type OpenVisit = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, town: Town) -> Iterator[OpenVisit]:
    contexts = []

    def make(width: int = 1280, height: int = 800, **options: Any) -> Visit:
        context = browser.new_context(viewport={"width": width, "height": height}, **{"locale": "en", **options})
        contexts.append(context)
        return Visit(context.new_page(), town.address)

    yield make
    toytown.leave(*contexts)


def wait_for_fleet(page: Page, count: int) -> None:
    toytown.wait(page, f"window.rocade && rocade.fleet.count === {count} && rocade.map.loaded()")


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_map_loads_vehicles_move_and_a_click_opens_one(visit: OpenVisit, width: int, height: int) -> None:
    one = visit(width, height)
    began_s = time.monotonic()  # every place it is shown at is one it has had since
    page = one.open("/")
    wait_for_fleet(page, 80)
    moving = page.evaluate("[...Array(rocade.fleet.count).keys()].findIndex(index => rocade.fleet.speed(index) > 20)")
    before, metres = page.evaluate("index => rocade.fleet.lngLat(index)", moving), 0.0
    until_s = time.monotonic() + 60
    while metres <= 2:
        assert time.monotonic() < until_s, "it does not move"
        page.wait_for_timeout(500)
        after = page.evaluate("index => rocade.fleet.lngLat(index)", moving)
        metres = ((before[0] - after[0]) ** 2 + (before[1] - after[1]) ** 2) ** 0.5 * 100_000
        assert metres < 60 * (time.monotonic() - began_s)
    click_on(page, moving)
    chosen = page.evaluate("rocade.fleet.chosen")
    toytown.wait(page, "!rocade.map.isMoving()")
    assert page.evaluate(UNDER_ITS_PLACE, chosen) == chosen, "it is drawn elsewhere than the ground under it"
    ref = page.evaluate("index => rocade.vehicles[index][0]", chosen)
    toytown.wait(page, "document.querySelectorAll('#panel-values dt').length > 2")
    assert page.get_attribute("#panel-open", "href") == f"/vehicles/{ref}"
    page.click("#panel-open")
    toytown.wait(page, "document.querySelectorAll('#twin tr').length === 10")
    assert one.foreign() == []
    assert one.complaints == []


UNDER_ITS_PLACE = "index => rocade.fleet.nearest(rocade.map.project(rocade.fleet.lngLat(index)))"
"""The vehicle drawn where the map says that this one is; a panel on a small screen shifts the map's middle."""


def click_on(page: Page, vehicle: int) -> None:
    """From so high that it is still under the click when a busy machine takes seconds to bring it there."""
    for _ in range(10):
        place = page.evaluate(
            """index => { rocade.map.jumpTo({center: rocade.fleet.lngLat(index), zoom: 13});
            const at = rocade.map.project(rocade.fleet.lngLat(index)), box = rocade.map.getContainer().getBoundingClientRect();
            return [at.x + box.x, at.y + box.y]; }""",
            vehicle,
        )
        page.mouse.click(*place)
        with contextlib.suppress(PlaywrightTimeout):
            page.wait_for_selector("#panel:not([hidden])", timeout=5_000)
            return
    raise AssertionError("no click opened it")


def test_the_vehicle_page_shows_units_quality_and_gaps(visit: OpenVisit, town: Town) -> None:
    one = visit()
    page = one.open(f"/vehicles/{next(iter(town.toys.vehicles))}")
    toytown.wait(page, "document.querySelectorAll('#twin tr').length === 10")
    rows = page.inner_text("#twin")
    assert "km/h" in rows
    assert "stuck" in rows
    toytown.wait(page, "document.querySelectorAll('#gaps tbody tr').length === 2")
    assert "5 – 7" in page.inner_text("#gaps")
    page.fill("#filter", "speed")
    assert page.locator("#twin tr").count() == 1
    assert one.foreign() == []


def test_curves_are_drawn_and_zoomed(visit: OpenVisit, town: Town) -> None:
    one = visit()
    page = one.open(f"/vehicles/{next(iter(town.toys.vehicles))}")
    page.wait_for_selector(".chart .u-over")
    page.click("#twin tr:has-text('CurrentPower')")
    toytown.wait(page, "document.querySelectorAll('.chart .u-over').length === 2")
    for _ in range(30):  # again where the chart has moved under the mouse: the page may not be whole yet
        drag_over(page)
        page.wait_for_timeout(1_000)
        if any(0 < asked_us(url) < 3_600_000_000 / 3 for url in one.requests):
            break
    else:
        pytest.fail("no drag zooms it")
    assert one.complaints == []


def drag_over(page: Page) -> None:
    """Choose a part of the first chart's time."""
    over = page.locator(".chart .u-over").first
    over.scroll_into_view_if_needed()
    box = over.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 100, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 300, box["y"] + 60, steps=4)
    page.mouse.up()


def asked_us(address: str) -> int:
    """How long a time a request for curves asks for; 0 for other requests."""
    if "/curves?" not in address:
        return 0
    query = dict(part.split("=") for part in address.partition("?")[2].split("&"))
    return int(query["until_us"]) - int(query["from_us"])


def test_a_trip_is_shown_on_its_map(visit: OpenVisit, town: Town) -> None:
    one = visit()
    page = one.open(f"/vehicles/{next(iter(town.toys.vehicles))}")
    page.click("#trips tbody tr")
    toytown.wait(page, "window.rocade?.ground?.getSource('trip') && rocade.ground.loaded()")
    assert one.foreign() == []
    assert one.complaints == []


def test_the_ingestion_page_shows_rate_latency_lag_and_refusals(visit: OpenVisit) -> None:
    one = visit()
    page = one.open("/ingest")
    toytown.wait(page, "Number(document.getElementById('rate').textContent.replace(',', '')) > 500")
    assert page.inner_text("#ack") == "11.5"
    assert "42 ms" in page.inner_text("#ack-more")
    assert page.inner_text("#lag") == "0.4"
    assert "trust.handshake.expired" in page.inner_text("#refusals")
    assert "sequence.far_ahead" in page.inner_text("#quarantine")
    assert one.foreign() == []
    assert one.complaints == []


@pytest.mark.parametrize("path", ["/vehicles", "/docs"])
def test_plain_pages_load_without_a_complaint(visit: OpenVisit, path: str) -> None:
    one = visit(360, 740)
    page = one.open(path)
    assert page.inner_text("h1")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "wider than a small phone"
    assert one.foreign() == []
    assert one.complaints == []


@pytest.mark.parametrize(("locale", "word"), LANGUAGES)
def test_the_page_speaks_the_reader_s_language(visit: OpenVisit, locale: str, word: str) -> None:
    page = visit(locale=locale).open("/")
    assert page.get_attribute(".fleet", "aria-label") == word


def test_language_and_theme_are_switched_and_kept(visit: OpenVisit) -> None:
    one = visit(color_scheme="light")
    page = one.open("/vehicles")
    page.click(".account summary")
    page.select_option("#language", "fr")
    toytown.wait(page, "document.documentElement.lang === 'fr' && document.readyState === 'complete'")
    assert page.url.endswith("/vehicles")
    page.click(".account summary")
    page.click("#theme")
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.inner_text("h1") == "Véhicules"


def test_plugs_are_pulled_from_the_page_and_nothing_is_lost(visit: OpenVisit, town: Town) -> None:
    one = visit()
    page = one.open("/")
    toytown.wait(page, "document.getElementById('acked').textContent === '128,540'")
    page.click("[data-act=kill_worker]")
    toytown.wait(page, "document.getElementById('chaos-said').textContent.includes('4711')")
    assert town.plugs.pulled == [("kill_worker", "")]
    assert [page.inner_text(name) for name in ("#lost", "#resent", "#missing")] == ["0", "12", "7"]
    assert one.complaints == []


def test_everything_on_the_map_page_is_reached_by_keyboard(visit: OpenVisit) -> None:
    page = visit().open("/")
    wait_for_fleet(page, 80)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('.account:not([open]) > summary')"):
            page.keyboard.press("Enter")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.dataset?.act || ''"))
    assert {"language", "theme", "find", "closer", "farther", "fit", "kill_store", "fill_disk"} <= reached


def test_a_lost_connection_is_said_and_found_again(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> None:
    toys = toytown.Toys(3)
    services, _ = toytown.services(toys, tmp_path_factory.mktemp("lost"))
    page = browser.new_context().new_page()
    with toytown.Served(services, toytown.sockets(free_port())) as first:
        toytown.sign_in(page, first.address)
        page.goto(first.address)
        page.wait_for_selector("#live[data-state=live]")
        port = int(first.address.rpartition(":")[2])
    page.wait_for_selector("#live[data-state=lost]")
    with toytown.Served(services, toytown.sockets(port)):
        page.wait_for_selector("#live[data-state=live]")
    toytown.leave(page.context)


def test_a_stopped_server_lets_open_streams_go_at_once(
    visit: OpenVisit, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "DRAIN_S", 300)
    services, _ = toytown.services(toytown.Toys(3), tmp_path_factory.mktemp("stop"))
    with toytown.Served(services) as served:
        page = visit().page
        toytown.sign_in(page, served.address)
        page.goto(served.address)
        page.wait_for_selector("#live[data-state=live]")
    assert served.has_ended, "it waits for streams as long as it may"
