"""The operator's depots: every one with its load under its limit, one as a board of cars (the tightest first), the fleet's flexibility.

A board shows cars by brand and model; of a vehicle that is somebody's own, its page says no more than its owner shares. What
moves is rendered here and sent when it differs. Refuses: `charging.site.unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from rocade.console import pages
from rocade.console.charging import acts, drawing, stations
from rocade.console.charging.desk import ChargeDependency, ChargeDesk
from rocade.console.charging.words import carbon, energy, hours, money
from rocade.console.my.frame import figure, texts_of, words
from rocade.console.viewer import may
from rocade.core.catalogue import Catalogue
from rocade.doors.http import AnyRequest, does
from rocade.doors.http.streams import ALIVE, event, events
from rocade.services.charging import Board, BoardCar
from rocade.services.charging.grid import report

ROWS = 200
"""Cars on a board: the tightest; the others have time."""
LOOK_S = 1.0
FLEXIBLE_EVERY = 15
"""Looks between two computations of flexibility."""
TIGHT_H = 0.5
LAST = 1e9
LEAST_KWH = 0.05
MONTH_US = 31 * 86_400_000_000


class Row(msgspec.Struct, frozen=True):
    """`ease`: easy | tight | late | done | open | away"""

    ref: str
    name: str
    soc: float | None
    target: float
    departure_us: int
    power_kw: float
    laxity: str
    ease: str
    priority: int
    state: str


class BoardView(msgspec.Struct, frozen=True):
    id: str
    name: str
    limit_kw: float
    cars_kw: float
    building_kw: float
    solar_kw: float
    is_dimmed: bool
    dimmed_until_us: int
    cars: int
    late: int
    tight: int
    rows: list[Row]
    more: int
    optimum: str


@get("/depots", opt=does(acts.READ_DEPOTS), include_in_schema=False)
async def show_depots(request: AnyRequest, charge: ChargeDependency) -> Response[str]:
    flexibility = await _flexibility(charge, None)
    return pages.render(
        request, "charging/depots.html", "depots", {"site": ""}, depots=await _depots(request, charge),
        flexibility=flexibility, has_flexibility=bool(flexibility), with_stations=charge.stations is not None,
        stations=await stations.rows(request, charge, ""), **_plain(request),
    )  # fmt: skip


@get("/depots/{site:str}", opt=does(acts.READ_DEPOTS), include_in_schema=False)
async def show_depot(request: AnyRequest, charge: ChargeDependency, site: FromPath[str]) -> Response[str]:
    board = await charge.boards.of(site)
    flexibility = await _flexibility(charge, site)
    return pages.render(
        request, "charging/depot.html", "depots", {"site": site}, flexibility=flexibility,
        has_flexibility=bool(flexibility), report=await _report(request, charge, site),
        stations=await stations.rows(request, charge, site),
        **_board(request, charge, board), **_plain(request),
    )  # fmt: skip


@get("/live/depots", opt=does(acts.READ_DEPOTS), include_in_schema=False)
async def watch_depots(request: AnyRequest, charge: ChargeDependency) -> Stream:
    """`board`: the list of depots as a piece of page, and the fleet's flexibility, whenever they changed."""

    async def look() -> str:
        return _html(request, "depots_list", {"depots": await _depots(request, charge)})

    return events(request, _frames(request, charge, None, look))


@get("/live/depots/{site:str}", opt=does(acts.READ_DEPOTS), include_in_schema=False)
async def watch_depot(request: AnyRequest, charge: ChargeDependency, site: FromPath[str]) -> Stream:
    """`board`: the depot's board as a piece of page, and its flexibility, whenever they changed."""

    async def look() -> str:
        return _html(request, "depot_board", _board(request, charge, await charge.boards.of(site)))

    return events(request, _frames(request, charge, site, look))


async def _frames(request: AnyRequest, charge: ChargeDesk, site: str | None, look: Any) -> AsyncIterator[bytes]:
    closing: asyncio.Event = request.app.state.closing
    shown: tuple[str, str] | None = None
    flexibility, looks = "", 0
    lines: list[stations.StationRow] = []
    while not closing.is_set():
        if looks % FLEXIBLE_EVERY == 0:
            flexibility = await _flexibility(charge, site)
            rows = await stations.rows(request, charge, site or "")
            if rows != lines:
                lines = rows
                yield event("stations", msgspec.json.encode({"html": _html(request, "stations", {"stations": rows})}))
        looks += 1
        now = await look(), flexibility
        if now != shown:
            new = now[1] if shown is None or now[1] != shown[1] else None
            shown = now
            yield event("board", msgspec.json.encode({"html": now[0], "flexibility": new}))
        else:
            yield ALIVE
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), LOOK_S)


async def _report(request: AnyRequest, charge: ChargeDesk, site: str) -> list[tuple[str, str]]:
    """What control has brought, for who may read the report."""
    if not may(request, acts.READ_REPORT):
        return []
    now_us, language = charge.clock.now_us(), pages.language_of(request)
    found = await report(charge.charging, site, now_us - MONTH_US, now_us)
    if found.energy_kwh < LEAST_KWH:
        return []
    costs = [("cost", money(language, one.avoided_minor, one.currency)) for one in found.money]
    peak = f"{figure(language, found.avoided_peak_kw, 1)}\u202fkW"
    return [("sessions", str(found.sessions)), *costs, ("carbon", carbon(language, found.avoided_g)), ("peak", peak)]


def _html(request: AnyRequest, name: str, values: Mapping[str, Any]) -> str:
    return str(pages.fragment(request, f"charging/{name}.html", **values, **_plain(request)).content)


def _plain(request: AnyRequest) -> dict[str, Any]:
    return {"n": words(request)["n"]}


async def _depots(request: AnyRequest, charge: ChargeDesk) -> list[BoardView]:
    return [view(request, charge, await charge.boards.of(one.id), 0) for one in await charge.charging.sites()]


async def _flexibility(charge: ChargeDesk, site: str | None) -> str:
    found = await charge.charging.flexibility(site)
    return drawing.text(drawing.band_chart(found)) if found.cars and found.start_us else ""


def _board(request: AnyRequest, charge: ChargeDesk, board: Board) -> dict[str, Any]:
    return {"board": view(request, charge, board, ROWS), "chart": drawing.text(drawing.load_chart(board))}


def view(request: AnyRequest, charge: ChargeDesk, board: Board, rows: int) -> BoardView:
    texts, language = texts_of(request), pages.language_of(request)
    cars = sorted(board.cars, key=lambda one: (one.laxity_h if one.laxity_h is not None else LAST, one.departure_us))
    eases = [ease(one) for one in cars]
    limit_kw = _limit(board)
    until = [one.until_us for one in board.dimmings if not one.ended_us and one.from_us <= board.at_us < one.until_us]
    return BoardView(
        board.site.id, board.site.name, limit_kw, board.load_kw, board.building_kw, board.solar_kw, board.is_dimmed,
        max(until, default=0), len(cars), eases.count("late"), eases.count("tight"),
        [_row(texts, language, _named(charge.catalogue, one), how) for one, how in zip(cars[:rows], eases, strict=False)],
        max(0, len(cars) - rows),
_optimum(texts, language, board),
    )  # fmt: skip


def _optimum(texts: Mapping[str, str], language: str, board: Board) -> str:
    """How far from the best the depot's plan is at most; what finds no room comes first."""
    if board.unserved_kwh > LEAST_KWH:
        return texts["charging_depot.unserved"].format(energy=energy(language, board.unserved_kwh))
    return texts["charging_depot.gap"].format(gap=figure(language, board.gap * 100, 2)) if board.made_us else ""


def _named(catalogue: Catalogue, car: BoardCar) -> BoardCar:
    """The brand as it writes itself."""
    brand, _, model = car.name.partition(" ")
    known = catalogue.brands.get(brand)
    return msgspec.structs.replace(car, name=f"{known.title} {model}".strip()) if known else car


def _limit(board: Board) -> float:
    """The limit of this moment."""
    at = [kw for start_us, kw in zip(board.start_us, board.limit_kw, strict=False) if start_us <= board.at_us]
    return at[-1] if at else board.limit_kw[0] if board.limit_kw else board.site.root.limit_kw


def ease(car: BoardCar) -> str:
    """How much time a car has to spare, in one word."""
    if car.state == "reached":
        return "done"
    if car.state in {"unplugged", "moving"}:
        return "away"
    if car.laxity_h is None:
        return "open"
    return "late" if car.laxity_h < 0 else "tight" if car.laxity_h < TIGHT_H else "easy"


def _row(texts: Mapping[str, str], language: str, car: BoardCar, how: str) -> Row:
    laxity = hours(language, car.laxity_h) if car.laxity_h is not None and how in {"late", "tight", "easy"} else "–"
    return Row(
        str(car.ref) if car.ref else "", car.name, car.soc_percent, car.target_percent, car.departure_us, car.power_kw,
        laxity, how, car.priority, texts[f"charging_word_short.{car.state}"],
    )  # fmt: skip


HANDLERS: Sequence[Any] = [show_depots, show_depot, watch_depots, watch_depot]
