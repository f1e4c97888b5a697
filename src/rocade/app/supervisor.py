"""Runs one region on one machine: embedded PostgreSQL, then a process per role, restarted when one dies.

Flow: start the database, migrate, spawn a process per role of `roles_of` (`store` first; each says "ready" on an
inherited pipe), watch. A process that ends unasked is started again after a growing pause, the embedded PostgreSQL too:
its address stays, so the roles reconnect by themselves. `stop` drains in the order
of the road: gateway (finishes its commit and answers) and api, worker (commits and hands its leases over), store, database.
A control socket takes one-line JSON requests from the pages' "pull the plug" corner when chaos is allowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from rocade.app.configuration import Configuration
from rocade.core.errors import Misconfigured, Refused, RocadeError, Unavailable
from rocade.fabric.database import EmbeddedPostgres, migrate

PID_FILE = "supervisor.pid"
READY_S = 180.0
"""A role that ends is told at once; one that is slow may be on a machine that has much else to do."""
DRAIN_S = 10.0
DATABASE_CHECK_S = 0.2
PROGRAM = (sys.executable, "-m", "rocade")
_log = logging.getLogger("rocade.app")

MIGRATED = (
    "rocade.fabric.database",
    "rocade.fabric.log",
    "rocade.fabric.status",
    "rocade.trust.authority",
    "rocade.trust.authority.sealing",
    "rocade.trust.authority.erasure",
    "rocade.trust.authority.people",
    "rocade.trust.authority.machines",
    "rocade.trust.authority.applications",
    "rocade.services.vehicles",
    "rocade.services.consent",
    "rocade.services.telemetry",
    "rocade.services.interconnection",
    "rocade.services.showcase",
    "rocade.services.crossing",
    "rocade.services.battery",
    "rocade.services.charging.grid",
    "rocade.services.dealers",
    "rocade.services.prices",
    "rocade.services.exchange",
    "rocade.services.charging.stations",
    "rocade.services.charging",
    "rocade.services.sharing",
)
"""Every package that owns tables, in the order of the house."""


def roles_of(configuration: Configuration) -> tuple[str, ...]:
    """The roles one machine plays for a whole region."""
    more = {
        "exchange": configuration.exchange.processes,
        "relay": configuration.relay.port,
        "charging": configuration.charging.processes,
        "sharing": configuration.sharing.processes,
    }
    return ("store", "worker", "gateway", "api", *(role for role, wanted in more.items() if wanted))


type Control = Callable[[dict[str, str]], Awaitable[dict[str, object]]]


class RoleProcess:
    """One child process that plays a role; keeps it alive until asked to stop."""

    def __init__(
        self,
        configuration: Configuration,
        role: str,
        number: int,
        database_url: str,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.name = role if number == 0 else f"{role}-{number}"
        self.role = role
        self.restarts = 0
        self._program = program
        self._directory = configuration.root
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"},  # ours alone to tell
            "ROCADE_DATABASE_URL": database_url,
            "ROCADE_SUPERVISED": str(os.getpid()),
            "ROCADE_PROCESS": self.name,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Spawn and return when the process says it is ready.

        Raises: Unavailable `app.role.not_ready` with the end of its log.
        """
        read_fd, write_fd = os.pipe()
        log = self._directory / "logs" / f"{self.name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._program,
                "serve",
                "--config",
                str(self._directory / "rocade.toml"),
                "--role",
                self.role,
                env={**self._environment, "ROCADE_READY_FD": str(write_fd)},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(write_fd,),
                start_new_session=True,
            )
        os.close(write_fd)
        is_ready = await _wait_ready(read_fd)
        if not is_ready:
            await self._end(signal.SIGKILL)
            tail = log.read_bytes()[-1500:].decode(errors="replace").strip().splitlines()[-6:]
            raise Unavailable("app.role.not_ready", f"{self.name} did not start; see {log}\n" + "\n".join(tail))
        self._watch = asyncio.create_task(self._keep_alive())

    async def _keep_alive(self) -> None:
        assert self._process is not None
        began = time.monotonic()
        await self._process.wait()
        if self._stopping:
            return
        pause_s = 0.2
        while not self._stopping:
            self.restarts += 1
            await asyncio.sleep(pause_s if time.monotonic() - began < 30 else 0.0)
            with contextlib.suppress(Unavailable):
                await self.start()
                return
            pause_s = min(pause_s * 2, 5.0)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.returncode is None else None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process as it is; a kill is followed by a restart."""
        if self.pid is not None:
            os.kill(self.pid, number)

    async def stop(self, limit_s: float = DRAIN_S) -> None:
        """SIGTERM, wait for the drain, SIGKILL after `limit_s`."""
        self._stopping = True
        await self._end(signal.SIGTERM, limit_s)
        if self._watch is not None:
            self._watch.cancel()

    async def _end(self, number: int, limit_s: float = DRAIN_S) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            await asyncio.wait_for(self._process.wait(), limit_s)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _wait_ready(read_fd: int) -> bool:
    """True when the child writes to its ready pipe, False when it closes it or time is up."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(read_fd)
        if not answer.done():
            answer.set_result(bool(os.read(read_fd, 16)))

    loop.add_reader(read_fd, readable)
    try:
        return await asyncio.wait_for(answer, READY_S)
    except TimeoutError:
        loop.remove_reader(read_fd)
        return False
    finally:
        os.close(read_fd)


class Supervisor:
    """The whole region on this machine. `configuration.database_url` set = no embedded PostgreSQL is started.

    `program` is how a role is started; fault tests put seams around it.
    """

    def __init__(self, configuration: Configuration, program: Sequence[str] = PROGRAM) -> None:
        self.configuration = configuration
        self.database_restarts = 0
        self.database_url = configuration.database_url
        self.processes: list[RoleProcess] = []
        self._program = program
        self._postgres: EmbeddedPostgres | None = None
        self._database_watch: asyncio.Task[None] | None = None
        self._scrubbing: asyncio.Task[None] | None = None
        self._is_ended = asyncio.Event()
        self._control: asyncio.AbstractServer | None = None
        self._control_path = configuration.socket_directory / "control.sock"
        self.extra_control: dict[str, Control] = {}

    async def start(self, roles: tuple[str, ...] = ()) -> None:
        """Start the database and these roles; none named = those the configuration wants."""
        from rocade.app import last_settings, scrubbing
        from rocade.app.sealing import seal_older_rows  # with every service; the roles import this module too

        configuration = self.configuration
        roles = roles or roles_of(configuration)
        found = last_settings.tell(configuration.root)
        configuration.socket_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (configuration.socket_directory / PID_FILE).write_text(str(os.getpid()))
        if not self.database_url:
            self._postgres = EmbeddedPostgres(configuration.root / "postgres")
            self.database_url = await asyncio.to_thread(self._postgres.start)
            self._database_watch = asyncio.create_task(self._keep_database(self._postgres))
        await asyncio.to_thread(migrate, self.database_url, MIGRATED)
        await seal_older_rows(configuration, self.database_url)
        await last_settings.settle(configuration, self.database_url, found)
        if self._postgres is not None:
            self._scrubbing = await scrubbing.begin(
                configuration, self.database_url, self._postgres, lambda: self.database_restarts, self._is_ended
            )
        for role in roles:
            if role == "store" and not configuration.owns_store:
                continue
            count = {
                "worker": configuration.worker.processes,
                "api": configuration.http.processes,
                "exchange": configuration.exchange.processes,
                "charging": configuration.charging.processes,
                "sharing": configuration.sharing.processes,
            }.get(role, 1)
            self.processes += [
                RoleProcess(configuration, role, number, self.database_url, self._program) for number in range(count)
            ]
        by_role = {process.role: process for process in self.processes}
        if store := by_role.get("store"):
            await store.start()
        await asyncio.gather(*(process.start() for process in self.processes if process.role != "store"))

    async def _keep_database(self, postgres: EmbeddedPostgres) -> None:
        """Start the server again when it has died, whoever killed it; a start that fails is tried again ever more rarely."""
        pause_s = DATABASE_CHECK_S
        while not self._is_ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_ended.wait(), pause_s)
            pause_s = DATABASE_CHECK_S if postgres.is_running else min(pause_s * 2, 5.0)
            if self._is_ended.is_set() or postgres.is_running:
                continue
            self.database_restarts += 1
            try:
                await asyncio.to_thread(postgres.restart)
                _log.warning("the embedded database had died and runs again")
            except (RocadeError, OSError) as error:
                _log.error("the embedded database does not start: %s", error)

    @property
    def database_pid(self) -> int | None:
        """The embedded server's main process; None when there is none or it has died."""
        return self._postgres.pid if self._postgres else None

    async def allow_chaos(self) -> None:
        """Open the control socket (mode 0600) through which the pages may kill, cut and fill."""
        self._control_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._control_path.unlink(missing_ok=True)
        self._control = await asyncio.start_unix_server(self._serve_control, str(self._control_path))
        self._control_path.chmod(0o600)

    async def _serve_control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = msgspec.json.decode(await asyncio.wait_for(reader.readline(), 10), type=dict[str, str])
            answer = await self.control(request)
        except RocadeError as error:
            answer = {"error": error.code, "detail": error.message}
        except (msgspec.DecodeError, TimeoutError) as error:
            answer = {"error": "app.control.malformed", "detail": str(error)}
        with contextlib.suppress(ConnectionError):
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
        writer.close()

    async def control(self, request: dict[str, str]) -> dict[str, object]:
        """Carry out one request: `{"do": "kill", "role": ...}`, `fill`, `free`, or one a demo added.

        Raises: Refused `app.control.unknown`.
        """
        match request:
            case {"do": "kill", "role": "database"} if (pid := self.database_pid) is not None:
                os.kill(pid, signal.SIGKILL)
                return {"killed": "database"}
            case {"do": "kill", "role": role}:
                victims = [process for process in self.processes if process.role == role]
                if not victims:
                    raise Refused("app.control.unknown", f"no process plays {role}")
                for process in victims[:1]:
                    process.kill()
                return {"killed": victims[0].name}
            case {"do": "fill" | "free" as act}:
                set_ballast(self.configuration, is_full=act == "fill")
                return {"disk": "full" if act == "fill" else "free"}
            case {"do": act} if act in self.extra_control:
                return await self.extra_control[act](request)
        raise Refused("app.control.unknown", "ask for kill, fill, free, cut or totals")

    @property
    def restarts(self) -> int:
        return sum(process.restarts for process in self.processes) + self.database_restarts

    async def stop(self) -> None:
        """Drain along the road, in `DRAIN_S` altogether; idempotent."""
        if self._control is not None:
            self._control.close()
            self._control_path.unlink(missing_ok=True)
        set_ballast(self.configuration, is_full=False)
        end_s = time.monotonic() + DRAIN_S
        for roles in (("gateway", "api", "exchange", "relay", "charging", "sharing"), ("worker",), ("store",)):
            limit_s = max(end_s - time.monotonic(), 1.0)
            await asyncio.gather(*(process.stop(limit_s) for process in self.processes if process.role in roles))
        self._is_ended.set()
        if self._database_watch is not None:
            await self._database_watch
        if self._scrubbing is not None:
            await asyncio.wait([self._scrubbing], timeout=DRAIN_S)
            self._scrubbing.cancel()
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
            self._postgres = None
        (self.configuration.socket_directory / PID_FILE).unlink(missing_ok=True)

    async def __aenter__(self) -> Supervisor:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def ballast_path(configuration: Configuration) -> Path:
    """A file that makes the disk guard believe the disk is full: the "fill the disk" fault, harmless to the host."""
    return configuration.socket_directory / "disk-full"


def set_ballast(configuration: Configuration, *, is_full: bool) -> None:
    path = ballast_path(configuration)
    if is_full:
        path.write_text("pretended by the pull-the-plug corner\n")
    else:
        path.unlink(missing_ok=True)


async def ask_control(configuration: Configuration, request: dict[str, str]) -> dict[str, object]:
    """Send one request to the supervisor of this region.

    Raises: Refused `app.control.closed` when chaos is not allowed here, or what the supervisor refused.
    """
    path = configuration.socket_directory / "control.sock"
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError as error:
        raise Refused("app.control.closed", "faults are only allowed in `rocade demo --chaos`") from error
    writer.write(msgspec.json.encode(request) + b"\n")
    answer = msgspec.json.decode(await reader.readline(), type=dict[str, object])
    writer.close()
    if "error" in answer:
        raise Refused(str(answer["error"]), str(answer.get("detail", "")))
    return answer


def die_with_parent(supervisor_pid: int) -> None:
    """Ask Linux to end this process when its supervisor ends (prctl PR_SET_PDEATHSIG). In a container that may be process 1.

    Raises: Misconfigured `app.supervisor.gone`.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != supervisor_pid:
        raise Misconfigured("app.supervisor.gone", "the supervisor ended before this process began")
