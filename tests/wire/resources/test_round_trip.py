"""Every resource survives every format, whatever its texts hold."""

from __future__ import annotations

import csv
import io
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.wire.resources import PRICE_CHANGE, RESOURCES, SITE, Resource, from_csv, from_json, to_csv, to_json
from rocade.wire.resources.model import LAST_INSTANT_US
from rocade.wire.resources.xml_form import from_xml, to_xml

ALPHABET = st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff") | st.sampled_from(
    "\t\n;,|\"' =+-@<>&]"
)
MADE = {
    "opened_us": st.integers(0, LAST_INSTANT_US),
    "latitude": st.none() | st.floats(-90, 90),
    "longitude": st.none() | st.floats(-180, 180),
    "country": st.from_regex(r"[A-Z]{2}\Z", fullmatch=True),
    "currency": st.from_regex(r"[A-Z]{3}\Z", fullmatch=True),
    "list": st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}\Z", fullmatch=True),
    "message_sha256": st.from_regex(r"[0-9a-f]{64}\Z", fullmatch=True),
    "content_type": st.from_regex(r"[!-~ ]{1,127}\Z", fullmatch=True),
}
NAMES = {"id", "dealer", "stream", "message_id"}


def values(resource: Resource) -> st.SearchStrategy[Any]:
    """Anything the schema allows."""
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for field in resource.fields:
        if field.name in MADE:
            part = MADE[field.name]
        elif field.choices:
            part = st.sampled_from(field.choices)
        elif field.is_list:
            part = st.lists(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}\Z", fullmatch=True), max_size=3)
        elif field.name in NAMES:
            part = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z", fullmatch=True)
        elif field.kind == "bytes":
            part = st.binary(max_size=60)
        elif field.kind == "text":
            part = st.text(ALPHABET, min_size=int(field.name == "ref"), max_size=min(field.longest or 40, 40))
        elif field.kind == "instant":
            part = st.integers(0, LAST_INSTANT_US)
        else:
            part = st.integers(1, 1 << 53)
        parts[field.name] = st.none() | part if field.is_optional else part
    return st.fixed_dictionaries(parts).map(lambda made: msgspec.convert(made, resource.struct))


@pytest.mark.parametrize("name", RESOURCES)
def test_json_to_xml_to_csv_to_json_loses_nothing(name: str) -> None:
    resource = RESOURCES[name]

    @settings(max_examples=80, deadline=None)
    @given(st.lists(values(resource), max_size=4))
    def round_trip(rows: list[Any]) -> None:
        first = to_json(rows)
        from_first = from_json(first, resource)
        through_xml = from_xml(to_xml(from_first, resource), resource)
        reading = from_csv(to_csv(through_xml, resource), resource)
        assert reading.faults == []
        assert to_json(reading.rows) == first

    round_trip()


def test_every_field_has_its_own_name_in_xml_and_csv() -> None:
    for resource in RESOURCES.values():
        assert len({field.xml for field in resource.fields}) == len(resource.fields)
        assert len({field.column for field in resource.fields}) == len(resource.fields)


CHANGE = {
    "list": "acme-fr-retail", "seq": 7, "ref": "1610001234", "currency": "EUR", "price_minor": 1999,
    "valid_from_us": 1_760_000_000_000_000,
}  # fmt: skip
LINE = "acme-fr-retail;7;1610001234;EUR;1999;2025-10-09T08:53:20Z"
HEADER = "list;seq;ref;currency;price_minor;valid_from"


def file(*lines: str, end: str = "\n") -> str:
    return "\n".join((HEADER, *lines)) + end


SPELT = [
    ("plain", file(LINE).encode()),
    ("windows line ends", file(LINE).replace("\n", "\r\n").encode()),
    ("byte order mark", file(LINE).encode("utf-8-sig")),
    ("utf-16", file(LINE).encode("utf-16")),
    ("commas", file(LINE).replace(";", ",").encode()),
    ("tabs", file(LINE).replace(";", "\t").encode()),
    ("bars", file(LINE).replace(";", "|").encode()),
    ("quoted", file(";".join(f'"{cell}"' for cell in LINE.split(";"))).encode()),
    ("capital header", file(LINE).replace(HEADER, HEADER.upper()).encode()),
    ("blank lines", file("", LINE, "").encode()),
    ("another zone", file(LINE.replace("08:53:20Z", "10:53:20+02:00")).encode()),
]


@pytest.mark.parametrize("content", [case[1] for case in SPELT], ids=[case[0] for case in SPELT])
def test_old_programs_are_read(content: bytes) -> None:
    reading = from_csv(content, PRICE_CHANGE)
    assert (reading.faults, json.loads(to_json(reading.rows))) == ([], [CHANGE])


WRONG = [
    ("decimal comma", LINE.replace("1999", "19,99"), "formats.value"),
    ("decimal point", LINE.replace("1999", "19.99"), "formats.value"),
    ("thousands", LINE.replace("1999", "1 999"), "formats.value"),
    ("no zone", LINE.replace("20Z", "20"), "formats.value"),
    ("no time", LINE.replace("T08:53:20Z", ""), "formats.value"),
    ("no such day", LINE.replace("10-09", "02-30"), "formats.value"),
    ("currency in small letters", LINE.replace("EUR", "eur"), "formats.value"),
    ("negative", LINE.replace("1999", "-1"), "formats.value"),
    ("no number", LINE.replace(";7;", ";;"), "formats.field.missing"),
    ("a cell too many", LINE.replace("1610001234", "16100;01234"), "formats.csv.columns"),
    ("a cell too few", LINE.replace(";EUR", ""), "formats.csv.columns"),
    ("open quotation mark", LINE.replace("1610001234", '"1610001234'), "formats.csv.quotes"),
    ("control character", LINE.replace("1610001234", "16100\x0701234"), "formats.value"),
]


@pytest.mark.parametrize(("line", "code"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_a_wrong_line_is_named_and_the_others_are_read(line: str, code: str) -> None:
    reading = from_csv(file(LINE, line).encode(), PRICE_CHANGE)
    assert [(fault.line, fault.code) for fault in reading.faults] == [(3, code)]
    assert reading.lines == [2]


REFUSED = [
    ("latin-1", file(LINE.replace("1610001234", "pi\u00e8ce")).encode("cp1252"), "formats.csv.encoding"),
    ("utf-16 without mark", file(LINE).encode("utf-16-le"), "formats.csv.encoding"),
    ("unknown column", file(LINE).replace("price_minor", "price").encode(), "formats.csv.header"),
    ("missing column", b"list;seq\na;1\n", "formats.csv.header"),
    ("column twice", file(LINE).replace("seq", "ref").encode(), "formats.csv.header"),
    ("no header", (LINE + "\n").encode(), "formats.csv.header"),
    ("nothing", b"", "formats.csv.header"),
    ("html", b"<html></html>\n", "formats.csv.header"),
]


@pytest.mark.parametrize(("content", "code"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_a_file_that_would_have_to_be_guessed_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        from_csv(content, PRICE_CHANGE)
    assert refused.value.code == code


def test_another_encoding_can_be_named() -> None:
    content = file(LINE.replace("1610001234", "pi\u00e8ce")).encode("cp1252")
    assert from_csv(content, PRICE_CHANGE, "cp1252").rows[0].ref == "pi\u00e8ce"


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_half_written_file_never_gives_a_wrong_price(cut: int) -> None:
    whole = file(LINE, LINE.replace("1999", "123456")).encode()
    reading = from_csv(whole[:-cut], PRICE_CHANGE)
    assert [row.price_minor for row in reading.rows] == [1999]
    assert reading.faults[0].line == 3


def test_a_spreadsheet_finds_no_formula() -> None:
    row = msgspec.convert({**CHANGE, "ref": "=HYPERLINK(0)"}, PRICE_CHANGE.struct)
    cells = list(csv.reader(io.StringIO(to_csv([row], PRICE_CHANGE).decode()), delimiter=";"))[1]
    assert cells[2] == "'=HYPERLINK(0)"


XML = [
    ("comment", "<!-- -->", "xml.comment"),
    ("unknown element", "<Other/>", "formats.xml"),
    ("text", "loose", "formats.xml"),
]


@pytest.mark.parametrize(("inserted", "code"), [case[1:] for case in XML], ids=[case[0] for case in XML])
@pytest.mark.parametrize("before", ["<PartsPriceChange>", "</PartsPriceChange>", "<ItemID>"])
def test_nothing_rides_along_in_xml(inserted: str, before: str, code: str) -> None:
    document = to_xml([msgspec.convert(CHANGE, PRICE_CHANGE.struct)], PRICE_CHANGE).decode()
    with pytest.raises(Refused) as refused:
        from_xml(document.replace(before, inserted + before, 1).encode(), PRICE_CHANGE)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("urn:rocade:exchange:1", "urn:other"),
        lambda text: text.replace("<ItemID>", '<ItemID a="1">'),
        lambda text: text.replace("<PartsPriceChange>", '<PartsPriceChange a="1">'),
        lambda text: text.replace("<ItemID>1610001234</ItemID>", "<ItemID>1</ItemID><ItemID>2</ItemID>"),
        lambda text: text.replace("<ItemID>1610001234", "<ItemID><b/>1610001234"),
    ],
)
def test_xml_in_another_shape_is_refused(change: Any) -> None:
    document = to_xml([msgspec.convert(CHANGE, PRICE_CHANGE.struct)], PRICE_CHANGE).decode()
    with pytest.raises(Refused, match=r"formats\.xml"):
        from_xml(change(document).encode(), PRICE_CHANGE)


def test_the_classes_of_content_are_those_of_the_exchange() -> None:
    from rocade.wire.exchange import CLASSES

    field = next(one for one in RESOURCES["message"].fields if one.name == "content_class")
    assert {*field.choices} == {*CLASSES}


def test_lists_of_brands_stand_in_one_cell() -> None:
    site = msgspec.convert(
        {"id": "A-1", "dealer": "A", "name": "Garage", "country": "FR", "opened_us": 0, "sells": ["acme", "zed"]},
        SITE.struct,
    )
    assert b";acme zed;" in to_csv([site], SITE)
    assert get_args(SITE.struct.__annotations__["sells"]) is not None
