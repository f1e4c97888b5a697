"""Does anything this repository locks have a known hole, and for how long may it stay? The documented times: docs/updates.md.

    make advisories ARGS="--source FOLDER"      (.venv/bin/python tools/advisories.py ...)

Flow: every locked version (requirements/*.txt, tools/sslyze.txt, package-lock.json, the Debian packages of packages.txt that are
installed) -> advisories of all sources -> those that hit, with severity and the day by which they must be gone -> the age of the
locks -> a table, build/advisories.json, and an exit code: 0 nothing is overdue, 1 something is, 2 nothing could be judged.

A source is a file, a folder, a .zip or an http(s) address of records in the OSV form (an ecosystem's export is such a .zip), or an address with {name}, and perhaps {version}, in it: the JSON interface of a package index, asked for
each Python package. Sources come as --source or in ROCADE_ADVISORIES, blanks between; none is written here.
Refuses: a source that cannot be read, none at all, an exception without a reason or an end (tools/advisories.toml).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

sys.path.insert(0, str(Path(__file__).parent))
from advisory_matching import Locked, is_hit, locked, severity_of

ROOT = Path(__file__).resolve().parents[1]
DAYS = {"critical": 7, "high": 7, "unknown": 7, "medium": 30, "low": 90}
"""Days from the day an advisory is published; docs/updates.md has the same table."""
DEVELOPMENT_DAYS = 30
"""At least so many for what is only built and tested with."""
RENEWED_DAYS = 100
"""All versions are renewed each quarter."""
TIMEOUT_S = 60


class Unreadable(Exception):
    """A source, or the list of exceptions, that cannot be used."""


@dataclass(frozen=True)
class Finding:
    ecosystem: str
    name: str
    version: str
    id: str
    severity: str
    fixed: str
    published: str
    due: str
    state: str
    """overdue | in time | accepted"""
    summary: str


def main(arguments: Sequence[str] | None = None, today: date | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", action="append", default=[], help="a file, folder, .zip or address; may be repeated"
    )
    parser.add_argument("--only", action="append", default=[], help="look at this package alone; may be repeated")
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=ROOT / "build/advisories.json")
    options = parser.parse_args(arguments)
    on = today or datetime.now(UTC).date()
    components = [one for one in locked(options.root) if not options.only or one.name in options.only]
    sources = options.source or os.environ.get("ROCADE_ADVISORIES", "").split()
    try:
        accepted = exceptions(options.root / "tools/advisories.toml", on)
        findings, judged, read = judge(components, sources, accepted, on)
        age = lock_age_days(options.root, on)
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    is_old = age > RENEWED_DAYS
    report = {
        "on": on.isoformat(), "components": len(components), "judged": judged, "advisories": read, "lock_age_days": age,
        "locks_overdue": is_old, "findings": [asdict(one) for one in findings],
    }  # fmt: skip
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    show(findings)
    print(f"{judged} of {len(components)} locked versions judged by {read} advisories; locks renewed {age} days ago")
    if is_old:
        print(f"the locks are older than {RENEWED_DAYS} days: make lock UPGRADE=--upgrade", file=sys.stderr)
    if is_old or any(one.state == "overdue" for one in findings):
        return 1
    if unjudged := len(components) - judged:
        print(f"{unjudged} were not judged: no source speaks of their ecosystem or release", file=sys.stderr)
        return 2
    return 0


def judge(
    components: Sequence[Locked], sources: Sequence[str], accepted: dict[str, str], on: date
) -> tuple[list[Finding], int, int]:
    """Findings, worst first; how many components some source could speak about; how many advisories were read.

    Raises: Unreadable.
    """
    if not sources:
        raise Unreadable("name a source of advisories: --source FILE, FOLDER or ADDRESS, or ROCADE_ADVISORIES")
    found: dict[tuple[Locked, str], Finding] = {}
    spoken: set[Locked] = set()
    read = 0
    for source in sources:
        if "{name}" in source:
            records, known = index_records(source, components)
            spoken |= known
        else:
            records = list(osv_records(source))
            names = {package.get("ecosystem", "").partition(":")[0] for one in records for package in _packages(one)}
            spoken |= {one for one in components if one.ecosystem in names}
        read += len(records)
        for record in records:
            for one in components:
                if not record.get("withdrawn") and is_hit(record, one):
                    found[one, str(record["id"])] = _finding(record, one, accepted, on)
    order = {"overdue": 0, "in time": 1, "accepted": 2}
    return sorted(found.values(), key=lambda one: (order[one.state], one.due, one.name, one.id)), len(spoken), read


def _packages(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [one.get("package", {}) for one in record.get("affected", [])]


def _finding(record: dict[str, Any], one: Locked, accepted: dict[str, str], on: date) -> Finding:
    severity = severity_of(record)
    days = max(DAYS[severity], DEVELOPMENT_DAYS if one.is_development else 0)
    published = str(record.get("published") or record.get("modified") or on.isoformat())[:10]
    due = date.fromisoformat(published) + timedelta(days=days)
    names = {str(record["id"]), *record.get("aliases", [])}
    state = "accepted" if names & accepted.keys() else "overdue" if on > due else "in time"
    fixed = sorted(
        str(event["fixed"])
        for affected in record.get("affected", [])
        for scope in affected.get("ranges", [])
        if scope.get("type") != "GIT"
        for event in scope.get("events", [])
        if "fixed" in event
    )
    summary = str(record.get("summary") or record.get("details") or "").strip().partition("\n")[0][:120]
    return Finding(one.ecosystem, one.name, one.version, str(record["id"]), severity, " ".join(dict.fromkeys(fixed)),
                   published, due.isoformat(), state, summary)  # fmt: skip


# --- sources ------------------------------------------------------------------------------------------------------------


def osv_records(source: str) -> Iterator[dict[str, Any]]:
    """OSV records of a file, folder, .zip or address. Raises: Unreadable."""
    try:
        if source.startswith(("http://", "https://")):
            yield from _decoded(source, fetch(source) or b"")
        elif Path(source).is_dir():
            for path in sorted(Path(source).rglob("*.json")):
                yield from _decoded(str(path), path.read_bytes())
        else:
            yield from _decoded(source, Path(source).read_bytes())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise Unreadable(f"{source} cannot be read: {error}") from error


def _decoded(name: str, body: bytes) -> Iterator[dict[str, Any]]:
    if body[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for member in archive.namelist():
                if member.endswith(".json"):
                    yield from _decoded(f"{name}/{member}", archive.read(member))
        return
    document = json.loads(body)
    found = document if isinstance(document, list) else document.get("vulns", [document])
    for record in found:
        if not isinstance(record, dict) or not isinstance(record.get("id"), str):
            raise Unreadable(f"{name} holds no OSV record")
        yield record


def index_records(template: str, components: Iterable[Locked]) -> tuple[list[dict[str, Any]], set[Locked]]:
    """What a package index says of each locked release, as OSV records; and the releases it spoke about.

    An address without {version} speaks of the newest release alone. Raises: Unreadable.
    """
    records: list[dict[str, Any]] = []
    spoken: set[Locked] = set()
    for one in components:
        if one.ecosystem != "PyPI":
            continue
        address = template.replace("{name}", one.name).replace("{version}", one.version)
        try:
            document = json.loads(fetch(address) or b"{}")
        except ValueError as error:
            raise Unreadable(f"{address} holds no JSON: {error}") from error
        if document.get("info", {}).get("version") != one.version or "vulnerabilities" not in document:
            continue
        spoken.add(one)
        for said in document["vulnerabilities"]:
            fixes = [{"fixed": fixed} for fixed in said.get("fixed_in") or []]
            affected = {"package": {"ecosystem": "PyPI", "name": one.name}, "versions": [one.version],
                        "ranges": [{"type": "ECOSYSTEM", "events": fixes}]}  # fmt: skip
            records.append({**said, "affected": [affected]})
    return records, spoken


def fetch(address: str) -> bytes | None:
    """The body at an address, None where there is nothing. Raises: Unreadable."""
    try:
        answer = httpx.get(address, timeout=TIMEOUT_S, follow_redirects=True)
        if answer.status_code == 404:
            return None
        return answer.raise_for_status().content
    except httpx.HTTPError as error:
        raise Unreadable(f"{address} cannot be read: {error}") from error


# --- exceptions and age ----------------------------------------------------------------------------------------------------


def exceptions(path: Path, on: date) -> dict[str, str]:
    """Advisories that are accepted for a time, by id, with the reason. Raises: Unreadable."""
    found: dict[str, str] = {}
    try:
        entries = tomllib.loads(path.read_text("utf-8")).get("accepted", []) if path.exists() else []
        for entry in entries:
            if not entry["reason"].strip() or entry["until"] > on + timedelta(days=366):
                raise Unreadable(f"{path}: {entry['id']} needs a reason, and an end within a year")
            if entry["until"] >= on:
                found[entry["id"]] = entry["reason"]
    except (KeyError, TypeError, AttributeError, tomllib.TOMLDecodeError) as error:
        raise Unreadable(f"{path}: an exception has id, reason and until (a date): {error}") from error
    return found


def lock_age_days(root: Path, on: date) -> int:
    """Days since all versions were last renewed (`make lock UPGRADE=--upgrade` writes the day). Raises: Unreadable."""
    path = root / "requirements/renewed"
    try:
        return (on - date.fromisoformat(path.read_text("utf-8").strip())).days
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} does not say when the locks were renewed: {error}") from error


def show(findings: Sequence[Finding]) -> None:
    rows = [("state", "due", "severity", "component", "advisory", "fixed in", "what")]
    rows += [
        (one.state, one.due, one.severity, f"{one.name} {one.version}", one.id, one.fixed or "-", one.summary)
        for one in findings
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(6)]
    for row in rows if findings else ():
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[6]]).rstrip())


if __name__ == "__main__":
    sys.exit(main())
