"""VIN rules of each market."""

from __future__ import annotations

import pytest

from rocade.core.errors import Refused
from rocade.services.vehicles import vin

AMERICAN = "1M8GDM9AXKP042788"
"""The worked example of 49 CFR 565: its check digit is X."""
EUROPEAN = "WF0AXXWPM12345678"


@pytest.mark.parametrize(
    ("number", "market", "code"),
    [
        (AMERICAN, "na", None),
        (AMERICAN, "eu", None),
        ("11111111111111111", "us", None),
        ("1M8GDM9A1KP042788", "na", "vehicles.vin.check_digit"),
        ("1M8GDM9A1KP042788", "cn", "vehicles.vin.check_digit"),
        ("1M8GDM9A1KP042788", "eu", None),
        (vin.with_check_digit("LVSHCAMB00E012345"), "cn", "vehicles.vin.model_year"),
        (vin.with_check_digit("LVSHCAMB0EE012345"), "cn", None),
        (vin.with_check_digit("1M8GDM9A0UP042788"), "na", "vehicles.vin.model_year"),
        ("VF3ABCDEF0G12345", "eu", "vehicles.vin.length"),
        ("VF3ABCDEF0G1234567", "eu", "vehicles.vin.length"),
        ("", "eu", "vehicles.vin.length"),
        ("VF3ABCDEFIG123456", "eu", "vehicles.vin.character"),
        ("VF3ABCDEFOG123456", "eu", "vehicles.vin.character"),
        ("VF3ABCDEFQG123456", "eu", "vehicles.vin.character"),
        ("vf3abcdef0g123456", "eu", "vehicles.vin.character"),
        ("0F3ABCDEF0G123456", "eu", "vehicles.vin.character"),
        ("VF3ABCDEF0G12345٣", "eu", "vehicles.vin.character"),
        ("VF3ABCDEF0GA23456", "eu", None),
        ("VF3ABCDEF0G123A56", "eu", "vehicles.vin.serial"),
    ],
)
def test_a_vin_is_judged_by_the_rules_of_its_market(number: str, market: str, code: str | None) -> None:
    if code is None:
        vin.check(number, market)
        return
    with pytest.raises(Refused) as refused:
        vin.check(number, market)
    assert refused.value.code == code
    assert number == "" or number not in str(refused.value)


def test_every_single_wrong_character_of_the_check_digit_is_caught() -> None:
    right = [digit for digit in "0123456789X" if AMERICAN[:8] + digit + AMERICAN[9:] == AMERICAN]
    assert right == ["X"]
    for digit in "0123456789":
        with pytest.raises(Refused, match="check_digit"):
            vin.check(AMERICAN[:8] + digit + AMERICAN[9:], "na")


@pytest.mark.parametrize(
    ("number", "market", "years"),
    [
        (AMERICAN, "na", (1989,)),
        ("1M8GDMAAXKP042788", "na", (2019,)),
        (AMERICAN, "eu", (1989, 2019)),
        ("VF3ABCDEF0G123456", "eu", ()),
        ("VF3ABCDEFAG123456", "eu", (1980, 2010)),
        ("VF3ABCDEF9G123456", "eu", (2009, 2039)),
    ],
)
def test_a_model_year_stays_ambiguous_where_the_vin_does_not_tell(
    number: str, market: str, years: tuple[int, ...]
) -> None:
    assert vin.model_years(number, market) == years


@pytest.mark.parametrize(
    ("first", "zone"),
    [("V", "Europe"), ("1", "North America"), ("L", "Asia"), ("6", "Oceania"), ("9", "South America"), ("A", "Africa")],
)
def test_the_first_character_names_the_continent(first: str, zone: str) -> None:
    assert vin.zone(first + "F3ABCDEF0G123456") == zone
