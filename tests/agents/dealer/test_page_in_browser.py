"""The page on the LAN as a tablet shows it: a real browser, three languages, a phone's width, nothing serious by axe."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page, async_playwright
from tests.agents.dealer.conftest import Hub, until
from tests.agents.dealer.test_page import page_of
from tests.browser import WHOLE

from rocade.console import vendor

REPOSITORY = Path(__file__).parents[3]
AXE = REPOSITORY / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
SHOTS = REPOSITORY / "build" / "screenshots" / "dealer"
PAGES = (
    "/", "/prices?q=REF-000002", "/parts?list=parts&ref=REF-000002", "/changes", "/messages", "/inbox", "/errors", "/tests",
    "/versions", "/account",
)  # fmt: skip
FLAGS = ("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-gpu")
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


async def serious(page: Page) -> list[str]:
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate("(rules) => axe.run(document, {resultTypes: ['violations'], runOnly: rules})", RULES)
    return [
        f"{one['id']}: {node['target']}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"][:3]
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("language", "size", "theme"),
    [
        ("en", (1280, 800), "light"),
        pytest.param("fr", (360, 740), "dark", marks=pytest.mark.slow),
        pytest.param("zh", (360, 740), "light", marks=pytest.mark.slow),
    ],
)
async def test_every_page_of_the_agent_is_fit_for_a_tablet(
    hub: Hub, place: Path, language: str, size: tuple[int, int], theme: str
) -> None:
    vendor.fetch(with_development=True)
    parts = hub.publish(parts=40)
    SHOTS.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    async with page_of(place) as dealer, async_playwright() as playwright:
        parts.release({"REF-000002": 99})
        hub.push_head(parts)
        await until(lambda: dealer.prices.lists() and dealer.prices.lists()[0]["number"] == 2)
        dealer.staff.add("Camille", "manager")
        link = dealer.staff.make_link("Camille")
        browser = await playwright.chromium.launch(executable_path=WHOLE, args=list(FLAGS))
        context = await browser.new_context(
            ignore_https_errors=True,
            locale=language,
            color_scheme=theme,  # type: ignore[arg-type]  # light or dark
            viewport={"width": size[0], "height": size[1]},
        )
        page = await context.new_page()
        page.on("console", lambda said: said.type in {"error", "warning"} and wrong.append(f"{page.url}: {said.text}"))
        origin = f"https://127.0.0.1:{dealer.ports['lan']}"
        await page.goto(f"{origin}/signin/link/{link}")
        await page.locator("main button").first.click()
        await page.wait_for_url(f"{origin}/")
        for path in PAGES:
            await page.goto(origin + path)
            name = path.strip("/").partition("?")[0] or "state"
            await page.screenshot(path=SHOTS / f"{name}-{language}.png", full_page=True)
            wrong += [f"{path}: {one}" for one in await serious(page)]
            if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong.append(f"{path}: wider than the screen")
            if await page.get_attribute("html", "lang") != language:
                wrong.append(f"{path}: not in the reader's language")
        await browser.close()
    assert wrong == [], "\n" + "\n".join(wrong)
