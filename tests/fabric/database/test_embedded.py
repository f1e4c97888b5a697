"""The embedded server: private, without accounts or permissions changed, gone with its owner, back after any kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from rocade.core.errors import Misconfigured
from rocade.fabric.database import Database, EmbeddedPostgres, privilege
from rocade.fabric.database.embedded import WATCH, wheel_binaries

AS_NORMAL_USER = [] if os.geteuid() else privilege.NAMESPACE


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path that everybody may pass through, as /var/lib is."""
    with tempfile.TemporaryDirectory(prefix="rocade-e-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


LAUNCHER = pytest.mark.parametrize(
    "release", ["18", pytest.param("15", marks=pytest.mark.slow)], indirect=True, scope="session"
)
"""What our launcher does, whichever server it starts: on PostgreSQL 15 with the slow tests."""

type Make = Callable[[Path], EmbeddedPostgres]


@pytest.fixture
def make(binaries: Path | None) -> Make:
    """A server of this release over a home."""
    return lambda home: EmbeddedPostgres(home, binaries=binaries)


def query(url: str, statement: str) -> object:
    async def run() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().split()[0])


def machine_state(home: Path) -> list[object]:
    """Accounts, and owner and mode of everything on the way to the home."""
    accounts = [Path(name).read_bytes() for name in ("/etc/passwd", "/etc/group")]
    return accounts + [(str(path), path.stat().st_mode, path.stat().st_uid) for path in home.parents]


@LAUNCHER
def test_no_account_is_made_and_no_permission_outside_the_home_changes(folder: Path, make: Make) -> None:
    home = folder / "private" / "deep" / "home"
    home.parent.mkdir(parents=True)
    (folder / "private").chmod(0o700)
    before = machine_state(home)
    server = make(home)
    url = server.start()
    assert query(url, "SELECT 1") == 1
    assert machine_state(home) == before
    server.stop()
    assert machine_state(home) == before
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_nobody_enters_without_the_password_and_nothing_listens_on_a_network(folder: Path, make: Make) -> None:
    server = make(folder / "home")
    url = server.start()
    try:
        rules = (folder / "home" / "data" / "pg_hba.conf").read_text().splitlines()
        methods = {line.split()[-1] for line in rules if line.strip() and not line.startswith("#")}
        assert methods == {"scram-sha-256"}
        password = folder / "home" / "password"
        assert stat.S_IMODE(password.stat().st_mode) == 0o600
        assert password.read_text().rsplit(":", 1)[1].strip() not in url
        (folder / "wrong").write_text("*:*:*:*:guess")
        (folder / "wrong").chmod(0o600)
        with pytest.raises(asyncpg.InvalidPasswordError):
            query(url.replace(str(password), str(folder / "wrong")), "SELECT 1")
        assert query(url, "SHOW listen_addresses") == ""
        assert [query(url, f"SHOW {name}") for name in ("fsync", "synchronous_commit", "full_page_writes")] == [
            "on"
        ] * 3
    finally:
        server.stop()


@LAUNCHER
def test_a_home_deeper_than_a_socket_path_may_be_works(folder: Path, make: Make) -> None:
    server = make(folder / ("x" * 100) / "home")
    url = server.start()
    assert query(url, "SELECT 1") == 1
    sockets = Path(url.split("host=")[1].split("&")[0])
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    server.stop()
    assert not sockets.exists()


@LAUNCHER
def test_a_second_start_over_a_running_one_is_refused(folder: Path, make: Make) -> None:
    first, second = make(folder / "home"), make(folder / "home")
    url = first.start()
    with pytest.raises(Misconfigured, match=r"database\.running"):
        second.start()
    assert query(url, "SELECT 1") == 1
    first.stop()
    assert query(second.start(), "SELECT 1") == 1
    second.stop()


def test_what_was_committed_is_there_after_kill_9_and_a_restart(folder: Path, make: Make) -> None:
    server = make(folder / "home")
    url = server.start()
    query(url, "CREATE TABLE kept AS SELECT 42 AS n")
    os.kill(postmaster(folder / "home"), signal.SIGKILL)
    server.stop()
    assert not server.is_running
    assert query(server.start(), "SELECT n FROM kept") == 42
    server.stop()


@LAUNCHER
def test_the_server_ends_when_its_owner_is_killed(folder: Path, make: Make, binaries: Path | None) -> None:
    home = folder / "home"
    program = f"""
import time
from pathlib import Path, PosixPath
from rocade.fabric.database import EmbeddedPostgres
server = EmbeddedPostgres(Path({str(home)!r}), binaries={binaries!r})
print(server.start(), flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline()
        pid = postmaster(home)
        owner.kill()
    ends = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists() and time.monotonic() < ends:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    successor = make(home)
    assert query(successor.start(), "SELECT 1") == 1
    successor.stop()


def test_a_server_that_does_not_hear_its_stop_ends_all_the_same() -> None:
    deaf = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
print("up", flush=True)
time.sleep(250)
"""
    watched = ["/bin/sh", "-c", WATCH, "watch", "1", sys.executable, "-c", deaf]
    with subprocess.Popen(watched, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"up\n"
        shell.stdin.close()
        assert shell.wait(60) == 128 + signal.SIGQUIT


def test_a_normal_user_runs_it_directly(folder: Path, binaries: Path | None) -> None:
    program = f"""
import os
from pathlib import Path, PosixPath
from rocade.fabric.database import EmbeddedPostgres, privilege
assert os.geteuid() != 0
server = EmbeddedPostgres(Path({str(folder / "home")!r}), binaries={binaries!r})
server.start()
assert privilege.choose(Path("/"), Path("/")).prefix == []
server.stop()
"""
    subprocess.run([*AS_NORMAL_USER, sys.executable, "-c", program], check=True, timeout=110)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@LAUNCHER
@pytest.mark.parametrize("is_readable", [True, False])
def test_without_namespaces_root_runs_it_as_nobody(
    folder: Path,
    binaries: Path | None,
    monkeypatch: pytest.MonkeyPatch,
    is_readable: bool,  # a column of the table
) -> None:
    monkeypatch.setattr(privilege, "NAMESPACE", ["false"])
    package = (binaries or wheel_binaries()).parents[1]
    shutil.copytree((binaries or wheel_binaries()).parent, folder / "package" / "postgres", symlinks=True)
    if binaries is None:
        shutil.copytree(package.parent / privilege.LIBRARIES, folder / privilege.LIBRARIES)
    (folder / "package").chmod(0o755 if is_readable else 0o700)
    accounts = machine_state(folder / "home")
    server = EmbeddedPostgres(folder / "home", binaries=folder / "package" / "postgres" / "bin")
    url = server.start()
    assert query(url, "SELECT 1") == 1
    assert Path(f"/proc/{postmaster(folder / 'home')}").stat().st_uid == privilege.NOBODY
    assert (folder / "home" / "postgresql").exists() is not is_readable
    server.stop()
    assert machine_state(folder / "home") == accounts


@LAUNCHER
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_where_nobody_cannot_work_either_the_error_names_the_way_out(
    folder: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privilege, "NAMESPACE", ["false"])
    folder.chmod(0o700)
    with pytest.raises(Misconfigured, match="ROCADE_DATABASE_URL"):
        make(folder / "inner" / "home").start()


async def test_this_is_the_release_it_says(database: Database, release: str) -> None:
    assert (await database.pool.fetchval("SHOW server_version")).split(".")[0] == release


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(os.geteuid() != 0, reason="this is the other user already")
def test_all_of_this_package_passes_as_another_user_too(tmp_path: Path) -> None:
    here = Path(__file__).parent
    tests = ["-m", "not slow", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", str(here)]
    done = subprocess.run(
        [*privilege.NAMESPACE, sys.executable, "-m", "pytest", *tests],
        cwd=here.parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
