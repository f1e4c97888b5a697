"""`make updates`: the newest is asked of pip, npm and apt, each package is answered for, and what is behind has its day."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from programs import tool

from rocade.console import vendor

ROOT = Path(__file__).resolve().parents[2]
ON = date(2026, 11, 22)
RENEWED = date(2026, 11, 1)


matching = tool("advisory_matching")
advisories = tool("advisories")
asking = tool("newest_releases")
updates = tool("updates")
Newest = asking.Newest


def locked(name: str = "soft-ware", version: str = "1.4.0", ecosystem: str = "PyPI", *, tests: bool = False) -> Any:
    return matching.Locked(ecosystem, name, version, tests)


def hold(below: str = "2", until: date = ON) -> Any:
    return updates.Hold("PyPI", "soft-ware", below, "2 loses sockets", until)


# What is locked, the newest, the day of the first release after the locked one, holds -> state, allowed until, newest that counts.
CASES: list[tuple[str, Any, Any, date | None, list[Any], tuple[str, str, str] | None]] = [
    ("newest", locked(), Newest("1.4.0"), None, [], None),
    ("beyond what the registry calls the latest", locked(version="1.5"), Newest("1.4.0"), None, [], None),
    ("seven days old", locked(), Newest("1.4.1"), date(2026, 11, 15), [], ("in time", "2026-11-22", "1.4.1")),
    ("eight days old", locked(), Newest("1.4.1"), date(2026, 11, 14), [], ("overdue", "2026-11-21", "1.4.1")),
    ("only tested with", locked(tests=True), Newest("1.4.1"), date(2026, 10, 23), [], ("in time", "2026-11-22", "1.4.1")),
    ("the same a day later", locked(tests=True), Newest("1.4.1"), date(2026, 10, 22), [], ("overdue", "2026-11-21", "1.4.1")),
    ("no day", locked(), Newest("1.4.1"), None, [], ("overdue", "2026-11-08", "1.4.1")),
    ("no day, tests", locked(tests=True), Newest("1.4.1"), None, [], ("in time", "2026-12-01", "1.4.1")),
    ("held", locked(version="1.9"), Newest("2.0"), date(2026, 1, 1), [hold()], ("held", "2026-11-22", "2.0")),
    ("held, old line renewed", locked(), Newest("2.0"), date(2026, 11, 14), [hold()], ("overdue", "2026-11-21", "1.9")),
    ("the hold has ended", locked(version="1.9"), Newest("2.0"), date(2026, 1, 1), [hold(until=date(2026, 11, 21))], ("overdue", "2026-01-08", "2.0")),
    ("a hold of an older line", locked(version="2.0"), Newest("2.1"), date(2026, 1, 1), [hold()], ("overdue", "2026-01-08", "2.1")),
    ("others hold it", locked("a", tests=True, ecosystem="npm"), Newest("9.0.0", "b, c"), None, [], ("held by others", "", "9.0.0")),
    ("others hold what is installed", locked("a", ecosystem="npm"), Newest("9.0.0", "b"), date(2026, 1, 1), [], ("overdue", "2026-01-08", "9.0.0")),
]  # fmt: skip


@pytest.mark.parametrize(("one", "newest", "day", "holds", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])  # fmt: skip
def test_what_is_behind_has_its_day(
    one: Any, newest: Any, day: date | None, holds: list[Any], expected: tuple[str, str, str] | None
) -> None:
    found = updates.judge({one: newest}, holds, RENEWED, ON, lambda *_: day, lambda _: ["1.8", "1.9", "2.0", "2.1"])
    assert [(row.state, row.until, row.newest) for row in found] == ([expected] if expected else [])


type Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The tool, with these answers instead of package managers."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/renewed").write_text(RENEWED.isoformat())
    (tmp_path / "tools").mkdir()
    monkeypatch.setattr(asking, "released", lambda *_: date(2026, 11, 20))

    def again(answers: dict[Any, Any] | Exception, on: date = ON, held: str = "") -> tuple[int, dict[str, Any]]:
        def newest_of(_: Path) -> dict[Any, Any]:
            if isinstance(answers, Exception):
                raise answers
            return answers

        monkeypatch.setattr(asking, "newest_of", newest_of)
        (tmp_path / "tools/updates.toml").write_text(held)
        output = tmp_path / "updates.json"
        output.unlink(missing_ok=True)
        code = updates.main(["--root", str(tmp_path), "--output", str(output)], on)
        return code, json.loads(output.read_text()) if output.exists() else {}

    return again


def test_the_end_is_good_only_if_nothing_is_overdue(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    answers = {locked(): Newest("1.4.1"), locked("other"): Newest("1.4.0")}
    code, report = run(answers)
    assert (code, report["components"], [row["state"] for row in report["behind"]]) == (0, 2, ["in time"])
    assert "PyPI soft-ware" in capsys.readouterr().out
    assert run(answers, on=date(2026, 11, 28))[0] == 1
    code, report = run({}, on=RENEWED + timedelta(days=advisories.RENEWED_DAYS + 1))
    assert (code, report["locks_overdue"]) == (1, True)


def test_what_cannot_be_asked_is_not_called_good(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(asking.NotAsked("npm cannot be run")) == (2, {})
    assert "npm cannot be run" in capsys.readouterr().err
    entry = '[[held]]\necosystem = "PyPI"\nname = "soft-ware"\nbelow = "2"\nreason = "{}"\nuntil = {}\n'
    assert run({}, held=entry.format("loses sockets", "2027-11-01"))[0] == 0
    assert run({}, held=entry.format(" ", "2027-11-01"))[0] == 2
    assert run({}, held=entry.format("loses sockets", "2028-01-01"))[0] == 2
    assert run({}, held='[[held]]\nname = "soft-ware"\n')[0] == 2


# --- how pip, npm and apt are asked -----------------------------------------------------------------------------------------

PROGRAM = """#!{python}
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
said = json.load(open(folder + "/answers.json"))
words = " ".join(sys.argv[1:])
key = next((key for key in said if key in words), None)
code, text = said[key] if key else (64, "not expected: " + words)
(sys.stdout if code in (0, 1) and text[:1] != "!" else sys.stderr).write(text.lstrip("!") + "\\n")
sys.exit(code)
"""


@pytest.fixture
def managers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """A repository of a few locked packages, and programs in the place of pip, npm and apt that say what they are told."""
    root, programs = tmp_path / "repository", tmp_path / "bin"
    (root / "requirements").mkdir(parents=True)
    (root / "requirements/demo.txt").write_text("Soft_Ware==1.4.0 \\\n    --hash=sha256:00\n")
    (root / "package.json").write_text(
        json.dumps({"dependencies": {"map": "6.0.0"}, "devDependencies": {"tester": "1.0.0"}})
    )
    packages = {
        "": {}, "node_modules/map": {"version": "6.0.0"},
        "node_modules/tester": {"version": "1.0.0", "dev": True}, "node_modules/old": {"version": "0.9.0", "dev": True},
    }  # fmt: skip
    (root / "package-lock.json").write_text(json.dumps({"packages": packages}))
    (root / "packages.txt").write_text("# none\ncurl   curl\nstrace   strace\n")
    programs.mkdir()
    for name in ("pip", "npm", "apt-get", "apt-cache"):
        (programs / name).write_text(PROGRAM.format(python=sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(asking, "PIP", [str(programs / "pip")])
    monkeypatch.setattr(asking, "locked", lambda at: [one for one in matching.locked(at) if one.ecosystem != "Debian"])

    def row(current: str, wanted: str, latest: str, dependent: str, at: str) -> dict[str, str]:
        return {"current": current, "wanted": wanted, "latest": latest, "dependent": dependent, "location": f"/x/{at}"}

    outdated = {
        "map": row("6.0.0", "6.0.0", "7.0.0", "repository", "node_modules/map"),
        "old": [
            row("0.9.0", "0.9.0", "3.0.0", "tester", "node_modules/old"),
            row("0.9.0", "0.9.5", "3.0.0", "map", "node_modules/old"),
        ],
        "optional": {"wanted": "1.0.0", "latest": "1.0.0", "dependent": "map", "location": ""},
    }
    policy = "curl:\n  Installed: 7.88.1-14\n  Candidate: 7.88.1-15\nstrace:\n  Installed: (none)\n  Candidate: 6.1\n"
    usual = {
        "list --outdated": (0, json.dumps([{"name": "Soft.Ware", "version": "0", "latest_version": "1.5.0"}])),
        "ci ": (0, ""), "outdated": (1, json.dumps(outdated)), "update --package-lock-only": (0, ""),
        "update": (0, ""), "policy": (0, policy),
    }  # fmt: skip

    def told(**changed: tuple[int, str]) -> Path:
        said = {**usual, **{key.replace("_", " "): answer for key, answer in changed.items()}}
        (programs / "answers.json").write_text(json.dumps(said))
        return root

    yield told
    asking._index_versions.cache_clear()
    asking._npm_days.cache_clear()


def test_each_manager_is_asked_for_what_it_has_locked(managers: Callable[..., Path]) -> None:
    answers = asking.newest_of(managers())
    assert answers == {
        locked("soft-ware", "1.4.0"): Newest("1.5.0"),
        locked("map", "6.0.0", "npm"): Newest("7.0.0"),
        locked("tester", "1.0.0", "npm", tests=True): Newest("1.0.0"),
        locked("old", "0.9.0", "npm", tests=True): Newest("3.0.0", "tester"),
        locked("curl", "7.88.1-14", "Debian", tests=True): Newest("7.88.1-15"),
    }


SILENT = [
    ({"list_--outdated": (0, "[]")}, "nobody knows soft-ware"),
    ({"list_--outdated": (2, "no index")}, "no index"),
    ({"list_--outdated": (0, "no JSON")}, "answered no JSON"),
    ({"ci_": (1, "!no registry")}, "no registry"),
    ({"outdated": (1, '{"error": {"code": "E503", "summary": "busy"}}')}, "busy"),
    ({"update_--package-lock-only": (1, "!E404 map")}, "E404 map"),
    ({"update": (100, "no mirror")}, "no mirror"),
    ({"policy": (0, "curl:\n  Installed: 7\n  Candidate: (none)\n")}, "apt does not know curl"),
]


@pytest.mark.parametrize(("changed", "why"), SILENT, ids=[case[1] for case in SILENT])
def test_whoever_does_not_answer_is_named(
    changed: dict[str, tuple[int, str]], why: str, managers: Callable[..., Path]
) -> None:
    root = managers(**changed)
    with pytest.raises(asking.NotAsked, match=why):
        asking.newest_of(root)


def test_a_missing_manager_is_named(
    managers: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = managers()
    (tmp_path / "bin/npm").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(vendor, "find_spec", lambda _: None)
    with pytest.raises(asking.NotAsked, match="npm is missing"):
        asking.newest_of(root)


def test_days_of_npm_count_from_the_first_release_after_the_locked_one(managers: Callable[..., Path]) -> None:
    days = {"created": "2020-01-01T00:00:00Z", "6.0.0": "2026-01-01T00:00:00Z", "6.1.0-beta": "2026-02-01T00:00:00Z",
            "6.1.0": "2026-03-01T00:00:00Z", "7.0.0": "2026-04-01T00:00:00Z"}  # fmt: skip
    managers(view_map=(0, json.dumps(days)))
    one = locked("map", "6.0.0", "npm")
    assert asking.released(one, "7.0.0", ON) == date(2026, 3, 1)
    assert asking.released(one, "6.0.0", ON) is None
    assert asking.releases(one) == ["6.0.0", "6.1.0", "7.0.0"]


# --- what the documents and the lists say -----------------------------------------------------------------------------------


def test_the_days_for_mends_are_those_of_the_documents() -> None:
    page = (ROOT / "docs/updates.md").read_text("utf-8")
    installed, tested = updates._days(locked()), updates._days(locked(tests=True))
    assert (
        f"**{installed}** days for what is installed, **{tested}** for what is only built and tested with"
        in page.replace("\n", " ")
    )


def test_every_hold_has_a_reason_and_an_end_and_holds_something() -> None:
    written = date.fromisoformat((ROOT / "requirements/renewed").read_text("utf-8").strip())
    components = matching.locked(ROOT)
    for one in updates.read_holds(ROOT / "tools/updates.toml", written):
        assert any(updates._hold_of(component, [one]) for component in components), (
            f"{one.name} holds nothing: remove it"
        )


def test_what_the_pages_load_of_others_is_locked_and_not_in_the_repository() -> None:
    installed = {one.name for one in matching.locked(ROOT) if one.ecosystem == "npm" and not one.is_development}
    sources = {"/".join(file.split("/")[: 2 if file[0] == "@" else 1]) for file in vendor.FILES}
    assert sources <= installed
    tracked = subprocess.run(["git", "ls-files", "src"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not [
        at for at in tracked.splitlines() if "/vendor/" in at or at.endswith((".min.js", ".min.css", ".woff2", ".wasm"))
    ]


# --- with the real programs -------------------------------------------------------------------------------------------------


class Index(BaseHTTPRequestHandler):
    """A package index of one package, with days of upload or, below /dateless, without."""

    files: ClassVar = {"1.4.0": "2026-01-01", "1.4.1": "2026-11-10", "1.5.0": "2026-11-20", "2.0rc1": "2026-02-01"}

    def do_GET(self) -> None:
        days = {} if self.path.startswith("/dateless") else self.files
        is_known = "soft-ware" in self.path
        files = [
            {
                "filename": f"soft_ware-{version}-py3-none-any.whl",
                "url": f"/soft_ware-{version}-py3-none-any.whl",
                "hashes": {},
            }
            | ({"upload-time": f"{days[version]}T12:00:00Z"} if days else {})
            for version in self.files
        ]
        said = {"meta": {"api-version": "1.1"}, "name": "soft-ware", "versions": list(self.files), "files": files}
        self.send_response(200 if is_known else 404)
        self.send_header("Content-Type", "application/vnd.pypi.simple.v1+json")
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is said."""


@pytest.mark.slow
def test_pip_tells_the_newest_and_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    server = HTTPServer(("127.0.0.1", 0), Index)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        for place, day in (("", date(2026, 11, 10)), ("dateless/", None)):
            monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/{place}")
            monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
            asking._index_versions.cache_clear()
            assert asking._python([locked(), locked("unknown")]) == {locked(): Newest("1.5.0")}
            assert asking.released(locked(), "1.5.0", ON) == day
    finally:
        asking._index_versions.cache_clear()
        server.shutdown()
        thread.join(5)
        server.server_close()


@pytest.mark.slow
def test_the_real_indexes_answer_for_every_locked_package(tmp_path: Path) -> None:
    """Whether something is overdue changes by the day and is the command's to say; that everything is answered for is not."""
    output = tmp_path / "updates.json"
    command = [sys.executable, str(ROOT / "tools/updates.py"), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2 and "know" not in done.stderr:
        pytest.skip(f"no package index can be asked here: {done.stderr.strip().splitlines()[-1]}")
    report = json.loads(output.read_text("utf-8"))
    assert report["components"] >= len([one for one in matching.locked(ROOT) if one.ecosystem != "Debian"])
    assert done.returncode == int(any(row["state"] == "overdue" for row in report["behind"]) or report["locks_overdue"])
