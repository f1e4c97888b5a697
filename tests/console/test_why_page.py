"""The page that explains, in a real browser: asked by hand, from a refused page, in each language, by keyboard alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import toytown
from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toytown.Served]:
    with toytown.Served(toytown.services(toytown.Toys(3), tmp_path_factory.mktemp("why"))[0]) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(locale="en", viewport={"width": 360, "height": 740})
    yield context.new_page()
    toytown.leave(context)


def test_a_code_is_asked_for_by_keyboard_and_told_in_the_chosen_language(served: toytown.Served, page: Page) -> None:
    page.goto(f"{served.address}/why")
    page.focus("#why-id")
    page.keyboard.type("quality.jump")
    page.keyboard.press("Enter")
    page.wait_for_url(f"{served.address}/why/quality.jump")
    assert page.locator(".chain li").count() == 3
    assert "changed faster" in page.inner_text(".chain")
    page.select_option("#language", "fr")
    page.wait_for_selector('html[lang="fr"]')
    assert "a changé plus vite" in page.inner_text(".chain")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_a_refused_page_leads_to_why(served: toytown.Served, page: Page) -> None:
    page.goto(f"{served.address}/audit")
    assert "Please sign in" in page.inner_text("h1")
    assert "Nobody was proven" in page.inner_text("main")
    page.click("a.button >> text=Why?")
    page.wait_for_url(f"{served.address}/why/access.missing")
    assert "without a certificate, a token or a session" in page.inner_text(".chain")


def test_an_address_that_is_none_is_a_page_too(served: toytown.Served, page: Page) -> None:
    answer = page.goto(f"{served.address}/no/such/place")
    assert answer
    assert answer.status == 404
    assert "There is no such address here." in page.inner_text("main")


def test_what_is_not_ones_own_says_nothing_but_that(served: toytown.Served, page: Page) -> None:
    for id in ("audit:1", "vehicle:7", "<script>alert(1)"):
        answer = page.goto(f"{served.address}/why/{id}")
        assert answer
        assert answer.status == 404
        assert "nothing under this id that is yours to see" in page.inner_text("main")
