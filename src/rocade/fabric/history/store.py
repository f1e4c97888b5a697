"""The `store` process: owns the history directory and serves it on a local socket.

Flow: lock and open the directory with its key -> listen -> serve until SIGTERM or SIGINT -> let running requests end -> exit 0.
Started as a program of its own, the 32 bytes of the key come on standard input; parts written in clear by an earlier version
are moved to the encrypted disk meanwhile.
A watchdog asks the engine for `SELECT 1`; if no answer comes for `HANG_S`, the process ends with status 70, so that its
supervisor starts a fresh one (engine hangs have happened, see docs/decisions/0005-history.md); so it ends when a merge was cut off by
the disk (`parts`). Safe under kill -9: an insert is answered
after fsync of its part and of the directory.
Refuses: a directory owned by another process, a socket path longer than the system allows.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chdb import ChdbError

from rocade.core.errors import Misconfigured, RocadeError
from rocade.fabric.history import disk
from rocade.fabric.history.engine import Engine
from rocade.fabric.history.http_shape import Server

HANG_S = 60.0
PARTS_S = 5.0
DRAIN_S = 8.0
_log = logging.getLogger(__name__)


def serve(
    directory: Path | str, socket_path: Path | str, key: bytes, on_ready: Callable[[], object] = lambda: None
) -> None:
    """Serve until told to stop; call it in the main thread of a process of its own.

    Raises: Misconfigured `history.directory.owned`, `history.socket.path`, `history.key`.
    """
    engine = Engine(Path(directory), key)
    server = Server(engine, listen(Path(socket_path)))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
    threading.Thread(target=_watch, args=(engine,), daemon=True, name="history-watchdog").start()
    threading.Thread(target=_watch_parts, args=(engine,), daemon=True, name="history-parts").start()
    threading.Thread(target=_move_past, args=(engine,), daemon=True, name="history-seal").start()
    _log.info("history store ready")
    on_ready()
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    Path(socket_path).unlink(missing_ok=True)
    if not server.in_flight.wait_idle(DRAIN_S):
        _log.warning("history store stops with requests still running; they were not acknowledged")
    os._exit(
        0
    )  # the engine needs no farewell: what was answered is on disk, and closing it waits for abandoned streams


def listen(path: Path) -> socket.socket:
    """Bind a socket only its owner may open. The directory lock is held, so a file found there is a leftover.

    Raises: Misconfigured `history.socket.path`.
    """
    if len(os.fsencode(path)) > 107:
        raise Misconfigured(
            "history.socket.path", "the store's socket path is longer than 107 bytes; use a shorter directory"
        )
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def _move_past(engine: Engine) -> None:
    """Once a start: what an earlier version wrote in clear goes to the encrypted disk. Broken off, it goes on next time."""
    session = engine.session()
    try:
        if moved := disk.move_past(session):
            _log.warning("%d partitions that lay in clear are on the encrypted disk now", moved)
    except (ChdbError, RuntimeError):
        _log.exception("parts in clear could not be moved to the encrypted disk; tried again at the next start")
    finally:
        session.close()


def _watch_parts(engine: Engine) -> None:
    """End when a merge was cut off by the disk: the next start goes back to what was merged, while that is still there."""
    session = engine.session()
    while True:
        time.sleep(PARTS_S)
        try:
            broken = session.check_parts()
        except (ChdbError, RuntimeError, OSError):
            _log.exception("new parts of the history could not be checked")
            continue
        if broken:
            _log.critical("parts were cut off by the disk, ending this process: %s", ", ".join(broken))
            os._exit(70)


def _watch(engine: Engine) -> None:
    answered_s = [time.monotonic()]

    def beat() -> None:
        session = engine.session()
        while True:
            session.run("SELECT 1", "TabSeparated", {})
            answered_s[0] = time.monotonic()
            time.sleep(HANG_S / 12)

    threading.Thread(target=beat, daemon=True, name="history-heartbeat").start()
    while time.monotonic() - answered_s[0] < HANG_S:
        time.sleep(1)
    _log.critical("the history engine has not answered for %d s; ending this process", HANG_S)
    os._exit(70)


if __name__ == "__main__":
    try:
        serve(sys.argv[1], sys.argv[2], sys.stdin.buffer.read(disk.KEY_BYTES))
    except RocadeError as error:
        sys.exit(str(error))
