"""Every page there is, for whoever may open it: nothing serious by axe, light and dark, wide and narrow, three languages.

The list is made from the routes: a new page without an address here fails a test. Each page asks no other host, complains of nothing, is no
wider than a small phone, and has no text left untranslated. By default each page is opened in one language and one view;
the slow test opens all for everybody who may open them, and leaves screenshots in build/screenshots (not committed).
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from city import City, fresh_database
from playwright.sync_api import Browser, Page
from toytown import is_complaint, leave, wait

from rocade.console import create_app, languages, vendor
from rocade.fabric.history.process import StoreProcess

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
AXE = REPOSITORY / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
LANGUAGES = ("en", "fr", "zh")
WIDE, NARROW = (1280, 800), (360, 740)
NO_PAGES = re.compile(r"/(v1|live|static|health|metrics|texts|oauth|\.well-known)(/|$)")
MY_PARTS = ("data", "download", "drivers", "erase", "feeds", "handover", "looks", "sharing", "trips")
KEYS = re.compile(
    rf"\b(?:{'|'.join(sorted({key.split('.')[0] for key in languages.texts('en') if '.' in key}))})\.[a-z_]+\b"
)
PIECES = {
    "/language", "/audit/verification", "/certificates/revocation", "/quarantine/{number}/drop",
    "/my/live", "/my/live/{ref}", "/my/{ref}/data/board", "/my/{ref}/download/file", "/my/{ref}/drivers/board",
    "/my/{ref}/erase/count", "/my/{ref}/looks/list", "/my/{ref}/ride", "/my/{ref}/sharing/board", "/my/{ref}/trips/list",
    "/my/{ref}/values", "/people/{person}/ask", "/vehicles/{ref}/papers", "/vehicles/{ref}/audit",
    "/verify/file",
    "/crossings/{number}/packet", "/my/{ref}/feeds/board", "/my/{ref}/download/all",
}  # fmt: skip
"""GET routes that are no pages: pieces that htmx swaps into one, and redirections."""


def addresses(city: City) -> dict[str, list[tuple[str, str]]]:
    """Who opens which address of each page's template; '' = nobody signed in."""
    car, fleet = city.ref("e208"), city.ref("fleet-0")
    return {
        "/": [("Ada", "/")],
        "/vehicles": [("Ada", "/vehicles"), ("Ben", "/vehicles?vehicle_state=doubtful")],
        "/vehicles/{ref}": [("Ada", f"/vehicles/{fleet}"), ("Ben", f"/vehicles/{car}")],
        "/ingest": [("Ada", "/ingest")],
        "/certificates": [("Ada", "/certificates"), ("Ada", "/certificates?paper_state=revoked")],
        "/enrolment": [("Ada", "/enrolment"), ("Ada", "/enrolment?who=party"), ("Ben", "/enrolment")],
        "/quarantine": [("Ada", "/quarantine")],
        "/crossings": [("Ada", "/crossings")],
        "/crossings/{number}": [("Ada", "/crossings/1")],
        "/consents": [("Ada", "/consents")],
        "/sharing": [("Ada", "/sharing"), ("Ben", "/sharing")],
        "/people": [("Ada", "/people")],
        "/recovery": [("Ben", "/recovery?name=a")],
        "/duties/{person}": [("Ada", f"/duties/{city.persons['Ben']}")],
        "/audit": [("Ada", "/audit"), ("Ada", "/audit?outcome=refused")],
        "/docs": [("Ada", "/docs"), ("", "/docs")],
        "/signin": [("", "/signin")],
        "/signin/link/{secret}": [("", "/signin/link/not-a-link")],
        "/account": [("Léa", "/account"), ("Ada", "/account")],
        "/verify": [("", "/verify")],
        "/why": [("Ada", "/why")],
        "/why/{id}": [("Ada", "/why/gate.denied"), ("", "/why/access.missing")],
        "/my": [("Léa", "/my"), ("Max", "/my")],
        "/my/claim": [("Max", "/my/claim")],
        "/my/invitations/{code}": [("Max", "/my/invitations/not-a-code")],
        "/my/{ref}": [("Léa", f"/my/{car}")],
        **{f"/my/{{ref}}/{part}": [("Léa", f"/my/{car}/{part}")] for part in MY_PARTS},
    }


def refused(city: City) -> list[tuple[str, str]]:
    """Who opens what is not there, or not for him."""
    missing, fleet = "/no-such-page", f"/vehicles/{city.ref('fleet-0')}"
    return [
        ("", missing),
        ("Ada", missing),
        ("Léa", missing),
        ("Léa", fleet),
        ("Max", "/people"),
        ("Ada", "/vehicles?cursor=x"),
    ]


@pytest.fixture(scope="module")
def city(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    vendor.fetch(with_development=True)
    with tempfile.TemporaryDirectory(prefix="rocade-city-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        url = fresh_database(postgres_url, template, "city")
        with City(url, process.url, tmp_path_factory.mktemp("city")) as made:
            made.call(made.drive("e208"))
            yield made
        process.stop()


def templates(city: City) -> list[str]:
    """Every GET route that answers with a whole page."""
    routes = create_app(city._services()).routes
    found = {
        re.sub(r":\w+", "", route.path)
        for route in routes
        for handler in route.route_handlers
        if "GET" in handler.http_methods and not NO_PAGES.match(route.path)
    }
    return sorted(found - PIECES)


def test_no_page_is_forgotten(city: City) -> None:
    assert templates(city) == sorted(addresses(city))


class Look:
    """One browser window of one person; remembers what pages asked for and complained of."""

    def __init__(self, browser: Browser, city: City, who: str, language: str) -> None:
        self.city, self.who, self.language = city, who, language
        self.context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, locale=language)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: is_complaint(said) and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if who:
            city.sign_in(self.page, who)

    def open(self, path: str) -> Page:
        self.requests.clear(), self.complaints.clear()
        self.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        self.page.goto(self.city.address + path)
        self.page.wait_for_timeout(250)
        return self.page

    def settle(self) -> None:
        """Let a map be drawn: without a graphics card that takes its time."""
        self.page.wait_for_timeout(150)
        wait(self.page, DRAWN)

    def foreign(self) -> list[str]:
        own = (self.city.address + "/", f"blob:{self.city.address}/", "data:")
        return [url for url in self.requests if not url.startswith(own)]

    def shoot(self, path: str, size: str, theme: str) -> None:
        plain = re.sub(r"person:[0-9a-f]+", "person", re.sub(r"\d{9,}", "ref", path))
        name = re.sub(r"\W+", "-", plain).strip("-") or "map"
        folder = SCREENSHOTS / (self.who or "nobody") / name
        folder.mkdir(parents=True, exist_ok=True)
        is_map = self.page.get_attribute("html", "data-page") == "map"
        self.page.screenshot(path=folder / f"{self.language}-{size}-{theme}.png", full_page=not is_map)


def serious(page: Page) -> list[str]:
    """What axe-core finds of weight, by rule and element."""
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [
        f"{one['id']} ({one['impact']}): {node['target']} {node.get('failureSummary', '')[:160]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]


DRAWN = """[...document.querySelectorAll("#map, #place-map, #trip-map")].every((one) => one.offsetParent === null)
    || (window.rocade?.map ?? window.rocade?.ground)?.loaded()"""
"""No map is to be seen, or it is."""
SAID = """(() => { const copy = document.body.cloneNode(true);
    copy.querySelectorAll("code, script, [href^='/why/']").forEach((one) => one.remove()); return copy.textContent; })()"""
"""A page's words without those that are codes on purpose."""
VIEWS = (("light", WIDE, "wide"), ("dark", NARROW, "narrow"), ("dark", WIDE, "wide"), ("light", NARROW, "narrow"))


def check(look: Look, path: str, views: Sequence[tuple[str, tuple[int, int], str]]) -> list[str]:
    """What is wrong with one page, in words."""
    is_refused = (look.who, path) in refused(look.city) or path.endswith("not-a-code")
    page = look.open(path)
    wrong = []
    for theme, (width, height), size in views:
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'; dispatchEvent(new Event('themechange'))")
        page.set_viewport_size({"width": width, "height": height})
        look.settle()
        if len(views) > 1:
            look.shoot(path, size, theme)
        wrong += [f"{theme}, {size}: {one}" for one in serious(page)]
    page.set_viewport_size({"width": NARROW[0], "height": NARROW[1]})
    if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        wrong.append(f"wider than {NARROW[0]} px")
    wrong += [f"asked another host: {url}" for url in look.foreign()]
    if not path.startswith("/why") and (bare := KEYS.findall(page.evaluate(SAID))):  # why speaks of codes
        wrong.append(f"keys instead of texts: {bare}")
    if page.get_attribute("html", "lang") != look.language:
        wrong.append("not in the reader's language")
    if page.locator("h1").count() != 1:
        wrong.append("has not one first heading")
    wrong += [said for said in look.complaints if not (is_refused and "status of 40" in said)]
    if is_refused != page.locator(".problem h1").is_visible():
        wrong.append(f"refused: {not is_refused}")
    return [f"{look.who or 'nobody'} {look.language} {path}: {one}" for one in wrong]


def walk(
    browser: Browser, city: City, opened: Iterable[tuple[str, str]], languages: Sequence[str], views: Sequence[Any]
) -> list[str]:
    wrong: list[str] = []
    looks: dict[tuple[str, str], Look] = {}
    last: Look | None = None
    for who, path in opened:
        for language in languages:
            if (who, language) not in looks:
                looks[who, language] = Look(browser, city, who, language)
            look = looks[who, language]
            if last and last is not look:
                last.page.goto("about:blank")  # a map that is left open goes on being drawn
            wrong += check(last := look, path, views)
    leave(*(look.context for look in looks.values()))
    return wrong


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(3))
def test_every_page_is_fit_for_everybody(browser: Browser, city: City, part: int) -> None:
    """Each third of the pages in another language, seen in another way."""
    opened = [*(ways[0] for ways in addresses(city).values()), *refused(city)][part::3]
    wrong = walk(browser, city, opened, [LANGUAGES[part]], [VIEWS[part]])
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_fit_in_every_language(browser: Browser, city: City, language: str) -> None:
    opened = [*(way for ways in addresses(city).values() for way in ways), *refused(city)]
    wrong = walk(browser, city, opened, [language], VIEWS[:2])
    assert wrong == [], "\n" + "\n".join(wrong)


def test_the_pages_of_sharing_say_what_is_shared_and_end_it(browser: Browser, city: City) -> None:
    ref, lea = city.ref("e208"), Look(browser, city, "Léa", "en")
    lea.page.goto(f"{city.address}/my/{ref}/feeds")
    board = lea.page.locator("#board")
    assert "running" in board.inner_text()
    assert "not taken up yet" in board.inner_text()
    assert "Kept back as trade secrets: Vehicle.Speed. Reason: a supplier's secret" in board.inner_text()
    before = len(city.call(city.sharing.of_vehicle(ref, is_live_only=True)))
    lea.page.get_by_role("button", name="End: Partner assur-nord, insurance").first.click()
    lea.page.locator(".said").wait_for()
    assert len(city.call(city.sharing.of_vehicle(ref, is_live_only=True))) == before - 1
    lea.page.goto(f"{city.address}/my/{ref}/download")
    with lea.page.expect_download() as taken:
        lea.page.get_by_role("link", name="Download everything").click()
    with zipfile.ZipFile(taken.value.path()) as found:
        assert found.testzip() is None
        assert "Vehicle.Speed" in found.read("index.html").decode()
    leave(lea.context)
