"""A price file as it comes -> rows with their line numbers, streamed: CSV of any delimiter, XML, JSON; any usual encoding.

Form and encoding are found, not asked: a byte order mark, else UTF-8 if every byte agrees, else Windows-1252 (said in the
report); `<` or `[`/`{` as the first sign, else CSV, whose delimiter is the one that makes the header's names known ones.
A row is a tuple in the order of `FIELDS`, '' where nothing stands. What is wrong with one line is handed to `complain` and
the reading goes on; refused as a whole are a DOCTYPE (so no entity is ever expanded), an unknown header, a broken form.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from xml.parsers import expat

import msgspec

from rocade.services.prices import errors

FIELDS = ("ref", "price", "family", "label", "superseded_by", "valid_from", "withdrawn", "currency")
NAMES = {
    "ref": "reference partnumber part partno article artikel teilenummer sku numero itemid 零件号 编号",
    "price": "prix preis amount unitprice listprice netprice retailprice pvp precio 价格",
    "family": "famille group productgroup groupe warengruppe 类别",
    "label": "libelle designation description bezeichnung name title 名称",
    "superseded_by": "supersededby replacedby remplacepar supersession ersetztdurch replacement 替代",
    "valid_from": "validfrom effective effectivefrom dateeffet gueltigab",
    "withdrawn": "retire obsolete discontinued deleted",
    "currency": "devise waehrung currencycode 币种",
}
DELIMITERS = ";,\t|"
FIELD_LIMIT = 10_000
"""Letters of one field; a quotation mark that is never closed would swallow the rest of the file."""
CHUNK = 1 << 20
type Row = tuple[str, str, str, str, str, str, str, str]
type Complain = Callable[[int, str, str], None]
"""Line, what is wrong, what to do."""


class Form(msgspec.Struct, frozen=True):
    """What a file turned out to be. `columns`: the fields it has."""

    kind: str
    encoding: str
    delimiter: str
    columns: tuple[str, ...]


_ALIASES = {alias: field for field, more in NAMES.items() for alias in (field.replace("_", ""), *more.split())}


def field_of(name: str) -> str:
    """The field a header's or element's name stands for, '' if none."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return _ALIASES.get("".join(letter for letter in plain if letter.isalnum()), "")


def read(path: Path, complain: Complain) -> tuple[Form, Iterator[tuple[int, Row]]]:
    """What the file is, and its rows. XML and JSON name their fields as they go: `columns` are those of the first row.

    Raises: Refused `prices.file.*`, some of them only while the rows are read.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if not head.strip():
        raise errors.file("empty")
    encoding = _encoding(path, head)
    start = head.decode(encoding, "ignore").lstrip("\ufeff \t\r\n")
    if start.startswith("<"):
        return _peeked("xml", encoding, _xml(path))
    if start.startswith(("[", "{")):
        return _peeked("json", encoding, _json(path, encoding))
    return _csv(path, encoding, complain)


def _peeked(
    kind: str, encoding: str, rows: Iterator[tuple[int, dict[str, str]]]
) -> tuple[Form, Iterator[tuple[int, Row]]]:
    first = next(rows, None)
    if first is None:
        raise errors.file("empty")
    columns = tuple(field for field in FIELDS if field in first[1])
    if not {"ref"} <= {*columns} or not {"price", "withdrawn"} & {*columns}:
        raise errors.file("header", "the first record has no field of that name")
    every = ((line, _row(named)) for line, named in chain([first], rows))
    return Form(kind, encoding, "", columns), every


def _row(named: dict[str, str]) -> Row:
    ref, price, family, label, by, valid_from, withdrawn, currency = (named.get(field, "") for field in FIELDS)
    return ref, price, family, label, by, valid_from, withdrawn, currency


def _encoding(path: Path, head: bytes) -> str:
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if head.startswith(mark):
            return name
    for name in ("utf-8", "cp1252"):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    raise errors.file("encoding")


# --- CSV --------------------------------------------------------------------------------------------------------------


def _csv(path: Path, encoding: str, complain: Complain) -> tuple[Form, Iterator[tuple[int, Row]]]:
    with path.open(encoding=encoding, newline="", errors="strict") as file:
        header = file.readline(FIELD_LIMIT)
    delimiter, places = max(((one, _places(header, one)) for one in DELIMITERS), key=lambda found: len(found[1]))
    if "ref" not in places or not {"price", "withdrawn"} & {*places}:
        raise errors.file("header", f"it reads {header.strip()[:120]!r}")
    columns = tuple(field for field in FIELDS if field in places)
    return Form("csv", encoding, delimiter, columns), _csv_rows(path, encoding, delimiter, places, complain)


def _places(header: str, delimiter: str) -> dict[str, int]:
    """Where each known column stands; the first of two with one meaning counts."""
    places: dict[str, int] = {}
    for place, name in enumerate(next(csv.reader([header.strip()], delimiter=delimiter), [])):
        if field := field_of(name):
            places.setdefault(field, place)
    return places


def _csv_rows(
    path: Path, encoding: str, delimiter: str, places: dict[str, int], complain: Complain
) -> Iterator[tuple[int, Row]]:
    csv.field_size_limit(FIELD_LIMIT)
    with path.open(encoding=encoding, newline="", errors="strict") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        width = len(next(reader))
        a, b, c, d, e, f, g, h = (places.get(field, width) for field in FIELDS)
        done = reader.line_num
        is_over = False
        while not is_over:
            try:
                for row in reader:
                    if len(row) == width:
                        row.append("")  # what a file has not is read from here
                        yield reader.line_num, (row[a], row[b], row[c], row[d], row[e], row[f], row[g], row[h])
                    elif any(field.strip() for field in row):
                        complain(
                            reader.line_num,
                            f"has {len(row)} fields where the header has {width}",
                            f"quote a text that holds {delimiter!r}, or remove what is too much",
                        )
                    done = reader.line_num
                is_over = True
            except csv.Error:
                complain(
                    done + 1, "a quotation mark is never closed, or stands within a text", "close it, or double it"
                )
                done = reader.line_num


# --- XML --------------------------------------------------------------------------------------------------------------


class _Records:
    """Collects `<part ref="..."><price>..</price></part>` beneath any root; attributes and elements count alike."""

    def __init__(self, parser: expat.XMLParserType) -> None:
        self.found: list[tuple[int, dict[str, str]]] = []
        self._parser, self._depth, self._line = parser, 0, 0
        self._named: dict[str, str] = {}
        self._text: list[str] = []
        self._fields: dict[str, str] = {}

    def begin(self, _: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > 8:
            raise errors.file("form", "elements lie deeper than eight levels")
        if self._depth == 2:
            self._line, self._named = self._parser.CurrentLineNumber, {}
        for attribute, value in attributes.items():
            self._keep(attribute, value)
        self._text = []

    def text(self, data: str) -> None:
        self._text.append(data)
        if len(self._text) > FIELD_LIMIT:
            raise errors.file("form", f"line {self._parser.CurrentLineNumber}: a text without end")

    def end(self, name: str) -> None:
        if self._depth > 2 and self._text:
            self._keep(name, "".join(self._text))
        elif self._depth == 2:
            self.found.append((self._line, self._named))
        self._text = []
        self._depth -= 1

    def _keep(self, name: str, value: str) -> None:
        local = name.rpartition(":")[2]
        field = self._fields.get(local)
        if field is None:
            field = self._fields[local] = field_of(local)
        if field and self._depth >= 2:
            self._named.setdefault(field, value[:FIELD_LIMIT])


def _xml(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    parser = expat.ParserCreate()
    parser.buffer_text = True
    records = _Records(parser)
    parser.StartElementHandler, parser.EndElementHandler = records.begin, records.end
    parser.CharacterDataHandler = records.text

    def refuse(*_: object) -> None:
        raise errors.file("dtd")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK)
            try:
                parser.Parse(chunk, not chunk)
            except expat.ExpatError as error:
                raise errors.file("form", f"line {error.lineno}: {expat.ErrorString(error.code)}") from None
            except (LookupError, ValueError):
                raise errors.file("encoding") from None
            yield from records.found
            records.found.clear()
            if not chunk:
                return


# --- JSON -------------------------------------------------------------------------------------------------------------

_BETWEEN = re.compile(r"[\s,]*")


def _json(path: Path, encoding: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Objects one after another: in one array, or a line each. Numbers are read as they are written, never as floats."""
    decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)
    with path.open(encoding=encoding, newline="", errors="strict") as file:
        held, at, line, is_over = file.read(CHUNK).lstrip("\ufeff"), 0, 1, False
        begin = len(held) - len(held.lstrip())
        line += held.count("\n", 0, begin)
        at = begin + held[begin:].startswith("[")
        while True:
            found = _BETWEEN.match(held, at)
            assert found is not None
            line += held.count("\n", at, found.end())
            at = found.end()
            end = 0
            if at < len(held) and held[at] != "]":
                try:
                    value, end = decoder.raw_decode(held, at)
                except (ValueError, RecursionError):
                    end = 0
            elif at < len(held):
                return
            if end and (end < len(held) or is_over):
                yield line, _named(value, line)
                line += held.count("\n", at, end)
                at = end
                continue
            if is_over and at >= len(held):
                return
            if is_over or len(held) - at > CHUNK:
                raise errors.file("form", f"line {line}: this is not JSON, or breaks off")
            more = file.read(CHUNK)
            is_over = not more
            held, at = held[at:] + more, 0


def _named(value: object, line: int) -> dict[str, str]:
    if not isinstance(value, dict):
        raise errors.file("form", f"line {line}: each record is an object with ref and price")
    named: dict[str, str] = {}
    for name, one in value.items():
        if (field := field_of(name)) and isinstance(one, str | bool | None):
            named.setdefault(field, str(one) if one is not None else "")
    return named
