"""Points of sale as load: each with its own certificate and mutual TLS connection, its own key that signs, all on one epoll.

`python dealer_load.py messages|storm ...` is started by dealer_messages.py in a process of its own and answers with one line of JSON.
Messages leave on a timetable and latency counts from the planned instant to the receipt's arrival, so a slow hub cannot hide
its waiting. After the run every receipt is proven: its path leads to a root, the root is signed by a certified key of the hub.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import ssl
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from load import raise_file_limit
from rocade.trust.identity import signers
from rocade.trust.identity.directory import load_issuers
from rocade.trust.identity.envelope import seal
from rocade.wire import mqtt as wire
from rocade.wire.exchange import (
    MESSAGE_TYPE,
    ROOT_TYPE,
    Address,
    Bundle,
    Message,
    encode,
    proven,
    read_receipts,
    read_root,
)

RECORD_BYTES = 16_384
BEGIN_A_TURN = 16
WINDOW = 60
"""Unacknowledged messages of one site; the door allows 64."""
WANTED = Address("renault", "FR", "warranty", "")
CONTENT = json.dumps(
    {
        "claim": "W-2026-000123",
        "lines": [{"part": f"77014{n:05}", "quantity": 1, "price_minor": 12_345} for n in range(6)],
    }
).encode()


class _Told(msgspec.Struct):
    message_id: str
    kind: str


_told = msgspec.json.Decoder(_Told).decode


class Site:
    """One point of sale."""

    def __init__(self, id: str, pem: Path, uri: str) -> None:
        self.id, self.pem, self.uri = id, pem, uri
        self.key = load_pem_private_key(pem.read_bytes(), None)
        self.up = f"rocade/v1/{id}/up/"
        self.bare: socket.socket | None = None
        self.tls: ssl.SSLSocket | None = None
        self.decoder = wire.Decoder(5)
        self.is_open = False
        self.opened_s = 0.0
        self.sequence = 0
        self.packet_id = 0
        self.unsent = b""
        self.waiting: dict[str, float] = {}
        self.acknowledged = 0
        self.in_flight = 0
        self.due: deque[float] = deque()
        """Planned instants of messages that wait for a place in the window."""


class Sites:
    """All of them. `clock` is monotonic seconds."""

    def __init__(self, directory: Path, port: int, trust_uri: str) -> None:
        self.port = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.load_verify_locations(directory / "trust.pem")
        self.sites = [Site(pem.stem, pem, trust_uri + pem.stem) for pem in sorted(directory.glob("FR-*.pem"))]
        self.poll = select.epoll()
        self.by_descriptor: dict[int, Site] = {}
        self.retry: list[tuple[float, Site]] = []
        self.open = 0
        self.bundles: list[bytes] = []
        self.chains: list[bytes] = []
        self.latency_ms: list[float] = []
        self.refused: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.heard: Counter[str] = Counter()
        self.run_id = f"{time.time_ns():x}"

    # --- connecting ---

    def connect(self, limit_s: float) -> float:
        """Connect everybody at once; the seconds until the last one is welcome and subscribed."""
        began = time.monotonic()
        waiting = deque(self.sites)
        while self.open < len(self.sites):
            for _ in range(min(len(waiting), 200)):
                self._dial(waiting.popleft())
            now = time.monotonic()
            due, self.retry = [s for at, s in self.retry if at <= now], [(at, s) for at, s in self.retry if at > now]
            for site in due:
                self._dial(site)
            self.turn(0.02)
            if now - began > limit_s:
                raise TimeoutError(f"{self.open} of {len(self.sites)} after {limit_s} s: {self.losses} {self.refused}")
        return time.monotonic() - began

    def cut(self) -> None:
        """Every connection ends without a word."""
        for site in self.sites:
            self._forget(site)

    def _dial(self, site: Site) -> None:
        bare = socket.socket()
        bare.setblocking(False)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bare.connect_ex(("127.0.0.1", self.port))
        site.bare = bare
        self.by_descriptor[bare.fileno()] = site
        self.poll.register(bare.fileno(), select.EPOLLOUT)

    def _greet(self, descriptor: int, site: Site) -> None:
        try:
            if site.tls is None:
                assert site.bare is not None
                self.context.load_cert_chain(site.pem)
                site.tls = self.context.wrap_socket(
                    site.bare, do_handshake_on_connect=False, server_hostname="localhost"
                )
                site.bare = None
            site.tls.do_handshake()
            site.decoder = wire.Decoder(5)
            down = wire.Subscribe(1, (wire.Subscription(f"rocade/v1/{site.id}/down/#", 1),))
            hello = wire.Connect(site.id, 5, keep_alive_s=600, properties=wire.Properties(receive_maximum=64))
            site.tls.write(wire.encode(hello, 5) + wire.encode(down, 5))
            site.is_open = True
            self.poll.modify(descriptor, select.EPOLLIN)
        except ssl.SSLWantReadError:
            self.poll.modify(descriptor, select.EPOLLIN)
        except ssl.SSLWantWriteError:
            self.poll.modify(descriptor, select.EPOLLOUT)
        except OSError as error:
            self._lose(site, error)

    def _lose(self, site: Site, why: Exception) -> None:
        self.losses[type(why).__name__] += 1
        self._forget(site)
        self.retry.append((time.monotonic() + 0.5, site))

    def _forget(self, site: Site) -> None:
        gone = site.tls or site.bare
        if gone is None:
            return
        self.by_descriptor.pop(gone.fileno(), None)
        gone.close()
        self.open -= site.opened_s > 0
        site.tls, site.bare, site.is_open, site.opened_s, site.unsent, site.in_flight = None, None, False, 0.0, b"", 0

    # --- the hot path ---

    def turn(self, wait_s: float) -> None:
        begun = 0
        for descriptor, _ in self.poll.poll(max(wait_s, 0), 512):
            site = self.by_descriptor.get(descriptor)
            if site is None:
                continue
            if not site.is_open:
                if site.tls or begun < BEGIN_A_TURN:
                    begun += site.tls is None
                    self._greet(descriptor, site)
                continue
            if site.unsent:
                self.write(site, b"")
            try:
                data = site.tls.read(RECORD_BYTES)  # type: ignore[union-attr]  # open sites have a socket
            except ssl.SSLWantReadError:
                continue
            except OSError as error:
                self._lose(site, error)
                continue
            if not data:
                self._lose(site, ConnectionError("closed"))
                continue
            for packet in site.decoder.feed(data):
                self._take(site, packet)

    def _take(self, site: Site, packet: wire.Packet) -> None:
        match packet:
            case wire.Publish(topic=topic, payload=payload, qos=qos, packet_id=packet_id):
                if qos:
                    self.write(site, wire.encode(wire.Puback(packet_id), 5))
                tail = topic.rpartition("/")[2]
                self.heard[tail] += 1
                if tail == "receipt":
                    self._receipts(site, payload)
                elif tail == "signers":
                    self.chains = [chain.encode() for chain in json.loads(payload)["chains"]]
            case wire.Puback(reason=reason, properties=properties):
                site.in_flight -= 1
                while site.due and site.in_flight < WINDOW:
                    self.send(site, site.due.popleft())
                if reason:
                    self.refused[properties.reason_string or hex(reason)] += 1
                else:
                    site.acknowledged += 1
            case wire.Suback():
                site.opened_s = time.monotonic()
                self.open += 1
            case wire.Connack(reason=reason) | wire.Disconnect(reason=reason) if reason:
                self.refused[hex(reason)] += 1
                self._lose(site, ConnectionError(hex(reason)))

    def _receipts(self, site: Site, payload: bytes) -> None:
        now = time.monotonic()
        self.bundles.append(payload)
        for leaf in read_receipts(payload).leaves:
            told = _told(leaf.receipt)
            if told.kind == "received" and (due := site.waiting.pop(told.message_id, None)) is not None:
                self.latency_ms.append((now - due) * 1000)

    def plan(self, site: Site, due_s: float) -> None:
        """Send at once if the window allows, else as soon as it does."""
        if site.due or site.in_flight >= WINDOW:
            site.due.append(due_s)
        else:
            self.send(site, due_s)

    def say(self, site: Site, tail: str, body: bytes) -> None:
        site.in_flight += 1
        site.packet_id = site.packet_id % 65_535 + 1
        self.write(site, wire.encode(wire.Publish(site.up + tail, body, 1, site.packet_id), 5))

    def send(self, site: Site, due_s: float) -> None:
        """The next message of a site, signed now."""
        site.sequence += 1
        id = f"{self.run_id}-{site.sequence}"
        message = Message(
            id=id, sender=site.uri, recipient=WANTED, stream=self.run_id, sequence=site.sequence,
            content_class="technical", content_type="application/json", created_us=time.time_ns() // 1000, body=CONTENT,
        )  # fmt: skip
        site.waiting[id] = due_s
        self.say(site, "message", seal(MESSAGE_TYPE, encode(message), site.key))  # type: ignore[arg-type]  # P-256 by us

    def write(self, site: Site, data: bytes) -> None:
        data = site.unsent + data
        assert site.tls is not None
        try:
            while data:
                data = data[site.tls.write(data[:RECORD_BYTES]) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self.poll.modify(site.tls.fileno(), select.EPOLLIN | select.EPOLLOUT)
            site.unsent = data
            return
        except OSError:
            return
        if site.unsent:
            self.poll.modify(site.tls.fileno(), select.EPOLLIN)
            site.unsent = b""

    def until(self, is_so: Callable[[], bool], limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while not is_so() and time.monotonic() < end:
            self.turn(0.02)
        return is_so()


def messages(sites: Sites, rate_per_s: float, seconds: float, is_peer: bool) -> dict[str, Any]:
    """Messages at a rate from all sites in turn; each must get its receipt."""
    sites.connect(120)
    cpu_s, began = time.process_time(), time.monotonic()
    planned, count = 0, int(rate_per_s * seconds)
    while planned < count:
        now = time.monotonic()
        while planned < count and (due := began + planned / rate_per_s) <= now:
            sites.plan(sites.sites[planned % len(sites.sites)], due)
            planned += 1
        sites.turn(min(0.05, began + planned / rate_per_s - time.monotonic()))
    all_sent_s = time.monotonic() - began
    sites.until(lambda: not any(site.waiting or site.due for site in sites.sites), 30)
    done_s = time.monotonic() - began
    cpu_s = time.process_time() - cpu_s
    spread = sorted(sites.latency_ms)
    told = {
        "sent": planned, "receipted": len(spread), "missing": sum(len(site.waiting) for site in sites.sites),
        "rate": len(spread) / done_s, "sending_s": all_sent_s, "p50_ms": _at(spread, 0.5), "p99_ms": _at(spread, 0.99),
        "most_ms": spread[-1] if spread else 0.0, "cpu_us": cpu_s / planned * 1e6, "refused": dict(sites.refused),
        "losses": dict(sites.losses), "heard": dict(sites.heard),
    }  # fmt: skip
    return told if is_peer else {**told, **_prove(sites)}


def _prove(sites: Sites) -> dict[str, Any]:
    """Every receipt that came, proven."""
    first = sites.sites[0]
    sites.say(first, "ask", b'{"want":"signers"}')
    assert sites.until(lambda: bool(sites.chains), 30), "the hub shows no certificates"
    known = signers.read_signers(sites.chains, load_issuers(first.pem.parent), "exchange")
    roots: dict[bytes, Any] = {}
    count = 0
    for body in sites.bundles:
        bundle: Bundle = read_receipts(body)
        sealed = bytes(bundle.root)
        if sealed not in roots:
            payload, signer = signers.unseal(ROOT_TYPE, sealed, known)
            roots[sealed] = read_root(payload)
            signers.check_time(signer, roots[sealed].at_us)
        count += len(proven(bundle, roots[sealed]))
    return {"proven": count, "commits": len(roots)}


def storm(sites: Sites) -> dict[str, Any]:
    """All connect; every connection breaks; all come back at once, and each says something and is receipted."""
    first_s = sites.connect(900)
    print(json.dumps({"connected": first_s}), flush=True)
    sys.stdin.readline()
    sites.cut()
    time.sleep(2)
    began = time.monotonic()
    back_s = sites.connect(900)
    waits = sorted(site.opened_s - began for site in sites.sites)
    for site in sites.sites:
        sites.send(site, time.monotonic())
    sites.until(lambda: not any(site.waiting for site in sites.sites), 60)
    print(json.dumps({
        "back_s": back_s, "p50_s": _at(waits, 0.5), "p99_s": _at(waits, 0.99), "last_s": waits[-1],
        "sites": len(waits), "receipted": len(sites.latency_ms), "all_s": time.monotonic() - began,
        "refused": dict(sites.refused), "losses": dict(sites.losses),
    }), flush=True)  # fmt: skip
    sys.stdin.readline()
    return {}


def _at(spread: list[float], share: float) -> float:
    return spread[min(len(spread) - 1, int(len(spread) * share))] if spread else 0.0


def main() -> None:
    gc.disable()  # what is kept for the proof would be looked through again and again: pauses of the measure, not of the measured
    what, directory, port, uri, *rest = sys.argv[1:]
    raise_file_limit()
    sites = Sites(Path(directory), int(port), uri)
    if what == "storm":
        storm(sites)
    else:
        print(json.dumps(messages(sites, float(rest[0]), float(rest[1]), rest[2:] == ["peer"])), flush=True)


if __name__ == "__main__":
    main()
