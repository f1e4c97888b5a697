"""Just enough DER to see what the certificate parser does not show: outer length, raw fields, and why it refused.

The parser (`cryptography`) already refuses most non-canonical encodings, with one error for all of them; `explain`
finds the reason to show afterwards, so a good certificate never pays for it. Source: ITU-T X.690 sections 8 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography import x509

from rocade.core.errors import Refused

type Refuse = Callable[[str, str], Refused]

_BOOLEAN, _INTEGER, _SEQUENCE, _IA5_URI = 0x01, 0x02, 0x30, 0x86


class _Fault(Exception):
    """A rule of DER is broken."""


def end_of(data: bytes) -> int:
    """Where the first value ends by its own declaration; 0 if it declares none that a certificate could have."""
    if len(data) < 2:
        return len(data) + 1
    size = data[1]
    if size < 0x80:
        return 2 + size
    count = size & 0x7F
    if not 1 <= count <= 4:
        return len(data)  # indefinite or absurd: left to the parser, which refuses it
    return 2 + count + int.from_bytes(data[2 : 2 + count])


class Fields(NamedTuple):
    """Slices of a canonical certificate that the parser gives only as objects or encoded anew."""

    signed: bytes
    inner_algorithm: bytes
    issuer: bytes
    subject: bytes
    outer_algorithm: bytes
    unused_bits: int
    signature: bytes


def fields(certificate: bytes) -> Fields:
    """Cut a certificate that has passed the parser and the canonical check."""
    _, begin, _ = _header(certificate, 0)
    _, at, signed_end = _header(certificate, begin)
    cuts = []
    for _ in range(6):  # version, serial number, algorithm, issuer, validity, subject
        end = _header(certificate, at)[2]
        cuts.append(certificate[at:end])
        at = end
    algorithm_end = _header(certificate, signed_end)[2]
    _, signature, _ = _header(certificate, algorithm_end)
    return Fields(
        certificate[begin:signed_end],
        cuts[2],
        cuts[3],
        cuts[5],
        certificate[signed_end:algorithm_end],
        certificate[signature],
        certificate[signature + 1 :],
    )


def explain(data: bytes, refuse: Refuse) -> Refused:
    """Why the parser refused these bytes."""
    try:
        for tag, content in _walk(data, 0, len(data)):
            if tag == _INTEGER and len(content) > 1 and (content[0], content[1] >> 7) in {(0, 0), (255, 1)}:
                raise _Fault
            if tag == _BOOLEAN and content not in {b"\x00", b"\xff"}:
                raise _Fault
    except _Fault:
        return refuse("not_canonical", "the certificate is not in canonical DER")
    except (IndexError, RecursionError):
        pass
    return refuse("malformed", "these bytes are no X.509 certificate")


def explain_extensions(certificate: x509.Certificate, refuse: Refuse) -> Refused:
    """Why the parser refused an extension's content."""
    signed = certificate.tbs_certificate_bytes
    for at in (index for index in range(len(signed)) if signed.startswith(b"spiffe://", index)):
        length = signed[at - 1]
        if signed[at - 2] == _IA5_URI and not signed[at : at + length].isascii():
            return refuse("uri_not_ascii", "the URI has characters outside ASCII")
    return refuse("extension_malformed", "an extension's content cannot be read")


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content at `at`."""
    size, start = data[at + 1], at + 2
    if size >= 0x80:
        count = size & 0x7F
        size, start = int.from_bytes(data[start : start + count]), start + count
        if count == 0 or size < 0x80 or size >> (8 * (count - 1)) == 0:
            raise _Fault
    return data[at], start, start + size


def _walk(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Every primitive value, depth first."""
    while at < end:
        tag, start, at = _header(data, at)
        if at > end:
            raise IndexError
        if tag & 0x20:
            yield from _walk(data, start, at)
        else:
            yield tag, data[start:at]
