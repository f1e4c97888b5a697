"""A region of its own in a temporary folder, on free ports, run by `rocade serve` as a process; the command line as people use it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from tests.app import forked
from tests.ports import free_port

from rocade.app import configuration as settings
from rocade.app.client import ApiClient
from rocade.core.ports import SystemClock

PROGRAM = (sys.executable, "-m", "rocade")
START_S = 240
COMMAND_S = 240


def mapping_of(**signals: str) -> str:
    """The mapping of a log whose columns beside `time` are these signals."""
    columns = [f'[[column]]\nname = "{name}"\nsignal = "{signal}"\n' for name, signal in signals.items()]
    return "".join(['[time]\ncolumns = ["time"]\n', *columns])


CHARGE = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed"
PLACED = mapping_of(
    speed="Vehicle.Speed",
    charge=CHARGE,
    lat="Vehicle.CurrentLocation.Latitude",
    lon="Vehicle.CurrentLocation.Longitude",
)
"""Of a log with speed, charge and where the car is."""


def rocade(
    *arguments: str | Path,
    code: int = 0,
    environment: dict[str, str] | None = None,
    says: str = "",
    answer: str = "",
    is_fresh: bool = False,
) -> str:
    """Run one command; its standard output. `code` and `says` (on standard error) are what it must end with.

    `is_fresh`: as somebody starts it; else forked from a process that has imported it (`forked`).
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ROCADE_")}
    words, named = [str(one) for one in arguments], {**clean, **(environment or {})}
    if is_fresh:
        done = subprocess.run(
            [*PROGRAM, *words], env=named, input=answer, text=True, capture_output=True, check=False, timeout=COMMAND_S
        )
        ended, out, err = done.returncode, done.stdout, done.stderr
    else:
        ended, out, err = forked.run(words, named, answer, COMMAND_S)
    assert ended == code, f"rocade {arguments} ended with {ended}: {out} {err}"
    assert "Traceback" not in err, err
    assert says in err, err
    return out


STATUS_AGE_US = 1_500_000
"""Processes report what they looked up within the last second."""


class Region:
    """One region; `with region.serving():` runs it."""

    def __init__(self, directory: Path, name: str = "eu") -> None:
        self.directory = directory
        self.name = name
        self.process: subprocess.Popen[str] | None = None
        self.said = ""
        """What `init` printed."""

    def init(self, *, is_fresh: bool = False) -> str:
        """Make it, with free ports on loopback; what `rocade init` printed."""
        said = rocade("init", self.directory, "--region", self.name, is_fresh=is_fresh)
        mqtt, est, api, pages = (free_port() for _ in range(4))
        plain = settings.load(self.directory)
        changed = msgspec.structs.replace(
            plain,
            mqtt=msgspec.structs.replace(plain.mqtt, host="127.0.0.1", port=mqtt, max_connections=500),
            est=msgspec.structs.replace(plain.est, host="127.0.0.1", port=est),
            http=msgspec.structs.replace(plain.http, api_host="127.0.0.1", api_port=api, pages_port=pages),
        )
        (self.directory / "rocade.toml").write_text(settings.render(changed))
        return said

    @property
    def configuration(self) -> settings.Configuration:
        return settings.load(self.directory)

    def rocade(self, *arguments: str | Path, **more: Any) -> str:
        """Run one command on this region."""
        more["environment"] = {"ROCADE_CONFIG": str(self.directory), **more.pop("environment", {})}
        return rocade(*arguments, **more)

    def api(self) -> ApiClient:
        return ApiClient(self.configuration)

    def enrol(self, party: str, out: Path, *arguments: str) -> Path:
        self.rocade("enroll", "--id", party, "--out", out, *arguments)
        return out

    def start(self) -> None:
        with (self.directory.parent / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, "serve", "--config", str(self.directory)],
                stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        readable, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline() if readable else ""
        assert line.startswith(f"rocade {self.name}: mqtt"), (self.directory.parent / "serve.log").read_text()[-2000:]

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(150)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    @contextlib.contextmanager
    def serving(self) -> Iterator[Region]:
        self.start()
        try:
            yield self
        finally:
            self.stop()

    def settled(self, within_s: float = 180) -> None:
        """Return when everything acknowledged is stored and seen."""
        deadline, since_us = time.monotonic() + within_s, SystemClock().now_us() + STATUS_AGE_US
        while time.monotonic() < deadline:
            with self.api() as api:
                said = api.get("/v1/status")["processes"]
            told = {one["role"]: one["values"] for one in said if one["at_us"] > since_us}
            worker, gateway = told.get("worker"), told.get("gateway")
            if worker is None or gateway is None:  # not said since
                time.sleep(0.3)
                continue
            stored = worker.get("batches", -1) + worker.get("held", 0) + worker.get("duplicates", 0)
            if stored >= gateway.get("acknowledged", 0) and worker.get("lag_records") == 0:
                return
            time.sleep(0.3)
        raise AssertionError(f"not settled: {told}")
