"""1,000 moving vehicles in headless Chromium with software rendering: script work per frame and frames a second.

Read from a performance trace: a frame's script work is everything the main thread ran in its animation callbacks
(`FireAnimationFrame`, the map's own included) plus event handlers and timers between it and the next frame, as CPU
time of that thread: it holds on any machine. Frames a second are wall time and need two cores to themselves; what other
programs took of the machine is measured during each look. Where that was more than `OTHERS_LIMIT` of the cores, wall
time says nothing of this page, and the frames count that the browser's CPU time would give on two cores of its own.
The best of three looks counts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
import toytown
from playwright.sync_api import Browser, Page

VEHICLES = 1000
TRACED_S = 4.0
SCRIPT_LIMIT_MS = 4.0
FRAMES_LIMIT = 15.0
OTHERS_LIMIT = 0.1
CORES = os.cpu_count() or 1
SCRIPT = {"FireAnimationFrame", "FunctionCall", "TimerFire", "EventDispatch", "v8.callFunction", "RunMicrotasks"}


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    services, _ = toytown.services(toytown.Toys(VEHICLES), tmp_path)
    with toytown.Served(services) as served:
        yield served.address


@pytest.mark.alone
def test_a_thousand_moving_vehicles_cost_little_script_and_stay_smooth(browser: Browser, address: str) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    toytown.sign_in(page, address)
    page.goto(address)
    toytown.wait(page, f"window.rocade && rocade.fleet.count === {VEHICLES} && rocade.map.loaded()", 60.0)
    page.wait_for_timeout(2000)
    looks = []
    for _ in range(3):
        looks.append(look(browser, page))
        if is_fine(looks[-1]):
            break
    toytown.leave(page.context)
    assert is_fine(looks[-1]), looks


class Look(NamedTuple):
    frames_per_s: float
    drawn_per_s: float
    drawn_per_two_core_s: float
    others_share: float
    """Of all cores' time, what other programs used meanwhile."""
    script_p50_ms: float
    script_p95_ms: float


def is_fine(one: Look) -> bool:
    frames_per_s = (
        one.drawn_per_two_core_s if one.others_share > OTHERS_LIMIT else min(one.frames_per_s, one.drawn_per_s)
    )
    return frames_per_s >= FRAMES_LIMIT and one.script_p95_ms <= SCRIPT_LIMIT_MS


class Used(NamedTuple):
    """CPU seconds so far: of this test's browser, of this test and all its processes, of the whole machine."""

    browser_s: float
    own_s: float
    machine_s: float


def used() -> Used:
    me = psutil.Process()
    spent = {one: sum(one.cpu_times()[:2]) for one in [me, *me.children(recursive=True)]}
    browser_s = sum(seconds for one, seconds in spent.items() if "chrom" in one.name())
    whole = psutil.cpu_times()
    return Used(browser_s, sum(spent.values()), sum(whole) - whole.idle - whole.iowait - whole.guest - whole.guest_nice)


def look(browser: Browser, page: Page) -> Look:
    browser.start_tracing(
        page=page, categories=["devtools.timeline", "v8.execute", "disabled-by-default-devtools.timeline"]
    )
    began_s, drawn, before = time.monotonic(), page.evaluate("rocade.fleet.frames"), used()
    page.wait_for_timeout(int(TRACED_S * 1000))
    drawn, took_s, after = page.evaluate("rocade.fleet.frames") - drawn, time.monotonic() - began_s, used()
    browser_s, own_s, machine_s = (now - then for now, then in zip(after, before, strict=True))
    others = max(0.0, machine_s - own_s) / (CORES * took_s)
    frames_per_s, script_ms = figures(json.loads(browser.stop_tracing())["traceEvents"])
    found = Look(
        frames_per_s, drawn / took_s, 2 * drawn / browser_s, others, *np.percentile(script_ms, [50, 95]).tolist()
    )
    print(f"{VEHICLES} moving vehicles: {found}")
    return found


def figures(trace: list[dict[str, Any]]) -> tuple[float, list[float]]:
    """Frames a second and the script milliseconds of each frame, from the thread that fires animation frames."""
    frames = [event for event in trace if event["name"] == "FireAnimationFrame" and event.get("ph") == "X"]
    assert frames, "the trace holds no animation frames"
    thread = (frames[0]["pid"], frames[0]["tid"])
    mine = [event for event in trace if (event["pid"], event["tid"]) == thread and event.get("ph") == "X"]
    script = sorted((event for event in mine if event["name"] in SCRIPT), key=lambda event: event["ts"])
    outermost, until = [], 0
    for event in script:
        if event["ts"] >= until:
            outermost.append((event["ts"], event.get("tdur", event.get("dur", 0))))
            until = event["ts"] + event.get("dur", 0)
    starts = sorted({event["ts"] for event in frames})
    begins = [first for first, before in zip(starts, [0, *starts], strict=False) if first - before > 4000]
    edges = np.array([*begins, float("inf")])
    work = np.zeros(len(begins))
    for at, duration in outermost:
        place = int(np.searchsorted(edges, at, "right")) - 1
        if 0 <= place < len(work):
            work[place] += duration / 1000
    seconds = (begins[-1] - begins[0]) / 1e6
    return (len(begins) - 1) / seconds, work[:-1].tolist()
