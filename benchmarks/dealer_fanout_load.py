"""Light agents: points of sale that do all but keep the list. Each has its own certificate, keys, MQTT line and HTTPS connection.

`python dealer_fanout_load.py DIRECTORY LINE_PORT API_PORT URI LIST` is started by dealer_fanout.py and speaks JSON lines. Each agent
announces its encryption key and opens its letter; when a head comes down it verifies the head's signature, fetches the delta by HTTPS
over a connection of its own, checks size and hash, decrypts it with its epoch key, and signs an acknowledgement that says
`fetched`. Bytes are what TCP carried, TLS included (TCP_INFO), for the fetch; and the payloads for head and acknowledgement.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509 import load_pem_x509_certificate

from dealer_load import Site, Sites
from load import raise_file_limit
from rocade.trust.identity.envelope import seal, unseal
from rocade.trust.identity.keys import PublicKey, key_id
from rocade.wire import mqtt as wire
from rocade.wire.exchange import KEYS_TYPE
from rocade.wire.prices import ACK_TYPE, HEAD_TYPE, KEY_TYPE, Blob, Head, open_blob, open_key, read_letter

FETCHES_AT_ONCE = 96
DAY_US = 86_400_000_000
_ACKED = struct.Struct("@QQ")
_ACKED_AT = 120
"""Where Linux's tcp_info has tcpi_bytes_acked and tcpi_bytes_received."""


class Fetch:
    """One file on its way to one site."""

    def __init__(self, site: Site, name: str, head: Head | None, blob: Blob | None, head_bytes: int) -> None:
        self.site, self.name, self.head, self.blob, self.head_bytes = site, name, head, blob, head_bytes
        self.bare: socket.socket | None = None
        self.tls: ssl.SSLSocket | None = None
        self.is_asked = False
        self.answer = bytearray()
        self.length = -1
        self.body_at = 0


class Agents(Sites):
    def __init__(self, directory: Path, line_port: int, api_port: int, uri: str, list_id: str) -> None:
        super().__init__(directory, line_port, uri)
        self.api_port, self.list_id = api_port, list_id
        root = load_pem_x509_certificate((directory / "trust.pem").read_bytes()).public_key()
        assert isinstance(root, ec.EllipticCurvePublicKey)
        self.root: PublicKey = root
        self.secrets = {site.id: X25519PrivateKey.generate() for site in self.sites}
        self.keys: dict[str, dict[int, bytes]] = {}
        self.signers: dict[str, PublicKey] = {}
        self.held: dict[str, int] = {}
        self.fetching = select.epoll()
        self.fetches: dict[int, Fetch] = {}
        self.waiting_fetches: deque[Fetch] = deque()
        self.done: list[tuple[float, int, int]] = []
        """Per file fetched: when, TCP bytes received and sent, of the head too."""
        self.heads_at: list[float] = []
        self.faults: list[str] = []
        self.is_quiet = True

    # --- the line ---

    def join(self, site: Site) -> None:
        """Announce the encryption key, ask for letter and head."""
        key = {"key": _b64(self.secrets[site.id]), "not_after_us": time.time_ns() // 1000 + 90 * DAY_US}
        said = json.dumps({"encryption_keys": [key], "at_us": time.time_ns() // 1000}).encode()
        self.say(site, "keys", seal(KEYS_TYPE, said, site.key))  # type: ignore[arg-type]  # P-256 by us
        self.say(site, "ask", b'{"want":"epochs"}')
        self.say(site, "ask", b'{"want":"heads"}')

    def _take(self, site: Site, packet: wire.Packet) -> None:
        super()._take(site, packet)
        if isinstance(packet, wire.Publish):
            tail = packet.topic.rpartition("/")[2]
            if tail == "epoch":
                self._letter(site, packet.payload)
            elif tail == "head":
                self._head(site, packet.payload)

    def _letter(self, site: Site, body: bytes) -> None:
        letter = read_letter(body)
        for wrapped in letter.keys:
            if wrapped.list_id == self.list_id:
                self.keys.setdefault(site.id, {})[wrapped.epoch] = open_key(wrapped, [self.secrets[site.id]])
        for statement in letter.signers:
            if statement not in self.signers:
                der = unseal(KEY_TYPE, statement.encode(), {key_id(self.root).hex(): self.root})
                signer = load_der_public_key(der)
                assert isinstance(signer, ec.EllipticCurvePublicKey)
                self.signers[statement] = signer

    def _head(self, site: Site, body: bytes) -> None:
        known = {key_id(signer).hex(): signer for signer in self.signers.values()}
        head = msgspec.json.decode(unseal(HEAD_TYPE, body, known), type=Head)
        if head.list_id != self.list_id or head.seq <= self.held.get(site.id, 0):
            return
        self.held[site.id] = head.seq
        if not self.is_quiet:
            self.heads_at.append(time.time())
            self.waiting_fetches.append(Fetch(site, head.blob.sha256, head, head.blob, len(body)))

    # --- files ---

    def fetch_turn(self, wait_s: float) -> None:
        while self.waiting_fetches and len(self.fetches) < FETCHES_AT_ONCE:
            self._begin(self.waiting_fetches.popleft())
        for descriptor, _ in self.fetching.poll(wait_s, 256) if self.fetches else ():
            fetch = self.fetches[descriptor]
            try:
                self._go_on(descriptor, fetch)
            except ssl.SSLWantReadError:
                self.fetching.modify(descriptor, select.EPOLLIN)
            except ssl.SSLWantWriteError:
                self.fetching.modify(descriptor, select.EPOLLOUT)
            except OSError as error:
                self._drop(descriptor, fetch)
                self.faults.append(type(error).__name__)
                self.waiting_fetches.append(Fetch(fetch.site, fetch.name, fetch.head, fetch.blob, fetch.head_bytes))

    def _begin(self, fetch: Fetch) -> None:
        bare = socket.socket()
        bare.setblocking(False)
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bare.connect_ex(("127.0.0.1", self.api_port))
        fetch.bare = bare
        self.fetches[bare.fileno()] = fetch
        self.fetching.register(bare.fileno(), select.EPOLLOUT)

    def _go_on(self, descriptor: int, fetch: Fetch) -> None:
        if fetch.tls is None:
            assert fetch.bare is not None
            self.context.load_cert_chain(fetch.site.pem)
            fetch.tls = self.context.wrap_socket(fetch.bare, do_handshake_on_connect=False, server_hostname="localhost")
        if not fetch.is_asked:
            fetch.tls.do_handshake()
            fetch.tls.write(
                f"GET /v1/price-blobs/{fetch.name} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
            )
            fetch.is_asked = True
            self.fetching.modify(descriptor, select.EPOLLIN)
        while data := fetch.tls.read(65_536):
            fetch.answer += data
            if fetch.length < 0 and (end := fetch.answer.find(b"\r\n\r\n")) >= 0:
                head = bytes(fetch.answer[:end]).lower()
                if b" 200 " not in head[:20]:
                    raise OSError(head[:40])
                fetch.body_at = end + 4
                fetch.length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
            if fetch.length >= 0 and len(fetch.answer) - fetch.body_at >= fetch.length:
                self._fetched(descriptor, fetch)
                return
        raise OSError("closed early")

    def _fetched(self, descriptor: int, fetch: Fetch) -> None:
        body = bytes(fetch.answer[fetch.body_at :])
        assert fetch.tls is not None
        info = fetch.tls.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ACKED_AT + _ACKED.size)
        sent, received = _ACKED.unpack_from(info, _ACKED_AT)
        self._drop(descriptor, fetch)
        said = 0
        if fetch.head is not None and fetch.blob is not None:
            open_blob(fetch.blob, body, self.keys[fetch.site.id][fetch.blob.epoch], self.list_id)
            ack = {"list": self.list_id, "seq": fetch.head.seq, "state": "fetched", "state_root": "", "code": "",
                   "at_us": time.time_ns() // 1000}  # fmt: skip
            sealed = seal(ACK_TYPE, json.dumps(ack).encode(), fetch.site.key)  # type: ignore[arg-type]  # P-256 by us
            self.say(fetch.site, "ack", sealed)
            said = len(sealed)
        self.done.append((time.time(), received + fetch.head_bytes, sent + said))

    def _drop(self, descriptor: int, fetch: Fetch) -> None:
        self.fetching.unregister(descriptor)
        del self.fetches[descriptor]
        (fetch.tls or fetch.bare).close()  # type: ignore[union-attr]  # one of them is there

    def run(self, is_so: Any, limit_s: float) -> bool:
        """Serve line and files until something is so."""
        end = time.monotonic() + limit_s
        while not is_so() and time.monotonic() < end:
            self.turn(0.0 if self.fetches or self.waiting_fetches else 0.02)
            self.fetch_turn(0.005)
        return bool(is_so())

    def until_done(self, count: int, limit_s: float) -> bool:
        """Until so many files have come."""
        return self.run(lambda: len(self.done) >= count, limit_s)


def _b64(key: X25519PrivateKey) -> str:
    import base64

    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def main() -> None:
    directory, line_port, api_port, uri, list_id = sys.argv[1:]
    raise_file_limit()
    agents = Agents(Path(directory), int(line_port), int(api_port), uri, list_id)
    connected_s = agents.connect(300)
    for site in agents.sites:
        agents.join(site)
        if site.packet_id and agents.sites.index(site) % 50 == 49:
            agents.turn(0.0)
    everybody = len(agents.sites)
    is_ready = agents.run(lambda: len(agents.keys) == len(agents.held) == everybody, 900)
    print(json.dumps({"connected_s": connected_s, "is_ready": is_ready, "keys": len(agents.keys), "refused": dict(agents.refused)}),
          flush=True)  # fmt: skip
    agents.is_quiet = False
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    while True:
        agents.run(lambda: bool(poll.poll(0)), 1e9)
        word, _, rest = sys.stdin.readline().strip().partition(" ")
        if word == "await":  # until this many files more have come and been acknowledged
            wanted, limit_s = rest.split()
            cpu_s = time.process_time()
            agents.until_done(int(wanted), float(limit_s))
            agents.run(lambda: not any(site.in_flight for site in agents.sites), 30)
            spread = agents.done
            print(json.dumps({
                "fetched": len(spread), "last_head": max(agents.heads_at, default=0.0), "last_fetch": max((a for a, _, _ in spread), default=0.0),
                "bytes_down": sum(b for _, b, _ in spread) / max(1, len(spread)), "bytes_up": sum(c for _, _, c in spread) / max(1, len(spread)),
                "cpu_s": time.process_time() - cpu_s, "faults": len(agents.faults), "refused": dict(agents.refused), "losses": dict(agents.losses),
            }), flush=True)  # fmt: skip
            agents.done, agents.heads_at = [], []
        elif word == "peer":  # the whole list over HTTPS, by this many
            name, count = rest.split()
            agents.is_quiet = True
            agents.run(lambda: not (agents.fetches or agents.waiting_fetches), 120)
            agents.done = []
            began, cpu_s = time.time(), time.process_time()
            agents.waiting_fetches.extend(Fetch(site, name, None, None, 0) for site in agents.sites[: int(count)])
            agents.until_done(int(count), 600)
            print(json.dumps({"seconds": time.time() - began, "fetched": len(agents.done), "cpu_s": time.process_time() - cpu_s,
                              "bytes_down": sum(b for _, b, _ in agents.done) / max(1, len(agents.done))}), flush=True)  # fmt: skip
            agents.done = []
        else:
            return


if __name__ == "__main__":
    main()
