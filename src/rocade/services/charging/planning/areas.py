"""Price zones by their short names and their energy identification codes (EIC), as ENTSO-E publishes prices for them.

The last sign of an EIC is a check sign: a mistyped code is found. Source: ENTSO-E, EIC reference manual; the list of bidding zones.
"""

from __future__ import annotations

import re

ZONES = {
    "AT": "10YAT-APG------L",
    "BE": "10YBE----------2",
    "BG": "10YCA-BULGARIA-R",
    "CH": "10YCH-SWISSGRIDZ",
    "CZ": "10YCZ-CEPS-----N",
    "DE-LU": "10Y1001A1001A82H",
    "DK1": "10YDK-1--------W",
    "DK2": "10YDK-2--------M",
    "EE": "10Y1001A1001A39I",
    "ES": "10YES-REE------0",
    "FI": "10YFI-1--------U",
    "FR": "10YFR-RTE------C",
    "GR": "10YGR-HTSO-----Y",
    "HR": "10YHR-HEP------M",
    "HU": "10YHU-MAVIR----U",
    "IT-NORTH": "10Y1001A1001A73I",
    "LT": "10YLT-1001A0008Q",
    "LV": "10YLV-1001A00074",
    "NL": "10YNL----------L",
    "NO1": "10YNO-1--------2",
    "NO2": "10YNO-2--------T",
    "NO3": "10YNO-3--------J",
    "NO4": "10YNO-4--------9",
    "PL": "10YPL-AREA-----S",
    "PT": "10YPT-REN------W",
    "RO": "10YRO-TEL------P",
    "SE1": "10Y1001A1001A44P",
    "SE2": "10Y1001A1001A45N",
    "SE3": "10Y1001A1001A46L",
    "SE4": "10Y1001A1001A47J",
    "SI": "10YSI-ELES-----O",
    "SK": "10YSK-SEPS-----K",
}
_NAMES = {code: name for name, code in ZONES.items()}
_SIGNS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ-"
_CODE = re.compile(r"[0-9A-Z]{3}[0-9A-Z-]{13}")


def zone_name(text: str) -> str:
    """The short name of a zone's EIC, else the text as it stands, without the marks around it: `BZN|DE-LU` is `DE-LU`."""
    plain = text.strip().upper().rpartition("|")[2].replace("_", "-")
    return _NAMES.get(plain, plain)


def is_eic(code: str) -> bool:
    """Whether this is an energy identification code with the right check sign."""
    if not _CODE.fullmatch(code):
        return False
    total = sum(_SIGNS.index(sign) * (16 - place) for place, sign in enumerate(code[:15]))
    return _SIGNS[36 - (total - 1) % 37] == code[15]
