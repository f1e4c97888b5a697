"""Price files in every form they come in: delimiters, marks, encodings, XML, JSON; each wrong line is told, none guessed at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocade.core.errors import Refused
from rocade.services.prices.reading import Form, read
from rocade.services.prices.validating import Problems, Sheet, validate

PLAIN = [("7701-A", 1250, "Filtre à huile"), ("7702", 300, "Courroie"), ("7703", 120000, "Pompe; grande")]


def sheet_of(path: Path, currency: str = "EUR") -> tuple[Form, Sheet, Problems]:
    problems = Problems()
    form, rows = read(path, problems.add)
    return form, validate(rows, currency, problems), problems


CSV = 'ref;price;label\n7701-A;12,50;Filtre à huile\n7702;3.00;Courroie\n7703;1 200,00;"Pompe; grande"\n'
FORMS = {
    "semicolons": CSV.encode(),
    "with a mark": CSV.encode("utf-8-sig"),
    "windows": CSV.replace("\n", "\r\n").encode("cp1252"),
    "utf-16": CSV.encode("utf-16"),
    "big-endian": b"\xfe\xff" + CSV.encode("utf-16-be"),
    "commas": 'Reference,Price,Label\n7701-A,"12,50",Filtre à huile\n7702,3.00,Courroie\n7703,"1 200,00",Pompe; grande\n'.encode(),
    "tabs": CSV.replace('"Pompe; grande"', "Pompe, grande").replace(";", "\t").replace(", grande", "; grande").encode(),
    "bars, other names, other order": (
        "Désignation|N|Prix|Référence\nFiltre à huile|1|12.50|7701-A\nCourroie|2|3|7702\nPompe; grande|3|1200|7703\n".encode()
    ),
    "blank lines": CSV.replace("\n7702", "\n\n;;\n7702").encode(),
    "xml": (
        "<?xml version='1.0' encoding='UTF-8'?><prices><part ref='7701-A'><price>12.50</price><label>Filtre à huile</label></part>"
        "<part><ref>7702</ref><price>3.00</price><label>Courroie</label></part>"
        "<x:part xmlns:x='urn:x'><x:Reference>7703</x:Reference><x:Price>1200.00</x:Price><x:Description>Pompe; grande</x:Description>"
        "</x:part></prices>"
    ).encode(),
    "xml in latin": (
        "<?xml version='1.0' encoding='ISO-8859-1'?><l><p ref='7701-A' price='12.50' label='Filtre à huile'/>"
        "<p ref='7702' price='3' label='Courroie'/><p ref='7703' price='1200' label='Pompe; grande'/></l>"
    ).encode("latin-1"),
    "json": json.dumps(
        [{"ref": "7701-A", "price": 12.50, "label": "Filtre à huile"}, {"ref": "7702", "price": "3.00", "label": "Courroie"},
         {"ref": "7703", "price": 1200, "label": "Pompe; grande", "stock": {"Lyon": [1, 2]}}]
    ).encode(),
    "json lines": "\n".join(
        json.dumps({"Reference": ref, "amount": f"{price / 100:.2f}", "name": label}) for ref, price, label in PLAIN
    ).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_the_same_list_is_read_from_every_form(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").write_bytes(FORMS[name])
    _, sheet, problems = sheet_of(tmp_path / "f")
    assert problems.shown == []
    assert list(zip(sheet.ref, sheet.price_minor, sheet.label, strict=True)) == PLAIN


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b"[]", "empty"),
        (b"a;b\n1;2\n", "header"),
        (b"ref;label\n1;2\n", "header"),
        (b'[{"a": 1}]', "header"),
        (b"<l><p a='1'/></l>", "header"),
        (b"<l><p ref='1' price='2'/>", "form"),
        (b'[{"ref": "1", "price": "2"}, {"ref": ', "form"),
        (b'[{"ref": "1", "price": "2"}, 5]', "form"),
        (b"[" * 100_000, "form"),
        (b"ref;price\n1;2\x81\x8d\n", "encoding"),
        (b"<!DOCTYPE l [<!ENTITY a 'b'>]><l><p ref='&a;' price='2'/></l>", "dtd"),
        (b"<!DOCTYPE l SYSTEM 'file:///etc/passwd'><l/>", "dtd"),
        (b"<a>" * 50 + b"</a>" * 50, "form"),
        (b"<?xml version='1.0' encoding='utf-7'?><l/>", "encoding"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(Refused) as refused:
        sheet_of(tmp_path / "f")
    assert refused.value.code == f"prices.file.{code}"


LINES = {
    "7701;": "price is missing",
    ";5.00": "reference is missing",
    "7702;abc": "not a price",
    "7703;1,234": "could mean",
    "7704;5.00;too;much": "4 fields where the header has 2",
    "7700;5.00": "stands in line 2 too",
    "a\x07b;5.00": "cannot be printed",
    f"{'9' * 65};5.00": "65 letters",
    '7705;"5.00': "never closed",
    "7706;12.50 USD": "is in USD",
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_line_is_told_with_its_number_and_the_others_are_taken(tmp_path: Path, line: str) -> None:
    (tmp_path / "f").write_text(f"ref;price\n7700;1.00\n{line}\n")
    _, sheet, problems = sheet_of(tmp_path / "f")
    assert problems.count == 1
    assert problems.shown[0].line == 3
    assert LINES[line] in problems.shown[0].what
    assert problems.shown[0].do
    assert sheet.ref == ["7700"]


def test_a_thousand_wrong_lines_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("ref;price\n" + "".join(f"{at};x\n" for at in range(3_000)))
    _, _, problems = sheet_of(tmp_path / "f")
    assert (problems.count, len(problems.shown)) == (3_000, 1_000)


def test_withdrawn_parts_instants_and_successors_are_read(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(
        "ref;price;withdrawn;valid_from;superseded_by\n1;5.00;;2026-11-25T00:00Z;\n2;;1;;3\n3;7.00;no;;\n4;1;maybe;;\n5;1;;25/11/2026;\n6;1;;;6\n"
    )
    _, sheet, problems = sheet_of(tmp_path / "f")
    assert sheet.ref == ["1", "2", "3"]
    assert sheet.superseded_by == ["", "3", ""]
    assert [one.line for one in problems.shown] == [5, 6, 7]
