"""What is locked here, and whether an OSV record speaks of it: names, versions and severities of three ecosystems.

PyPI: PEP 503 names, PEP 440 versions. npm: semantic versions. Debian: dpkg compares, where the machine has it.
Source: the OSV schema 1.7 (evaluation of `affected`), CVSS 3.1 section 7 (base score).
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
_INSTALLED = ("requirements/demo.txt", "requirements/vehicle.txt", "requirements/dealer.txt", "requirements/node.txt")
"""Locks of what runs somewhere; what stands in the others alone is built and tested with."""


@dataclass(frozen=True, order=True)
class Locked:
    ecosystem: str
    name: str
    version: str
    is_development: bool


def locked(root: Path) -> list[Locked]:
    """Every version this repository locks or asks the machine for, each once."""
    return sorted({*_python(root), *_browser(root), *_debian(root)})


def _python(root: Path) -> set[Locked]:
    installed: set[tuple[str, str]] = set()
    every: set[tuple[str, str]] = set()
    for path in [*sorted((root / "requirements").glob("*.txt")), root / "tools/sslyze.txt"]:
        pins = _PIN.findall(path.read_text("utf-8")) if path.exists() else []
        found = {(str(canonicalize_name(name)), version) for name, version in pins}
        every |= found
        if str(path.relative_to(root)) in _INSTALLED:
            installed |= found
    return {Locked("PyPI", name, version, (name, version) not in installed) for name, version in every}


def _browser(root: Path) -> set[Locked]:
    path = root / "package-lock.json"
    packages = json.loads(path.read_text("utf-8"))["packages"] if path.exists() else {}
    return {
        Locked("npm", at.rpartition("node_modules/")[2], one["version"], bool(one.get("dev")))
        for at, one in packages.items()
        if at and "version" in one
    }


def _debian(root: Path) -> set[Locked]:
    """Those of packages.txt that dpkg installed here; only tests need them."""
    names = system_packages(root)
    if not names or not shutil.which("dpkg-query"):
        return set()
    form = "${binary:Package} ${source:Package} ${Version} ${db:Status-Status}\n"
    said = subprocess.run(["dpkg-query", "-W", "-f", form, *names], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in said.splitlines()]
    return {Locked("Debian", row[1], row[2], is_development=True) for row in rows if row[-1] == "installed"}


def system_packages(root: Path) -> list[str]:
    """Names in packages.txt."""
    path = root / "packages.txt"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [line.split()[0] for line in lines if line.strip() and line[0] != "#"]


# --- does a record speak of it ---------------------------------------------------------------------------------------------


def is_hit(record: dict[str, Any], one: Locked) -> bool:
    """Whether a locked version is among those a record calls affected."""
    return any(
        _is_same(affected.get("package", {}), one)
        and (
            one.version in affected.get("versions", ())
            or any(_within(scope, one) for scope in affected.get("ranges", ()))
        )
        for affected in record.get("affected", ())
    )


def _is_same(package: dict[str, str], one: Locked) -> bool:
    ecosystem, _, release = package.get("ecosystem", "").partition(":")
    name = package.get("name", "")
    if ecosystem == "Debian" and release and release != _debian_release():
        return False
    return ecosystem == one.ecosystem and (str(canonicalize_name(name)) if ecosystem == "PyPI" else name) == one.name


def _within(scope: dict[str, Any], one: Locked) -> bool:
    """Introduced at or before, and neither fixed nor ended by then. The events of a range stand in the order of versions."""
    if scope.get("type") == "GIT":
        return False
    is_in = False
    for event in scope.get("events", ()):
        if "introduced" in event:
            is_in = (
                is_in or event["introduced"] == "0" or not is_before(one.ecosystem, one.version, event["introduced"])
            )
        elif "fixed" in event:
            is_in = is_in and is_before(one.ecosystem, one.version, event["fixed"])
        elif "last_affected" in event:
            is_in = is_in and not is_before(one.ecosystem, event["last_affected"], one.version)
    return is_in


def is_before(ecosystem: str, one: str, other: str) -> bool:
    """Whether one version comes before another, in the order of its ecosystem."""
    return _ORDERS[ecosystem](one, other)


def _python_before(one: str, other: str) -> bool:
    try:
        return Version(one) < Version(other)
    except InvalidVersion:
        return one != other  # what cannot be compared counts as affected


def _npm_before(one: str, other: str) -> bool:
    return _semantic(one) < _semantic(other)


def _semantic(version: str) -> tuple[Any, ...]:
    """A key in the order of semantic versions: a pre-release comes before its release. Source: semver.org, 11."""
    core, _, before = version.partition("+")[0].lstrip("v").partition("-")
    numbers = [int(part) if part.isdecimal() else 0 for part in [*core.split("."), "0", "0"][:3]]
    words = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in before.split(".")] if before else []
    return (*numbers, not before, words)


def _debian_before(one: str, other: str) -> bool:
    return subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=False).returncode == 0


_ORDERS: dict[str, Callable[[str, str], bool]] = {"PyPI": _python_before, "npm": _npm_before, "Debian": _debian_before}


def _debian_release() -> str:
    path = Path("/etc/os-release")
    found = re.search(r'^VERSION_ID="?([\d.]+)', path.read_text("utf-8"), re.MULTILINE) if path.exists() else None
    return found[1] if found else ""


# --- how bad ---------------------------------------------------------------------------------------------------------------


def severity_of(record: dict[str, Any]) -> str:
    """critical | high | medium | low, or unknown: the word of the record's source, else the worst CVSS 3 score."""
    sources = [record, *record.get("affected", ())]
    for source in sources:
        word = str((source.get("database_specific") or {}).get("severity", "")).lower()
        if word := {"moderate": "medium"}.get(word, word):
            return word if word in _WORST else "unknown"
    vectors = [str(one.get("score", "")) for source in sources for one in source.get("severity", ())]
    scores = [score for vector in vectors if (score := cvss3_score(vector)) is not None]
    if not scores:
        return "unknown"
    return next((word for word, least in _WORST.items() if max(scores) >= least), "low")


_WORST = {"critical": 9.0, "high": 7.0, "medium": 4.0, "low": 0.0}
_WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {"U": {"N": 0.85, "L": 0.62, "H": 0.27}, "C": {"N": 0.85, "L": 0.68, "H": 0.5}}


def cvss3_score(vector: str) -> float | None:
    """The base score of a CVSS 3 vector; None for anything else."""
    parts = dict(part.split(":", 1) for part in vector.split("/") if ":" in part)
    if parts.pop("CVSS", "") not in {"3.0", "3.1"}:
        return None
    try:
        weight = {name: values[parts[name]] for name, values in _WEIGHTS.items()}
        changed, privileges = parts["S"] == "C", _PRIVILEGES[parts["S"]][parts["PR"]]
    except KeyError:
        return None
    lost = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (lost - 0.029) - 3.25 * (lost - 0.02) ** 15 if changed else 6.42 * lost
    if impact <= 0:
        return 0.0
    ease = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    whole = min((1.08 if changed else 1.0) * (impact + ease), 10.0)
    tenths = round(whole * 100_000)
    return tenths / 100_000 if tenths % 10_000 == 0 else (math.floor(tenths / 10_000) + 1) / 10
