"""Charging stations as load: OCPP 1.6 over websockets, every station asks again as soon as it is answered, all on one epoll.

`python charging_ocpp_load.py PORT STATIONS SECONDS [PASSWORDS.json]` answers with one line of JSON. Each station boots, then for ever: begins a
transaction, sends eight meter values of five readings, ends it, sends a heartbeat. A central system's own calls are answered
with NotSupported. The same program, byte for byte, drives both systems that are compared.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

METERS = 8
MESSAGES = ("BootNotification", "StartTransaction", "MeterValues", "StopTransaction", "Heartbeat")
NOW = "2026-11-22T12:00:{:02d}.{:03d}Z"


class Station:
    """One connection: what it has asked, what has come so far."""

    def __init__(self, number: int, port: int, password: str) -> None:
        self.number, self.id = number, f"bench-{number:04d}"
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        proof = base64.b64encode(f"{self.id}:{password}".encode()).decode()
        self.socket.sendall(
            (
                f"GET /ocpp/{self.id} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Protocol: ocpp1.6\r\nAuthorization: Basic {proof}\r\n\r\n"
            ).encode()
        )
        self.came = b""
        self.is_open = False
        self.step = self.asked = self.transaction = 0
        self.asked_s = 0.0
        self.wh = 1000

    def ask(self) -> None:
        """Send the next message of the cycle."""
        self.asked += 1
        self.wh += 50
        at = NOW.format(self.asked // 1000 % 60, self.asked % 1000)
        payload: dict[str, Any]
        if self.asked == 1:
            action, payload = MESSAGES[0], {"chargePointVendor": "Bench", "chargePointModel": "Load"}
        elif self.step == 0:
            action = MESSAGES[1]
            payload = {"connectorId": 1, "idTag": f"TAG{self.number:05d}", "meterStart": self.wh, "timestamp": at}
        elif self.step <= METERS:
            action, payload = (
                MESSAGES[2],
                {"connectorId": 1, "transactionId": self.transaction, "meterValue": [values(at, self.wh)]},
            )
        elif self.step == METERS + 1:
            action = MESSAGES[3]
            payload = {"transactionId": self.transaction, "meterStop": self.wh, "timestamp": at, "reason": "Local"}
        else:
            action, payload = MESSAGES[4], {}
        if self.asked > 1:
            self.step = (self.step + 1) % (METERS + 3)
        self.asked_s = time.perf_counter()
        self.send([2, f"{self.asked}", action, payload])

    def send(self, message: list[Any]) -> None:
        text = json.dumps(message).encode()
        size = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else struct.pack("!BBH", 0x81, 0xFE, len(text))
        self.socket.sendall(size + b"\0\0\0\0" + text)  # masked with zeros: valid, and costs the generator nothing

    def read(self) -> list[list[Any]]:
        """Whole messages that have come."""
        data = self.socket.recv(65536)
        if not data:
            raise SystemExit(f"{self.id}: the central system closed the line")
        self.came += data
        if not self.is_open:
            head, end, rest = self.came.partition(b"\r\n\r\n")
            if not end:
                return []
            if b" 101 " not in head.split(b"\r\n")[0]:
                raise SystemExit(f"{self.id}: {head.decode()}")
            self.is_open, self.came = True, rest
        found = []
        while len(self.came) >= 2:
            size, at = self.came[1] & 127, 2
            if size == 126:
                if len(self.came) < 4:
                    break
                size, at = int.from_bytes(self.came[2:4], "big"), 4
            if len(self.came) < at + size:
                break
            if self.came[0] & 15 == 1:
                found.append(json.loads(self.came[at : at + size]))
            self.came = self.came[at + size :]
        return found


def values(at: str, wh: int) -> dict[str, Any]:
    def one(value: str, measurand: str, unit: str, **more: str) -> dict[str, str]:
        return {"value": value, "context": "Sample.Periodic", "measurand": measurand, "unit": unit, **more}

    return {
        "timestamp": at,
        "sampledValue": [
            one(str(wh), "Energy.Active.Import.Register", "Wh"),
            one("10998.0", "Power.Active.Import", "W"),
            *(one("15.9", "Current.Import", "A", phase=phase) for phase in ("L1", "L2", "L3")),
        ],
    }


def main(port: int, count: int, seconds: float, passwords: dict[str, str]) -> dict[str, float]:
    stations = [Station(number, port, passwords.get(f"bench-{number:04d}", "x")) for number in range(count)]
    by_number = {station.socket.fileno(): station for station in stations}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    began_s = ends_s = 0.0
    answered = errors = opened = meters = 0
    took: list[float] = []
    while True:
        for number, _ in poll.poll(5):
            station = by_number[number]
            was_open = station.is_open
            messages = station.read()
            if station.is_open and not was_open:
                opened += 1
                if opened == count:  # all together, when the last one is in
                    for other in stations:
                        other.ask()
                    began_s = time.perf_counter() + 1.0
                    ends_s = began_s + seconds
            for message in messages:
                if message[0] == 2:
                    station.send([4, message[1], "NotSupported", "", {}])
                    continue
                now_s = time.perf_counter()
                if message[0] == 4:
                    errors += 1
                elif 1 < station.step <= METERS + 1:  # the step is that of the next message
                    meters += 1
                elif "transactionId" in message[2]:
                    station.transaction = message[2]["transactionId"]
                if now_s >= began_s:
                    answered += 1
                    took.append(now_s - station.asked_s)
                if now_s < ends_s:
                    station.ask()
        if ends_s and time.perf_counter() >= ends_s:
            break
    took.sort()
    return {
        "per_s": answered / seconds,
        "answered": answered,
        "errors": errors,
        "meters": meters,
        "p50_ms": took[len(took) // 2] * 1000,
        "p99_ms": took[int(len(took) * 0.99)] * 1000,
    }


if __name__ == "__main__":
    given = json.loads(Path(sys.argv[4]).read_text()) if len(sys.argv) > 4 else {}
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), given)))
