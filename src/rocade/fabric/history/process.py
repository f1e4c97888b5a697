"""Start and stop a `store` process of one's own: for `rocade demo`, tests and benchmarks.

Flow: spawn `python -m rocade.fabric.history.store` -> the key goes through its standard input -> wait until its socket answers -> URL for `connect`.
Refuses: what the store refuses; its message is passed on.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from pathlib import Path

from rocade.core.errors import Misconfigured, Unavailable
from rocade.core.ports import SystemRandom
from rocade.fabric.history.disk import KEY_BYTES

START_S = 60.0


class StoreProcess:
    """One store process over `directory`, listening on `directory/store.sock`.

    Without a `key` it has one of its own: what it holds can be opened through this object alone.
    """

    def __init__(self, directory: Path, key: bytes = b"") -> None:
        self.directory = directory
        self._key = key or SystemRandom().bits(8 * KEY_BYTES).to_bytes(KEY_BYTES)
        self.socket_path = directory / "store.sock"
        self.url = f"chdb+unix://{self.socket_path.absolute()}"
        self._said = directory / "store.err"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Unavailable("history.down", "the store process was not started")
        return self._process.pid

    def start(self) -> str:
        """Return the URL once the store answers. Raises: Misconfigured `history.start`, Unavailable `history.down`."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "rocade.fabric.history.store", str(self.directory), str(self.socket_path)]
        with self._said.open("w") as said:
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said)
        _give(self._process, self._key)
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                reason = self._said.read_text().strip().splitlines() or ["no reason given"]
                raise Misconfigured("history.start", f"the store process ended at start: {reason[-1]}")
            if self._answers():
                return self.url
            time.sleep(0.02)
        self.kill()
        raise Unavailable("history.down", f"the store process did not answer within {START_S:.0f} s")

    def stop(self) -> int:
        """SIGTERM, wait, and return the exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket_path))
            except OSError:
                return False
        return True


def _give(process: subprocess.Popen[bytes], key: bytes) -> None:
    """Hand the key over; a process that has ended already says why by itself."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(key)
