"""A list that leaks names the point of sale it leaked from; and what that cannot do."""

from __future__ import annotations

import csv
import io
import json
import random
import zipfile
from pathlib import Path

import pytest
from tests.services.prices.conftest import LIST, SITES, publish

from rocade.services.prices import Lists
from rocade.services.prices.marks import MARKS, marks_of, read_pattern
from rocade.services.prices.store import pattern

type Rows = list[tuple[str, str, str]]


async def exported(lists: Lists, site: str) -> Rows:
    """What a point of sale's agent writes: the list with its marks among it."""
    content = await pattern(lists.pool, (await lists.find(LIST)).number)
    assert content
    marks = marks_of(lists.signing, read_pattern(content), LIST, site)
    assert len(marks) == MARKS
    real = [(f"7{at * 7919 % 10**9:09d}", f"{10 + at % 90}.00", f"Part {at}") for at in range(2_000)]
    return sorted([*real, *((one.ref, f"{one.price_minor / 100:.2f}", one.label) for one in marks)])


def _csv(rows: Rows) -> bytes:
    file = io.StringIO()
    csv.writer(file, delimiter=";").writerows([("ref", "price", "label"), *rows])
    return file.getvalue().encode()


def _zipped(rows: Rows) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("xl/sharedStrings.xml", "".join(f"<si><t>{ref}</t></si>" for ref, *_ in rows))
    return file.getvalue()


CHANGES = {
    "as exported": _csv,
    "sorted by price": lambda rows: _csv(sorted(rows, key=lambda row: row[1])),
    "a fifth of it": lambda rows: _csv(random.Random(4).sample(rows, len(rows) // 5)),
    "dashes in the references, zeros cut": lambda rows: _csv(
        [(f"{ref[:4]}-{ref[4:7]} {ref[7:]}".lstrip("0").lower(), price, label) for ref, price, label in rows]
    ),
    "json, without labels": lambda rows: json.dumps([{"r": ref, "p": float(price)} for ref, price, _ in rows]).encode(),
    "columns by blanks": lambda rows: "\n".join(f"{ref:<24}{price:>12}" for ref, price, _ in rows).encode(),
    "utf-16": lambda rows: _csv(rows).decode().encode("utf-16"),
    "a spreadsheet": _zipped,
}  # fmt: skip


@pytest.fixture
async def published(lists: Lists, tmp_path: Path) -> Lists:
    lines = (f"7{at * 7919 % 10**9:09d};{10 + at % 90}.00;Part {at}\n" for at in range(2_000))
    await publish(lists, tmp_path / "f", "ref;price;label\n" + "".join(lines))
    return lists


@pytest.mark.parametrize("change", CHANGES)
async def test_a_leaked_export_names_its_point_of_sale(published: Lists, tmp_path: Path, change: str) -> None:
    (tmp_path / "leak").write_bytes(CHANGES[change](await exported(published, "FR-2")))
    trace = await published.who_leaked(LIST, tmp_path / "leak", "person:1")
    assert trace.named == ("FR-2",)


async def test_a_list_without_marks_names_nobody(published: Lists, tmp_path: Path) -> None:
    rows = await exported(published, "FR-2")
    plain = [row for row in rows if row[2].startswith("Part ") and row[0].startswith("7")]
    content = await pattern(published.pool, (await published.find(LIST)).number)
    marked = {one.ref for one in marks_of(published.signing, read_pattern(content or b""), LIST, "FR-2")}
    (tmp_path / "leak").write_bytes(_csv([row for row in plain if row[0] not in marked]))
    assert (await published.who_leaked(LIST, tmp_path / "leak", "person:1")).named == ()


async def test_two_who_mix_their_exports_are_both_named_and_two_who_compare_them_are_not(
    published: Lists, tmp_path: Path
) -> None:
    one, other = [await exported(published, site) for site in SITES[:2]]
    (tmp_path / "leak").write_bytes(_csv(sorted({*one, *other})))
    assert {*(await published.who_leaked(LIST, tmp_path / "leak", "person:1")).named} == {"FR-1", "FR-2"}
    (tmp_path / "leak").write_bytes(_csv(sorted({*one} & {*other})))
    assert (await published.who_leaked(LIST, tmp_path / "leak", "person:1")).named == (), "as docs/prices.md says"


async def test_marks_look_like_the_list_and_are_no_parts_of_it(published: Lists) -> None:
    content = await pattern(published.pool, (await published.find(LIST)).number)
    refs = {f"7{at * 7919 % 10**9:09d}" for at in range(2_000)}
    for site in SITES:
        marks = marks_of(published.signing, read_pattern(content or b""), LIST, site)
        assert len(refs & {one.ref for one in marks}) <= 1, "one may be a part by chance, and is passed over then"
        assert all(len(one.ref) == 10 and one.ref.isdigit() and one.price_minor > 0 for one in marks)
