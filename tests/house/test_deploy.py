"""The service units and the container file, as far as they can be proven without systemd running or a container engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy").glob("*.service"))
CONTAINERFILE = (ROOT / "deploy/Containerfile").read_text("utf-8")


def settings(unit: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.read_text("utf-8").splitlines() if re.match(r"[A-Z]\w+=", line))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_hardened_drains_on_sigterm_and_keeps_to_its_folder(unit: Path) -> None:
    found = settings(unit)
    assert found["Type"] == "notify"
    assert found["User"] == "rocade"
    assert found["KillMode"] == "mixed", "SIGTERM must reach the supervisor alone"
    assert int(found["TimeoutStopSec"]) >= 30
    assert (found["ProtectSystem"], found["NoNewPrivileges"], found["CapabilityBoundingSet"]) == ("strict", "yes", "")
    assert int(found["LimitNOFILE"]) >= 20_512


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text("utf-8").replace("/opt/rocade/bin/rocade", "/bin/true"))
    name = unit.name.replace("@.", "@gateway.")
    (tmp_path / name).write_text(copy.read_text())
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert unit.name.split("@")[0] not in done.stderr


def test_both_units_protect_alike() -> None:
    one, other = (settings(unit) for unit in UNITS)
    differing = {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert differing <= {"Description", "ExecStart", "TimeoutStopSec"}


def test_the_container_is_built_from_plain_names_with_hashes_and_runs_as_a_named_user() -> None:
    bases = re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE)
    assert bases == ["python:3.12-slim", "python:3.12-slim"]
    assert "://" not in CONTAINERFILE
    installs = re.findall(r"pip install [^\n\\&]*", CONTAINERFILE)
    assert all("--require-hashes" in install or "--no-index" in install for install in installs)
    assert re.search(r"^USER rocade$", CONTAINERFILE, re.MULTILINE)
    assert 'ENTRYPOINT ["rocade"]' in CONTAINERFILE


def test_everything_the_container_copies_exists() -> None:
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE):
        assert all((ROOT / source).exists() for source in sources.split())
