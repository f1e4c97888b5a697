"""The enrolment door over real TLS and a real PostgreSQL: our client, `curl` and `openssl`, and hostile peers."""

import asyncio
import base64
import json
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import pkcs7
from tests.notebook import Notebook

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import Identity
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.est import Door, Limits
from rocade.fabric.database import Database
from rocade.trust.authority import Authority, DenySet, Region, create_region, issue_directory
from rocade.trust.identity import est_client, tls
from rocade.trust.identity.directory import load_identity, load_leaf
from rocade.trust.identity.est_client import Server
from rocade.trust.identity.keys import csr, new_key

PATIENT = Limits(handshake_s=100, request_s=100, requests=3)
"""A busy machine takes seconds for what is whole and honest."""


class Place(NamedTuple):
    """A running door and all behind it."""

    server: Server
    door: Door
    region: Region
    authority: Authority
    notebook: Notebook
    trust_pem: bytes
    denied: DenySet
    identity: Path


@pytest.fixture
async def place(tmp_path: Path, database: Database) -> AsyncIterator[Place]:
    clock = SystemClock()
    region = create_region(tmp_path / "trust", "eu", "rocade.test", clock, SystemRandom())
    issue_directory(region, tmp_path / "server", region.identity("service", "est"), hosts=["localhost", "127.0.0.1"])
    notebook = Notebook()
    authority = Authority(region, database, notebook, clock, SystemRandom())
    denied = await DenySet.open(database, clock)
    identity = tls.ServerIdentity(tmp_path / "server", client="optional")
    door = Door(identity, authority, denied, notebook, clock, PATIENT)
    port = await door.start("127.0.0.1", 0)
    yield Place(
        Server("localhost", port), door, region, authority, notebook, region.trust_pem, denied, tmp_path / "server"
    )
    await door.close()
    await denied.close()


@pytest.fixture
def car(place: Place) -> Identity:
    return place.region.identity("vehicle", "VR3UPHNKSKT101604")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.02)


async def enrolled(place: Place, car: Identity, directory: Path, *, birth: bool = False) -> Path:
    code = await place.authority.claim(car, "operator")
    await asyncio.to_thread(est_client.enrol, place.server, directory, code, place.trust_pem, birth=birth)
    return directory


async def test_a_car_enrols_renews_and_comes_back_after_its_certificate_has_expired(
    place: Place, car: Identity, tmp_path: Path
) -> None:
    directory = await enrolled(place, car, tmp_path / "car", birth=True)
    first = load_leaf(directory)
    renewed = await asyncio.to_thread(est_client.renew, place.server, directory)
    assert renewed.identity == load_identity(directory) == car
    assert load_leaf(directory).public_key() != first.public_key()
    place.region.credential(car, life_us=-250_000_000).write(directory)
    with pytest.raises(RocadeError, match=r"trust\.handshake\.own_expired|est\.down"):
        await asyncio.to_thread(est_client.renew, place.server, directory)
    again = await asyncio.to_thread(est_client.reenrol, place.server, directory)
    assert again.identity == car
    done = [entry.action for entry in place.notebook.entries if entry.outcome == "done"]
    assert done == ["trust.claim", "trust.enrol", "trust.birth", "trust.renew", "trust.reenrol"]
    assert place.notebook.refused == [("peer:127.0.0.1", "trust.handshake.expired")]


async def test_a_car_whose_answer_got_lost_enrols_with_the_same_code(
    place: Place, car: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = est_client._Connection.ask

    def ask_and_lose(self: est_client._Connection, method: str, path: str, *rest: Any) -> bytes:
        answer = ask(self, method, path, *rest)
        if path == "/simpleenroll":
            raise Unavailable("est.down", "the connection broke")
        return answer

    code = await place.authority.claim(car, "operator")
    with monkeypatch.context() as broken:
        broken.setattr(est_client._Connection, "ask", ask_and_lose)
        with pytest.raises(Unavailable):
            await asyncio.to_thread(est_client.enrol, place.server, tmp_path / "car", code, place.trust_pem)
    verified = await asyncio.to_thread(est_client.enrol, place.server, tmp_path / "car", code, place.trust_pem)
    assert verified.identity == car
    assert {path.name for path in (tmp_path / "car").iterdir()} == {
        "key.pem",
        "certificate.pem",
        "trust.pem",
        "issuers.json",
    }


async def test_the_root_is_found_by_its_fingerprint_and_by_no_other(place: Place) -> None:
    root = ssl.PEM_cert_to_DER_cert(place.trust_pem.decode())
    assert await asyncio.to_thread(est_client.fetch_root, place.server, sha256(root).hexdigest()) == place.trust_pem
    with pytest.raises(Refused, match=r"est\.root\.unknown"):
        await asyncio.to_thread(est_client.fetch_root, place.server, "00" * 32)


async def test_a_server_that_is_no_service_of_the_region_gets_no_claim_code(
    place: Place, car: Identity, tmp_path: Path
) -> None:
    """TLS accepts it (right root, right host name); the issuer table does not: a dealer issuer signed it."""
    service_entry = place.region._signers["dealer", "operational"]
    place.region._signers["service", "operational"] = service_entry
    issue_directory(place.region, place.identity, place.region.identity("service", "est"), hosts=["localhost"])
    assert place.door._identity.reload()
    with pytest.raises(Refused, match=r"trust\.certificate\.name_dns|trust\.certificate\.purpose_extra"):
        await enrolled(place, car, tmp_path / "car")
    assert not any(entry.action == "trust.enrol" for entry in place.notebook.entries)


async def test_a_revoked_car_neither_renews_nor_comes_back(place: Place, car: Identity, tmp_path: Path) -> None:
    directory = await enrolled(place, car, tmp_path / "car", birth=True)
    await place.authority.revoke(car, "stolen", "operator")
    for again in (est_client.renew, est_client.reenrol):
        with pytest.raises(Refused, match=r"revoked"):
            await asyncio.to_thread(again, place.server, directory)


async def test_a_used_code_is_refused_and_audited_with_the_address_only(
    place: Place, car: Identity, tmp_path: Path
) -> None:
    code = await place.authority.claim(car, "operator")
    await asyncio.to_thread(est_client.enrol, place.server, tmp_path / "one", code, place.trust_pem)
    with pytest.raises(Refused, match=r"trust\.claim\.used"):
        await asyncio.to_thread(est_client.enrol, place.server, tmp_path / "two", code, place.trust_pem)
    assert place.notebook.refused == [("peer:127.0.0.1", "trust.claim.used")]
    assert not (tmp_path / "two" / "key.pem").exists()


def post(path: str, body: bytes = b"", **headers: str) -> bytes:
    named = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST /.well-known/est{path} HTTP/1.1\r\nHost: x\r\n{named}content-length: {len(body)}\r\n\r\n".encode() + body
    )


LOGIN = "Basic " + base64.b64encode(b"claim:WRONG").decode()
GOOD_BODY = base64.encodebytes(csr(new_key()))
REQUESTS = {
    "unknown path": (b"GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", 404, "est.path.unknown"),
    "wrong method": (b"DELETE /.well-known/est/cacerts HTTP/1.1\r\nHost: x\r\n\r\n", 405, "est.method.refused"),
    "no HTTP": (b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n", 400, "est.request.malformed"),
    "no host": (b"GET /.well-known/est/cacerts HTTP/1.1\r\n\r\n", 400, "est.request.malformed"),
    "endless head": (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000, 400, "est.request.malformed"),
    "body too large": (post("/simpleenroll", b"a" * 20_000), 413, "est.request.size"),
    "no credentials": (post("/simpleenroll", GOOD_BODY), 401, "est.claim.missing"),
    "other user": (post("/simpleenroll", GOOD_BODY, authorization="Basic cm9vdDpyb290"), 401, "est.claim.missing"),
    "broken credentials": (post("/simpleenroll", GOOD_BODY, authorization="Basic \x80!"), 401, "est.claim.missing"),
    "unknown code": (
        post("/simpleenroll", GOOD_BODY, authorization=LOGIN, content_type="application/pkcs10"), 401, "trust.claim.unknown",
    ),
    "wrong type": (post("/simpleenroll", GOOD_BODY, authorization=LOGIN), 400, "est.request.type"),
    "not base64": (
        post("/simpleenroll", b"%%%", authorization=LOGIN, content_type="application/pkcs10"), 400, "est.request.encoding",
    ),
    "not PKCS#10": (
        post("/simpleenroll", b"AAAA", authorization=LOGIN, content_type="application/pkcs10"), 400, "trust.request.malformed",
    ),
    "re-enrol without certificate": (
        post("/simplereenroll", GOOD_BODY, content_type="application/pkcs10"), 401, "est.certificate.missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
async def test_bad_requests_get_a_problem_document_and_an_audit_entry(name: str, place: Place, tmp_path: Path) -> None:
    sent, status, code = REQUESTS[name]
    answer = await asyncio.to_thread(talk, place, tmp_path, sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"application/problem+json" in head
    document = json.loads(body)
    assert (document["code"], document["status"]) == (code, status)
    assert place.notebook.refused == [("peer:127.0.0.1", code)]


def talk(place: Place, folder: Path, sent: bytes, leaf: Path | None = None) -> bytes:
    """Send bytes over TLS, read to the end."""
    (folder / "trust.pem").write_bytes(place.trust_pem)
    context = tls.client_context(leaf or folder, anonymous=leaf is None)
    with socket.create_connection((place.server.host, place.server.port), 30) as bare:
        with context.wrap_socket(bare, server_hostname="localhost") as secured:
            secured.settimeout(30)
            secured.sendall(sent)
            received = b""
            while chunk := secured.recv(65536):
                received += chunk
                head, _, body = received.partition(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
                if length and len(body) >= int(length):
                    break
            return received


async def test_peers_that_dawdle_or_speak_no_tls_are_dropped_and_audited(place: Place) -> None:
    def dawdle(first: bytes) -> bytes:
        with socket.create_connection((place.server.host, place.server.port), 30) as bare:
            bare.sendall(first)
            return bare.recv(1000)

    place.door._limits = msgspec.structs.replace(PATIENT, handshake_s=0.5)
    await asyncio.to_thread(dawdle, b"")
    place.door._limits = PATIENT
    await asyncio.to_thread(dawdle, b"GET / HTTP/1.1\r\n\r\n")
    await until(lambda: len(place.notebook.refused) >= 2)
    assert place.notebook.refused == [
        ("peer:127.0.0.1", "trust.handshake.timeout"),
        ("peer:127.0.0.1", "trust.handshake.plain_text"),
    ]


async def test_one_address_cannot_take_all_places(place: Place, tmp_path: Path) -> None:
    def crowd() -> list[socket.socket]:
        return [socket.create_connection((place.server.host, place.server.port), 30) for _ in range(25)]

    held = await asyncio.to_thread(crowd)
    await until(lambda: len(place.notebook.refused) >= 5)
    assert place.notebook.refusals == ["est.crowded"] * 5
    for bare in held:
        bare.close()
    await until(lambda: not place.door._open)
    answer = await asyncio.to_thread(talk, place, tmp_path, b"GET /.well-known/est/issuers HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_dawdling_request_ends_and_the_door_still_serves(place: Place, tmp_path: Path) -> None:
    sent = b"POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: x\r\ncontent-length: 100\r\n\r\nabc"
    place.door._limits = msgspec.structs.replace(PATIENT, request_s=0.5)
    assert await asyncio.to_thread(talk, place, tmp_path, sent) == b""
    place.door._limits = PATIENT
    answer = await asyncio.to_thread(talk, place, tmp_path, b"GET /.well-known/est/issuers HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(place.region.issuers.sealed)


async def test_an_issuer_of_another_region_is_refused_in_the_handshake(place: Place, tmp_path: Path) -> None:
    other = create_region(tmp_path / "other", "eu", "rocade.test", SystemClock(), SystemRandom())
    issue_directory(other, tmp_path / "car", other.identity("vehicle", "VR3UPHNKSKT101604"))
    (tmp_path / "car" / "trust.pem").write_bytes(place.trust_pem)
    with pytest.raises((OSError, RocadeError)):
        await asyncio.to_thread(talk, place, tmp_path, post("/simplereenroll"), tmp_path / "car")
    await until(lambda: bool(place.notebook.refused))
    assert place.notebook.refusals == ["trust.handshake.issuer_unknown"]


async def test_curl_and_openssl_enrol_without_any_of_our_code(place: Place, car: Identity, tmp_path: Path) -> None:
    code = await place.authority.claim(car, "operator")
    (tmp_path / "root.pem").write_bytes(place.trust_pem)
    base = f"https://localhost:{place.server.port}/.well-known/est"
    script = f"""set -e
    openssl ecparam -name prime256v1 -genkey -noout -out key.pem
    openssl req -new -key key.pem -subj /CN=anything -outform DER | openssl base64 > request
    curl -sSf --cacert root.pem {base}/cacerts | openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out all.pem
    curl -sSf --cacert root.pem -u claim:{code} -H 'Content-Type: application/pkcs10' --data-binary @request \
        {base}/simpleenroll | openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out leaf.pem
    openssl verify -x509_strict -CAfile root.pem -untrusted all.pem -purpose sslclient leaf.pem
    openssl x509 -in leaf.pem -noout -ext subjectAltName
    cat leaf.pem all.pem > chain.pem
    curl -sSf --cacert root.pem --cert chain.pem --key key.pem -H 'Content-Type: application/pkcs10' \
        --data-binary @request {base}/simplereenroll > renewed
    """
    done = await asyncio.to_thread(
        subprocess.run, ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "leaf.pem: OK" in done.stdout
    assert car.uri in done.stdout
    assert pkcs7.load_der_pkcs7_certificates(base64.b64decode((tmp_path / "renewed").read_bytes()))
