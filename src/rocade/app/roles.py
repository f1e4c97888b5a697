"""The process roles: `store`, `gateway`, `worker`, `api`, each a plain function of the configuration; and `all`.

Every role: JSON logs, one event loop, engines opened, "ready" said to the supervisor (pipe) or systemd (notify socket),
its status published each second, SIGTERM or SIGINT -> drain in at most ten seconds -> exit 0 (75 if cut off). Wiring of rooms is in
`rocade.app.wiring`; this file only starts and stops things. A role imports what it is made of when it begins, and nothing of the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import uvloop

from rocade.app import logs
from rocade.app.configuration import Configuration
from rocade.app.supervisor import Supervisor, die_with_parent
from rocade.core.errors import RocadeError
from rocade.fabric.status import StatusBoard

if TYPE_CHECKING:
    from rocade.app.wiring import Part

GC_THRESHOLD = 100_000, 20, 20
"""Connections and caches live long: looking through them often costs 10 % of a core."""
STATUS_S = 1.0
DRAIN_S = 9.0
OVERDUE = 75
"""Exit status of a role whose drain had to be cut off (EX_TEMPFAIL)."""
_log = logging.getLogger("rocade.app")


def run(configuration: Configuration, role: str) -> None:
    """Play one role until told to stop; exits the process with 0 after a clean drain, 1 on a RocadeError at start."""
    logs.configure(role)
    if supervisor := os.environ.get("ROCADE_SUPERVISED"):
        die_with_parent(int(supervisor))
    _raise_file_limit()
    gc.set_threshold(*GC_THRESHOLD)
    try:
        if role == "store":
            from rocade.app.storing import run_store

            run_store(configuration, say_ready)
        else:
            uvloop.run(_ROLES[role](configuration))
    except RocadeError as error:
        _log.critical("cannot run", extra={"facts": {"code": error.code, "detail": error.message}})
        sys.exit(1)


async def _run_gateway(configuration: Configuration) -> None:
    from rocade.app import wiring

    async with wiring.gateway(configuration) as gateway, _played("gateway", gateway):
        pass


async def _run_worker(configuration: Configuration) -> None:
    from rocade.app import wiring

    async with wiring.worker(configuration) as worker, _played("worker", worker):
        pass


async def _run_api(configuration: Configuration) -> None:
    from rocade.app import wiring

    async with wiring.api(configuration) as api, _played("api", api):
        pass


async def _run_relay(configuration: Configuration) -> None:
    from rocade.app import relaying

    async with relaying.relay(configuration) as relay, _played("relay", relay):
        pass


async def _run_exchange(configuration: Configuration) -> None:
    from rocade.app import exchanging

    async with exchanging.exchange(configuration) as exchange, _played("exchange", exchange):
        pass


async def _run_charging(configuration: Configuration) -> None:
    from rocade.app import charging

    async with charging.charging(configuration) as part, _played("charging", part):
        pass


async def _run_sharing(configuration: Configuration) -> None:
    from rocade.app import sharing

    async with sharing.sharing(configuration) as part, _played("sharing", part):
        pass


_ROLES = {
    "gateway": _run_gateway,
    "worker": _run_worker,
    "api": _run_api,
    "exchange": _run_exchange,
    "relay": _run_relay,
    "charging": _run_charging,
    "sharing": _run_sharing,
}


@contextlib.asynccontextmanager
async def _played(role: str, part: Part) -> AsyncIterator[None]:
    """Say ready, publish status until a signal comes, then let the part drain."""
    stopping = stop_event()
    board = StatusBoard(part.database, part.clock)
    process = os.environ.get("ROCADE_PROCESS", f"{role}@{socket.gethostname()}")
    failed = asyncio.create_task(_outlive(part))
    say_ready()
    _log.info("ready")
    while not stopping.is_set():
        with contextlib.suppress(RocadeError, OSError, Exception):
            await board.publish(role, process, {"pid": os.getpid(), **part.status()})
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), STATUS_S)
    _log.info("draining")
    _end_in_time()
    yield
    failed.cancel()
    with contextlib.suppress(Exception):
        await asyncio.wait_for(board.remove(role, process), 2)


async def _outlive(part: Part) -> None:
    """A background task that ends by itself ends the role: the supervisor starts a fresh one."""
    try:
        await part.failed()
    except asyncio.CancelledError:
        raise
    except Exception:
        _log.exception("a part of this role failed; ending the process")
    os._exit(70)


def _end_in_time() -> None:
    """Cut a drain off that waits for an engine which does not answer: what was not acknowledged will be sent again."""

    def give_up() -> None:
        _log.error("the drain took longer than %.0f s and was cut off", DRAIN_S)
        os._exit(OVERDUE)

    overdue = threading.Timer(DRAIN_S, give_up)
    overdue.daemon = True
    overdue.start()


def stop_event() -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets."""
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


def say_ready() -> None:
    """Tell the supervisor's pipe or systemd (sd_notify(3)) that this process serves."""
    if fd := os.environ.pop("ROCADE_READY_FD", ""):
        with contextlib.suppress(OSError):
            os.write(int(fd), b"ready\n")
            os.close(int(fd))
    notify("READY=1")


def notify(message: str) -> None:
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, contextlib.suppress(OSError):
            channel.connect("\0" + address[1:] if address.startswith("@") else address)
            channel.send(message.encode())


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def run_all(configuration: Configuration, say: Callable[[str], Any] = print) -> int:
    """Supervise the whole region on this machine until SIGTERM; the exit code."""
    logs.configure("supervisor")
    supervisor = Supervisor(configuration)
    stopping = stop_event()
    try:
        await supervisor.start()
        say(
            f"rocade {configuration.region}: mqtt {configuration.mqtt.port}, enrolment {configuration.est.port}, "
            f"api {configuration.http.api_port}, pages http://localhost:{configuration.http.pages_port}"
        )
        say_ready()
        await stopping.wait()
        notify("STOPPING=1")
        return 0
    except RocadeError as error:
        _log.critical("cannot run", extra={"facts": {"code": error.code, "detail": error.message}})
        return 1
    finally:
        await supervisor.stop()
