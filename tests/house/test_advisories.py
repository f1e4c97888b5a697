"""`make advisories`: what is locked is found, advisories hit the right versions, each has its day, and silence is no clean bill."""

from __future__ import annotations

import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from programs import tool

ROOT = Path(__file__).resolve().parents[2]
ON = date(2026, 11, 22)
NETWORK = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


matching = tool("advisory_matching")
advisories = tool("advisories")


def record(
    id: str, ecosystem: str, name: str, *events: dict[str, str], published: str = "2026-11-20", **more: Any
) -> Any:
    kind = "SEMVER" if ecosystem == "npm" else "ECOSYSTEM"
    affected = {"package": {"ecosystem": ecosystem, "name": name}, "ranges": [{"type": kind, "events": list(events)}]}
    return {
        "id": id,
        "published": f"{published}T00:00:00Z",
        "summary": f"{id} in short",
        "affected": [affected],
        **more,
    }


type Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The tool over a small repository with these records in a folder."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/renewed").write_text("2026-11-01\n")
    (tmp_path / "requirements/demo.txt").write_text("Soft_Ware==1.4.0 \\\n    --hash=sha256:00\n")
    (tmp_path / "requirements/check.txt").write_text("soft-ware==1.4.0\nlinter==2.0rc1 ; python_version > '3'\n")
    packages = {
        "": {},
        "node_modules/map": {"version": "6.0.0-beta.2"},
        "node_modules/@a/b": {"version": "1.2.3", "dev": True},
    }
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": packages}))
    (tmp_path / "tools").mkdir()
    (tmp_path / "osv").mkdir()

    def again(*records: Any, source: str = "", only: str = "", on: date = ON) -> tuple[int, dict[str, Any]]:
        for one in records:
            (tmp_path / f"osv/{one['id']}.json").write_text(json.dumps(one))
        output = tmp_path / "advisories.json"
        output.unlink(missing_ok=True)
        arguments = ["--root", str(tmp_path), "--output", str(output), "--source", source or str(tmp_path / "osv")]
        code = advisories.main([*arguments, *(["--only", only] if only else [])], on)
        return code, json.loads(output.read_text()) if output.exists() else {}

    return again


FIXED = ({"introduced": "0"}, {"fixed": "1.4.1"})
OTHERS = (
    record("GHSA-n", "npm", "nobody", {"introduced": "0"}),
    record("PYSEC-0", "PyPI", "nobody", {"introduced": "0"}),
)


def test_every_locked_version_of_this_repository_is_found() -> None:
    found = matching.locked(ROOT)
    names = {(one.ecosystem, one.name): one for one in found}
    assert not names["PyPI", "cryptography"].is_development
    assert names["PyPI", "pytest"].is_development
    assert not names["npm", "uplot"].is_development
    assert len([one for one in found if one.ecosystem == "PyPI"]) > 100


def test_a_hole_has_its_day_by_severity_and_is_overdue_after_it(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    hit = record("PYSEC-1", "PyPI", "soft.ware", *FIXED, severity=[{"type": "CVSS_V3", "score": NETWORK}])
    code, report = run(hit, *OTHERS)
    (found,) = report["findings"]
    assert (code, found["severity"], found["fixed"], found["due"], found["state"]) == (
        0, "critical", "1.4.1", "2026-11-27", "in time"
    )  # fmt: skip
    code, report = run(on=date(2026, 11, 28))
    assert (code, report["findings"][0]["state"]) == (1, "overdue")
    assert "PYSEC-1" in capsys.readouterr().out


DUE = [
    ("soft-ware", "PyPI", {"database_specific": {"severity": "MODERATE"}}, "medium", "2026-12-20"),
    ("soft-ware", "PyPI", {"severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]}, "low", "2027-02-18"),
    ("soft-ware", "PyPI", {"severity": [{"type": "CVSS_V4", "score": "CVSS:4.0/AV:N"}]}, "unknown", "2026-11-27"),
    ("linter", "PyPI", {"database_specific": {"severity": "CRITICAL"}}, "critical", "2026-12-20"),
    ("@a/b", "npm", {}, "unknown", "2026-12-20"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "ecosystem", "more", "severity", "due"), DUE)
def test_days_follow_severity_and_where_it_is_used(
    name: str, ecosystem: str, more: dict[str, Any], severity: str, due: str, run: Run
) -> None:
    _, report = run(record("X-1", ecosystem, name, {"introduced": "0"}, **more))
    assert [(one["severity"], one["due"]) for one in report["findings"]] == [(severity, due)]


RANGES: list[tuple[str, str, str, tuple[dict[str, str], ...], bool]] = [
    ("PyPI", "soft-ware", "1.4.0", FIXED, True),
    ("PyPI", "soft-ware", "1.4.1", FIXED, False),
    ("PyPI", "soft-ware", "1.4.1rc1", FIXED, True),
    ("PyPI", "soft-ware", "1.10", ({"introduced": "1.9"}, {"last_affected": "1.10"}), True),
    ("PyPI", "soft-ware", "1.8", ({"introduced": "1.9"},), False),
    ("PyPI", "soft-ware", "3.0", ({"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}), True),
    ("PyPI", "soft-ware", "2.5", ({"introduced": "1"}, {"fixed": "2"}, {"introduced": "3"}, {"fixed": "4"}), False),
    ("npm", "map", "6.0.0-beta.2", ({"introduced": "0"}, {"fixed": "6.0.0"}), True),
    ("npm", "map", "6.0.0-beta.2", ({"introduced": "0"}, {"fixed": "6.0.0-beta.2"}), False),
    ("npm", "map", "6.0.0-beta.11", ({"introduced": "6.0.0-beta.2"},), True),
    ("npm", "map", "10.0.0", ({"introduced": "9.0.0"}, {"fixed": "9.9.9"}), False),
]


@pytest.mark.parametrize(("ecosystem", "name", "version", "events", "hits"), RANGES)
def test_a_range_hits_the_versions_it_says(
    ecosystem: str, name: str, version: str, events: tuple[dict[str, str], ...], hits: bool
) -> None:
    one = matching.Locked(ecosystem, name, version, False)
    assert matching.is_hit(record("X", ecosystem, name, *events), one) is hits
    assert not matching.is_hit(record("X", ecosystem, "another", *events), one)


SCORES = [
    (NETWORK, 9.8),
    ("CVSS:3.1/AV:N/AC:L/PR:L/UI:R/S:C/C:L/I:L/A:N", 5.4),
    ("CVSS:3.0/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
    ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
    ("CVSS:4.0/AV:N/AC:L", None),
    ("CVSS:3.1/AV:N", None),
]


@pytest.mark.parametrize(("vector", "score"), SCORES)
def test_scores_are_those_of_the_standards_calculator(vector: str, score: float | None) -> None:
    assert matching.cvss3_score(vector) == score


def test_what_is_accepted_has_a_reason_and_an_end(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hit = record("PYSEC-1", "PyPI", "soft-ware", *FIXED, published="2026-01-01", aliases=["CVE-2026-1"])
    path = tmp_path / "tools/advisories.toml"
    path.write_text('[[accepted]]\nid = "CVE-2026-1"\nreason = "never called"\nuntil = 2026-12-01\n')
    code, report = run(hit, *OTHERS)
    assert (code, report["findings"][0]["state"]) == (0, "accepted")
    assert run(on=date(2026, 12, 2))[0] == 1
    path.write_text('[[accepted]]\nid = "CVE-2026-1"\nreason = " "\nuntil = 2026-12-01\n')
    assert run()[0] == 2
    assert "needs a reason" in capsys.readouterr().err


def test_withdrawn_advisories_do_not_count_and_old_locks_do(run: Run) -> None:
    withdrawn = record("PYSEC-1", "PyPI", "soft-ware", *FIXED, published="2026-01-01", withdrawn="2026-02-01T00:00:00Z")
    code, report = run(withdrawn, *OTHERS)
    assert (code, report["findings"], report["lock_age_days"]) == (0, [], 21)
    code, report = run(on=date(2027, 2, 10))
    assert (code, report["locks_overdue"]) == (1, True)


def test_silence_is_no_clean_bill(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, report = run(record("PYSEC-0", "PyPI", "nobody", {"introduced": "0"}))
    assert (code, report["judged"], report["components"]) == (2, 2, 4), "nobody spoke of npm"
    (tmp_path / "osv/broken.json").write_text("{")
    assert run()[0] == 2
    assert run(source=str(tmp_path / "nowhere"))[0] == 2
    monkeypatch.delenv("ROCADE_ADVISORIES", raising=False)
    assert advisories.main(["--root", str(tmp_path), "--output", str(tmp_path / "x.json")], ON) == 2


def test_an_ecosystems_export_is_read_from_its_archive(run: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("PYSEC-1.json", json.dumps(record("PYSEC-1", "PyPI", "soft-ware", *FIXED)))
    code, report = run(source=str(tmp_path / "all.zip"), only="soft-ware")
    assert (code, [one["id"] for one in report["findings"]]) == (0, ["PYSEC-1"])


@pytest.fixture
def index() -> Iterator[str]:
    """The JSON interface of a package index that knows one release."""
    said = {
        "info": {"version": "1.4.0"},
        "vulnerabilities": [{"id": "PYSEC-7", "fixed_in": ["1.4.2"], "details": "bad"}],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.path in {"/soft-ware/1.4.0", "/soft-ware"}
            self.send_response(200 if is_known else 404)
            self.end_headers()
            self.wfile.write(json.dumps(said).encode() if is_known else b"")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is said."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(5)
    server.server_close()


@pytest.mark.parametrize("template", ["{name}/{version}", "{name}"])
def test_a_package_indexs_json_interface_is_a_source(run: Run, index: str, template: str) -> None:
    code, report = run(source=f"{index}/{template}")
    assert (code, report["judged"]) == (2, 1), "the linter is not known there, npm neither"
    assert [(one["id"], one["fixed"], one["severity"]) for one in report["findings"]] == [
        ("PYSEC-7", "1.4.2", "unknown")
    ]


def test_the_days_are_those_of_the_documents() -> None:
    page = (ROOT / "docs/updates.md").read_text("utf-8")
    days = advisories.DAYS
    assert f"| critical, high, unknown | {days['critical']} | {advisories.DEVELOPMENT_DAYS} |" in page
    assert days["critical"] == days["high"] == days["unknown"]
    assert f"| medium | {days['medium']} | {advisories.DEVELOPMENT_DAYS} |" in page
    assert f"| low | {days['low']} | {days['low']} |" in page
    assert f"{advisories.RENEWED_DAYS} days" in page


def test_the_day_the_locks_were_renewed_is_written_down() -> None:
    written = (ROOT / "requirements/renewed").read_text("utf-8").strip()
    assert advisories.lock_age_days(ROOT, date.fromisoformat(written)) == 0
    assert "date -u +%F >requirements/renewed" in (ROOT / "tools/lock.sh").read_text("utf-8")
