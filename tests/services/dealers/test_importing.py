"""A network from CSV: dry run, report by line, all or nothing, the same file twice."""

from __future__ import annotations

import csv
import io

import pytest
from tests.notebook import Notebook

from rocade.core.errors import Refused
from rocade.services.dealers import Dealers, import_file, importing

BASE = {
    "site": "FR-1-1", "dealer": "FR-1", "dealer_name": "Garage Martin", "country": "FR", "name": "Martin Lyon",
    "timezone": "Europe/Paris", "brands": "renault:sells+services@2019-01-01; lune:services", "group": "martin",
    "group_name": "Groupe Martin", "primary": "", "latitude": "45,76", "longitude": "4.83", "opened": "2001-04-02", "closed": "",
    "opening_hours": "Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00; 2026-12-25 off",
}  # fmt: skip


def table(*rows: dict[str, str], delimiter: str = ",") -> bytes:
    written = io.StringIO()
    writer = csv.DictWriter(written, BASE, delimiter=delimiter)
    writer.writeheader()
    writer.writerows({**BASE, **row} for row in rows)
    return written.getvalue().encode()


def many(count: int) -> bytes:
    return table(
        *(
            {"site": f"FR-{at}-{1 + at % 2}", "dealer": f"FR-{at}", "dealer_name": f"Garage {at}",
             "primary": "" if at % 2 == 0 else f"FR-{at - 1}-1"}
            for at in range(count)
        )
    )  # fmt: skip


async def test_a_dry_run_says_what_would_change_and_changes_nothing(dealers: Dealers) -> None:
    report = await import_file(dealers, many(10), dry_run=True, actor="local")
    assert (report.lines, report.new, report.wrong, report.is_dry_run) == (10, 10, 0, True)
    assert await dealers.count() == 0


async def test_the_same_file_twice_changes_nothing_the_second_time(dealers: Dealers, audit: Notebook) -> None:
    first = await import_file(dealers, many(40), dry_run=False, actor="local")
    entries = len(audit.entries)
    again = await import_file(dealers, many(40), dry_run=False, actor="local")
    assert (first.new, again.new, again.changed, again.same) == (40, 0, 0, 40)
    assert len(audit.entries) == entries
    assert await dealers.primary_of("FR-3-2") == "FR-2-1"


async def test_differences_are_told_field_by_field(dealers: Dealers) -> None:
    await import_file(dealers, table({}, {"site": "FR-1-2"}), dry_run=False, actor="local")
    changed = table({"brands": "renault:sells@2019-01-01/2026-06-01", "dealer_name": "Martin SA"} | {"site": "FR-1-1"})
    report = await import_file(dealers, changed, dry_run=False, actor="local")
    told = {(one.site, one.field): (one.was, one.becomes) for one in report.differences}
    assert told["FR-1-1", "brands"] == (
        "lune:services@2001-04-02; renault:sells+services@2019-01-01", "renault:sells@2019-01-01/2026-06-01",
    )  # fmt: skip
    assert told["dealer FR-1", "name"] == ("Garage Martin", "Martin SA")
    assert (report.changed, report.missing, report.missing_sites) == (1, 1, ["FR-1-2"])
    assert (await dealers.site("FR-1-2")).name == "Martin Lyon"
    assert [one.brand for one in await dealers.brands_of("FR-1-1", 1_700_000_000_000_000)] == ["renault"]
    assert await dealers.brands_of("FR-1-1", 1_800_000_000_000_000) == ()


WRONG: list[tuple[str, dict[str, str]]] = [
    ("site", {"site": "FR 1"}),
    ("site", {"site": "FR-0-1"}),
    ("country", {"country": "France"}),
    ("timezone", {"timezone": "Europe/Lyon"}),
    ("brands", {"brands": "renault"}),
    ("brands", {"brands": "renault:sells@2020-01-01/2019-01-01"}),
    ("brands", {"brands": "renault:sells; renault:services"}),
    ("latitude", {"latitude": "north"}),
    ("latitude", {"latitude": "91"}),
    ("latitude", {"latitude": ""}),
    ("opening_hours", {"opening_hours": "Mon-Fri 8-12"}),
    ("opening_hours", {"opening_hours": "Mo 14:00-18:00,08:00-12:00"}),
    ("date", {"opened": "02/04/2001"}),
    ("date", {"opened": "0001-01-01"}),
    ("date", {"brands": "renault:sells@9999-12-31"}),
    ("closed", {"opened": "2020-01-01", "closed": "2019-01-01"}),
    ("dealer", {"dealer_name": "Another"}),
    ("group", {"group_name": "Another"}),
    ("primary", {"primary": "FR-9-9"}),
    ("primary", {"primary": "FR-0-2"}),
    ("primary", {"primary": "FR-7-7"}),
    ("name", {"name": ""}),
]


async def test_a_wrong_line_is_told_by_column_and_stops_the_import(dealers: Dealers) -> None:
    right = [{"site": "FR-0-1"}, {"site": "FR-0-2", "primary": "FR-0-1"}]
    right.append({"site": "BE-1", "dealer": "BE", "country": "BE", "dealer_name": "Garage BE"})
    for column, cells in WRONG:
        content = table(*right, {"site": "FR-7-7", **cells})
        report = await import_file(dealers, content, dry_run=True, actor="local")
        assert [(one.line, one.column) for one in report.wrong_lines] == [(5, column)], (cells, report.wrong_lines)
        with pytest.raises(Refused) as caught:
            await import_file(dealers, content, dry_run=False, actor="local")
        assert caught.value.code == "dealers.import.refused"
    assert await dealers.count() == 0


async def test_a_primary_in_another_country_is_refused(dealers: Dealers) -> None:
    abroad = {"site": "BE-1", "dealer": "BE", "country": "BE", "dealer_name": "Garage BE"}
    report = await import_file(dealers, table(abroad, {"primary": "BE-1"}), dry_run=True, actor="local")
    assert [(one.column, one.reason) for one in report.wrong_lines] == [("primary", "it lies in another country")]


UNREADABLE = [
    b"",
    b"\xff\xfe\x00s",
    b"site,dealer\r\nFR-1,FR\r\n",
    table({}).replace(b"opened", b"opned"),
]


async def test_what_is_no_table_of_sites_is_refused_as_a_whole(dealers: Dealers) -> None:
    for content in UNREADABLE:
        with pytest.raises(Refused, match=r"dealers\.import\.unreadable"):
            await import_file(dealers, content, dry_run=True, actor="local")


async def test_a_mark_semicolons_and_short_lines_are_taken_as_they_come(dealers: Dealers) -> None:
    content = b"\xef\xbb\xbf" + table({}, delimiter=";") + b"FR-1-2;FR-1\r\n"
    report = await import_file(dealers, content, dry_run=True, actor="local")
    assert (report.new, report.wrong, report.wrong_lines[0].line) == (1, 1, 3)


async def test_the_template_can_be_imported(dealers: Dealers) -> None:
    report = await import_file(dealers, importing.template().encode(), dry_run=False, actor="local")
    assert (report.new, report.wrong) == (1, 0)
    assert (await dealers.site("FR-00123-1")).group == "martin"
