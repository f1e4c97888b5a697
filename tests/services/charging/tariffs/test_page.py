"""What docs/tariffs.md shows is read as it says."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest

from rocade.services.charging.planning.areas import ZONES
from rocade.services.charging.planning.departures import EVENT_LIMIT, HORIZON, SIZE_LIMIT, next_in_calendar
from rocade.services.charging.planning.series import HISTORY_DAYS, MOST_DAYS
from rocade.services.charging.tariffs import read_prices
from rocade.services.charging.tariffs.model import CARBON_LIMIT, PRICE_LIMIT
from rocade.services.charging.tariffs.table import ROW_LIMIT
from rocade.services.charging.tariffs.table import SIZE_LIMIT as TABLE_LIMIT

PAGE = (Path(__file__).resolve().parents[4] / "docs/tariffs.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("number", "values", "unit", "zone"),
    [
        (0, [0.08531, -0.00402], "EUR/kWh", ""),
        (1, [0.3105, 0.295], "CHF/kWh", "CH"),
        (2, [0.0412, 0.0398], "EUR/kWh", "FR"),
    ],
)
def test_the_tables_of_the_page_are_read(number: int, values: list[float], unit: str, zone: str) -> None:
    series = read_prices(blocks("csv")[number].encode(), clock="Europe/Zurich").series
    assert series.value.tolist() == pytest.approx(values)
    assert (series.unit, series.zone) == (unit, zone)


def test_the_calendar_of_the_page_is_read() -> None:
    now = int(datetime.fromisoformat("2026-11-22T12:00+00:00").timestamp()) * 1_000_000
    found = next_in_calendar(blocks("ics")[0], "UTC", now, "work")
    assert found == int(datetime.fromisoformat("2026-11-24T07:30+01:00").timestamp()) * 1_000_000


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    said = [
        f"at most {TABLE_LIMIT >> 20} MB and {ROW_LIMIT:,} rows",
        f"beyond {PRICE_LIMIT:,.0f} of any currency",
        f"beyond {CARBON_LIMIT:,.0f} g/kWh",
        f"at most {SIZE_LIMIT >> 10} kB and {EVENT_LIMIT:,} events) within {HORIZON.days} days",
    ]
    assert [text for text in said if text not in PAGE] == []
    assert (HISTORY_DAYS, MOST_DAYS) == (28, 10)
    assert {"FR", "DE-LU", "NO2"} <= ZONES.keys()
