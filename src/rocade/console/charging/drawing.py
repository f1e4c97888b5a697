"""What the charts of charging draw, as JSON for uPlot: instants in seconds, one value per slot, and where the last slot ends.

What nobody has published yet (`is_forecast`) is drawn apart: `known_s` is the instant from which on it is a forecast.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.console.charging.words import per_kwh
from rocade.services.charging import Board, Flexibility, StoredPlan

SECOND_US = 1_000_000


class PlanChart(msgspec.Struct, frozen=True):
    """Shape: n + 1 instants; n values each (power_kw, price, carbon), the last repeated so that steps have an end."""

    times_s: list[float]
    power_kw: list[float]
    price: list[float]
    carbon: list[float]
    soc: list[float]
    price_unit: str
    known_s: float
    leaves_s: float
    latest_s: float


class LoadChart(msgspec.Struct, frozen=True):
    times_s: list[float]
    limit_kw: list[float]
    planned_kw: list[float]
    building_kw: float
    solar_kw: float
    load_kw: float
    dimmed: list[tuple[float, float, float]]
    """Each dimming: from, until (seconds), kW."""


class BandChart(msgspec.Struct, frozen=True):
    times_s: list[float]
    low_kw: list[float]
    high_kw: list[float]
    planned_kw: list[float]


def plan_chart(plan: StoredPlan) -> PlanChart:
    unit, factor = per_kwh(plan.currency)
    unknown = [at for at, is_forecast in zip(plan.start_us, plan.is_forecast, strict=False) if is_forecast]
    return PlanChart(
        times_s=_edges(plan.start_us, plan.end_us),
        power_kw=_held(plan.power_kw, 3),
        price=_held([value * factor for value in plan.price], 3),
        carbon=_held(plan.carbon_g, 1),
        soc=[round(value, 2) for value in plan.soc_percent],
        price_unit=unit,
        known_s=(unknown[0] if unknown else plan.end_us) / SECOND_US,
        leaves_s=plan.departure_us / SECOND_US,
        latest_s=plan.latest_us / SECOND_US,
    )


def load_chart(board: Board) -> LoadChart:
    step_us = board.start_us[1] - board.start_us[0] if len(board.start_us) > 1 else 900 * SECOND_US
    return LoadChart(
        times_s=_edges(board.start_us, board.start_us[-1] + step_us if board.start_us else board.at_us),
        limit_kw=_held(board.limit_kw, 2),
        planned_kw=_held(board.planned_kw, 2),
        building_kw=board.building_kw,
        solar_kw=board.solar_kw,
        load_kw=board.load_kw,
        dimmed=[
            (one.from_us / SECOND_US, (one.ended_us or one.until_us) / SECOND_US, one.limit_kw)
            for one in board.dimmings
        ],
    )


def band_chart(found: Flexibility) -> BandChart:
    end_us = found.start_us[-1] + found.length_s[-1] * SECOND_US if found.start_us else 0
    return BandChart(
        times_s=_edges(found.start_us, end_us),
        low_kw=_held(found.min_kw, 2),
        high_kw=_held(found.max_kw, 2),
        planned_kw=_held(found.planned_kw, 2),
    )


def windows(plan: StoredPlan) -> list[tuple[int, int]]:
    """When the plan charges: stretches of slots with power, begin and end."""
    found: list[tuple[int, int]] = []
    for start_us, length_s, kw in zip(plan.start_us, plan.length_s, plan.power_kw, strict=True):
        if kw <= 0:
            continue
        end_us = start_us + length_s * SECOND_US
        if found and found[-1][1] == start_us:
            found[-1] = found[-1][0], end_us
        else:
            found.append((start_us, end_us))
    return found


def text(chart: msgspec.Struct | None) -> str:
    """For a `data-chart` attribute; '' draws nothing."""
    return msgspec.json.encode(chart).decode() if chart is not None else ""


def _edges(start_us: Sequence[int], end_us: int) -> list[float]:
    return [at / SECOND_US for at in (*start_us, end_us)] if start_us else []


def _held(values: Sequence[float], digits: int) -> list[float]:
    found = [round(float(value), digits) for value in values]
    return [*found, found[-1]] if found else []
