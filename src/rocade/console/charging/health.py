"""Battery health as its owner sees it: the figure with its interval, its history, how it was found; or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from rocade.console import pages
from rocade.console.charging import acts, drawing
from rocade.console.charging.desk import ChargeDependency, ChargeDesk
from rocade.console.charging.words import energy
from rocade.console.my.frame import car_of, day_text, figure, show, texts_of
from rocade.doors.http import AnyRequest, does
from rocade.services.battery import Health, Point
from rocade.services.battery.model import DOUBTFUL, KNOWN, SILENT, UNRELATED, WAITING


class HealthView(msgspec.Struct, frozen=True):
    """`percent` None = `refusal` says why; `found`: name and value of each fact about how it was found."""

    percent: float | None
    low: float
    high: float
    interval: str
    means: str
    refusal: str
    text: str
    is_waiting: bool
    segments: int
    segments_wanted: int
    found: list[tuple[str, str]]
    is_lfp: bool
    is_behind: bool
    history: list[tuple[int, float, float, float]]


class HealthChart(msgspec.Struct, frozen=True):
    times_s: list[float]
    percent: list[float]
    low: list[float]
    high: list[float]


@get("/my/{ref:int}/battery", opt=does(acts.READ_BATTERY), include_in_schema=False)
async def show_battery(request: AnyRequest, ref: FromPath[int], charge: ChargeDependency) -> Response[str]:
    assert charge.batteries is not None, "this page is served only where batteries are"
    car = await car_of(request, charge.mine, ref)
    health, points = await charge.batteries.health(ref), await charge.batteries.points(ref)
    texts, language = texts_of(request), pages.language_of(request)
    shown = view(texts, language, health, points)
    return show(
        request, "charging/battery.html", {"ref": str(ref)}, charge.mine, car=car, health=shown,
        chart=drawing.text(_chart(points)) if points else "", passport=f"/v1/vehicles/{ref}/battery/passport",
    )  # fmt: skip


async def said(request: AnyRequest, charge: ChargeDesk, ref: int) -> str:
    """Battery health in one line, for a link."""
    assert charge.batteries is not None, "asked only where batteries are"
    texts, language = texts_of(request), pages.language_of(request)
    shown = view(texts, language, await charge.batteries.health(ref, most_windows=0), [])
    if shown.percent is None:
        return shown.refusal
    low, high = figure(language, shown.low, 1), figure(language, shown.high, 1)
    return str(texts["charging_battery.said_known"]).format(
        percent=figure(language, shown.percent, 1), low=low, high=high
    )


def view(texts: Mapping[str, str], language: str, health: Health, points: list[Point]) -> HealthView:
    found, percent = health.found, health.found.percent
    known = percent if found.state == KNOWN else None
    return HealthView(
        percent=known.value if known else None,
        low=known.low if known else 0.0,
        high=min(known.high, 100.0) if known else 0.0,
        interval=_interval(texts, language, known.low, known.high) if known else "",
        means=_means(texts, language, health) if known else "",
        refusal="" if known else _refusal(texts, health),
        text="" if known else texts.get(f"charging_battery.{found.state}_text", texts["charging_battery.needs"]),
        is_waiting=found.state == WAITING,
        segments=found.used,
        segments_wanted=found.needed,
        found=_found(language, health),
        is_lfp=health.pack.is_flat,
        is_behind=health.is_behind,
        history=[(one.as_of_us, one.percent, one.low, one.high) for one in points],
    )


def _interval(texts: Mapping[str, str], language: str, low: float, high: float) -> str:
    text = texts["charging_battery.between"].format(low=figure(language, low, 1), high=figure(language, high, 1))
    return f"{text} ({texts['charging_battery.interval']})"


def _means(texts: Mapping[str, str], language: str, health: Health) -> str:
    now, new = health.found.capacity_kwh, health.pack.new_kwh
    parts = []
    if now and new:
        parts.append(texts["charging_battery.means"].format(new=energy(language, new), now=energy(language, now.value)))
    if health.found.drift_per_year:
        points = figure(language, abs(health.found.drift_per_year), 1)
        parts.append(texts["charging_battery.means_lost"].format(points=points))
    return ("" if language == "zh" else " ").join(parts)


def _refusal(texts: Mapping[str, str], health: Health) -> str:
    found = health.found
    key = found.state if found.state in {UNRELATED, DOUBTFUL, SILENT} else "waiting"
    return texts[f"charging_battery.{key}"].format(have=found.used, need=found.needed)


def _found(language: str, health: Health) -> list[tuple[str, str]]:
    one, facts = health.found, [("charges", str(health.found.charges)), ("drives", str(health.found.drives))]
    if one.from_us:
        facts.append(("since", day_text(one.from_us)))
    if one.capacity_kwh:
        low, high = figure(language, one.capacity_kwh.low, 1), figure(language, one.capacity_kwh.high, 1)
        facts.append(("capacity", f"{energy(language, one.capacity_kwh.value)} ({low}–{high})"))
    if health.seen.reported_percent is not None:
        facts.append(("reported", f"{figure(language, health.seen.reported_percent, 1)} %"))
    if left_out := sum(health.left_out.values()):
        facts.append(("left_out", str(left_out)))
    return facts


def _chart(points: list[Point]) -> HealthChart:
    lists: list[Any] = [[one.as_of_us / 1e6 for one in points]]
    lists += [[round(getattr(one, name), 2) for one in points] for name in ("percent", "low", "high")]
    return HealthChart(*lists)


HANDLERS = [show_battery]
