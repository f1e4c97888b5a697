"""The MQTT door alone: CPU per message, acknowledgement latency, memory of idle connections, a fleet reconnecting at once.

The intake only waits 5 ms per tick, so that the figures are the door's own. The generator is `load.Fleet`; its CPU is
printed beside. Peers in the same run: the same codec and group commit on `asyncio.start_server(ssl=...)`, with asyncio
and with uvloop, to show what the door's own sockets save.

`python benchmarks/door.py [--full] [--only throughput|idle|storm]` prints a table and writes build/bench/door.json.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing as mp
import os
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import uvloop

from rocade.core.ports import AuditEntry, SystemClock, SystemRandom
from rocade.doors.mqtt import Client, Door, Meter, Publish, Verdict
from rocade.trust.authority.region import create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.issuers import IssuerTable
from rocade.wire import mqtt as wire

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


class SilentAudit:
    def note(self, entry: AuditEntry) -> None:
        pass

    async def record(self, entry: AuditEntry) -> None:
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
        while data := await reader.read(65_536):
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
            door = Door(WaitingIntake(), context, verify, SilentAudit())
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
        "redialled": fleet.reconnects,
        "refused": str(peak[3]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="door-uvloop,door-asyncio,streams-uvloop,streams-asyncio")
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    raise_file_limit()
    count = 9_500 if options.full else 2_000
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        region = create_region(directory / "region", "eu", "bench.rocade", SystemClock(), SystemRandom())
        names = ["localhost", "127.0.0.1"]
        issue_directory(region, directory / "door", region.identity("service", "gateway"), hosts=names)
        ids = [f"VF1BENCH{number:09d}" for number in range(count)]
        write_vehicles(region, directory, ids)
        rows = []
        for kind in options.kinds.split(","):
            if options.only in ("", "throughput"):
                for size in BODY_BYTES:
                    row = throughput(kind, directory, ids[:200], size, options.seconds, 10)
                    rows.append({"kind": kind, "what": f"publish {size}", **row})
                    _print(rows[-1])
            if options.only in ("", "idle", "storm"):
                rows.append({"kind": kind, "what": "idle and storm", **idle(kind, directory, ids)})
                _print(rows[-1])


def _print(row: dict[str, Any]) -> None:
    print(
        "  ".join(
            f"{name} {value:,.1f}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
