"""The console served on http://localhost with a toy fleet, and a real Chromium."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright
from tests.browser import SHELL, WHOLE

sys.path.insert(0, str(Path(__file__).parent))

FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
DRAWS_PAGES_PLAINLY = "--disable-gpu-compositing"
"""Maps need WebGL, which is computed here; that pages are put together by it too costs a fifth of a test and shows the same."""

expect.set_options(timeout=30_000)  # a busy machine


@pytest.fixture(scope="session", autouse=True)
def browser_libraries() -> None:
    """The libraries a page loads; fetched once where set-up has not done it."""
    from rocade.console import vendor

    vendor.fetch()


@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Playwright keeps an event loop running in this thread while it lives, so it must not outlive its module."""
    chosen = request.config.option.markexpr
    is_quick = "not slow" in chosen and not chosen.startswith("alone")
    program, flags = (SHELL, (*FLAGS, DRAWS_PAGES_PLAINLY)) if is_quick else (WHOLE, FLAGS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=flags)
        yield chromium
        chromium.close()
