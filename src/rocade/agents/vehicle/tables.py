"""Source: CSV tables of any shape, by a mapping file.

Flow: rows -> times (repaired where only the date is impossible) -> each mapped column as a whole: absent cells left out,
words translated, decimals kept exact, unit converted -> `Series` sorted by time. Values are never judged here: latitude
0.0 or longitude 1555.63 pass through as they are, the platform flags them.
Every row is counted once: sent, repaired, or refused with its reason. A cell that is no number where one is needed is
left out, counted and noted; its row still goes. A file without its time column or any known column is refused
(`table.header`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.decimals import is_number, to_exact
from rocade.agents.vehicle.mapping import COMPASS, ColumnRule, Mapping, conversion
from rocade.agents.vehicle.series import Account, Note, Reading, Series, Values
from rocade.agents.vehicle.times import read_times
from rocade.core.catalogue import Catalogue, Meaning
from rocade.core.errors import Refused

TIME_TEXT = "Vehicle.Recorder.TimeText"
"""Signal that carries the raw time text of a repaired row."""
_BOOLEANS = dict.fromkeys(("1", "true", "yes", "on", "y", "t"), "1") | dict.fromkeys(
    ("0", "false", "no", "off", "n", "f"), "0"
)


@dataclass(frozen=True)
class _Table:
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def cells(self, column: int) -> list[str]:
        return [row[column].strip() for row in self.rows]


def read_table(content: bytes, file: str, mapping: Mapping, catalogue: Catalogue, now_us: int) -> Reading:
    """Read one CSV file.

    Raises: Refused `table.header` when the file is not what the mapping describes.
    """
    account = Account()
    table = _split(content, file, mapping.delimiter, account)
    places = {name.lower(): place for place, name in reversed(list(enumerate(table.header)))}
    missing = [name for name in mapping.time.columns if name.lower() not in places]
    if missing:
        raise Refused(
            "table.header", f"{file}: no time column {', '.join(missing)}; the file has {', '.join(table.header)}"
        )
    rules = [
        (rule, places[rule.name.lower()])
        for rule in _rules(table.header, mapping, catalogue)
        if rule.name.lower() in places
    ]
    if not rules:
        raise Refused(
            "table.header", f"{file}: none of the mapped columns is there; the file has {', '.join(table.header)}"
        )

    texts = [
        " ".join(parts)
        for parts in zip(*(table.cells(places[name.lower()]) for name in mapping.time.columns), strict=True)
    ]
    at_us, readable, repaired = read_times(texts, mapping.time, now_us)
    order = np.flatnonzero(readable)[np.argsort(at_us[readable], kind="stable")]
    clock, marks = at_us[order], repaired[order] if repaired.any() else None
    has_value = np.zeros(len(texts), bool)
    series = []
    for rule, place in rules:
        found = _column(table, file, place, order, _converted(rule, catalogue, mapping.brand), mapping.decimal, account)
        if found is not None:
            one, rows = found
            has_value[order[rows] if rows is not None else order] = True
            series.append(_timed(one, clock, marks, rows))
    _settle(account, table, file, texts, readable, repaired, has_value)
    note = catalogue.find(TIME_TEXT)
    rows = np.flatnonzero(marks & has_value[order]) if marks is not None else np.array([], np.int64)
    if note and len(rows):
        raw = [texts[row] for row in order[rows].tolist()]
        series.append(_timed((note, raw, None), clock, marks, rows))
    return Reading(series, account)


def _split(content: bytes, file: str, delimiter: str, account: Account) -> _Table:
    """Cells of all rows; header names made unique (`x`, `x#2`); rows of the wrong width set right or refused."""
    text = content.decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    header: list[str] = []
    for name in next(reader, []):
        plain = name.strip()
        count = sum(other.split("#")[0] == plain for other in header)
        header.append(f"{plain}#{count + 1}" if count and plain else plain)
    if not any(header):
        raise Refused("table.header", f"{file}: the first line holds no column names")
    rows, lines = [], []
    for row in reader:
        if not row:
            continue
        account.read += 1
        if len(row) > len(header) and any(cell.strip() for cell in row[len(header) :]):
            account.refused["more cells than columns"] += 1
            account.notes.append(
                Note(file, reader.line_num, "refused: more cells than columns", delimiter.join(row)[:400])
            )
            continue
        rows.append((row + [""] * (len(header) - len(row)))[: len(header)])
        lines.append(reader.line_num)
    return _Table(header, rows, lines)


def _rules(header: Sequence[str], mapping: Mapping, catalogue: Catalogue) -> list[ColumnRule]:
    """The mapping's own rules, then what the brand's overlay knows by the column's name."""
    rules = list(mapping.column)
    if mapping.brand and mapping.brand_names:
        taken = {name.lower() for name in (*mapping.time.columns, *mapping.ignore, *(rule.name for rule in rules))}
        aliases = catalogue.overlay(mapping.brand).aliases
        rules += [ColumnRule(name, name) for name in header if name in aliases and name.lower() not in taken]
    return rules


@dataclass(frozen=True)
class _Converted:
    rule: ColumnRule
    meaning: Meaning
    factor: Fraction
    offset: Fraction
    words: dict[str, str]


def _converted(rule: ColumnRule, catalogue: Catalogue, brand: str) -> _Converted:
    words = COMPASS | rule.texts if rule.unit == "compass" else rule.texts
    meaning, factor, offset = conversion(rule, catalogue, brand)
    if meaning.signal.datatype == "boolean":
        words = _BOOLEANS | words
    return _Converted(rule, meaning, factor, offset, words)


type _Found = tuple[Meaning, Values, int | None]


def _column(
    table: _Table,
    file: str,
    place: int,
    order: NDArray[np.int64],
    column: _Converted,
    decimal: str,
    account: Account,
) -> tuple[_Found, NDArray[np.int64] | None] | None:
    """Values of one column in time order and the ordered rows that have one (None = all)."""
    raw = table.cells(place)
    cells = [raw[row] for row in order.tolist()]
    absent = {"", *column.rule.absent}
    keep = [row for row, cell in enumerate(cells) if cell not in absent]
    texts = [cells[row] for row in keep]
    if column.words:
        lowered = column.meaning.signal.datatype == "boolean"
        texts = [column.words.get(text.lower() if lowered else text, text) for text in texts]
    if not column.meaning.signal.is_text:
        texts = [text.replace(decimal, ".") for text in texts] if decimal != "." else texts
        bad = {place for place, text in enumerate(texts) if not is_number(text)}
        for place_of_bad in sorted(bad):
            row = int(order[keep[place_of_bad]])
            account.cells_refused[f"{column.rule.name}: not a number"] += 1
            account.notes.append(
                Note(file, table.lines[row], f"cell of {column.rule.name} is not a number", raw[row][:200])
            )
        keep = [row for place, row in enumerate(keep) if place not in bad]
        texts = [text for place, text in enumerate(texts) if place not in bad]
    if not keep:
        return None
    rows = None if len(keep) == len(cells) else np.array(keep, np.int64)
    if column.meaning.signal.is_text:
        return (column.meaning, texts, None), rows
    values, exponent = to_exact(texts, column.factor, column.offset)
    return (column.meaning, values, exponent), rows


def _timed(
    found: _Found, clock: NDArray[np.int64], marks: NDArray[np.bool_] | None, rows: NDArray[np.int64] | None
) -> Series:
    meaning, values, exponent = found
    if rows is None:
        return Series(meaning.signal, clock, values, exponent, marks)
    return Series(meaning.signal, clock[rows], values, exponent, marks[rows] if marks is not None else None)


def _settle(
    account: Account,
    table: _Table,
    file: str,
    texts: Sequence[str],
    readable: NDArray[np.bool_],
    repaired: NDArray[np.bool_],
    has_value: NDArray[np.bool_],
) -> None:
    """Count each row once and keep the raw text of those that were repaired or refused."""
    account.sent += int((readable & ~repaired & has_value).sum())
    account.repaired += int((repaired & has_value).sum())
    for mask, reason in ((~readable, "time cannot be read"), (readable & ~has_value, "no value in any mapped column")):
        account.refused[reason] += int(mask.sum())
        account.notes += [
            Note(file, table.lines[row], f"refused: {reason}", texts[row]) for row in np.flatnonzero(mask).tolist()
        ]
    account.refused += type(account.refused)()  # drops reasons that never happened
    rows = np.flatnonzero(repaired & has_value).tolist()
    account.notes += [Note(file, table.lines[row], "time repaired", texts[row]) for row in rows]
