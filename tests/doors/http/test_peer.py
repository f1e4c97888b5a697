"""Over real mutual TLS: who the application sees, and who does not get so far."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import httpx
import pytest
import uvloop
from tests.clocks import TurnedClock

from rocade.trust.identity import tls

CASES = [
    ("operator", "/who", 200, "spiffe://test.rocade/eu/operator/alice"),
    ("partner", "/who", 200, "spiffe://test.rocade/eu/partner/alice"),
    ("partner", "/operators", 403, "gate.denied"),
    ("operator", "/operators", 200, "welcome"),
    ("operator", "/forgotten", 403, "gate.denied"),
    ("vehicle", "/who", 403, "gate.denied"),
    ("service", "/open", 200, "open"),
]


@pytest.mark.parametrize(("kind", "path", "status", "says"), CASES)
async def test_the_application_sees_the_verified_identity_and_admits_its_kind(
    stand: Any, kind: str, path: str, status: int, says: str
) -> None:
    async with stand.serve() as (_, address), stand.client(address, stand.identity(kind, "alice")) as client:
        answer = await client.get(path)
    assert answer.status_code == status
    assert says in answer.text
    assert (says in stand.audit.reasons) == (status == 403)


async def test_a_revoked_or_expired_certificate_is_refused_on_the_open_connection(stand: Any) -> None:
    directory = stand.identity("operator", "alice")
    async with stand.serve() as (_, address), stand.client(address, directory) as client:
        assert (await client.get("/who")).status_code == 200
        serial = next(iter(stand.app.state.access._proofs.values()))[0].serial
        stand.revoked.add(serial)
        assert (await client.get("/who")).json()["code"] == "trust.certificate.revoked"
        stand.revoked.clear()
        stand.app.state.access._clock = TurnedClock(366 * 86_400_000_000)
        assert (await client.get("/who")).json()["code"] == "trust.certificate.expired"


async def test_without_a_certificate_no_request_is_made_and_the_handshake_is_audited(stand: Any) -> None:
    async with stand.serve() as (_, address):
        anonymous = tls.client_context(stand.identity("operator", "alice"), anonymous=True)
        async with httpx.AsyncClient(base_url=address, verify=anonymous, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):
                await client.get("/open")
        async with asyncio.timeout(30):
            while not stand.audit.reasons:
                await asyncio.sleep(0.02)
    assert stand.audit.reasons == ["trust.handshake.certificate_missing"]
    assert stand.audit.entries[0].actor == "peer:127.0.0.1"


async def test_a_forged_bearer_token_does_not_help_a_stranger_on_the_api_port(stand: Any) -> None:
    directory = stand.identity("vehicle", "alice")
    async with stand.serve() as (_, address), stand.client(address, directory) as client:
        answer = await client.get("/operators", headers={"authorization": "Bearer rocade_00000000_x"})
    assert answer.status_code == 401


async def test_a_rolled_server_certificate_is_used_without_restart(stand: Any) -> None:
    directory = stand.identity("operator", "alice")

    async def served_leaf(port: int) -> bytes:
        _, writer = await asyncio.open_connection("localhost", port, ssl=tls.client_context(directory))
        leaf = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(leaf)

    async with stand.serve() as (listeners, address):
        port = int(address.rpartition(":")[2])
        before = await served_leaf(port)
        listeners.use_context(stand.server_context("rolled"))
        assert await served_leaf(port) != before


async def test_a_request_in_the_same_flight_as_the_end_of_the_handshake_is_answered(stand: Any) -> None:
    context = tls.client_context(stand.identity("operator", "alice"))
    async with stand.serve() as (_, address):
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        session.write(b"GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        writer.write(outgoing.read())  # Finished and the request together
        incoming.write(await asyncio.wait_for(reader.read(65536), 30))
        assert session.read(65536).startswith(b"HTTP/1.1 200")
        writer.close()


def test_a_first_flight_that_waits_in_the_socket_is_answered_on_uvloop_too(stand: Any) -> None:
    """All of them are accepted and readable in one turn of the loop, as when the machine is busy."""
    context = tls.client_context(stand.identity("operator", "alice"))
    outgoing = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    hello = outgoing.read()

    async def run() -> int:
        loop = asyncio.get_running_loop()
        async with stand.serve() as (_, address):
            peers = [socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) for _ in range(60)]
            for peer in peers:
                peer.sendall(hello)
                peer.setblocking(False)
            answers = await asyncio.gather(
                *(asyncio.wait_for(loop.sock_recv(peer, 16), 30) for peer in peers), return_exceptions=True
            )
            for peer in peers:
                peer.close()
        return sum(isinstance(answer, bytes) and len(answer) > 0 for answer in answers)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run()) == 60
