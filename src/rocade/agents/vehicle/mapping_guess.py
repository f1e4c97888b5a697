"""Guess what the columns of an unknown log mean: a mapping file to read, correct and use.

Flow: delimiter and decimal sign -> time columns and their format (day and month told apart by evidence: a number above
12, else the order that keeps the days together, else custom) -> per column: words of its name against `synonyms`, its
values against the range of the signal, its unit from the name, from the values, or from how far the positions moved ->
one column per signal, best first -> TOML with confidence and value range of each. What nobody can name is listed under
`ignore`. A CAN log is recognised and matched with the DBC files beside it.
Nothing is certain: `confidence` is the share of evidence found, 1 = name, values and unit agree.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle import time_guess
from rocade.agents.vehicle.decimals import is_number
from rocade.agents.vehicle.mapping import COMPASS, ColumnRule, LogRule, Mapping, Time
from rocade.agents.vehicle.synonyms import MEANT, Meant, name_score, split_name
from rocade.core.catalogue import Catalogue
from rocade.core.errors import Refused
from rocade.wire import can
from rocade.wire.can.decoding import known

_MOST_ROWS = 20_000
_SENTINELS = (65535.0, 65534.0, 32767.0, 255.0, 254.0, 9999.0, -9999.0, 999.0, -1.0, -99.0)
_LATITUDE, _LONGITUDE = "Vehicle.CurrentLocation.Latitude", "Vehicle.CurrentLocation.Longitude"


class Guess(msgspec.Struct, frozen=True):
    """One column: what it probably is, and why one should believe it."""

    column: str
    signal: str
    unit: str
    confidence: float
    low: float | None
    high: float | None
    values: int
    absent: tuple[str, ...] = ()


class Proposal(msgspec.Struct, frozen=True):
    """A mapping, the guesses it is made of, and its text."""

    mapping: Mapping
    guesses: tuple[Guess, ...]
    unknown: tuple[str, ...]
    time_confidence: float
    toml: str


class _Column(msgspec.Struct):
    name: str
    cells: list[str]
    words: list[str]
    unit: str
    numbers: NDArray[np.float64]
    numeric_share: float


def guess(file: Path, catalogue: Catalogue) -> Proposal:
    """Propose a mapping for a log.

    Raises: Refused `mapping.unreadable` when the file holds no table.
    """
    content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    header = content[:4096].split(b"\n", 1)[0].lower()
    if header.startswith(b"time stamp,id,") and b"len" in header:
        return _guess_can(file, content)
    text = content.decode("utf-8-sig", "replace")
    delimiter = _delimiter(text)
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row][: _MOST_ROWS + 1]
    if len(rows) < 2 or len(rows[0]) < 2:
        raise Refused(
            "mapping.unreadable", f"{file.name} holds no table: a line of names and lines of values are needed"
        )
    decimal = "," if delimiter != "," and _has_decimal_comma(rows[1:200]) else "."
    columns = [_column(name.strip(), [row[place].strip() if place < len(row) else "" for row in rows[1:]], decimal)
               for place, name in enumerate(rows[0]) if name.strip()]  # fmt: skip
    found = time_guess.find({column.name: column.cells for column in columns})
    if found is None:
        raise Refused(
            "mapping.unreadable", f"{file.name}: no column holds times; add one, or write the mapping by hand"
        )
    rest = [column for column in columns if column.name not in found.columns]
    guesses = _assign(rest, found.at_s, catalogue)
    named = {one.column for one in guesses}
    unknown = tuple(column.name for column in rest if column.name not in named)
    mapping = Mapping(
        delimiter=delimiter,
        decimal=decimal,
        time=Time(columns=found.columns, formats=found.formats),
        column=tuple(
            ColumnRule(one.column, one.signal, one.unit, absent=one.absent, confidence=one.confidence)
            for one in guesses
        ),
        ignore=unknown,
    )
    return Proposal(mapping, guesses, unknown, found.confidence, _toml(file, mapping, guesses, found))


def _delimiter(text: str) -> str:
    lines = [line for line in text[:20_000].splitlines() if line][:20]
    return max(",;\t|", key=lambda sign: (min((line.count(sign) for line in lines), default=0), -",;\t|".index(sign)))


def _has_decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows for cell in row if "," in cell]
    return bool(cells) and sum(is_number(cell.replace(",", ".")) for cell in cells) > 0.8 * len(cells)


def _column(name: str, cells: list[str], decimal: str) -> _Column:
    words, unit = split_name(name)
    filled = [cell.replace(decimal, ".") if decimal != "." else cell for cell in cells if cell]
    numbers = [float(cell) for cell in filled if is_number(cell)]
    share = len(numbers) / len(filled) if filled else 0.0
    return _Column(name, cells, words, unit, np.array(numbers), share)


def _assign(columns: Sequence[_Column], at_s: NDArray[np.float64], catalogue: Catalogue) -> tuple[Guess, ...]:
    """Best pairs of column and signal first; each used once."""
    scored = []
    for column in columns:
        for meant in MEANT:
            name = max(name_score(column.words, pattern) for pattern in meant.patterns)
            if (
                name > 0
                and catalogue.find(meant.signal)
                and (meant.is_text or column.numeric_share > 0.6 or _is_compass(column))
            ):
                longest = max(len(p.split()) for p in meant.patterns if name_score(column.words, p) == name)
                scored.append((name + 0.01 * longest, column, meant))
    scored.sort(key=lambda one: -one[0])
    chosen: list[tuple[_Column, Meant, float]] = []
    for name, column, meant in scored:
        if all(column is not other and meant is not taken for other, taken, _ in chosen):
            chosen.append((column, meant, min(name, 1.0)))
    path_m = _path_m({meant.signal: column for column, meant, _ in chosen})
    guesses = [_guess_one(column, meant, name, at_s, path_m) for column, meant, name in chosen]
    order = {column.name: place for place, column in enumerate(columns)}
    return tuple(sorted((one for one in guesses if one.confidence >= 0.3), key=lambda one: order[one.column]))


def _guess_one(
    column: _Column, meant: Meant, name: float, at_s: NDArray[np.float64], path_m: NDArray[np.float64] | None
) -> Guess:
    count = sum(bool(cell) for cell in column.cells)
    if meant.is_text:
        return Guess(column.name, meant.signal, "", round(0.3 + 0.65 * name, 2), None, None, count)
    if _is_compass(column):
        return Guess(column.name, meant.signal, "compass", round(0.3 + 0.65 * name, 2), None, None, count)
    numbers, absent = _without_sentinels(column, meant)
    unit, certainty = column.unit, 1.0
    if not unit:
        unit, certainty = _unit_of(column, numbers, meant, at_s, path_m)
    inside = float(((numbers >= meant.low) & (numbers <= meant.high)).mean()) if len(numbers) else 0.0
    confidence = 0.5 * name + 0.3 * inside + 0.2 * certainty
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None)
    return Guess(
        column.name,
        meant.signal,
        unit,
        round(confidence * (0.5 + 0.5 * column.numeric_share), 2),
        low,
        high,
        count,
        absent,
    )


def _is_compass(column: _Column) -> bool:
    filled = [cell.upper() for cell in column.cells if cell]
    return bool(filled) and sum(cell in COMPASS for cell in filled) > 0.9 * len(filled)


def _without_sentinels(column: _Column, meant: Meant) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Numbers without those that mean "no value": known filler numbers outside the signal's range."""
    filler = {number for number in _SENTINELS if not meant.low <= number <= meant.high}
    texts = sorted({cell for cell in column.cells if is_number(cell) and float(cell) in filler})
    return column.numbers[~np.isin(column.numbers, sorted(filler))], tuple(texts)


def _unit_of(
    column: _Column,
    numbers: NDArray[np.float64],
    meant: Meant,
    at_s: NDArray[np.float64],
    path_m: NDArray[np.float64] | None,
) -> tuple[str, float]:
    """Unit and how sure: by comparing with the way between positions where there is one, else by size."""
    if not meant.units or not len(numbers):
        return (meant.units[0] if meant.units else ""), 0.5
    if len(meant.units) == 1:
        return meant.units[0], 1.0
    if path_m is not None and column.numeric_share > 0.99 and len(numbers) == len(path_m):
        by_path = _unit_by_path(meant, numbers, at_s, path_m)
        if by_path:
            return by_path, 1.0
    median, largest = float(np.median(np.abs(numbers))), float(np.abs(numbers).max())
    if "ratio" in meant.units:
        return ("ratio", 0.8) if largest <= 1.0 else ("percent", 0.9)
    if "Celsius" in meant.units:
        return ("Kelvin", 0.9) if median > 200 else ("Fahrenheit", 0.6) if median > 48 else ("Celsius", 0.9)
    if meant.signal.endswith("WindSpeed"):
        return ("km/h", 0.6) if median > 9 else ("m/s", 0.5)
    if "mV" in meant.units:
        return ("mV", 0.8) if median > 2000 else ("V", 0.9)
    if "mA" in meant.units:
        return ("mA", 0.7) if median > 1500 else ("A", 0.8)
    if "kW" in meant.units:
        return ("kW", 0.6) if largest < 400 and bool((numbers % 1).any()) else ("W", 0.6)
    return meant.units[0], 0.6


def _unit_by_path(
    meant: Meant, numbers: NDArray[np.float64], at_s: NDArray[np.float64], path_m: NDArray[np.float64]
) -> str:
    """`km/h`, `m/s`, `mph` of a speed, `m`, `km` of a distance, by the way the positions really moved; '' = no answer."""
    seconds = float(at_s[-1] - at_s[0])
    if path_m[-1] < 200 or seconds < 30:
        return ""
    if meant.units[0] == "km/h":
        mean = float(np.sum((numbers[1:] + numbers[:-1]) / 2 * np.diff(at_s)) / seconds)
        ratio = path_m[-1] / seconds * 3.6 / max(mean, 1e-9)
        return next(
            (unit for unit, factor in (("km/h", 1.0), ("mph", 1.609), ("m/s", 3.6)) if 0.8 < ratio / factor < 1.25), ""
        )
    if meant.units[0] in ("m", "km") and "m" in meant.units and "km" in meant.units:
        ratio = path_m[-1] / max(float(numbers[-1] - numbers[0]), 1e-9)
        return next(
            (unit for unit, factor in (("m", 1.0), ("km", 1000.0), ("miles", 1609.0)) if 0.8 < ratio / factor < 1.25),
            "",
        )
    return ""


def _path_m(by_signal: dict[str, _Column]) -> NDArray[np.float64] | None:
    """Metres travelled up to each row by the positions, None without two complete position columns."""
    latitude, longitude = by_signal.get(_LATITUDE), by_signal.get(_LONGITUDE)
    if latitude is None or longitude is None or len(latitude.numbers) != len(latitude.cells):
        return None
    if len(longitude.numbers) != len(latitude.numbers):
        return None
    lat, lon = np.radians(latitude.numbers), np.radians(longitude.numbers)
    step = 6_371_000 * np.hypot(np.diff(lat), np.diff(lon) * np.cos(lat[1:]))
    return np.concatenate(([0.0], np.cumsum(np.where(step < 5000, step, 0.0))))


def _toml(file: Path, mapping: Mapping, guesses: Sequence[Guess], found: time_guess.TimeGuess) -> str:
    lines = [f"# Proposed for {file.name}; read it, correct it, use it with --mapping.", 'format = "csv"']
    lines += [f"delimiter = {_quoted(mapping.delimiter)}"] if mapping.delimiter != "," else []
    lines += [f"decimal = {_quoted(mapping.decimal)}"] if mapping.decimal != "." else []
    lines += (
        [f"ignore = {_quoted(list(mapping.ignore))}  # nothing in the catalogue sounds like these"]
        if mapping.ignore
        else []
    )
    lines += ["", "[time]", f"columns = {_quoted(list(mapping.time.columns))}"]
    lines += [f"formats = {_quoted(list(mapping.time.formats))}  # confidence {found.confidence:.2f}: {found.why}"]
    lines += ['zone = "UTC"  # not in the file: correct it if the log keeps local time', 'repair = "nearest_day"']
    for one in guesses:
        lines += ["", "[[column]]", f"name = {_quoted(one.column)}", f"signal = {_quoted(one.signal)}"]
        lines += [f"unit = {_quoted(one.unit)}"] if one.unit else []
        lines += [f"absent = {_quoted(list(one.absent))}"] if one.absent else []
        span = f"{one.low:g} to {one.high:g}" if one.low is not None else "no numbers"
        lines.append(f"confidence = {one.confidence:.2f}  # {span}, {one.values} values")
    return "\n".join(lines) + "\n"


def _quoted(value: str | list[str]) -> str:
    """A JSON string or list of strings is a TOML one too."""
    return msgspec.json.encode(value).decode()


def _guess_can(file: Path, content: bytes) -> Proposal:
    """Match a CAN log with the DBC files beside it: per bus the one that knows most of its frames."""
    frames = can.read(content).frames
    chosen: dict[str, str] = {}
    remarks = []
    for bus in np.unique(frames.bus).tolist():
        own = frames.where(frames.bus == bus)
        shares = {
            dbc.name: float(known(own, can.parse(dbc.read_bytes())).mean()) for dbc in sorted(file.parent.glob("*.dbc"))
        }
        best = max(shares, key=lambda name: shares[name], default="")
        remarks.append(
            f"# bus {bus}: {len(own)} frames, best known to {best or 'no DBC file'} ({shares.get(best, 0):.0%})"
        )
        if best and shares[best] >= 0.5:
            chosen[str(bus)] = best
    is_diagnostic = tuple(
        bus for bus in np.unique(frames.bus).tolist() if _looks_diagnostic(frames.where(frames.bus == bus))
    )
    mapping = Mapping(format="gvret", log=(LogRule(dbc=chosen, diagnostics=is_diagnostic),))
    lines = [f"# Proposed for {file.name}; read it, correct it, use it with --mapping.", *remarks, 'format = "gvret"',
             'brand = ""  # its overlay names the CAN signals, e.g. "hyundai"', "", "[time]",
             'origin = ""  # when the first frame was, e.g. "2023-01-12T08:00:00"; empty = now', "", "[[log]]", 'match = "*"']  # fmt: skip
    lines += ["dbc = { " + ", ".join(f'{bus} = "{name}"' for bus, name in chosen.items()) + " }"] if chosen else []
    lines += [f"diagnostics = {list(is_diagnostic)}"] if is_diagnostic else []
    return Proposal(mapping, (), (), 0.0, "\n".join(lines) + "\n")


def _looks_diagnostic(frames: can.Frames) -> bool:
    return bool(((frames.id >= 0x700) & (frames.id < 0x800)).mean() > 0.8)
