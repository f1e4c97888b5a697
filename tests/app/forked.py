"""The `rocade` command in a process of its own, forked from one that has imported it already.

To import what a command needs costs ten times what most commands cost, and tests run hundreds. `run` hands arguments,
environment, folder and three files to the forking process, which has no threads; the child gets them as its own and runs
`rocade.app.cli.main` to its end, exit handlers included. What it cannot show is that a command imports all it uses: `stand`
starts a few commands anew (`is_fresh`), `rocade serve` always.

As a program (`python forked.py FD`) this file is that forking process; it ends with the one that started it.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LONGEST_BYTES = 1 << 20


def run(
    arguments: Sequence[str], environment: Mapping[str, str], answer: str, timeout_s: float
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as error:
        given.write(answer.encode())
        given.seek(0)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            files = [given.fileno(), said.fileno(), error.fileno(), theirs.fileno()]
            socket.send_fds(
                _forker(os.getpid()), [json.dumps([arguments, {**environment}, str(Path.cwd())]).encode()], files
            )
            theirs.close()
            ours.settimeout(timeout_s)
            code = int(ours.recv(16) or b"-1")
        texts = []
        for file in (said, error):
            file.seek(0)
            texts.append(file.read().decode().replace("\r\n", "\n"))
    return code, texts[0], texts[1]


@functools.cache
def _forker(_owner: int) -> socket.socket:
    """Where to ask for a command: of this process, not of one that it was forked from."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()])
    return ours


def anew() -> None:
    """The next command is forked from a process that starts then, for who has changed what a program finds when it starts."""
    _forker.cache_clear()


def _serve(asked: socket.socket) -> None:
    """Fork for each request, and tell how its child ended; returns in the child, as that command."""
    waiting = selectors.DefaultSelector()
    waiting.register(asked, selectors.EVENT_READ)
    while True:
        for key, _ in waiting.select():
            if key.data is not None:
                pid, told = key.data
                waiting.unregister(key.fd)
                os.close(key.fd)
                told.sendall(b"%d" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                told.close()
                continue
            request, files, _, _ = socket.recv_fds(asked, LONGEST_BYTES, 4)
            if not request:
                os._exit(0)
            if (pid := os.fork()) == 0:
                waiting.close()
                asked.close()
                _become(request, files)
                return
            for file in files[:3]:
                os.close(file)
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, socket.socket(fileno=files[3])))


def _become(request: bytes, files: Sequence[int]) -> None:
    arguments, environment, folder = json.loads(request)
    for number, file in enumerate(files[:3]):
        os.dup2(file, number)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["rocade", *arguments]


if __name__ == "__main__":
    import gc

    import httpx  # noqa: F401

    import rocade.agents.vehicle.replay
    import rocade.app.doctor
    import rocade.app.initialise
    import rocade.app.local
    import rocade.trust.identity.est_client  # noqa: F401
    from rocade.app.cli import main

    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main(prog_name="rocade")
