"""The MQTT door alone: CPU per message, acknowledgement latency, memory of idle connections, a fleet reconnecting at once.

The intake only waits 5 ms per tick, so that the figures are the door's own. The generator is `load.Fleet`; its CPU is
printed beside. Peers in the same run: the same codec and group commit on `asyncio.start_server(ssl=...)`, with asyncio
and with uvloop, to show what the door's own sockets save.

`python benchmarks/door.py [--full] [--only throughput|idle] [--kinds ...]` prints a table and writes build/bench/door.json.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing as mp
import os
import platform
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import uvloop

from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Meter, Publish, Verdict
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.issuers import IssuerTable
from rocade.wire import mqtt as wire
from silent import Silent

sys.path.insert(0, str(Path(__file__).parent))
from load import Fleet, Report, raise_file_limit, write_vehicles

COMMIT_S = 0.005
BODY_BYTES = {"small": 100, "batch": 1400}


class WaitingIntake:
    """Durable after 5 ms, like a good disk."""

    async def admit(self, client: Client) -> object:
        return client.identity.id

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        await asyncio.sleep(COMMIT_S)
        return [None] * len(publishes)

    async def leave(self, context: object) -> None:
        pass


class StreamDoor:
    """The peer: what one writes with asyncio's streams. Same codec, same tick, same acknowledgements."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.meter = Meter()
        self._context = context
        self._tick: list[tuple[asyncio.StreamWriter, int]] = []
        self._waiting = asyncio.Event()

    async def open(self, host: str, port: int) -> int:
        server = await asyncio.start_server(self._serve, host, port, ssl=self._context, backlog=4096)
        self._daemon = asyncio.get_running_loop().create_task(self._commit())
        return int(server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = wire.Decoder()
        while data := await self._read(reader):
            for packet in decoder.feed(data):
                match packet:
                    case wire.Publish(packet_id=packet_id):
                        self._tick.append((writer, packet_id))
                        self._waiting.set()
                    case wire.Connect():
                        writer.write(wire.encode(wire.Connack(), 4))
                    case _:
                        pass
        writer.close()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(65_536)
        except OSError:
            return b""

    async def _commit(self) -> None:
        while True:
            await self._waiting.wait()
            await asyncio.sleep(0.002)
            tick, self._tick = self._tick, []
            self._waiting.clear()
            await asyncio.sleep(COMMIT_S)
            replies: dict[asyncio.StreamWriter, list[int]] = {}
            for writer, packet_id in tick:
                replies.setdefault(writer, []).append(packet_id)
            for writer, ids in replies.items():
                writer.write(wire.encode_pubacks(ids))


def serve(kind: str, directory: Path, pipe: Connection) -> None:
    """Process of one door; answers every message on `pipe` with (CPU seconds, resident bytes, connections)."""
    raise_file_limit()
    loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

    async def run() -> None:
        service = directory / "door"
        context = tls.server_context(service / "certificate.pem", service / "key.pem", service / "trust.pem")
        issuers = IssuerTable.load((service / "issuers.json").read_bytes(), _root(service))
        verify = partial(_verify, issuers)
        if kind.startswith("streams"):
            port = await (streams := StreamDoor(context)).open("127.0.0.1", 0)
            meter = streams.meter
        else:
            door = Door(WaitingIntake(), context, verify, Silent())
            port = await door.open("127.0.0.1", 0)
            meter = door.meter
        gc.collect()
        gc.freeze()
        pipe.send(port)
        me = psutil.Process()
        done = asyncio.Event()

        def answer() -> None:
            if pipe.recv() == "stop":
                done.set()
            else:
                pipe.send((time.process_time(), me.memory_info().rss, meter.connections, dict(meter.refusals)))

        asyncio.get_running_loop().add_reader(pipe.fileno(), answer)
        await done.wait()
        os._exit(0)

    asyncio.run(run(), loop_factory=loops[kind.rpartition("-")[2]])


def _root(service: Path) -> Any:
    from cryptography import x509

    return x509.load_pem_x509_certificate((service / "trust.pem").read_bytes())


def _verify(issuers: IssuerTable, leaf: bytes) -> Any:
    return verify_leaf(leaf, issuers, SystemClock().now_us(), ("vehicle",))


class Served:
    """A door in its own process."""

    def __init__(self, kind: str, directory: Path) -> None:
        self._pipe, other = mp.Pipe()
        self._process = mp.get_context("spawn").Process(target=serve, args=(kind, directory, other), daemon=True)
        self._process.start()
        self.port: int = self._pipe.recv()

    def state(self) -> tuple[float, int, int, dict[str, int]]:
        self._pipe.send("state")
        answer: tuple[float, int, int, dict[str, int]] = self._pipe.recv()
        return answer

    def stop(self) -> None:
        self._pipe.send("stop")
        self._process.join(10)


def throughput(kind: str, directory: Path, ids: list[str], size: str, seconds: float, window: int) -> dict[str, Any]:
    """Closed loop: every vehicle keeps `window` messages in flight."""
    served = Served(kind, directory)
    fleet = Fleet("localhost", served.port, directory, window=window)
    bodies = [os.urandom(BODY_BYTES[size]) for _ in range(10)]
    for vehicle_id in ids:
        fleet.add(vehicle_id, bodies)
    fleet.connect()
    fleet.run(1.0)
    before = served.state()
    report: Report = fleet.run(seconds)
    after = served.state()
    served.stop()
    messages = max(1, sum(report.by_vehicle))
    return {
        "messages_per_s": report.acknowledged / report.seconds,
        "door_us": (after[0] - before[0]) / messages * 1e6,
        "generator_us": report.cpu_s / messages * 1e6,
        "p50_ms": report.quantile_ms(0.5),
        "p99_ms": report.quantile_ms(0.99),
        "reconnects": report.reconnects,
    }


def idle(kind: str, directory: Path, ids: list[str]) -> dict[str, Any]:
    """All connect, nobody speaks; then all connections break at once and come back."""
    served = Served(kind, directory)
    fleet = Fleet("localhost", served.port, directory, window=1)
    for vehicle_id in ids[:20]:
        fleet.add(vehicle_id)
    fleet.connect()
    before = served.state()
    for vehicle_id in ids[20:]:
        fleet.add(vehicle_id)
    connected_s = fleet.connect(at_once=200)
    time.sleep(1.0)
    after = served.state()
    fleet.drop_all()
    time.sleep(0.5)
    cut = served.state()
    storm_s = fleet.connect(at_once=len(ids))
    peak = served.state()
    served.stop()
    return {
        "connections": len(ids),
        "idle_kib": (after[1] - before[1]) / 1024 / (len(ids) - 20),
        "connect_s": connected_s,
        "connect_door_us": (after[0] - before[0]) / (len(ids) - 20) * 1e6,
        "storm_s": storm_s,
        "storm_door_us": (peak[0] - cut[0]) / len(ids) * 1e6,
        "storm_rss_mib": peak[1] / 1048576,
        "lost": str(dict(fleet.losses)),
        "refused": str(peak[3]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="10,000 connections and longer runs")
    parser.add_argument("--only", choices=("throughput", "idle"), default="")
    parser.add_argument("--kinds", default="door-uvloop,door-asyncio,streams-uvloop,streams-asyncio")
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    count = 10_000 if options.full else 2_000
    seconds = options.seconds or (30.0 if options.full else 4.0)
    if raise_file_limit() < count + 500:
        raise SystemExit(f"the file limit is too low for {count} connections: ulimit -n {count + 500}")
    kinds = options.kinds.split(",")
    found: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        region = create_region(directory / "region", "eu", "bench.rocade", SystemClock(), SystemRandom())
        names = ["localhost", "127.0.0.1"]
        issue_directory(region, directory / "door", region.identity("service", "gateway"), hosts=names)
        ids = [f"VF1BENCH{number:09d}" for number in range(count)]
        write_vehicles(region, directory, ids)
        for kind in kinds:
            if options.only != "idle":
                for size in BODY_BYTES:
                    found[kind][size] = throughput(kind, directory, ids[:200], size, seconds, 10)
                    _print(kind, size, found[kind][size])
            if options.only != "throughput":
                found[kind]["idle"] = idle(kind, directory, ids)
                _print(kind, "idle", found[kind]["idle"])
    _write(found, kinds, count, seconds)


GOALS = (
    # figure, part of the run, value, unit, goal (at most)
    ("CPU of the door per 100 byte PUBLISH, 200 connections, 10 in flight", "small", "door_us", "us", 25.0),
    ("CPU of the door per 1.4 KB PUBLISH, 200 connections, 10 in flight", "batch", "door_us", "us", 45.0),
    ("CPU of the generator per 100 byte PUBLISH", "small", "generator_us", "us", 10.0),
    ("CPU of the generator per 1.4 KB PUBLISH", "batch", "generator_us", "us", 20.0),
    ("resident memory per idle mTLS connection", "idle", "idle_kib", "KiB", 50.0),
    ("all connections cut, all back", "idle", "storm_s", "s", 60.0),
)


def _write(found: dict[str, dict[str, dict[str, Any]]], kinds: list[str], count: int, seconds: float) -> None:
    """Our door is the first kind; the peer is the best of the streams."""
    peers = [kind for kind in kinds if kind.startswith("streams")]
    figures = []
    for figure, part, name, unit, goal in GOALS:
        ours = found[kinds[0]].get(part)
        if ours is None:
            continue
        best = min(((found[peer][part][name], peer) for peer in peers), default=(None, None))
        figures.append(
            {
                "figure": figure, "value": round(ours[name], 2), "unit": unit, "goal": f"<= {goal:g}",
                "met": ours[name] <= goal, "peer": best[1], "peer_value": best[0] and round(best[0], 2),
                "ratio": best[0] and round(ours[name] / best[0], 2),
            }
        )  # fmt: skip
    conditions = {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, {ssl.OPENSSL_VERSION}, uvloop {version('uvloop')}",
        "seed": 1,
        "load": f"{count} connections for idle and storm, {seconds} s of closed loop, intake waits 5 ms a tick",
    }
    out = Path("build/bench/door.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"conditions": conditions, "figures": figures, "runs": found}, indent=1))


def _print(kind: str, part: str, row: dict[str, Any]) -> None:
    cells = (f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items())
    print(f"{kind:16s} {part:6s} " + "  ".join(cells), flush=True)


if __name__ == "__main__":
    main()
