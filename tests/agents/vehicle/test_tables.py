"""CSV tables: exact values, every row counted once, one repair and no other."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction

import numpy as np
import pytest

from rocade.agents.vehicle.decimals import to_exact
from rocade.agents.vehicle.mapping import ColumnRule, Mapping, Time
from rocade.agents.vehicle.series import Reading
from rocade.agents.vehicle.tables import read_table
from rocade.agents.vehicle.times import nearest, read_times
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused

NOW_US = 1_800_000_000_000_000
SPEED = ColumnRule("v", "Vehicle.Speed")


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 1_000_000


def table(text: str, standard: Catalogue, *rules: ColumnRule, **time: object) -> Reading:
    rules = rules or (SPEED,)
    return read_table(
        text.encode(), "f.csv", Mapping(time=Time(**{"columns": ("t",), **time}), column=rules), standard, NOW_US
    )  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "factor", "offset", "values", "exponent"),
    [
        (["87.540000", "15.00", "-0.5"], 1, 0, [8754, 1500, -50], -2),
        (["1555.6333", "0.0"], 1, 0, [15556333, 0], -4),
        (["10", "20"], 1000, 0, [10000, 20000], 0),
        (["1.5"], Fraction(36, 10), 0, [540], -2),
        (["50"], Fraction(1), Fraction(-27315, 100), [-22315], -2),
        (["2.5e-3", "1e2"], 1, 0, [25, 1000000], -4),
    ],
)
def test_decimals_stay_exact(
    texts: list[str], factor: Fraction, offset: Fraction, values: list[int], exponent: int
) -> None:
    found, power = to_exact(texts, Fraction(factor), Fraction(offset))
    assert (found.tolist(), power) == (values, exponent)


@pytest.mark.parametrize(
    ("texts", "factor"),
    [
        (["1"], Fraction(10, 36)),
        (["nan", "inf"], Fraction(1)),
        (["99999999999999999999.5"], Fraction(1)),
        (["0.1234567890123456"], Fraction(1)),
    ],
)
def test_what_is_no_short_decimal_travels_as_a_float(texts: list[str], factor: Fraction) -> None:
    values, exponent = to_exact(texts, factor)
    assert exponent is None
    np.testing.assert_array_equal(values, [float(text) * float(factor) for text in texts])


def test_an_impossible_date_goes_to_the_day_of_its_nearest_neighbour() -> None:
    texts = [
        "99/00/2000 09:00:00",
        "03/29/2021 10:00:00",
        "90/02/2032 10:00:01",
        "xx 10:00:02",
        "03/30/2021 00:00:03",
        "99/99/9999",
    ]
    at_us, readable, repaired = read_times(texts, Time(columns=("t",), formats=("%m/%d/%Y %H:%M:%S",)), NOW_US)
    wanted = [
        "2021-03-29T09:00:00",
        "2021-03-29T10:00:00",
        "2021-03-29T10:00:01",
        "2021-03-30T10:00:02",
        "2021-03-30T00:00:03",
    ]
    assert at_us[:5].tolist() == [at(text) for text in wanted]
    assert (readable.tolist(), repaired.tolist()) == ([True] * 5 + [False], [True, False, True, True, False, False])


@pytest.mark.parametrize("text", ["1970-01-01T00:00:00", "2199-01-01T00:00:00"])
def test_a_date_that_parses_but_cannot_be_is_impossible_too(text: str) -> None:
    _, _, repaired = read_times(["2021-03-29T10:00:00", text], Time(columns=("t",)), NOW_US)
    assert repaired.tolist() == [False, True]


def test_the_earlier_neighbour_wins_a_tie() -> None:
    assert nearest(np.array([True, False, True, False, False])).tolist() == [0, 0, 2, 2, 2]


def test_without_the_repair_such_rows_are_refused(standard: Catalogue) -> None:
    reading = table("t,v\n2021-03-29T10:00:00,1\n2021-99-29T10:00:00,2\n", standard, repair="refuse")
    assert (reading.account.sent, reading.account.repaired, dict(reading.account.refused)) == (
        1,
        0,
        {"time cannot be read": 1},
    )


def test_time_zones_are_honoured(standard: Catalogue) -> None:
    reading = table(
        "t,v\n2023-07-06 09:04:23,1\n2023-12-06 09:04:23,1\n2023-07-06T09:04:23+02:00,1\n",
        standard,
        zone="Europe/Dublin",
    )
    wanted = ["2023-07-06T07:04:23", "2023-07-06T08:04:23", "2023-12-06T09:04:23"]
    assert reading.series[0].at_us.tolist() == [at(text) for text in wanted]


def test_rows_add_up_whatever_is_wrong_with_them(standard: Catalogue) -> None:
    text = "t,v,w\n2021-01-01T00:00:02,1,a\n2021-01-01T00:00:01,2,b,c\nnever,3,c\n2021-01-01T00:00:03,,d\n\n2021-01-01T00:00:00,53.3x8,e\n2021-01-01T00:00:04,7\n"
    reading = table(text, standard)
    account = reading.account
    assert (account.read, account.sent, account.repaired) == (6, 2, 0)
    assert dict(account.refused) == {
        "more cells than columns": 1,
        "time cannot be read": 1,
        "no value in any mapped column": 2,
    }
    assert dict(account.cells_refused) == {"v: not a number": 1}
    assert account.adds_up
    assert (reading.series[0].values.tolist(), reading.series[0].at_us.tolist()) == (
        [1, 7],
        [at("2021-01-01T00:00:02"), at("2021-01-01T00:00:04")],
    )  # type: ignore[union-attr]
    assert {(note.line, note.raw) for note in account.notes} >= {
        (3, "2021-01-01T00:00:01,2,b,c"),
        (4, "never"),
        (7, "53.3x8"),
    }


def test_words_fillers_units_and_booleans(standard: Catalogue) -> None:
    rules = (
        ColumnRule("s", "Vehicle.Speed", unit="m/s", absent=("255",)),
        ColumnRule("d", "Vehicle.Exterior.WindDirection", unit="compass"),
        ColumnRule("c", "Vehicle.Powertrain.TractionBattery.Charging.IsCharging"),
        ColumnRule("soc", "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", unit="ratio"),
    )
    reading = table("t,s,d,c,soc\n2021-01-01,10,SSE,Yes,0.5\n2021-01-02,255,N,off,1\n", standard, *rules)
    found = {one.signal.name.split(".")[-1]: (one.values.tolist(), one.exponent) for one in reading.series}  # type: ignore[union-attr]
    assert found == {
        "Speed": ([360], -1),
        "WindDirection": ([1575, 0], -1),
        "IsCharging": ([1, 0], 0),
        "Current": ([500, 1000], -1),
    }


def test_names_given_twice_and_semicolons_with_decimal_commas(standard: Catalogue) -> None:
    mapping = Mapping(
        delimiter=";", decimal=",", time=Time(columns=("t",)), column=(ColumnRule("v#2", "Vehicle.Speed"),)
    )
    reading = read_table("\ufefft;v;v\n2021-01-01;1,5;2,25\n".encode(), "f", mapping, standard, NOW_US)
    assert (reading.series[0].values.tolist(), reading.series[0].exponent) == ([225], -2)  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "t,x\n2021-01-01,1\n", ",,\n"])
def test_a_file_that_is_not_what_the_mapping_says_is_refused(text: str, standard: Catalogue) -> None:
    with pytest.raises(Refused) as refused:
        table(text, standard)
    assert refused.value.code == "table.header"
