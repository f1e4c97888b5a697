"""The newest release of everything locked, asked of the package managers themselves: pip, npm and apt, as each is set up here.

pip: one `pip list --outdated` over a folder that claims version 0 of every package, so that each one is answered for and silence
shows; days of release by `pip index versions --uploaded-prior-to` (PEP 700). npm: `npm ci` of the lock in a private folder, `npm
outdated --all` over it, days by `npm view`. apt: a private copy of the package lists, `apt-cache policy`; it tells no day.
Refuses: whatever a manager does not answer (NotAsked), a package that it does not know among it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rocade.console.vendor import npm
from rocade.core.errors import Misconfigured

sys.path.insert(0, str(Path(__file__).parent))
from advisory_matching import Locked, is_before, locked, system_packages

PIP = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
NPM_QUIET = ["--ignore-scripts", "--no-audit", "--no-fund"]
LOCKS_OWN = {"PIP_CONFIG_FILE": "/dev/null", "PIP_FIND_LINKS": "", "LC_ALL": "C.UTF-8"}
"""The index that tools/lock.sh asks, and no folder of wheels besides: those have no day of release."""
TIMEOUT_S = 600
_LONGEST_AGO_DAYS = 1000


class NotAsked(Exception):
    """A package manager that is missing, failed, or did not answer for everything."""


@dataclass(frozen=True)
class Newest:
    version: str
    holders: str = ""
    """Packages that need this one and allow nothing newer than what is locked."""


def newest_of(root: Path) -> dict[Locked, Newest]:
    """Every component with its newest release. Raises: NotAsked."""
    components = [one for one in locked(root) if one.ecosystem != "Debian"]
    answers = _python([one for one in components if one.ecosystem == "PyPI"])
    answers |= _npm(root, [one for one in components if one.ecosystem == "npm"])
    if silent := [one.name for one in components if one not in answers]:
        raise NotAsked(f"nobody knows {', '.join(silent)}")
    return answers | _debian(root)


def releases(one: Locked) -> list[str]:
    """The versions there are of a package, without pre-releases. Raises: NotAsked."""
    if one.ecosystem == "PyPI":
        return _index_versions(one.name) or []
    return list(_npm_days(one.name)) if one.ecosystem == "npm" else []


def released(one: Locked, newest: str, on: date) -> date | None:
    """The day the first release after the locked one came out, up to `newest`; None where nobody tells. Raises: NotAsked."""

    def is_between(version: str) -> bool:
        return is_before(one.ecosystem, one.version, version) and not is_before(one.ecosystem, newest, version)

    if one.ecosystem != "Debian":
        _say(f"{one.ecosystem}: since when {one.name} {one.version} is behind")
    if one.ecosystem == "npm":
        return min((day for version, day in _npm_days(one.name).items() if is_between(version)), default=None)
    if one.ecosystem != "PyPI" or _index_versions(one.name, on) is None:
        return None

    def was_none_yet(days_ago: int) -> bool:
        known = _index_versions(one.name, on - timedelta(days=days_ago)) or ()
        return not any(is_between(version) for version in known)

    return on - timedelta(days=max(0, bisect_left(range(_LONGEST_AGO_DAYS), True, key=was_none_yet) - 1))


# --- pip --------------------------------------------------------------------------------------------------------------------


def _python(components: Sequence[Locked]) -> dict[Locked, Newest]:
    names = sorted({one.name for one in components})
    _say(f"pip: the newest of {len(names)} packages")
    with TemporaryDirectory() as folder:
        for name in names:
            claim = Path(folder) / f"{name.replace('-', '_')}-0.dist-info"
            claim.mkdir()
            (claim / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n", "utf-8")
        rows = _decoded(_run([*PIP, "list", "--outdated", "--format=json", "--path", folder]))
    newest = {re.sub(r"[-_.]+", "-", row["name"]).lower(): row["latest_version"] for row in rows}
    return {one: Newest(newest[one.name]) for one in components if one.name in newest}


@functools.cache
def _index_versions(name: str, until: date | None = None) -> list[str] | None:
    """Versions uploaded by the end of that day; None if the index tells no days. Raises: NotAsked."""
    within = ["--uploaded-prior-to", f"{until + timedelta(days=1)}T00:00:00Z"] if until else []
    done = _run([*PIP, "index", "versions", name, "--json", *within], allowed=(0, 1))
    if done.returncode == 0:
        return list(_decoded(done)["versions"])
    if "upload-time" in done.stderr:
        return None
    if until and "No matching distribution" in done.stderr:
        return []
    raise NotAsked(f"pip does not answer for {name}: {_last(done.stderr)}")


# --- npm --------------------------------------------------------------------------------------------------------------------


def _npm(root: Path, components: Sequence[Locked]) -> dict[Locked, Newest]:
    if not components:
        return {}
    _say(f"npm: the newest of {len(components)} packages")
    with TemporaryDirectory() as folder:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(root / name, Path(folder) / name)
        _run([*_command(), "ci", *NPM_QUIET], folder)
        outdated = _decoded(_run([*_command(), "outdated", "--all", "--json"], folder, allowed=(0, 1)))
        # That passes over what the registry does not know; resolving everything anew does not.
        _run([*_command(), "update", "--package-lock-only", *NPM_QUIET], folder)
    if isinstance(failed := outdated.get("error"), dict) and "summary" in failed:
        raise NotAsked(f"npm does not answer: {failed['summary']}")
    package = json.loads((root / "package.json").read_text("utf-8"))
    ours = {*package.get("dependencies", {}), *package.get("devDependencies", {})}
    rows = {name: found if isinstance(found, list) else [found] for name, found in outdated.items()}
    return {one: _npm_newest(one, rows.get(one.name, []), ours) for one in components}


def _npm_newest(one: Locked, rows: Sequence[dict[str, str]], ours: set[str]) -> Newest:
    """The newest there is, and those that need this one and want what is locked. A pin of our own holds nothing."""
    newest, holders = one.version, set()
    for row in rows:
        if row.get("current") != one.version:
            continue
        if is_before("npm", newest, row["latest"]):
            newest = row["latest"]
        is_ours = one.name in ours and row["location"].count("node_modules/") == 1
        if row["wanted"] == one.version and not is_ours:
            holders.add(row["dependent"])
    return Newest(newest, ", ".join(sorted(holders)))


def _command() -> list[str]:
    try:
        return npm()
    except Misconfigured as error:
        raise NotAsked(str(error)) from error


@functools.cache
def _npm_days(name: str) -> dict[str, date]:
    """Releases with their days. Raises: NotAsked."""
    said = _decoded(_run([*_command(), "view", name, "time", "--json"]))
    return {version: date.fromisoformat(at[:10]) for version, at in said.items() if re.fullmatch(r"[\d.]+", version)}


# --- apt --------------------------------------------------------------------------------------------------------------------


def _debian(root: Path) -> dict[Locked, Newest]:
    """Those of packages.txt that are installed here; none where there is no apt."""
    names = system_packages(root)
    if not names or not shutil.which("apt-cache"):
        return {}
    _say(f"apt: the newest of {len(names)} packages")
    with TemporaryDirectory() as folder:
        for place in ("lists", "cache"):
            (Path(folder) / place).mkdir()
        own = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        sandbox = ["-o", "APT::Sandbox::User="]  # a private folder is not open to the user _apt
        _run(["apt-get", "-qq", *own, *sandbox, "-o", "APT::Update::Error-Mode=any", "update"])
        said = _run(["apt-cache", *own, "policy", *names]).stdout
    found = re.findall(r"^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)", said, re.MULTILINE)
    if unknown := [name for name, version, newest in found if "(none)" in newest and "(none)" not in version]:
        raise NotAsked(f"apt does not know {', '.join(unknown)}")
    return {
        Locked("Debian", name, version, is_development=True): Newest(newest)
        for name, version, newest in found
        if "(none)" not in version
    }


# --- running them -----------------------------------------------------------------------------------------------------------


def _run(
    command: Sequence[str], folder: str | None = None, allowed: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL, env={**os.environ, **LOCKS_OWN},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAsked(f"{command[0]} cannot be run: {error}") from error
    if done.returncode not in allowed:
        raise NotAsked(f"{' '.join(command[:4])} ended with {done.returncode}: {_last(done.stderr)}")
    return done


def _decoded(done: subprocess.CompletedProcess[str]) -> Any:
    try:
        return json.loads(done.stdout or "{}")
    except ValueError as error:
        raise NotAsked(f"{done.args[0]} answered no JSON: {_last(done.stderr)}") from error


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["no word"])[-1][:300]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
