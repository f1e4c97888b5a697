"""Strict verification of signed SOAP envelopes, per second of one core, beside the two libraries that check XML signatures.

    python benchmarks/dealer_soap.py [--full]     envelopes of 3.8 KB, RSA-2048 and P-256; --full takes ten times as long

Ours does everything the door does: bytes looked at, one parse, one place for each part, digests, certificate (its chain kept,
its time and revocation asked), signature, time, replay. Every envelope is another one. CPU seconds of this process, garbage
collection on. Peers in the same run, on the same envelopes: signxml and xmlsec, told the certificate beforehand; neither looks
for a second Body, a duplicate id elsewhere, a comment, a replay, or at the time. Rows go to build/bench/dealers.json (dealers.py).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from signxml.verifier import SignatureConfiguration, XMLVerifier

import parts
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.soap import Authorities, RegionSigners, Verifier, names
from rocade.doors.soap.signing import Credential, SigningKey, seal
from rocade.trust.authority.region import create_region
from rocade.wire.resources import MESSAGE, Message
from rocade.wire.resources.xml_form import append

CLOCK, RANDOM = SystemClock(), SystemRandom()
SIZE_BYTES = 3_800
type Figure = dict[str, object]
figure = partial(parts.figure, less=False)


def authority() -> tuple[SigningKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _certificate(key, key, None)


def _certificate(issuer: SigningKey, key: SigningKey, uri: str | None) -> x509.Certificate:
    """An authority (`uri` None), or a signing certificate for a party."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Signatures of the trade")])
    own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signing")])
    usage = x509.KeyUsage(uri is not None, False, False, False, False, uri is None, uri is None, False, False)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(own if uri else name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=80)).add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=uri is None, path_length=0 if uri is None else None), critical=True)
    )  # fmt: skip
    if uri:
        names_ = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names_, critical=False)
    return builder.sign(issuer, hashes.SHA256())


def envelope(credential: Credential, body_bytes: int) -> bytes:
    """An order message, every time another one."""
    message = Message(
        id=f"order-{RANDOM.bits(48):012x}", content_class="technical", content_type="application/xml", service="orders",
        created_us=CLOCK.now_us(), body=b"x" * body_bytes,
    )  # fmt: skip
    holder = append(etree.Element("holder"), message, MESSAGE)
    return seal(holder, "1.2", credential, CLOCK.now_us(), RANDOM).envelope


def envelopes(credential: Credential, count: int) -> list[bytes]:
    """As many, each about as large as the goal is stated for."""
    spare = SIZE_BYTES - len(envelope(credential, 0))
    return [envelope(credential, spare * 3 // 4) for _ in range(count)]


def per_cpu_second(work: Callable[[bytes], object], batch: Sequence[bytes]) -> float:
    begin = time.process_time()
    for one in batch:
        work(one)
    return len(batch) / (time.process_time() - begin)


def by_signxml(certificate: str) -> Callable[[bytes], object]:
    configuration = SignatureConfiguration(expect_references=2, require_x509=False)
    verifier = XMLVerifier()
    return lambda one: verifier.verify(one, x509_cert=certificate, id_attribute="Id", expect_config=configuration)


def by_xmlsec(certificate: bytes) -> Callable[[bytes], object]:
    key = xmlsec.Key.from_memory(certificate, xmlsec.constants.KeyDataFormatCertPem, None)

    def verify(one: bytes) -> None:
        root = etree.fromstring(one)
        context = xmlsec.SignatureContext()
        context.key = key
        for name in ("Timestamp", "Body"):
            context.register_id(next(root.iter(f"{{*}}{name}")), "Id", names.WSU)
        context.verify(next(root.iter(f"{{{names.DS}}}Signature")))

    return verify


def measure(*, full: bool) -> list[Figure]:
    """All rows of this file."""
    count = 20_000 if full else 2_000
    with tempfile.TemporaryDirectory(prefix="rocade-soap-") as folder:
        region = create_region(Path(folder) / "region", "eu", "bench.rocade", CLOCK, RANDOM)
        site = region.identity("dealer", "FR-00001-1")
        issuer, top = authority()
        rsa_key, ec_key = rsa.generate_private_key(65_537, 2048), ec.generate_private_key(ec.SECP256R1())
        rows: list[Figure] = []
        for title, key, certificate in (
            ("RSA-2048", rsa_key, _certificate(issuer, rsa_key, site.uri)),
            ("P-256", ec_key, x509.load_der_x509_certificate(region.issue(ec_key.public_key(), site).leaf_der)),
        ):
            credential = Credential(key, certificate.public_bytes(Encoding.DER))
            batch, pem = envelopes(credential, count), certificate.public_bytes(Encoding.PEM)
            signers = RegionSigners(lambda: region.issuers, ("dealer",), lambda _: False, Authorities([top]))
            ours = per_cpu_second(Verifier(signers, CLOCK).verify, batch)
            few = batch[: count // 4]
            peers = {
                "signxml": per_cpu_second(by_signxml(pem.decode()), few),
                "xmlsec": per_cpu_second(by_xmlsec(pem), few),
            }
            size_kb = len(batch[0]) / 1000
            goal = 3_000.0 if title == "RSA-2048" else None
            for peer, value in peers.items():
                rows.append(figure(f"strict SOAP verification, {title}, {size_kb:.1f} kB", ours, "1/s of one core",
                                   goal, peer=peer, peer_value=value))  # fmt: skip
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="20,000 envelopes of each kind")
    print(json.dumps(measure(full=parser.parse_args().full), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
