"""Prices or CO2 in CSV, as suppliers, exchanges and exporters write them.

The delimiter is the one that gives the header the most columns that are known; columns are known by many names. Needed is a start
(or a whole interval `00:00 - 01:00`) and a value whose unit somebody says: the header, a column, or the caller. Values that are not
published (`-`, `n/e`, empty) leave holes. Zones and currencies are never guessed and never mixed. See `clocks` for local times.
"""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rocade.services.charging.planning.areas import zone_name
from rocade.services.charging.planning.slots import zone_of
from rocade.services.charging.tariffs import clocks, errors
from rocade.services.charging.tariffs.model import MOST_NOTES, Note, Parsed, Row, series_of

SIZE_LIMIT = 8 << 20
ROW_LIMIT = 200_000
FIELD_LIMIT = 300
DELIMITERS = ";,\t|"
NAMES = {
    "start": "start begin from von debut heure time datetime timestamp date datum zeit beginn mtu starttime timefrom validfrom utc",
    "end": "end to bis fin until ende endtime timeto validto",
    "price": "price prix preis dayaheadprice priceamount marketprice spotprice tarif tariff marktpreis",
    "carbon": "carbon co2 moer carbonintensity intensity co2intensity emission emissions co2eq carbonintensitydirect",
    "unit": "unit unite einheit",
    "currency": "currency devise waehrung",
    "sequence": "sequence classificationsequence",
    "zone": "zone area biddingzone pricezone region bzn pricearea",
}
UNPUBLISHED = {"", "-", "--", "n/e", "n/a", "na", "null", "none", "nan"}
PRICE_UNITS = {"MWH": 1e-3, "KWH": 1.0}
CARBON_UNITS = {
    "g/kwh": 1.0,
    "kg/kwh": 1000.0,
    "kg/mwh": 1.0,
    "t/mwh": 1000.0,
    "lb/mwh": 0.45359237,
    "lbs/mwh": 0.45359237,
}
SIGNS = {"€": "EUR", "£": "GBP", "CT": "EUR/100", "CENT": "EUR/100"}
_ALIASES = {alias: role for role, more in NAMES.items() for alias in more.split()}
_PRICE_UNIT = re.compile(r"([A-Za-z€£]{1,4})\s*/\s*([kKmM][wW][hH])")
_CARBON_UNIT = re.compile(r"(?<![a-z])(g|kg|t|lbs?)\s*(?:co2?e?q?|co₂e?q?)?\s*/\s*([km]wh)", re.IGNORECASE)
_INTERVAL = re.compile(r"(.*\d.*?)\s+[-–]\s+(.*\d.*)")
_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d{1,3})?")


class _Asked(NamedTuple):
    """What the caller says. `role`: price | carbon."""

    role: str
    clock: ZoneInfo | None
    zone: str
    currency: str
    unit: str
    sequence: int = 0


class _Line(NamedTuple):
    """One row's fields by role."""

    line: int
    start: str
    end: str
    value: str
    unit: str
    currency: str
    zone: str
    sequence: str


def read_prices(
    content: bytes, *, clock: str = "", zone: str = "", currency: str = "", unit: str = "", sequence: int = 0
) -> Parsed:
    """Prices per kWh. `clock` is the time zone of times without offset; `unit` is needed only if the file does not say it.

    Raises: Refused `charging.file.*`, `charging.zone`.
    """
    return _read(content, _Asked("price", zone_of(clock) if clock else None, zone_name(zone), currency, unit, sequence))


def read_carbon(content: bytes, *, clock: str = "", zone: str = "", unit: str = "") -> Parsed:
    """CO2 in g/kWh; otherwise as `read_prices`."""
    return _read(content, _Asked("carbon", zone_of(clock) if clock else None, zone_name(zone), "", unit))


def _read(content: bytes, asked: _Asked) -> Parsed:
    header, lines = _lines(content, asked.role)
    chosen, others = _of_zone(list(lines), header, asked)
    chosen = _of_sequence(chosen, asked.sequence)
    notes = [Note(0, "other_zone", f"{others} rows of other zones are left out")] if others else []
    clock = asked.clock or _clock(header.start)
    rows: list[Row] = []
    currencies: set[str] = set()
    before: int | None = None
    for line in chosen:
        value = _number(line, header.delimiter)
        try:
            start, end = _times(line, clock, before)
        except clocks.Leapt:
            if not math.isnan(value):
                raise errors.tariff("never", line.line, line.start) from None
            _note(notes, line.line, "leap", "the clocks leap over this time; there is nothing to know")
            continue
        before = start
        if math.isnan(value):
            _note(notes, line.line, "unpublished", "there is no value yet")
            rows.append(Row(line.line, start, end, value))
            continue
        factor, currency = _unit(line, header, asked)
        currencies.add(currency)
        if len(currencies) > 1 or (asked.currency and currency != asked.currency):
            raise errors.tariff("currency", line.line, currency)
        rows.append(Row(line.line, start, end, value * factor))
    currency = currencies.pop() if currencies else asked.currency
    named = {zone_name(line.zone) for line in chosen if line.zone} or {header.zone}
    unit = f"{currency}/kWh" if asked.role == "price" else "g/kWh"
    return series_of(rows, notes, unit=unit, zone=asked.zone or named.pop(), currency=currency)


def _clock(title: str) -> ZoneInfo | None:
    """What the title of the times says: `Datetime (UTC)`, `MTU (CET/CEST)`."""
    said = re.search(r"\b(UTC|CET/CEST)\b", title, re.IGNORECASE)
    return zone_of("UTC" if said[1].upper() == "UTC" else "Europe/Brussels") if said else None


def _note(notes: list[Note], line: int, kind: str, text: str) -> None:
    if len(notes) < MOST_NOTES:
        notes.append(Note(line, kind, text))


# --- rows -------------------------------------------------------------------------------------------------------------


class _Header(NamedTuple):
    """Where each role stands, and what the titles of start and value say."""

    delimiter: str
    width: int
    places: dict[str, int]
    start: str
    value: str
    zone: str


def _lines(content: bytes, role: str) -> tuple[_Header, Iterator[_Line]]:
    if len(content) > SIZE_LIMIT:
        raise errors.tariff("large")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.tariff("encoding", content[: error.start].count(b"\n") + 1) from None
    if "\x00" in text:
        raise errors.tariff("encoding")
    rows = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if not any(row.strip() for row in rows):
        raise errors.tariff("empty")
    if len(rows) > ROW_LIMIT:
        raise errors.tariff("large")
    header = max((_header(rows[0], delimiter, role) for delimiter in DELIMITERS), key=lambda found: len(found.places))
    if not {"start", role} <= header.places.keys():
        raise errors.tariff("header", 1, f"it reads {rows[0][:80]!r}")
    return header, _rows(rows, header, role)


def _header(first: str, delimiter: str, role: str) -> _Header:
    titles = _split(first, delimiter)
    places: dict[str, int] = {}
    for place, title in enumerate(titles):
        plain = _plain(re.sub(r"\[.*?\]|\(.*?\)|\|.*", "", title))
        known = _ALIASES.get(plain) or (role if plain.startswith(tuple(NAMES[role].split())) else None)
        if known and known not in places and (known not in {"price", "carbon"} or known == role):
            places[known] = place
    zone = next((zone_name(title) for title in titles if title.upper().startswith("BZN|")), "")
    start, value = (titles[places[name]] if name in places else "" for name in ("start", role))
    return _Header(delimiter, len(titles), places, start, value, zone)


def _plain(title: str) -> str:
    """`Day-ahead Price` -> `dayaheadprice`."""
    decomposed = unicodedata.normalize("NFKD", title).casefold()
    return "".join(letter for letter in decomposed if letter.isascii() and letter.isalnum())


def _split(row: str, delimiter: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([row], delimiter=delimiter, strict=True), [])]
    except csv.Error:
        return []


_OTHERS = ("start", "end", "unit", "currency", "zone", "sequence")


def _rows(rows: list[str], header: _Header, role: str) -> Iterator[_Line]:
    """Raises: Refused `charging.file.fields`."""
    places = header.places
    for number, row in enumerate(rows[1:], 2):
        if not row.strip():
            continue
        fields = _split(row, header.delimiter)
        if len(fields) != header.width or any(len(field) > FIELD_LIMIT for field in fields):
            raise errors.tariff("fields", number, f"{len(fields)} where the header has {header.width}")
        values = {name: fields[place] for name, place in places.items()}
        value = values.pop(role)
        yield _Line(line=number, value=value, **{name: values.get(name, "") for name in _OTHERS})


def _of_zone(lines: list[_Line], header: _Header, asked: _Asked) -> tuple[list[_Line], int]:
    """The rows of the zone that is meant, and how many are of others. Raises: Refused `charging.file.zone`."""
    named = {zone_name(line.zone) for line in lines if line.zone} or ({header.zone} if header.zone else set())
    if not named:
        return lines, 0
    is_column = any(line.zone for line in lines)
    if asked.zone not in named if asked.zone else len(named) > 1:
        raise errors.tariff("zone", 0, ", ".join(sorted(named)[:8]))
    if not is_column or not asked.zone:
        return lines, 0
    chosen = [line for line in lines if zone_name(line.zone) == asked.zone]
    return chosen, len(lines) - len(chosen)


def _of_sequence(lines: list[_Line], sequence: int) -> list[_Line]:
    """The rows of the auction that is meant. Raises: Refused `charging.file.sequence`."""
    numbers = [int(found[0]) if (found := re.search(r"\d{1,3}", line.sequence)) else 0 for line in lines]
    named = {*numbers} - {0}
    if named and (sequence not in named if sequence else len(named) > 1):
        raise errors.tariff("sequence", 0, f"it holds {', '.join(map(str, sorted(named)))}")
    return [line for line, number in zip(lines, numbers, strict=True) if not sequence or number in {0, sequence}]


# --- fields -----------------------------------------------------------------------------------------------------------


def _times(line: _Line, clock: ZoneInfo | None, before: int | None) -> tuple[int, int]:
    """Start, and end or 0. Raises: clocks.Leapt; Refused `charging.file.*`."""
    start, end = line.start, line.end
    if found := _INTERVAL.fullmatch(start):
        start, end = found[1], end or found[2]
    if end:
        return clocks.read_interval(start, end, clock, line.line, before)
    return clocks.read(start, clock, line.line, before), 0


def _number(line: _Line, delimiter: str) -> float:
    """A value, NaN where none is published. Raises: Refused `charging.file.number`."""
    text = line.value.replace("\u2212", "-").strip()
    if text.casefold() in UNPUBLISHED:
        return math.nan
    whole, comma, decimals = text.partition(",")
    is_thousands = bool(comma) and delimiter == "," and len(decimals) == 3 and len(whole.lstrip("+-")) <= 3
    if not _NUMBER.fullmatch(text) or is_thousands:
        raise errors.tariff("number", line.line, text[:40])
    value = float(text.replace(",", "."))
    if not math.isfinite(value):
        raise errors.tariff("number", line.line, text[:40])
    return value


def _unit(line: _Line, header: _Header, asked: _Asked) -> tuple[float, str]:
    """What a value is multiplied with to be per kWh, and its currency. Raises: Refused `charging.file.unit`, `.currency`."""
    said = line.unit or header.value
    if asked.role == "carbon":
        for text in (line.unit, header.value, asked.unit):
            if found := _CARBON_UNIT.search(text):
                return CARBON_UNITS[f"{found[1]}/{found[2]}".lower()], ""
        raise errors.tariff("unit", line.line, said)
    for text in (line.unit, header.value, asked.unit):
        if found := _PRICE_UNIT.search(text):
            money, energy = found[1].upper(), PRICE_UNITS[found[2].upper()]
            name, _, hundredth = SIGNS.get(money, money).partition("/")
            return energy / (100 if hundredth else 1), _currency(name, line, asked)
    for text in (line.unit, asked.unit):
        if text.strip().upper() in PRICE_UNITS:
            return PRICE_UNITS[text.strip().upper()], _currency("", line, asked)
    raise errors.tariff("unit", line.line, said)


def _currency(unit: str, line: _Line, asked: _Asked) -> str:
    """Of unit, column and caller whoever says it; those who do agree."""
    named = {one.strip().upper() for one in (unit, line.currency) if one.strip()} or {asked.currency}
    found = named.pop()
    if named or not re.fullmatch(r"[A-Z]{3}", found):
        raise errors.tariff("currency", line.line, f"{found} {' '.join(named)}".strip())
    return found
