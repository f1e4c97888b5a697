"""The image of deploy/Containerfile, run by a container engine as its own user and as root.

Needs an image that was built (docs/operate.md): `ROCADE_IMAGE` names it, `ROCADE_CONTAINER` is the engine with its global options
(default `podman`), `ROCADE_CONTAINER_RUN` more options of `run`. Without them there is nothing to test.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

IMAGE = os.environ.get("ROCADE_IMAGE", "")
ENGINE = shlex.split(os.environ.get("ROCADE_CONTAINER", "podman"))
RUN = ["--network", "none", *shlex.split(os.environ.get("ROCADE_CONTAINER_RUN", ""))]
USER_ID = 10001
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not IMAGE or shutil.which(ENGINE[0]) is None, reason="no image named by ROCADE_IMAGE"),
]


def engine(*arguments: str | Path, code: int = 0) -> str:
    done = subprocess.run([*ENGINE, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, f"{arguments}: {done.returncode} {done.stdout} {done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(params=["rocade", "0"])
def container(request: pytest.FixtureRequest) -> Iterator[str]:
    """A region made and served by this user; the container's name."""
    user, name = request.param, f"rocade-test-{os.getpid()}-{request.param}"
    with tempfile.TemporaryDirectory(prefix="rocade-c-") as volume:
        os.chown(volume, *((USER_ID, USER_ID) if user == "rocade" else (0, 0)))
        own = [*RUN, "--user", user, "-v", f"{volume}:/var/lib/rocade"]
        engine("run", "--rm", *own, IMAGE, "init", "/var/lib/rocade/region", "--region", "eu")
        engine("run", "-d", "--name", name, *own, IMAGE)
        try:
            yield name
        finally:
            engine("rm", "-f", name)


def test_the_image_serves_a_region_and_stops_in_time(container: str) -> None:
    until = time.monotonic() + 120
    while "rocade eu: mqtt" not in engine("logs", container):
        assert time.monotonic() < until, engine("logs", container)
        time.sleep(1)
    party = ["--kind", "vehicle", "--id", "VF1AAAAA555111111", "--brand", "renault", "--model", "Twizy"]
    engine("exec", container, "rocade", "enroll", *party, "--out", "/var/lib/rocade/car")
    assert "VF1AAAAA555111111" in engine("exec", container, "rocade", "vehicles")
    assert "gateway" in engine("exec", container, "rocade", "status")
    began = time.monotonic()
    engine("stop", "-t", "30", container)
    assert time.monotonic() - began < 20
    assert engine("inspect", "-f", "{{.State.ExitCode}}", container).strip() == "0"
