"""The console served on http://localhost with a toy fleet, and a real Chromium."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from tests.browser import SHELL, WHOLE
from tests.patience import patience

sys.path.insert(0, str(Path(__file__).parent))

FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
DRAWS_PAGES_PLAINLY = "--disable-gpu-compositing"
"""Maps need WebGL, which is computed here; that pages are put together by it too costs a fifth of a test and shows the same."""

PATIENCE_MS = 90_000
"""Of a busy machine, on which every picture is computed."""
expect.set_options(timeout=PATIENCE_MS)


__all__ = ["patience"]


@pytest.fixture(scope="module", autouse=True)
def unhurried(patience: None) -> None:
    """Pages are looked at for what they show, not for how they shut."""


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
        make = chromium.new_context

        def patient(**options: Any) -> BrowserContext:
            context = make(**options)
            context.set_default_timeout(PATIENCE_MS)
            return context

        chromium.new_context = patient  # type: ignore[method-assign]
        yield chromium
        chromium.close()
