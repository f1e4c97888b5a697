"""A whole network from one CSV file: read, compared with what is known, and taken over at once or not at all.

One line a point of sale; a header names the columns in any order (`COLUMNS`; those without a default must be there). Comma or
semicolon, UTF-8 with or without its mark. `brands` is written `renault:sells+services@2019-01-01; dacia:services@2020-05-01/2026-12-31`
(days of the site's time zone; without a day: since it opened). Every wrong line is reported with column and reason; one wrong line stops
the import, for half a network helps nobody. Imported again, the same file changes nothing. A site that is known but missing
in the file is reported and left as it is: it ends by its `closed` date.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256

import msgspec

from rocade.core.errors import Refused
from rocade.services.dealers import errors, opening, store
from rocade.services.dealers.model import FOREVER_US, BrandAt, Dealer, Group, Site, check_id, check_site, check_text
from rocade.services.dealers.service import Dealers

COLUMNS: dict[str, str | None] = {
    "site": None, "dealer": None, "dealer_name": None, "country": None, "name": None, "timezone": None, "brands": None,
    "group": "", "group_name": "", "primary": "", "address": "", "city": "", "latitude": "", "longitude": "",
    "opening_hours": "", "phone": "", "opened": "", "closed": "",
}  # fmt: skip
"""Each column with what stands for an absent one; None = it must be there."""
FILE_LIMIT_BYTES = 32 << 20
LINES_LIMIT = 100_000
SHOWN = 200
"""Wrong lines and changed sites a report tells one by one; all are counted."""
_BRAND = re.compile(r"\s*([a-z0-9-]+):([a-z+]+)(?:@(\d{4}-\d\d-\d\d)(?:/(\d{4}-\d\d-\d\d))?)?\s*\Z")
_SELLS = {"sells": (True, False), "services": (False, True), "sells+services": (True, True)}


class WrongLine(msgspec.Struct, frozen=True):
    line: int
    site: str
    column: str
    reason: str


class Difference(msgspec.Struct, frozen=True):
    """One field of a known site that the file has otherwise."""

    site: str
    field: str
    was: str
    becomes: str


class Report(msgspec.Struct, frozen=True):
    """What an import found. `missing`: known sites the file does not name, left as they are."""

    is_dry_run: bool
    sha256: str
    lines: int
    new: int
    changed: int
    same: int
    missing: int
    wrong: int
    wrong_lines: list[WrongLine]
    differences: list[Difference]
    new_sites: list[str]
    missing_sites: list[str]


class _Read:
    """A file as read: sites with their lines, companies and groups, and what is wrong."""

    def __init__(self) -> None:
        self.sites: dict[str, Site] = {}
        self.lines: dict[str, int] = {}
        self.dealers: dict[str, Dealer] = {}
        self.groups: dict[str, Group] = {}
        self.wrong: list[WrongLine] = []


async def import_file(dealers: Dealers, content: bytes, *, dry_run: bool, actor: str) -> Report:
    """Take a network over from a file, or only say what would change.

    Raises: Refused `dealers.import.unreadable` (no table at all), `dealers.import.refused` with the report as its fact.
    """
    read = _read(content)
    async with store.transaction(dealers.database) as connection:
        known = {site.id: site for site in await store.read_sites(connection)}
        companies = {one.id: one for one in await store.read_dealers(connection)}
        groups = {one.id: one for one in await store.read_groups(connection)}
    _check_primaries(read, known)
    new = [site for id, site in read.sites.items() if id not in known]
    changed = [site for id, site in read.sites.items() if id in known and known[id] != site]
    fresh_dealers = [one for one in read.dealers.values() if companies.get(one.id) != one]
    fresh_groups = [one for one in read.groups.values() if groups.get(one.id) != one]
    differences = [
        difference for site in changed for difference in _differences(known[site.id], site)
    ] + _company_differences(companies, fresh_dealers)
    missing = sorted(known.keys() - read.sites.keys())
    report = Report(
        dry_run, sha256(content).hexdigest(), len(read.sites), len(new), len(changed),
        len(read.sites) - len(new) - len(changed), len(missing), len(read.wrong), read.wrong[:SHOWN],
        differences[:SHOWN], [site.id for site in new[:SHOWN]], missing[:SHOWN],
    )  # fmt: skip
    if dry_run:
        return report
    if read.wrong:
        refusal = errors.import_refused(len(read.wrong))
        refusal.facts["report"] = msgspec.to_builtins(report)
        raise refusal
    if new or changed or fresh_dealers or fresh_groups:
        await dealers.put([*new, *changed], fresh_dealers, fresh_groups, actor)
    return report


def template() -> str:
    """The header and an example line."""
    example = {
        "site": "FR-00123-1", "dealer": "FR-00123", "dealer_name": "Garage Martin", "country": "FR", "name": "Garage Martin Lyon",
        "timezone": "Europe/Paris", "brands": "renault:sells+services@2019-01-01; dacia:services", "group": "martin",
        "group_name": "Groupe Martin", "city": "Lyon", "latitude": "45.7640", "longitude": "4.8357", "opened": "2001-04-02",
        "opening_hours": "Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00",
    }  # fmt: skip
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, restval="")
    writer.writeheader()
    writer.writerow(example)
    return written.getvalue()


def _read(content: bytes) -> _Read:
    """Raises: Refused `dealers.import.unreadable`."""
    if len(content) > FILE_LIMIT_BYTES:
        raise errors.import_unreadable(f"it has more than {FILE_LIMIT_BYTES >> 20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise errors.import_unreadable("it is not UTF-8") from None
    head = text.split("\n", 1)[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if head.count(";") > head.count(",") else ",")
    names = [name.strip() for name in rows.fieldnames or []]
    rows.fieldnames = names
    if lacking := [name for name, default in COLUMNS.items() if default is None and name not in names]:
        raise errors.import_unreadable(f"columns are missing: {', '.join(lacking)}")
    if unknown := set(names) - set(COLUMNS):
        raise errors.import_unreadable(f"columns nobody knows: {', '.join(sorted(unknown))}")
    read = _Read()
    try:
        for row in rows:
            if rows.line_num > LINES_LIMIT:
                raise errors.import_unreadable(f"it has more than {LINES_LIMIT} lines")
            _read_line(read, rows.line_num, row)
    except csv.Error as error:
        raise errors.import_unreadable(str(error)) from None
    return read


def _read_line(read: _Read, line: int, row: Mapping[str | None, str | list[str] | None]) -> None:
    """Take one line in, or note what is wrong with it."""
    if None in row or any(value is None for value in row.values()):
        read.wrong.append(
            WrongLine(line, str(row.get("site") or ""), "", "it has more or fewer fields than the header")
        )
        return
    cells = {name: str(row[name]).strip() if name in row else default or "" for name, default in COLUMNS.items()}
    try:
        site = _site(cells)
        _check_companies(read, cells)
        if site.id in read.sites:
            raise errors.invalid("site", f"it stands in line {read.lines[site.id]} already")
    except Refused as refusal:
        field = str(refusal.facts.get("field", ""))
        column = {"closed_us": "closed", "opened_us": "opened"}.get(field, field)
        read.wrong.append(
            WrongLine(line, cells["site"][:64], column, refusal.message.partition(": ")[2] or refusal.message)
        )
        return
    read.sites[site.id], read.lines[site.id] = site, line


def _site(cells: Mapping[str, str]) -> Site:
    """Raises: Refused `dealers.invalid`."""
    zone = cells["timezone"]
    opened_us = opening.midnight_us(cells["opened"], zone) if cells["opened"] else 0
    closed_us = opening.midnight_us(cells["closed"], zone) if cells["closed"] else FOREVER_US
    site = Site(
        cells["site"], cells["dealer"], cells["group"], cells["name"], cells["country"], cells["primary"], cells["address"],
        cells["city"], _degrees(cells, "latitude"), _degrees(cells, "longitude"), zone, cells["opening_hours"], cells["phone"],
        opened_us, closed_us, _brands(cells["brands"], zone, opened_us),
    )  # fmt: skip
    check_site(site)
    return site


def _degrees(cells: Mapping[str, str], name: str) -> float | None:
    try:
        return float(cells[name].replace(",", ".")) if cells[name] else None
    except ValueError:
        raise errors.invalid(name, "degrees as 45.7640") from None


def _brands(text: str, zone: str, opened_us: int) -> tuple[BrandAt, ...]:
    brands = []
    for part in filter(None, map(str.strip, text.split(";"))):
        match = _BRAND.match(part)
        if match is None or match[2] not in _SELLS:
            raise errors.invalid("brands", f"{part!r} is not like `renault:sells+services@2019-01-01`")
        from_us = opening.midnight_us(match[3], zone) if match[3] else opened_us
        until_us = opening.midnight_us(match[4], zone) if match[4] else FOREVER_US
        brands.append(BrandAt(match[1], *_SELLS[match[2]], from_us, until_us))
    return tuple(sorted(brands))


def _check_companies(read: _Read, cells: Mapping[str, str]) -> None:
    """A company and a group are the same in every line that names them."""
    check_text(cells["dealer_name"], "dealer_name", is_needed=True)
    dealer = Dealer(cells["dealer"], cells["dealer_name"], cells["group"], cells["country"])
    if read.dealers.setdefault(dealer.id, dealer) != dealer:
        raise errors.invalid("dealer", "another line names this dealer with another name, group or country")
    if cells["group"]:
        check_id(cells["group"], "group")
        group = Group(cells["group"], cells["group_name"] or cells["group"])
        if read.groups.setdefault(group.id, group) != group:
            raise errors.invalid("group", "another line gives this group another name")


def _check_primaries(read: _Read, known: Mapping[str, Site]) -> None:
    """The primary of a secondary site exists, is primary itself, and lies in the same country."""
    for site in read.sites.values():
        if not site.primary:
            continue
        primary = read.sites.get(site.primary) or known.get(site.primary)
        if primary is None:
            reason = "neither this file nor the region knows it"
        elif primary.primary:
            reason = "it is secondary itself"
        elif primary.country != site.country:
            reason = "it lies in another country"
        else:
            continue
        read.wrong.append(WrongLine(read.lines[site.id], site.id, "primary", reason))
    read.wrong.sort(key=lambda one: one.line)


def _differences(was: Site, becomes: Site) -> list[Difference]:
    return [
        Difference(was.id, name, shown(getattr(was, name), was), shown(getattr(becomes, name), becomes))
        for name in Site.__struct_fields__
        if getattr(was, name) != getattr(becomes, name)
    ]


def _company_differences(known: Mapping[str, Dealer], fresh: Iterable[Dealer]) -> list[Difference]:
    return [
        Difference(f"dealer {one.id}", name, str(getattr(known[one.id], name)), str(getattr(one, name)))
        for one in fresh
        if one.id in known
        for name in Dealer.__struct_fields__
        if getattr(known[one.id], name) != getattr(one, name)
    ]


def shown(value: object, site: Site) -> str:
    """A field as the file writes it."""
    if isinstance(value, tuple):
        return "; ".join(_written(one, site.timezone) for one in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return "" if value in {0, FOREVER_US} else opening.day_of(value, site.timezone)
    return "" if value is None else str(value)


def _written(one: BrandAt, zone: str) -> str:
    what = "+".join(name for name, is_so in (("sells", one.sells), ("services", one.services)) if is_so)
    until = f"/{opening.day_of(one.until_us, zone)}" if one.until_us != FOREVER_US else ""
    return f"{one.brand}:{what}@{opening.day_of(one.from_us, zone)}{until}"
