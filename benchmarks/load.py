"""A cheap fleet for load: thousands of vehicles with own certificates in one process, a window of messages in flight each.

Flow: `write_vehicles` makes keys and certificates -> `Fleet(...)`, `add` a vehicle with its prepared bodies ->
`connect` (many handshakes at once) -> `run`: each PUBACK sends the vehicle's next body; with `rate_per_s` bodies leave
on a timetable and latency counts from the planned instant, so a slow door cannot hide its waiting. A vehicle that loses
its connection comes back and sends what was not acknowledged again.

It shares the codec with the door and nothing else: TLS sockets on one epoll, one read per record, one write per burst.
Cost: docs/decisions/0008-mqtt-door.md.
"""

from __future__ import annotations

import resource
import select
import socket
import ssl
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec

from rocade.trust.authority.region import Region
from rocade.wire import mqtt as wire

_RECORD_BYTES = 16_384
_UNIT_US = 100
_BEGIN_A_TURN = 16
type Restamp = Callable[[bytes, int, int], bytes]
"""(prepared body, vehicle index, message number of that vehicle counted from 0) -> body to send."""


class Report(msgspec.Struct):
    """What one fleet saw. `latency` counts acknowledgements by latency in units of 100 us."""

    seconds: float = 0.0
    cpu_s: float = 0.0
    acknowledged: int = 0
    body_bytes: int = 0
    refused: dict[int, int] = {}
    reconnects: int = 0
    latency: dict[int, int] = {}
    by_vehicle: list[int] = []

    def quantile_ms(self, share: float) -> float:
        wanted, seen = share * sum(self.latency.values()), 0
        for unit in sorted(self.latency):
            seen += self.latency[unit]
            if seen >= wanted:
                return (unit + 1) * _UNIT_US / 1000
        return 0.0

    @classmethod
    def sum(cls, reports: Sequence[Report]) -> Report:
        """One report of several processes that ran at the same time."""
        latency: Counter[int] = Counter()
        refused: Counter[int] = Counter()
        for report in reports:
            latency.update(report.latency)
            refused.update(report.refused)
        return cls(
            max(report.seconds for report in reports),
            sum(report.cpu_s for report in reports),
            sum(report.acknowledged for report in reports),
            sum(report.body_bytes for report in reports),
            dict(refused),
            sum(report.reconnects for report in reports),
            dict(latency),
            [count for report in reports for count in report.by_vehicle],
        )


def write_vehicles(region: Region, directory: Path, ids: Sequence[str]) -> None:
    """One `<id>.pem` (key and chain) for each vehicle, and `trust.pem`. Cost: about 0.3 ms a vehicle."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "trust.pem").write_bytes(region.trust_pem)
    for vehicle_id in ids:
        credential = region.credential(region.identity("vehicle", vehicle_id))
        (directory / f"{vehicle_id}.pem").write_bytes(credential.key_pem + credential.chain_pem)


def raise_file_limit() -> int:
    """Allow as many open files as the machine does; returns the number."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class _Vehicle:
    __slots__ = (
        "acknowledged",
        "bare",
        "bodies",
        "due_us",
        "frames",
        "free",
        "head",
        "index",
        "is_open",
        "most",
        "number",
        "pem",
        "sent_us",
        "sizes",
        "tls",
        "topic",
        "unsent",
        "vehicle_id",
    )  # fmt: skip

    def __init__(
        self, index: int, vehicle_id: str, pem: Path, topic: str, bodies: Sequence[bytes], window: int
    ) -> None:
        self.index = index
        self.vehicle_id = vehicle_id
        self.pem = pem
        self.topic = topic
        self.bodies = bodies
        self.head: dict[int, bytes] = {}
        self.bare: socket.socket | None = None
        """Set while TCP connects; `tls` afterwards."""
        self.tls: ssl.SSLSocket | None = None
        self.is_open = False
        self.number = 0
        self.most = 1 << 62
        self.acknowledged = 0
        self.free = list(range(window, 0, -1))
        """Packet identifiers not in flight."""
        self.sent_us = [0] * (window + 1)
        self.frames: list[bytes] = [b""] * (window + 1)
        self.sizes = [0] * (window + 1)
        self.due_us: deque[int] = deque()
        self.unsent = b""


class Fleet:
    """Vehicles of one process. `protocol` 4 = MQTT 3.1.1, 5 = MQTT 5."""

    def __init__(
        self,
        host: str,
        port: int,
        directory: Path,
        *,
        window: int = 10,
        protocol: int = 4,
        restamp: Restamp | None = None,
        keep_alive_s: int = 600,
        seed: int = 1,
    ) -> None:
        self._address = host, port
        self._directory = directory
        self._window = window
        self._protocol = protocol
        self._restamp = restamp
        self._keep_alive_s = keep_alive_s
        self._random = Random(seed)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_verify_locations(directory / "trust.pem")
        self._vehicles: list[_Vehicle] = []
        self._open: dict[int, _Vehicle] = {}
        self._greeting: dict[int, _Vehicle] = {}
        self._retry_us: list[tuple[int, _Vehicle]] = []
        self._poll = select.epoll()
        self._tail = b"\0" if protocol == 5 else b""
        self._latency: Counter[int] = Counter()
        self._refused: Counter[int] = Counter()
        self._acknowledged = self._body_bytes = self.reconnects = 0
        self.losses: Counter[str] = Counter()
        """Lost connections by exception, since the beginning."""
        self._is_sending = False
        self._is_paced = False

    def add(self, vehicle_id: str, bodies: Sequence[bytes] = (), tail: str = "batch", most: int = 0) -> None:
        """One more vehicle; its bodies are sent in turn, for ever, or `most` messages in all."""
        topic = f"rocade/v1/{vehicle_id}/up/{tail}"
        pem = self._directory / f"{vehicle_id}.pem"
        vehicle = _Vehicle(len(self._vehicles), vehicle_id, pem, topic, bodies, self._window)
        vehicle.most = most or 1 << 62
        self._vehicles.append(vehicle)

    @property
    def connected(self) -> int:
        return len(self._open)

    # --- connecting ---

    def connect(self, at_once: int = 100, limit_s: float = 120.0) -> float:
        """Connect all, at most `at_once` handshakes open; returns the seconds it took. Raises: TimeoutError."""
        began = time.monotonic()
        waiting = deque(vehicle for vehicle in self._vehicles if vehicle.tls is None)
        while waiting or self._greeting or self._retry_us:
            while waiting and len(self._greeting) < at_once:
                self._dial(waiting.popleft())
            self._redial()
            self._turn(0.05)
            if time.monotonic() - began > limit_s:
                raise TimeoutError(f"{len(self._open)} of {len(self._vehicles)} connected after {limit_s} s")
        return time.monotonic() - began

    def drop_all(self) -> None:
        """Cut every connection without a word, as a power failure of a cell would."""
        for vehicle in self._vehicles:
            self._forget(vehicle)

    def _dial(self, vehicle: _Vehicle) -> None:
        bare = socket.socket()
        bare.setblocking(False)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bare.connect_ex(self._address)
        vehicle.bare = bare
        self._greeting[bare.fileno()] = vehicle
        self._poll.register(bare.fileno(), select.EPOLLOUT)

    def _wrap(self, vehicle: _Vehicle, bare: socket.socket) -> ssl.SSLSocket:
        """Begin TLS. The certificate is copied into the connection, so that one context serves a whole fleet."""
        self._context.load_cert_chain(vehicle.pem)
        return self._context.wrap_socket(bare, do_handshake_on_connect=False, server_hostname=self._address[0])

    def _redial(self) -> None:
        now_us = _now_us()
        due = [entry for entry in self._retry_us if entry[0] <= now_us]
        for entry in due:
            self._retry_us.remove(entry)
            self._dial(entry[1])

    def _greet(self, descriptor: int, vehicle: _Vehicle) -> None:
        try:
            if vehicle.bare:
                bare, vehicle.bare = vehicle.bare, None
                vehicle.tls = self._wrap(vehicle, bare)
            tls = vehicle.tls
            assert tls
            tls.do_handshake()
            connect = wire.Connect(vehicle.vehicle_id, self._protocol, keep_alive_s=self._keep_alive_s)
            tls.write(wire.encode(connect))
        except ssl.SSLWantReadError:
            self._poll.modify(descriptor, select.EPOLLIN)
            return
        except ssl.SSLWantWriteError:
            self._poll.modify(descriptor, select.EPOLLOUT)
            return
        except OSError as error:
            self._lose(vehicle, error)
            return
        del self._greeting[descriptor]
        self._open[descriptor] = vehicle
        self._poll.modify(descriptor, select.EPOLLIN)

    def _lose(self, vehicle: _Vehicle, why: Exception) -> None:
        """The connection is gone: come back after 0.1 to 1 s."""
        self.losses[f"{type(why).__name__} {'open' if vehicle.is_open else 'opening'}"] += 1
        self._forget(vehicle)
        self.reconnects += 1
        self._retry_us.append((_now_us() + 100_000 + int(self._random.random() * 900_000), vehicle))

    def _forget(self, vehicle: _Vehicle) -> None:
        socket_now = vehicle.tls or vehicle.bare
        if socket_now is None:
            return
        self._open.pop(socket_now.fileno(), None)
        self._greeting.pop(socket_now.fileno(), None)
        socket_now.close()
        vehicle.tls, vehicle.bare, vehicle.is_open, vehicle.unsent = None, None, False, b""

    # --- the hot path ---

    def run(self, seconds: float, rate_per_s: float = 0.0, settle_s: float = 30.0, burst: int = 1) -> Report:
        """Send for `seconds` (all of the time, or `rate_per_s` over the whole fleet), then wait for what is in flight.

        On a timetable a vehicle hands over `burst` messages at once, as one does that gathered them on the way.
        """
        self._latency.clear()
        self._refused.clear()
        self._acknowledged = self._body_bytes = self.reconnects = 0
        before = [vehicle.acknowledged for vehicle in self._vehicles]
        cpu_s, began_us = time.process_time(), _now_us()
        end_us = began_us + int(seconds * 1e6)
        self._is_sending, self._is_paced = True, rate_per_s > 0
        if not self._is_paced:
            for vehicle in self._vehicles:
                self._refill(vehicle, began_us)
        planned = 0
        while (now_us := _now_us()) < end_us:
            wait_s = min(0.05, (end_us - now_us) / 1e6)
            if self._is_paced:
                while (due_us := began_us + int(planned * 1e6 / rate_per_s)) <= now_us:
                    vehicle = self._vehicles[planned // burst % len(self._vehicles)]
                    vehicle.due_us.append(due_us)
                    planned += 1
                    if planned % burst == 0:
                        self._refill(vehicle, now_us)
                wait_s = min(wait_s, (due_us - now_us) / 1e6)
            self._turn(wait_s)
            if self._retry_us:
                self._redial()
        self._is_sending = False
        ended_us = _now_us()
        acknowledged = self._acknowledged
        while any(len(v.free) < self._window for v in self._vehicles) and _now_us() < ended_us + settle_s * 1e6:
            self._turn(0.02)
            self._redial()
        by_vehicle = [vehicle.acknowledged - count for vehicle, count in zip(self._vehicles, before, strict=True)]
        return Report(
            (ended_us - began_us) / 1e6, time.process_time() - cpu_s, acknowledged, self._body_bytes,
            dict(self._refused), self.reconnects, dict(self._latency), by_vehicle,
        )  # fmt: skip

    def _turn(self, wait_s: float) -> None:
        begun = 0
        for descriptor, _event in self._poll.poll(wait_s, 512):
            vehicle = self._open.get(descriptor)
            if vehicle is None:
                greeted = self._greeting.get(descriptor)
                # New handshakes wait a little, so that those under way are not kept waiting by this one process.
                if greeted and (greeted.tls or begun < _BEGIN_A_TURN):
                    begun += greeted.tls is None
                    self._greet(descriptor, greeted)
                continue
            if vehicle.unsent:
                self._write(vehicle, b"")
            try:
                data = vehicle.tls.read(_RECORD_BYTES)  # type: ignore[union-attr]  # open vehicles have a socket
            except ssl.SSLWantReadError:
                continue
            except OSError as error:
                self._lose(vehicle, error)
                continue
            if data:
                self._read(vehicle, data)
            else:
                self._lose(vehicle, ConnectionError("closed"))

    def _read(self, vehicle: _Vehicle, data: bytes) -> None:
        now_us = _now_us()
        count, rest = divmod(len(data), 4)
        words = struct.unpack(f">{count}I", data) if not rest else (0,)
        latency, free, sent_us = self._latency, vehicle.free, vehicle.sent_us
        for word in words:
            packet_id = word ^ 0x40020000
            if packet_id > 0xFFFF:
                self._read_slowly(vehicle, data, now_us)
                return
        for word in words:
            packet_id = word & 0xFFFF
            latency[(now_us - sent_us[packet_id]) // _UNIT_US] += 1
            self._body_bytes += vehicle.sizes[packet_id]
            free.append(packet_id)
        self._acknowledged += count
        vehicle.acknowledged += count
        if self._is_sending:
            self._refill(vehicle, now_us)

    def _read_slowly(self, vehicle: _Vehicle, data: bytes, now_us: int) -> None:
        """Anything that is not a row of plain PUBACKs. Packets the door writes at once arrive in one record."""
        for packet in wire.Decoder(self._protocol).feed(data):
            match packet:
                case wire.Connack(reason=0):
                    self._begin(vehicle, now_us)
                case wire.Puback(packet_id=packet_id, reason=reason):
                    vehicle.free.append(packet_id)
                    if reason:
                        self._refused[reason] += 1
                    else:
                        self._acknowledged += 1
                        vehicle.acknowledged += 1
                        self._latency[(now_us - vehicle.sent_us[packet_id]) // _UNIT_US] += 1
                        self._body_bytes += vehicle.sizes[packet_id]
                case wire.Connack(reason=reason) | wire.Disconnect(reason=reason):
                    self._refused[reason] += 1
                    self._lose(vehicle, ConnectionError(f"reason {reason:#x}"))
                    return
                case _:
                    pass
        if self._is_sending:
            self._refill(vehicle, now_us)

    def _begin(self, vehicle: _Vehicle, now_us: int) -> None:
        """CONNACK is here: send again what was in flight when the last connection ended."""
        vehicle.is_open = True
        free = set(vehicle.free)
        again = [
            bytes((vehicle.frames[i][0] | 8,)) + vehicle.frames[i][1:]
            for i in range(1, self._window + 1)
            if i not in free
        ]
        if again:
            self._write(vehicle, b"".join(again))
        if self._is_sending:
            self._refill(vehicle, now_us)

    def _refill(self, vehicle: _Vehicle, now_us: int) -> None:
        """Fill the vehicle's window with its next bodies (those that are due, on a timetable)."""
        free = vehicle.free
        if not vehicle.is_open or not free or not vehicle.bodies:
            return
        out = []
        bodies, restamp, due_us = vehicle.bodies, self._restamp, vehicle.due_us
        while free and (due_us or not self._is_paced) and vehicle.number < vehicle.most:
            packet_id = free.pop()
            number = vehicle.number
            vehicle.number = number + 1
            body = bodies[number % len(bodies)]
            if restamp:
                body = restamp(body, vehicle.index, number)
            head = vehicle.head.get(len(body))
            if head is None:
                head = vehicle.head[len(body)] = self._head(vehicle.topic, len(body))
            frame = b"%b%b%b%b" % (head, packet_id.to_bytes(2), self._tail, body)
            vehicle.frames[packet_id] = frame
            vehicle.sizes[packet_id] = len(body)
            vehicle.sent_us[packet_id] = due_us.popleft() if self._is_paced else now_us
            out.append(frame)
        if out:
            self._write(vehicle, b"".join(out))

    def _head(self, topic: str, body_bytes: int) -> bytes:
        frame = wire.encode(wire.Publish(topic, bytes(body_bytes), 1, 1), self._protocol)
        return frame[: len(frame) - body_bytes - 2 - len(self._tail)]

    def _write(self, vehicle: _Vehicle, data: bytes) -> None:
        if vehicle.unsent:
            data = vehicle.unsent + data
        tls = vehicle.tls
        assert tls
        try:
            while data:
                data = data[tls.write(data[:_RECORD_BYTES]) :]
        except ssl.SSLWantWriteError:
            self._poll.modify(tls.fileno(), select.EPOLLIN | select.EPOLLOUT)
            vehicle.unsent = data
            return
        except OSError:
            return
        if vehicle.unsent:
            self._poll.modify(tls.fileno(), select.EPOLLIN)
            vehicle.unsent = b""


def _now_us() -> int:
    return time.monotonic_ns() // 1000
