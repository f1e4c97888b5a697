"""Every page there is, for whoever may open it: nothing serious by axe, light and dark, wide and narrow, three languages.

The list is made from the routes: a new page without an address here fails a test. Each page is looked at (screenshots in
build/screenshots, not committed), asks no other host, complains of nothing, is no wider than a small phone, and has no
text left untranslated. By default each page is opened in one of the languages in turn; the slow test opens all.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from pathlib import Path

import pytest
from city import City, fresh_database
from playwright.sync_api import Browser, Page

from rocade.console import create_app, languages, vendor
from rocade.fabric.history.process import StoreProcess

REPOSITORY = Path(__file__).parents[2]
SCREENSHOTS = REPOSITORY / "build" / "screenshots"
AXE = REPOSITORY / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
LANGUAGES = ("en", "fr", "zh")
WIDE, NARROW = (1280, 800), (360, 740)
NO_PAGES = re.compile(r"/(v1|live|static|health|metrics|texts|oauth|\.well-known)(/|$)")
KEYS = re.compile(
    rf"\b(?:{'|'.join(sorted({key.split('.')[0] for key in languages.texts('en') if '.' in key}))})\.[a-z_]+\b"
)
PIECES = {
    "/language", "/audit/verification", "/certificates/revocation", "/quarantine/{number}/drop",
    "/people/{person}/{act}", "/vehicles/{ref}/papers", "/vehicles/{ref}/audit", "/vehicles/{ref}/looks",
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
        "/consents": [("Ada", "/consents")],
        "/people": [("Ada", "/people")],
        "/audit": [("Ada", "/audit"), ("Ada", "/audit?outcome=refused")],
        "/docs": [("Ada", "/docs"), ("", "/docs")],
        "/signin": [("", "/signin")],
        "/signin/link/{secret}": [("", "/signin/link/not-a-link")],
        "/account": [("Léa", "/account"), ("Ada", "/account")],
        "/my": [("Léa", "/my"), ("Max", "/my")],
    }


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
    mine = [one for one in templates(city) if not one.startswith("/my/")]
    assert mine == sorted(addresses(city))
    assert len(mine) >= 14


class Look:
    """One browser window of one person; remembers what pages asked for and complained of."""

    def __init__(self, browser: Browser, city: City, who: str, language: str) -> None:
        self.city, self.who, self.language = city, who, language
        self.context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, locale=language)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda said: said.type in {"error", "warning"} and self.complaints.append(said.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        if who:
            city.sign_in(self.page, who)

    def open(self, path: str) -> Page:
        self.requests.clear(), self.complaints.clear()
        self.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        self.page.goto(self.city.address + path)
        self.page.wait_for_timeout(250)
        return self.page

    def foreign(self) -> list[str]:
        own = (self.city.address + "/", f"blob:{self.city.address}/", "data:")
        return [url for url in self.requests if not url.startswith(own)]

    def shoot(self, path: str, size: str, theme: str) -> None:
        name = re.sub(r"\W+", "-", re.sub(r"\d{9,}", "ref", path)).strip("-") or "map"
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


def check(look: Look, path: str) -> list[str]:
    """What is wrong with one page, in words."""
    page = look.open(path)
    wrong = [f"asked another host: {url}" for url in look.foreign()]
    if bare := KEYS.findall(page.inner_text("body")):
        wrong.append(f"keys instead of texts: {bare}")
    for theme, (width, height), size in (("light", WIDE, "wide"), ("dark", NARROW, "narrow")):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'; dispatchEvent(new Event('themechange'))")
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_timeout(150)
        look.shoot(path, size, theme)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{size}: wider than {width} px")
        wrong += [f"{theme}, {size}: {one}" for one in serious(page)]
    if page.get_attribute("html", "lang") != look.language:
        wrong.append("not in the reader's language")
    if not page.locator("h1").count():
        wrong.append("has no first heading")
    return [f"{look.who or 'nobody'} {look.language} {path}: {one}" for one in (*wrong, *look.complaints)]


def walk(browser: Browser, city: City, chosen: Callable[[], Iterable[str]]) -> list[str]:
    wrong: list[str] = []
    looks: dict[tuple[str, str], Look] = {}
    for opened in addresses(city).values():
        for who, path in opened:
            for language in chosen():
                if (who, language) not in looks:
                    looks[who, language] = Look(browser, city, who, language)
                wrong += check(looks[who, language], path)
    for look in looks.values():
        look.context.close()
    return wrong


def test_every_page_is_fit_for_everybody(browser: Browser, city: City) -> None:
    turn = cycle(LANGUAGES)
    wrong = walk(browser, city, lambda: [next(turn)])
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.slow
def test_every_page_is_fit_in_every_language(browser: Browser, city: City) -> None:
    wrong = walk(browser, city, lambda: LANGUAGES)
    assert wrong == [], "\n" + "\n".join(wrong)
