"""Prices and CO2 as suppliers, exchanges and exporters write them, over both changes of the clocks; what is wrong names its line."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from rocade.core.errors import Refused
from rocade.services.charging.planning import Slots, local_day
from rocade.services.charging.tariffs import read_carbon, read_prices

HOUR_US = 3_600_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


def lengths(parsed: Any) -> set[int]:
    """Minutes of the intervals."""
    return {int(one) // 60_000_000 for one in parsed.series.end_us - parsed.series.start_us}


def whole_year(step_min: int, *, offsets: bool = False) -> str:
    """A year of local times as an exchange lists them: an hour missing in March, an hour twice in October."""
    rows = ["start;price [EUR/MWh]"]
    value = 0
    for ahead in range(365):
        day = date(2026, 1, 1) + timedelta(days=ahead)
        step_us = step_min * 60_000_000
        slots = local_day(day, "Europe/Paris", 900)
        for at in range(int(slots.start_us[0]), int(slots.end_us[-1]), step_us):
            local = np.datetime64(at, "us").astype(object)
            summer = date(2026, 3, 29) <= day < date(2026, 10, 25)
            if day == date(2026, 3, 29):
                summer = local.hour >= 1 and local.day == 29
            if day == date(2026, 10, 25):
                summer = local.hour < 1 or local.day == 24
            local += timedelta(hours=2 if summer else 1)
            rows.append(
                f"{local:%Y-%m-%d %H:%M}{('+02:00' if summer else '+01:00') if offsets else ''};{value % 97},{value % 10}"
            )
            value += 1
    return "\n".join(rows)


@pytest.mark.parametrize(("step_min", "count"), [(60, 8760), pytest.param(15, 35040, marks=pytest.mark.slow)])
def test_a_year_in_local_time_has_every_hour_once(step_min: int, count: int) -> None:
    local = read_prices(whole_year(step_min).encode(), clock="Europe/Paris", zone="FR", currency="EUR")
    assert len(local.series) == count
    assert lengths(local) == {step_min}
    assert local.notes == ()
    assert np.all(np.diff(local.series.start_us) == step_min * 60_000_000)
    offsets = read_prices(whole_year(step_min, offsets=True).encode())
    assert np.array_equal(local.series.start_us, offsets.series.start_us)
    assert np.array_equal(local.series.value, offsets.series.value)
    for day, quarters in ((date(2026, 3, 29), 92), (date(2026, 10, 25), 100)):
        found = local.series.on(local_day(day, "Europe/Paris")).value
        assert len(found) == quarters
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("content", "asked", "first", "unit"),
    [
        ("start;price [EUR/MWh]\n2026-11-22T00:00Z;85,31\n2026-11-22T01:00Z;-5", {}, 0.08531, "EUR/kWh"),
        ("from,to,price,currency,unit\n2026-11-22T00:00Z,2026-11-22T00:15Z,0.31,CHF,kWh", {}, 0.31, "CHF/kWh"),
        ("Zeit;Preis (ct/kWh)\n22.11.2026 00:00;31,5\n22.11.2026 00:15;30", {"clock": "Europe/Berlin"}, 0.315, "EUR/kWh"),
        ("début\tprix\n2026-11-22 00:00\t0.2\n2026-11-22 01:00\t0.2", {"clock": "Europe/Paris", "currency": "EUR", "unit": "kWh"}, 0.2, "EUR/kWh"),
        ("Datetime (UTC),Price €/MWh\n2026-11-22 00:00:00,50\n2026-11-22 00:30:00,50", {}, 0.05, "EUR/kWh"),
        ("\ufeffstart|end|price [SEK/kWh]\r\n2026-11-22T00:00:00.000+0100|2026-11-22T01:00:00.000+0100|1.2e0\r\n", {}, 1.2, "SEK/kWh"),
        ("MTU (CET/CEST),Day-ahead Price [EUR/MWh],BZN|FR\n22.11.2026 00:00 - 22.11.2026 01:00,12,", {"zone": "10YFR-RTE------C"}, 0.012, "EUR/kWh"),
        (('"MTU (UTC)","Area","Sequence","Day-ahead Price (EUR/MWh)","Intraday Price (EUR/MWh)"\n'
         '"22/11/2026 00:00:00 - 22/11/2026 00:15:00","BZN|DE-LU","Sequence 1","7","99"\n'
         '"22/11/2026 00:00:00 - 22/11/2026 00:15:00","BZN|DE-LU","Sequence 2","8","99"'), {"sequence": 2}, 0.008, "EUR/kWh"),
        ("start,price [EUR/MWh]\n2026-11-22 01:00 (CET),1\n2026-11-22 02:00 (CET),1", {}, 0.001, "EUR/kWh"),
    ],
)  # fmt: skip
def test_prices_are_read_as_they_come(content: str, asked: dict[str, Any], first: float, unit: str) -> None:
    series = read_prices(content.encode(), **asked).series
    assert series.value[0] == pytest.approx(first)
    assert series.unit == unit
    assert not series.is_forecast.any()


@pytest.mark.parametrize(
    ("content", "asked", "first"),
    [
        ("time,moer\n2019-05-01 00:00:00+00:00,0.25\n2019-05-01 00:05:00+00:00,0.2", {"unit": "kg/kWh"}, 250),
        ("Datetime (UTC),Carbon intensity gCO₂eq/kWh (direct),Carbon intensity gCO₂eq/kWh (LCA)\n2026-11-22 00:00:00,31.2,50\n2026-11-22 01:00:00,30,50",
         {}, 31.2),
        ("from,to,co2,unit\n2026-11-22T00:00Z,2026-11-22T00:30Z,900,lb/MWh", {}, 408.233133),
    ],
)  # fmt: skip
def test_co2_is_read_in_grams_per_kwh(content: str, asked: dict[str, Any], first: float) -> None:
    series = read_carbon(content.encode(), **asked).series
    assert series.value[0] == pytest.approx(first)
    assert (series.unit, series.currency) == ("g/kWh", "")


def test_holes_and_values_not_yet_published_are_noted_and_stay_open() -> None:
    text = "start;price [EUR/MWh]\n" + "\n".join(
        f"2026-11-22T{hour:02}:00Z;{value}"
        for hour, value in ((0, "1"), (1, "n/e"), (2, "3"), (3, "4"), (6, "5"), (7, "-"))
    )
    parsed = read_prices(text.encode())
    assert [(note.line, note.kind) for note in parsed.notes] == [
        (3, "unpublished"),
        (6, "hole"),
        (7, "unpublished"),
    ]
    assert lengths(parsed) == {60}
    found = parsed.series.on(Slots.over(int(parsed.series.start_us[0]), int(parsed.series.end_us[-1])))
    assert np.isnan(found.value).sum() == 12


@pytest.mark.parametrize(
    ("day", "hours", "first", "last"),
    [
        ("25.10.2026", [(0, 1), (1, 2), (2, 3), (2, 3), (3, 4)], "2026-10-24T22:00Z", "2026-10-25T03:00Z"),
        (
            "29.03.2026",
            [(0, 1), (1, 2), (3, 4), (4, 5)],
            "2026-03-28T23:00Z",
            "2026-03-29T03:00Z",
        ),  # 02:00 does not exist
        (
            "29.03.2026",
            [(0, 1), (1, 3), (3, 4), (4, 5)],
            "2026-03-28T23:00Z",
            "2026-03-29T03:00Z",
        ),  # as others write it
    ],
)
def test_intervals_in_local_time_are_hours_over_both_changes_of_the_clocks(
    day: str, hours: list[tuple[int, int]], first: str, last: str
) -> None:
    rows = [f'"{day} {begin:02}:00 - {day} {end:02}:00",{begin}' for begin, end in hours]
    text = "\n".join(["MTU (CET/CEST),Day-ahead Price [EUR/MWh]", *rows])
    parsed = read_prices(text.encode())
    assert lengths(parsed) == {60}
    assert parsed.notes == ()
    assert (int(parsed.series.start_us[0]), int(parsed.series.end_us[-1])) == (us(first), us(last))


def test_a_row_alone_between_holes_lasts_as_long_as_the_others() -> None:
    rows = [f"2026-11-22T{at}Z;1" for at in ("00:00", "00:15", "05:00", "09:00")]
    parsed = read_prices("\n".join(["start;price [EUR/MWh]", *rows]).encode())
    assert lengths(parsed) == {15}
    assert [note.kind for note in parsed.notes] == ["hole", "hole"]


def test_a_local_hour_without_value_in_the_leap_is_only_noted() -> None:
    rows = ["start;price [EUR/MWh]", "2026-03-29 01:00;1", "2026-03-29 02:00;-", "2026-03-29 03:00;2"]
    parsed = read_prices("\n".join(rows).encode(), clock="Europe/Paris")
    assert [note.kind for note in parsed.notes] == ["leap"]
    assert lengths(parsed) == {60}


def test_rows_of_other_zones_are_left_out_and_counted() -> None:
    rows = [f"2026-11-22T{hour:02}:00Z;{zone};{hour}" for zone in ("FR", "BE") for hour in range(4)]
    parsed = read_prices("\n".join(["start;area;price [EUR/MWh]", *rows]).encode(), zone="BE")
    assert (len(parsed.series), parsed.series.zone) == (4, "BE")
    assert parsed.notes[0].text.startswith("4 rows of other zones")


HEAD = "start;price [EUR/MWh]\n2026-11-22T00:00Z;1\n"


@pytest.mark.parametrize(
    ("content", "asked", "code", "line"),
    [
        (b"", {}, "empty", 0),
        (b"\n\n", {}, "empty", 0),
        (HEAD.encode() + b"\xff", {}, "encoding", 3),
        (b"start;price [EUR/MWh]\n" + b"\x00", {}, "encoding", 0),
        (b"a;b\n1;2", {}, "header", 1),
        (b"start;price [EUR/MWh]\n", {}, "empty", 0),
        (b"x" * (8 << 20) + b"x", {}, "large", 0),
        (HEAD.encode() + b"\n" * 200_000, {}, "large", 0),
        (f"{HEAD}2026-11-22T01:00Z;1;2".encode(), {}, "fields", 3),
        (f"{HEAD}{'2' * 400};1".encode(), {}, "fields", 3),
        (f"{HEAD}yesterday;1".encode(), {}, "time", 3),
        (f"{HEAD}2026-13-01T00:00Z;1".encode(), {}, "time", 3),
        (f"{HEAD}22/13/2026 00:00;1".encode(), {}, "time", 3),
        (f"{HEAD}2026-11-22T01:00+99:00;1".encode(), {}, "time", 3),
        (f"{HEAD}2026-11-22 01:00 (XST);1".encode(), {}, "time", 3),
        (f"{HEAD}0001-01-01T00:00Z;1".encode(), {}, "time", 3),
        (f"{HEAD}2026-11-22T01:00;1".encode(), {}, "clock", 3),
        (b"start;price [EUR/MWh]\n2026-03-29 01:00;1\n2026-03-29 02:00;1", {"clock": "Europe/Paris"}, "never", 3),
        (b"start;price [EUR/MWh]\n" + b"2026-10-25 02:00;1\n" * 3, {"clock": "Europe/Paris"}, "order", 4),
        (f"{HEAD}2026-11-22T01:00Z;1.234,5".encode(), {}, "number", 3),
        (f"{HEAD}2026-11-22T01:00Z;inf".encode(), {}, "number", 3),
        (f"{HEAD}2026-11-22T01:00Z;1e999".encode(), {}, "number", 3),
        (b'start,price [EUR/MWh]\n2026-11-22T01:00Z,"1,234"', {}, "number", 2),
        (b"start;price [EUR/kWh]\n2026-11-22T00:00Z;85000\n2026-11-22T01:00Z;85", {}, "value", 2),
        (b"start;price\n2026-11-22T00:00Z;1", {}, "unit", 2),
        (HEAD.encode(), {"currency": "CHF"}, "currency", 2),
        (b"start;price [EUR/MWh];currency\n2026-11-22T00:00Z;1;CHF", {}, "currency", 2),
        (b"start;price;unit\n2026-11-22T00:00Z;1;EUR/MWh\n2026-11-22T01:00Z;1;CHF/MWh", {}, "currency", 3),
        (b"start;price;unit\n2026-11-22T00:00Z;1;MWh", {}, "currency", 2),
        (b"start;price [EUR/MWh];zone\n2026-11-22T00:00Z;1;FR", {"zone": "BE"}, "zone", 0),
        (b"start;price [EUR/MWh];zone\n2026-11-22T00:00Z;1;FR\n2026-11-22T00:00Z;1;BE", {}, "zone", 0),
        (f"{HEAD}2026-11-22T00:00Z;2".encode(), {}, "overlap", 3),
        (b"start;end;price [EUR/MWh]\n2026-11-22T00:00Z;2026-11-22T01:00Z;1\n2026-11-22T00:30Z;2026-11-22T01:30Z;2", {}, "overlap", 3),
        (HEAD.encode(), {}, "interval", 2),
        (f"{HEAD}2026-11-22T00:07Z;2".encode(), {}, "interval", 2),
        (b"start;end;price [EUR/MWh]\n2026-11-22T01:00Z;2026-11-22T00:00Z;1", {}, "interval", 2),
        (b"start;sequence;price [EUR/MWh]\n2026-11-22T00:00Z;1;1\n2026-11-22T00:00Z;2;2", {}, "sequence", 0),
        (HEAD.encode(), {"clock": "Mars/Base"}, "zone", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(
    content: bytes, asked: dict[str, Any], code: str, line: int | None
) -> None:
    with pytest.raises(Refused) as refused:
        read_prices(content, **asked)
    if line is None:
        assert refused.value.code == "charging.zone"
        return
    assert (refused.value.code, refused.value.facts["line"]) == (f"charging.file.{code}", line)


def test_co2_below_nothing_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        read_carbon(b"start;co2 [g/kWh]\n2026-11-22T00:00Z;-1\n2026-11-22T01:00Z;1")
    assert refused.value.code == "charging.file.value"
