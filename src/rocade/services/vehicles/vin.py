"""Vehicle identification numbers: what makes one valid in the market where the vehicle is registered.

Everywhere: 17 characters, capitals and digits without I, O and Q, the first not 0, the last four digits (ISO 3779).
North America and China add a check digit at position 9, and a model year at position 10; elsewhere position 9 is a free
character, so a wrong check digit proves nothing there. The market decides, not the first letter: a car built in Europe
for North America has a check digit.

The model year is ambiguous: its 30 codes repeat every 30 years. In North America position 7 of a car tells the two
apart (a digit before 2010, a letter from 2010); elsewhere both years remain, and a maker may even use the position
otherwise.

Refuses (Refused): `vehicles.vin.length`, `.character`, `.serial`, `.check_digit`, `.model_year`.
Source: ISO 3779:2009, ISO 3780:2009, 49 CFR 565, GB 16735.
"""

from __future__ import annotations

from rocade.core.errors import Refused

CHARACTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"
YEAR_CODES = "ABCDEFGHJKLMNPRSTVWXY123456789"
"""Model year codes from 1980 and again from 2010; I, O, Q, U, Z and 0 are not used."""
CHECK_DIGIT_MARKETS = frozenset({"na", "us", "ca", "mx", "cn"})
NORTH_AMERICA = frozenset({"na", "us", "ca", "mx"})
_VALUES = dict(
    zip("ABCDEFGHJKLMNPRSTUVWXYZ0123456789", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10), *range(10)), strict=True)
)
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_ZONES = (
    ("ABCDEFGH", "Africa"),
    ("JKLMNPR", "Asia"),
    ("STUVWXYZ", "Europe"),
    ("12345", "North America"),
    ("67", "Oceania"),
    ("89", "South America"),
)


def check(vin: str, market: str) -> None:
    """Refuse a VIN that is not valid in this market; messages never repeat it.

    Raises: Refused, see the module's head.
    """
    if len(vin) != 17:
        raise Refused("vehicles.vin.length", f"a VIN has 17 characters, this one {len(vin)}")
    if not set(vin) <= set(CHARACTERS) or vin[0] == "0":
        raise Refused(
            "vehicles.vin.character", "a VIN holds capitals and digits without I, O, Q, and does not begin with 0"
        )
    if not (vin[13:].isascii() and vin[13:].isdigit()):
        raise Refused("vehicles.vin.serial", "the last four characters of a VIN are digits")
    if market not in CHECK_DIGIT_MARKETS:
        return
    if vin[8] != check_digit(vin):
        raise Refused(
            "vehicles.vin.check_digit", f"the check digit (position 9) is wrong, the market {market!r} requires it"
        )
    if vin[9] not in YEAR_CODES:
        raise Refused("vehicles.vin.model_year", f"position 10 is no model year, the market {market!r} requires one")


def check_digit(vin: str) -> str:
    """Position 9 as computed from the other sixteen: weighted sum modulo 11, ten written X."""
    remainder = sum(_VALUES[character] * weight for character, weight in zip(vin, _WEIGHTS, strict=True)) % 11
    return "X" if remainder == 10 else str(remainder)


def with_check_digit(vin: str) -> str:
    """The same VIN with position 9 made right, valid in every market if the rest is."""
    return vin[:8] + check_digit(vin) + vin[9:]


def zone(vin: str) -> str:
    """Continent of the maker's identifier, by ISO 3780."""
    return next((name for first, name in _ZONES if vin[0] in first), "")


def model_years(vin: str, market: str) -> tuple[int, ...]:
    """Years position 10 may mean, oldest first; one only where position 7 tells them apart; () if it is no year code."""
    if vin[9] not in YEAR_CODES:
        return ()
    year = 1980 + YEAR_CODES.index(vin[9])
    if market in NORTH_AMERICA:
        return (year,) if vin[6].isdigit() else (year + 30,)
    return (year, year + 30)
