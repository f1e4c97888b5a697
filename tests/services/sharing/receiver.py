"""Somebody's web server over TLS: keeps what came, answers as it is told, slowly if it is told so."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_identity(directory: Path) -> Path:
    """A certificate for localhost that signs itself; the file holds it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "receiver.pem"
    own = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    with file.open("ab") as out:
        out.write(key.private_bytes(serialization.Encoding.PEM, *own))
    return file


@dataclass
class Receiver:
    """`status` for everybody, `of` for one path; `delay_s` by path. `got` holds (path, headers, body)."""

    identity: Path
    status: int = 204
    of: dict[str, int] = field(default_factory=dict)
    delay_s: dict[str, float] = field(default_factory=dict)
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    came: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own.load_cert_chain(self.identity)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=own)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    def url(self, path: str = "/hook") -> str:
        return f"https://localhost:{self.port}{path}"

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.identity))

    def taken(self, path: str = "", kind: str = "sharing.record") -> list[dict[str, Any]]:
        """What was answered 2xx, of one path and type, as documents."""
        found = [msgspec.json.decode(body) for at, _, body in self.got if path in ("", at)]
        return [one["data"] for one in found if one["type"] == kind]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        self.connections += 1
        try:
            while await self._answer(http, reader, writer):
                http.start_next_cycle()
        except (OSError, h11.ProtocolError):
            pass
        finally:
            writer.close()

    async def _answer(self, http: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        path, headers, body = "", dict[str, str](), b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                content = await reader.read(65_536)
                http.receive_data(content)
            elif isinstance(event, h11.Request):
                path = event.target.decode()
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
            else:
                return False
        await asyncio.sleep(self.delay_s.get(path, 0.0))
        status = self.of.get(path, self.status)
        if 200 <= status < 300:
            self.got.append((path, headers, body))
            self.came.set()
        where = [("location", "https://127.0.0.1:1/")] if 300 <= status < 400 else []
        answer = h11.Response(status_code=status, headers=[*where, ("content-length", "0")])
        writer.write((http.send(answer) or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        return http.our_state is h11.DONE and http.their_state is h11.DONE
