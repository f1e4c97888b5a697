"""A region with every TLS listener it can have, running as `rocade serve` runs it."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.ports import free_port

from rocade.app import configuration as settings
from rocade.app import initialise
from rocade.app.supervisor import Supervisor

LOOPBACK = "127.0.0.1"
NAMES = ("mqtt", "exchange", "relay", "api", "est", "ocpp", "pages")
"""SFTP is not TLS; a dealer agent's own page is scanned where it stands (tests/agents/dealer)."""


@asynccontextmanager
async def listening(directory: Path) -> AsyncIterator[dict[str, int]]:
    """Ports by name; `directory`/region/trust/root.pem is whom to trust, `directory`/public.pem for the pages."""
    ports = {name: free_port() for name in NAMES}
    write_public_certificate(directory)
    template = settings.Configuration(
        "eu",
        "test.rocade",
        mqtt=settings.Mqtt(LOOPBACK, ports["mqtt"]),
        est=settings.Est(LOOPBACK, ports["est"]),
        http=settings.Http(
            api_host=LOOPBACK,
            api_port=ports["api"],
            pages_port=free_port(),
            public_url="https://rocade.test",
            public_port=ports["pages"],
            public_certificate=str(directory / "public.pem"),
            public_key=str(directory / "public.key"),
        ),
        exchange=settings.Exchange(LOOPBACK, ports["exchange"], processes=1),
        relay=settings.Relay(LOOPBACK, ports["relay"]),
        charging=settings.Charging(processes=1),
        ocpp=settings.Ocpp(LOOPBACK, ports["ocpp"]),
    )
    initialise.create(directory / "region", "eu", "test.rocade", template=template)
    supervisor = Supervisor(settings.load(directory / "region"))
    try:
        await supervisor.start(("store", "gateway", "api", "exchange", "relay", "charging"))
        yield ports
    finally:
        await supervisor.stop()


def write_public_certificate(directory: Path) -> None:
    """A certificate for the pages' own port, as a public authority would give one."""
    now = dt.datetime.now(dt.UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of a test")])

    def build(subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    root = (
        build(root_name, root_key.public_key(), 900)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName(
        [x509.DNSName("rocade.test"), x509.DNSName("localhost"), x509.IPAddress(ip_address(LOOPBACK))]
    )
    leaf = (
        build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key(), 90)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "public.pem").write_bytes(leaf.public_bytes(pem))
    (directory / "public-root.pem").write_bytes(root.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "public.key").write_bytes(private)
    (directory / "public.key").chmod(0o600)
