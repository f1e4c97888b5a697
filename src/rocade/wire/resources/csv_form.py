"""Resources as CSV, as strict as needed and as forgiving as possible: for programs that are older than UTF-8.

Written: UTF-8, semicolons, a header, every line ended. Read: also with a byte order mark, in UTF-16 with one, with commas,
tabs or bars, and with any order of columns. A text that a spreadsheet would run as a formula gets an apostrophe in front,
which reading takes off again.

Nothing is guessed: bytes that are not UTF-8 are refused with their place (another encoding can be named), unknown or
missing columns are refused, and a last line that does not end is a fault: the file was read while it was being written.
What is wrong with a line is said with its number; the other lines are read all the same, and it is for the caller to take
all or nothing.
"""

from __future__ import annotations

import csv
import io
import re
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from rocade.core.errors import Refused
from rocade.wire.resources.schema import Field, Resource

DELIMITERS = ";,\t|"
ENCODINGS = ("utf-8", "cp1252", "iso-8859-15")
"""Encodings a folder can be set to; UTF-8 is the default."""
SIZE_LIMIT_BYTES = 64 << 20
FAULT_LIMIT = 1_000
CELL_LIMIT = 1 << 20
_FORMULA = re.compile(r"'*[=+\-@\t\n]")


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with one line (the header is line 1)."""

    line: int
    code: str
    message: str


class Reading(msgspec.Struct, frozen=True):
    """Lines that hold, with their numbers, and those that do not."""

    rows: list[Any]
    lines: list[int]
    faults: list[Fault]


def to_csv(rows: Iterable[Any], resource: Resource) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow([field.column for field in resource.fields])
    for row in rows:
        writer.writerow([_cell(field, getattr(row, field.name)) for field in resource.fields])
    return file.getvalue().encode()


def _cell(field: Field, value: Any) -> str:
    if value is None:
        return ""
    text = " ".join(map(field.to_text, value)) if field.is_list else field.to_text(value)
    return f"'{text}" if field.kind == "text" and _FORMULA.match(text) else text


def from_csv(content: bytes, resource: Resource, encoding: str = "utf-8") -> Reading:
    """Read a whole file.

    Raises: Refused `formats.csv.size`, `formats.csv.encoding`, `formats.csv.header`.
    """
    text = _decode(content, encoding)
    delimiter, fields = _header(text, resource)
    rows: list[Any] = []
    lines: list[int] = []
    faults: list[Fault] = []
    is_ended = text.endswith(("\n", "\r"))
    records = list(_records(text, delimiter, faults))
    for number, (line, cells) in enumerate(records[1:], 2):
        if number == len(records) and not is_ended:
            faults.append(
                Fault(line, "formats.csv.unfinished", "the last line does not end: was the file still being written?")
            )
            continue
        try:
            rows.append(_row(cells, fields, resource))
            lines.append(line)
        except Refused as refusal:
            faults.append(Fault(line, refusal.code, refusal.message))
            if len(faults) >= FAULT_LIMIT:
                break
    return Reading(rows, lines, faults)


def _decode(content: bytes, encoding: str) -> str:
    if len(content) > SIZE_LIMIT_BYTES:
        raise Refused("formats.csv.size", f"a file may have {SIZE_LIMIT_BYTES} bytes")
    if content.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content.startswith(BOM_UTF8):
        encoding = "utf-8-sig"
    elif encoding not in ENCODINGS:
        raise Refused("formats.csv.encoding", f"an encoding is one of {', '.join(ENCODINGS)}")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Refused(
            "formats.csv.encoding",
            f"line {line}, byte {error.start} is not {encoding.upper()}: save the file as UTF-8, "
            "or set the folder's encoding",
        ) from None
    if "\x00" in text:
        raise Refused("formats.csv.encoding", "the file holds NUL characters; UTF-16 needs its byte order mark")
    return text


def _header(text: str, resource: Resource) -> tuple[str, list[Field]]:
    """Which delimiter this file uses, and the field of each column."""
    known = {field.column: field for field in resource.fields}
    first = text.split("\n", 1)[0].rstrip("\r")
    splits = {one: [cell.strip().strip('"').lower() for cell in first.split(one)] for one in DELIMITERS}
    delimiter, names = max(splits.items(), key=lambda split: sum(name in known for name in split[1]))
    unknown = [name for name in names if name not in known]
    missing = [field.column for field in resource.fields if field.is_required and field.column not in names]
    if unknown or missing or len(set(names)) < len(names):
        what = [
            f"unknown columns: {', '.join(repr(name[:40]) for name in unknown[:5])}" if unknown else "",
            f"missing columns: {', '.join(missing)}" if missing else "",
            "a column stands twice" if len(set(names)) < len(names) else "",
        ]
        raise Refused("formats.csv.header", "the first line must name the columns; " + "; ".join(filter(None, what)))
    return delimiter, [known[name] for name in names]


def _records(text: str, delimiter: str, faults: list[Fault]) -> Iterator[tuple[int, list[str]]]:
    """Records with the number of the line each begins at; empty lines are passed over."""
    csv.field_size_limit(CELL_LIMIT)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            faults.append(Fault(line, "formats.csv.quotes", f"quotation marks do not match: {error}"))
            return
        if cells:
            yield line, cells
        line = reader.line_num + 1


def _row(cells: list[str], fields: list[Field], resource: Resource) -> Any:
    if len(cells) != len(fields):
        raise Refused(
            "formats.csv.columns",
            f"the line has {len(cells)} cells and the header {len(fields)}: a delimiter within a text needs quotation marks",
        )
    values: dict[str, Any] = {}
    for field, cell in zip(fields, cells, strict=True):
        if field.kind == "text" and len(cell) > 1 and cell[0] == "'" and _FORMULA.match(cell[1:]):
            cell = cell[1:]
        if field.is_list:
            values[field.name] = [field.of_text(one) for one in cell.split()]
        elif field.kind == "text":
            values[field.name] = cell
        elif cell.strip():
            values[field.name] = field.of_text(cell.strip())
        elif field.is_optional or not field.is_required:
            continue
        elif field.kind == "bytes":
            values[field.name] = b""
        else:
            raise Refused("formats.field.missing", f"{field.column} is empty")
    return resource.make(values)
