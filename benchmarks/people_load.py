"""The load of the people benchmark, a lean program of its own: raw HTTP/1.1 over mutual TLS, kept alive.

    people_load.py read DIRECTORY PORT SECONDS CONNECTIONS PATH < references
        one request after the other on each connection, a random vehicle each; prints counts, times and own CPU as JSON
    people_load.py stream DIRECTORY PORT < references
        one open event stream a vehicle; prints `open N` when all are, then `<ref> <instant>` as each ends

PATH holds `REF`; DIRECTORY is a party's identity with its access token in `token` ('' = none). The clock is CLOCK_MONOTONIC, shared by all processes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from pathlib import Path

import uvloop

from rocade.trust.identity.tls import client_context

WARM_S = 2.0


class Reader(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._held = b""
        self._missing = 0
        self._status = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP only
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._sent_s = time.perf_counter()
        self._transport.write(self._load.request())

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._held += data
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            at = self._held.find(b"content-length: ") + 16
            length = int(self._held[at : self._held.index(b"\r", at)])
            self._status = int(self._held[9:12])
            self._missing = end + 4 + length - len(self._held)
            if self._status != 200:
                self._load.refused[self._status] = self._load.refused.get(self._status, 0) + 1
            self._held = b""
        if self._missing == 0:
            self._load.done(time.perf_counter() - self._sent_s)
            if self._load.is_running:
                self._ask()
            else:
                self._transport.close()


class Load:
    """What all readers share."""

    def __init__(self, path: str, token: str, refs: list[str]) -> None:
        self._before, _, after = path.partition("REF")
        bearer = f"authorization: Bearer {token}\r\n" if token else ""
        self._after = f"{after} HTTP/1.1\r\nhost: localhost\r\n{bearer}\r\n"
        self._refs = refs
        self.took_s: list[float] = []
        self.refused: dict[int, int] = {}
        self.is_running = True

    def request(self) -> bytes:
        return f"GET {self._before}{random.choice(self._refs)}{self._after}".encode()

    def done(self, took_s: float) -> None:
        self.took_s.append(took_s)


async def read(directory: Path, port: int, seconds: float, connections: int, path: str, refs: list[str]) -> None:
    load = Load(path, (directory / "token").read_text(), refs)
    context, loop = client_context(directory), asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Reader(load), "localhost", port, ssl=context)
    await asyncio.sleep(WARM_S)
    load.took_s.clear()
    begin_s, cpu_s = time.perf_counter(), time.process_time()
    print("warm", flush=True)
    await asyncio.sleep(seconds)
    took_s, elapsed_s = sorted(load.took_s), time.perf_counter() - begin_s
    used_s = time.process_time() - cpu_s
    load.is_running = False
    told = {
        "rate": len(took_s) / elapsed_s,
        "p50_ms": took_s[len(took_s) // 2] * 1e3,
        "p99_ms": took_s[int(len(took_s) * 0.99)] * 1e3,
        "cpu_us": used_s / len(took_s) * 1e6,
        "count": len(took_s),
        "refused": load.refused,
    }
    print(json.dumps(told), flush=True)


class Listener(asyncio.Protocol):
    """One open stream; says when its `ended` event came, and how many values after that."""

    def __init__(self, ref: str, request: bytes, opened: asyncio.Future[None]) -> None:
        self._ref, self._request, self._opened = ref, request, opened
        self._ended = False
        self.events = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP only
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"event: twin")
        if not self._opened.done() and b"event: twin" in data:
            self._opened.set_result(None)
        if b"event: ended" in data:
            self._ended = True
            after = data.partition(b"event: ended")[2].count(b"event: twin")
            print(f"{self._ref} {time.monotonic():.6f} {after}", flush=True)
        elif self._ended and b"event: twin" in data:
            print(f"{self._ref} {time.monotonic():.6f} 1", flush=True)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended:
            print(f"{self._ref} lost {error}", flush=True)


async def stream(directory: Path, port: int, refs: list[str]) -> None:
    context, loop = client_context(directory), asyncio.get_running_loop()
    token = (directory / "token").read_text()
    opened: list[asyncio.Future[None]] = []
    listeners: list[Listener] = []
    for ref in refs:
        request = f"GET /v1/stream?purpose=insurance&ref={ref} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
        opened.append(loop.create_future())
        listener = Listener(ref, request.encode(), opened[-1])
        listeners.append(listener)
        await loop.create_connection(lambda listener=listener: listener, "localhost", port, ssl=context)  # type: ignore[misc]
    await asyncio.gather(*opened)
    print(f"open {len(refs)}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(f"events {sum(listener.events for listener in listeners)}", flush=True)


def main() -> None:
    mode, directory, port, *rest = sys.argv[1:]
    refs = sys.stdin.readline().split()
    if mode == "read":
        seconds, connections, path = float(rest[0]), int(rest[1]), rest[2]
        uvloop.run(read(Path(directory), int(port), seconds, connections, path, refs))
    else:
        uvloop.run(stream(Path(directory), int(port), refs))


if __name__ == "__main__":
    main()
