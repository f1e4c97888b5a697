"""Mapping files: which column or CAN signal of a log is which signal of the catalogue, in which unit and time.

Flow: TOML -> checked `Mapping` with every name resolved in the catalogue. A name may be the catalogue's, one of an older
VSS version, or the brand's own. `factor` and `offset` turn the log's number into the catalogue's unit; a known `unit`
does the same by name. Refuses (`mapping.invalid`, naming file and entry): unknown keys, unknown signals, unknown units.
Source: docs/mapping.md describes the file; examples/*.toml are used by the tests.
"""

from __future__ import annotations

import fnmatch
import tomllib
import zoneinfo
from datetime import tzinfo
from fractions import Fraction
from pathlib import Path
from typing import Literal

import msgspec

from rocade.core.catalogue import Catalogue, Meaning
from rocade.core.errors import Misconfigured

CONVERSIONS: dict[tuple[str, str], tuple[Fraction, Fraction]] = {
    ("m/s", "km/h"): (Fraction(36, 10), Fraction(0)),
    ("km/h", "m/s"): (Fraction(10, 36), Fraction(0)),
    ("mph", "km/h"): (Fraction(1609344, 1000000), Fraction(0)),
    ("knots", "km/h"): (Fraction(1852, 1000), Fraction(0)),
    ("km", "m"): (Fraction(1000), Fraction(0)),
    ("m", "km"): (Fraction(1, 1000), Fraction(0)),
    ("miles", "m"): (Fraction(1609344, 1000), Fraction(0)),
    ("feet", "m"): (Fraction(3048, 10000), Fraction(0)),
    ("Fahrenheit", "Celsius"): (Fraction(5, 9), Fraction(-160, 9)),
    ("Kelvin", "Celsius"): (Fraction(1), Fraction(-27315, 100)),
    ("kW", "W"): (Fraction(1000), Fraction(0)),
    ("W", "kW"): (Fraction(1, 1000), Fraction(0)),
    ("Wh", "kWh"): (Fraction(1, 1000), Fraction(0)),
    ("mV", "V"): (Fraction(1, 1000), Fraction(0)),
    ("mA", "A"): (Fraction(1, 1000), Fraction(0)),
    ("bar", "kPa"): (Fraction(100), Fraction(0)),
    ("ratio", "percent"): (Fraction(100), Fraction(0)),
    ("compass", "degrees"): (Fraction(1), Fraction(0)),
    ("radians", "degrees"): (Fraction(5729577951308232, 100000000000000), Fraction(0)),
}
"""(from, to) -> factor, offset; exact where the definition is."""

_POINTS = ("N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW")
COMPASS = {point: str(place * 22.5).removesuffix(".0") for place, point in enumerate(_POINTS)}
"""Wind directions as words -> degrees."""


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where time stands. `columns` are joined by a space and read with the first of `formats` that fits.

    Formats are strptime's, or `iso`, `unix_s`, `unix_ms`, `unix_us`. `repair`: `nearest_day` places a row with an
    impossible date at its own time of day on the day of its nearest valid neighbour; `refuse` refuses it.
    CAN logs have no calendar: `origin` says when their first frame was, as a time or `file:<strptime of the name's start>`.
    """

    columns: tuple[str, ...] = ()
    formats: tuple[str, ...] = ("iso",)
    zone: str = "UTC"
    repair: Literal["nearest_day", "refuse"] = "nearest_day"
    not_before: str = "1990-01-01"
    origin: str = ""

    @property
    def timezone(self) -> tzinfo:
        return zoneinfo.ZoneInfo(self.zone)


class ColumnRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One column of a table. `absent` are texts that mean "no value"; `texts` replaces words before reading."""

    name: str
    signal: str
    unit: str = ""
    factor: float | None = None
    offset: float = 0.0
    absent: tuple[str, ...] = ()
    texts: dict[str, str] = {}
    confidence: float | None = None
    """Only a remark of `rocade mapping guess`."""


class CanRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One CAN signal, written `<message>.<signal>`."""

    can: str
    signal: str
    factor: float | None = None
    offset: float = 0.0


class LogRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which DBC belongs to which bus in the logs whose name matches. `diagnostics`: buses with OBD-II and UDS answers."""

    match: str = "*"
    dbc: dict[str, str] = {}
    diagnostics: tuple[int, ...] = ()


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping file."""

    format: Literal["csv", "gvret"] = "csv"
    brand: str = ""
    delimiter: str = ","
    decimal: str = "."
    """What stands between whole and fraction in numbers."""
    time: Time = Time()
    column: tuple[ColumnRule, ...] = ()
    can: tuple[CanRule, ...] = ()
    log: tuple[LogRule, ...] = ()
    brand_names: bool = True
    """Also take what the brand's overlay knows by the log's own names."""
    ignore: tuple[str, ...] = ()
    """Columns known to carry nothing for the platform."""

    def log_rule(self, file: Path) -> LogRule:
        for rule in self.log:
            if fnmatch.fnmatch(file.name, rule.match):
                return rule
        return LogRule()


def load(path: Path, catalogue: Catalogue) -> Mapping:
    """Read and check a mapping file.

    Raises: Misconfigured `mapping.invalid`, naming file and entry.
    """
    try:
        mapping = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Mapping)
    except OSError as error:
        raise Misconfigured("mapping.invalid", f"{path.name}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise Misconfigured("mapping.invalid", f"{path.name}: {error}") from error
    check(mapping, catalogue, path.name)
    return mapping


def check(mapping: Mapping, catalogue: Catalogue, name: str) -> None:
    """Resolve every name once, so that a typing error is found before the first row is read."""
    try:
        _ = mapping.time.timezone
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise Misconfigured("mapping.invalid", f"{name}: no time zone {mapping.time.zone!r}") from error
    if mapping.brand and mapping.brand not in catalogue.brands:
        raise Misconfigured("mapping.invalid", f"{name}: no brand {mapping.brand!r} in the catalogue")
    if mapping.format == "csv" and not mapping.time.columns:
        raise Misconfigured("mapping.invalid", f"{name}: [time] columns are missing")
    for rule in mapping.column:
        conversion(rule, catalogue, mapping.brand, name)
    for can in mapping.can:
        if "." not in can.can:
            raise Misconfigured("mapping.invalid", f"{name}: {can.can!r} must be <message>.<signal>")
        meaning_of(can.signal, catalogue, mapping.brand, name)


def meaning_of(signal: str, catalogue: Catalogue, brand: str, file: str) -> Meaning:
    meaning = catalogue.find(signal, brand)
    if meaning is None:
        raise Misconfigured("mapping.invalid", f"{file}: no signal is called {signal!r}")
    return meaning


def conversion(
    rule: ColumnRule, catalogue: Catalogue, brand: str, file: str = "mapping"
) -> tuple[Meaning, Fraction, Fraction]:
    """The signal of a column and the exact factor and offset from the column's number to the signal's unit."""
    meaning = meaning_of(rule.signal, catalogue, brand, file)
    factor, offset = Fraction(1), Fraction(0)
    if rule.unit and rule.unit != meaning.signal.unit:
        if (rule.unit, meaning.signal.unit) not in CONVERSIONS:
            raise Misconfigured(
                "mapping.invalid",
                f"{file}: column {rule.name!r}: cannot turn {rule.unit!r} into {meaning.signal.unit!r}",
            )
        factor, offset = CONVERSIONS[rule.unit, meaning.signal.unit]
    if rule.factor is not None or rule.offset:
        factor, offset = Fraction(str(rule.factor or 1)), Fraction(str(rule.offset))
    own = Fraction(str(meaning.factor))
    return meaning, factor * own, offset * own + Fraction(str(meaning.offset))
