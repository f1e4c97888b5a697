"""Who may come in: OCPP's three security profiles over real sockets, downgrades, wrong proofs, revocation, certificates by OCPP."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import websockets
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from ocpp.routing import on
from ocpp.v16 import ChargePoint
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp_stand import Stand, standing, until

from rocade.core.identifiers import Identity
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.ocpp import open_to_stations
from rocade.fabric.database import Database
from rocade.trust.authority.region import Region, create_region, issue_directory
from rocade.trust.identity import tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.directory import load_issuers

HELLO = '[2,"1","Heartbeat",{}]'


class Secured:
    """A stand whose door listens with TLS too, and the region's keys."""

    def __init__(self, stand: Stand, region: Region, directory: Path) -> None:
        self.stand, self.region, self.directory = stand, region, directory
        self.port = 0
        self.denied: set[int] = set()

    def client(self, identity: str = "", *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.directory / "server" / "trust.pem")
        context.maximum_version = newest
        if identity:
            place = self.directory / identity
            if not place.exists():
                issue_directory(self.region, place, Identity("rocade.test", "eu", *identity.split("-", 1)))
            context.load_cert_chain(place / "certificate.pem", place / "key.pem")
        return context

    def connect(self, id: str, context: ssl.SSLContext, **more: Any) -> Any:
        address = f"wss://localhost:{self.port}/ocpp/{id}"
        return websockets.connect(address, subprotocols=["ocpp1.6"], ssl=context, **more)  # type: ignore[list-item]


@pytest.fixture
async def secured(database: Database, tmp_path: Path) -> AsyncIterator[Secured]:
    region = create_region(tmp_path / "trust", "eu", "rocade.test", SystemClock(), SystemRandom())
    issue_directory(region, tmp_path / "server", Identity("rocade.test", "eu", "service", "hub"), hosts=["localhost"])
    issuers = load_issuers(tmp_path / "trust")
    server = tls.ServerIdentity(tmp_path / "server", client="optional")
    open_to_stations(server.context)
    made: Secured

    def verify(leaf: bytes) -> Any:
        return verify_leaf(leaf, issuers, SystemClock().now_us(), ("station",), denied=made.denied)

    async def sign(station: str, request: str) -> bytes:
        key = x509.load_pem_x509_csr(request.encode()).public_key()
        return region.issue(key, Identity("rocade.test", "eu", "station", station)).chain_pem  # type: ignore[arg-type]

    async with standing(database, tmp_path, verify=verify, signer=sign) as stand:
        made = Secured(stand, region, tmp_path)
        made.port = await stand.door.start_tls("127.0.0.1", 0, lambda: server.context)
        yield made


async def answered(socket: Any) -> str:
    """The answer to a heartbeat; what the central system asks meanwhile is passed over."""
    await socket.send(HELLO)
    async with asyncio.timeout(30):
        while not (text := str(await socket.recv())).startswith("[3"):
            pass
    return text


async def refused(connecting: Any) -> int:
    """The status a connection is refused with."""
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connecting:
            pass
    return int(caught.value.response.status_code)


async def test_profile_1_is_a_password_in_clear(stand: Stand) -> None:
    await stand.register("CP-1")
    async with websockets.connect(
        stand.address("CP-1"), subprotocols=["ocpp1.6"], additional_headers=stand.headers("CP-1")
    ) as socket:
        assert "currentTime" in await answered(socket)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_profile_2_is_a_password_over_tls(secured: Secured, newest: ssl.TLSVersion) -> None:
    await secured.stand.register("CP-1", profile=2)
    context = secured.client(newest=newest)
    async with secured.connect("CP-1", context, additional_headers=secured.stand.headers("CP-1")) as socket:
        assert "currentTime" in await answered(socket)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_profile_3_is_a_certificate(secured: Secured, newest: ssl.TLSVersion) -> None:
    await secured.stand.register("CP-1", profile=3)
    async with secured.connect("CP-1", secured.client("station-CP-1", newest=newest)) as socket:
        assert "currentTime" in await answered(socket)


CASES = [
    ("a wrong password", "CP-1", {"password": "wrong-wrong-wrong"}, 401, "stations.refused.password"),
    ("no password", "CP-1", {"password": None}, 401, "stations.refused.password"),
    ("a station nobody registered", "CP-9", {"password": "anything-at-all"}, 401, "stations.refused.unknown"),
    ("a closed station", "CP-2", {}, 403, "stations.refused.closed"),
    ("a station of profile 2 in clear", "CP-3", {}, 403, "stations.refused.profile"),
    ("a name that is too long", "X" * 49, {"password": "x"}, 404, "ocpp.address"),
]


@pytest.mark.parametrize(("what", "id", "given", "status", "code"), CASES, ids=[case[0] for case in CASES])
async def test_who_is_refused_in_clear(
    stand: Stand, what: str, id: str, given: dict[str, Any], status: int, code: str
) -> None:
    await stand.register("CP-1")
    await stand.register("CP-2")
    await stand.stations.change("CP-2", "test", is_closed=True)
    await stand.register("CP-3", profile=2)
    headers = {} if given.get("password", "") is None else stand.headers(id, given.get("password"))
    connecting = websockets.connect(stand.address(id), subprotocols=["ocpp1.6"], additional_headers=headers)  # type: ignore[list-item]
    assert await refused(connecting) == status
    assert code in stand.audit.refusals
    assert not any(stand.passwords["CP-1"] in str(entry) for entry in stand.audit.entries)


async def test_a_certificate_opens_its_own_station_only(secured: Secured) -> None:
    await secured.stand.register("CP-1", profile=3)
    assert await refused(secured.connect("CP-1", secured.client("station-CP-2"))) == 403
    assert "stations.refused.certificate" in secured.stand.audit.refusals


async def test_a_password_does_not_do_for_a_station_of_profile_3(secured: Secured) -> None:
    await secured.stand.register("CP-1", profile=2)
    await secured.stand.stations.change("CP-1", "test", profile=3)
    headers = secured.stand.headers("CP-1")
    assert await refused(secured.connect("CP-1", secured.client(), additional_headers=headers)) == 403
    assert "stations.refused.profile" in secured.stand.audit.refusals


async def test_another_kinds_certificate_is_refused_and_said_why(secured: Secured) -> None:
    await secured.stand.register("CP-1", profile=3)
    with pytest.raises((OSError, websockets.WebSocketException, EOFError)):
        async with secured.connect("CP-1", secured.client("vehicle-CP-1")):
            pass
    await until(lambda: "trust.certificate.kind" in secured.stand.audit.refusals)


async def test_a_revoked_certificate_ends_the_line(secured: Secured) -> None:
    await secured.stand.register("CP-1", profile=3)
    async with secured.connect("CP-1", secured.client("station-CP-1")) as socket:
        assert await answered(socket)
        pem = (secured.directory / "station-CP-1" / "certificate.pem").read_bytes()
        serial = x509.load_pem_x509_certificate(pem).serial_number
        secured.denied.add(serial)
        secured.stand.door.revoked([serial])
        with pytest.raises(websockets.ConnectionClosed):
            async with asyncio.timeout(30):
                while True:
                    await socket.recv()
    with pytest.raises((OSError, websockets.WebSocketException, EOFError)):
        async with secured.connect("CP-1", secured.client("station-CP-1")):
            pass


async def test_wrong_passwords_are_counted_and_then_not_even_computed(stand: Stand) -> None:
    await stand.register("CP-1")
    statuses = [
        await refused(
            websockets.connect(
                stand.address("CP-1"), subprotocols=["ocpp1.6"], additional_headers=stand.headers("CP-1", f"no-{n}")
            )  # type: ignore[list-item]
        )
        for n in range(11)
    ]
    assert statuses == [401] * 10 + [429]


async def test_a_new_password_counts_with_its_first_use_and_ends_the_old_one(stand: Stand) -> None:
    old = await stand.register("CP-1")
    new = await stand.stations.renew_password("CP-1", "test", at_once=False)
    for password in (old, new):
        async with websockets.connect(
            stand.address("CP-1"), subprotocols=["ocpp1.6"], additional_headers=stand.headers("CP-1", password)
        ) as socket:  # type: ignore[list-item]
            assert await answered(socket)
    connecting = websockets.connect(
        stand.address("CP-1"), subprotocols=["ocpp1.6"], additional_headers=stand.headers("CP-1", old)
    )  # type: ignore[list-item]
    assert await refused(connecting) == 401


class Signing(ChargePoint):
    """A charge point that asks for a certificate and takes a new password."""

    chain = password = ""

    @on("CertificateSigned")
    def signed(self, certificate_chain: str) -> Any:
        self.chain = certificate_chain
        return result16.CertificateSigned(status="Accepted")

    @on("ChangeConfiguration")
    def configured(self, key: str, value: str) -> Any:
        if key == "AuthorizationKey":
            self.password = bytes.fromhex(value).decode()
        return result16.ChangeConfiguration(status="Accepted")


@contextlib.asynccontextmanager
async def signing(secured: Secured) -> AsyncIterator[Signing]:
    await secured.stand.register("CP-1", profile=2)
    headers = secured.stand.headers("CP-1")
    async with secured.connect("CP-1", secured.client(), additional_headers=headers) as socket:
        point = Signing("CP-1", socket)
        listening = asyncio.create_task(point.start())
        try:
            yield point
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_a_station_gets_its_certificate_over_its_line_and_comes_back_with_it(secured: Secured) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "CP-1"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "X")]
    )
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    async with signing(secured) as point:
        answer = await point.call(call16.SignCertificate(csr=request.public_bytes(serialization.Encoding.PEM).decode()))
        assert answer.status == "Accepted"
        await until(lambda: point.chain)
    await secured.stand.stations.change("CP-1", "test", profile=3)
    place = secured.directory / "station-CP-1"
    place.mkdir()
    (place / "certificate.pem").write_text(point.chain)
    (place / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    async with secured.connect("CP-1", secured.client("station-CP-1")) as socket:
        assert "currentTime" in await answered(socket)


async def test_a_password_is_renewed_over_the_line_and_nobody_sees_it(secured: Secured, database: Database) -> None:
    async with signing(secured) as point:
        await until(lambda: secured.stand.door.stations)
        number = await secured.stand.stations.order("CP-1", "password", {}, "test")
        assert (await secured.stand.stations.outcome(number, 30))[0] == "done"
        assert len(point.password) == 20
    async with secured.connect(
        "CP-1", secured.client(), additional_headers=secured.stand.headers("CP-1", point.password)
    ) as socket:
        assert await answered(socket)
    kept = await database.pool.fetch("SELECT body::text, answer::text FROM station_order")
    assert not any(point.password in str(row) for row in kept)
