"""Tests of the line from where the agent stands, each with what was seen and what to do: name, port, TLS, clock, certificate,
price files, disk, permissions, the agent's file; and on the command line the rows of the price lists. Nothing is changed; a hub hears nothing but a handshake and one question.

`Finding.check` and `.advice` name sentences in the page's catalogues (`test.*`, `advice.*`), so that the page, and
`rocade dealer doctor` in English, say the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import msgspec

from rocade.agents.dealer.pricing import open_store
from rocade.agents.dealer.settings import Hub, Settings
from rocade.agents.dealer.store import FILE, find_damage
from rocade.core.errors import RocadeError
from rocade.core.ports import Clock
from rocade.trust.identity import directory, tls
from rocade.trust.identity.certificates import verify_leaf
from rocade.trust.identity.issuers import to_us

_TIMEOUT_S = 8.0
_SKEW_WARN_S, _SKEW_FAIL_S = 30, 300
_DAY_US = 86_400_000_000
_LEAST_FREE_BYTES = 1 << 30


class Finding(msgspec.Struct, frozen=True):
    """`level` is "ok", "warn" or "fail"; one fail makes `rocade dealer doctor` exit 1."""

    check: str
    level: str
    seen: str
    advice: str = ""
    hub: str = ""


async def examine(place: Path, settings: Settings, clock: Clock) -> list[Finding]:
    """Run every test; those that wait for the network side by side, in threads."""
    parts = await asyncio.gather(
        asyncio.to_thread(_all, _machine(place, settings, clock)),
        *(asyncio.to_thread(_all, _hub(place, hub, clock)) for hub in settings.hubs),
    )
    return [finding for part in parts for finding in part]


def examine_prices(place: Path, settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Whether the rows of each list are those its head was signed for. Cost: 2 s and 100 MB for 500,000 parts."""
    for hub in settings.hubs:
        store = open_store(place, hub.name, clock)
        try:
            for name, code in store.verify_all().items():
                yield Finding("prices", "fail" if code else "ok", f"{name} {code}".strip(), "prices", hub.name)
        finally:
            store.close()


def _all(findings: Iterator[Finding]) -> list[Finding]:
    return list(findings)


def _machine(place: Path, settings: Settings, clock: Clock) -> Iterator[Finding]:
    free = shutil.disk_usage(place).free
    level = "ok" if free > _LEAST_FREE_BYTES else "warn" if free > settings.keeping.least_free_mb << 20 else "fail"
    yield Finding("disk", level, f"{free / 1e9:.1f} GB", "disk")
    loose = [
        str(file.relative_to(place))
        for file in sorted(place.rglob("*"))
        if file.suffix in {".pem", ".sqlite3", ".json"} and _is_secret(file) and file.stat().st_mode & 0o077
    ]
    yield Finding("permissions", "fail" if loose else "ok", ", ".join(loose[:5]) or "0600", "permissions")
    try:
        probe = place / ".doctor"
        probe.write_bytes(b"")
        probe.unlink()
        yield Finding("writable", "ok", str(place.name))
    except OSError as error:
        yield Finding("writable", "fail", error.strerror or "", "writable")
    if (place / FILE).exists():
        damages = find_damage(place / FILE)
        yield Finding("file", "fail" if damages else "ok", ", ".join(damages[:5]) or FILE, "file")
    yield from _page(place, settings, clock)


def _is_secret(file: Path) -> bool:
    return file.name.endswith("key.pem") or file.name in {"encryption.json", "waiting.pem"} or file.suffix == ".sqlite3"


def _page(place: Path, settings: Settings, clock: Clock) -> Iterator[Finding]:
    lan = settings.lan
    for address in lan.addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as probe:
            try:
                probe.bind((address, 0))
                yield Finding("page_address", "ok", address)
            except OSError as error:
                yield Finding("page_address", "fail", f"{address}: {error.strerror}", "page_address")
    if lan.certificate:
        try:
            from cryptography import x509

            end_us = to_us(
                x509.load_pem_x509_certificates((place / lan.certificate).read_bytes())[0].not_valid_after_utc
            )
            days = (end_us - clock.now_us()) // _DAY_US
            yield Finding("page_certificate", _by_days(days), f"{days} d", "page_certificate")
        except (OSError, ValueError):
            yield Finding("page_certificate", "fail", lan.certificate, "page_certificate")


def _hub(place: Path, hub: Hub, clock: Clock) -> Iterator[Finding]:
    def found(check: str, level: str, seen: str, advice: str = "") -> Finding:
        return Finding(check, level, seen, advice, hub.name)

    identity = place / "hubs" / hub.name
    yield _certificate(identity, clock, found)
    try:
        addresses = sorted(
            {str(one[4][0]) for one in socket.getaddrinfo(hub.host, hub.line_port, type=socket.SOCK_STREAM)}
        )
        yield found("name", "ok", ", ".join(addresses[:4]))
    except OSError as error:
        yield found("name", "fail", f"{hub.host}: {error.strerror or type(error).__name__}", "name")
        return
    doors = (("line", hub.line_port), ("files", hub.api_port), ("enrolment", hub.est_port))
    reachable = []
    for door, port in doors:
        try:
            socket.create_connection((hub.host, port), _TIMEOUT_S).close()
            yield found(f"port_{door}", "ok", str(port))
            reachable.append((door, port))
        except OSError as error:
            yield found(f"port_{door}", "fail", f"{port}: {error.strerror or type(error).__name__}", "port")
    for door, port in reachable:
        if door != "enrolment":
            yield _handshake(identity, hub.host, port, door, clock, found)
    if ("files", hub.api_port) in reachable:
        yield _clock(identity, hub, clock, found)


def _certificate(identity: Path, clock: Clock, found: Callable[..., Finding]) -> Finding:
    try:
        end_us = to_us(directory.load_leaf(identity).not_valid_after_utc)
        directory.load_key(identity)
    except RocadeError as error:
        return found("certificate", "fail", error.message, "enrol")
    days = (end_us - clock.now_us()) // _DAY_US
    return found("certificate", _by_days(days), f"{days} d", "renewal" if days >= 0 else "enrol")


def _by_days(days: int) -> str:
    return "fail" if days < 0 else "warn" if days < 20 else "ok"


def _handshake(identity: Path, host: str, port: int, door: str, clock: Clock, found: Callable[..., Finding]) -> Finding:
    """TLS, and whether who answers is a hub of this region. TLS 1.3 tells a refused client only when it reads."""
    check = f"tls_{door}"
    try:
        context = tls.client_context(identity)
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as raw,
            context.wrap_socket(raw, server_hostname=host) as secured,
        ):
            issuers = directory.load_issuers(identity)
            verify_leaf(tls.peer_leaf(secured) or b"", issuers, clock.now_us(), {"service"})
            secured.settimeout(0.3)
            with contextlib.suppress(TimeoutError):
                secured.recv(1)
            return found(check, "ok", secured.version() or "")
    except ssl.SSLError as error:
        return found(check, "fail", tls.handshake_refusal(error).code, "tls")
    except RocadeError as error:
        return found(check, "fail", error.code, "tls")
    except OSError as error:
        return found(check, "fail", type(error).__name__, "tls")


def _clock(identity: Path, hub: Hub, clock: Clock, found: Callable[..., Finding]) -> Finding:
    """How far this machine's clock is from the hub's, by the Date of an answer."""
    connection = http.client.HTTPSConnection(
        hub.host, hub.api_port, timeout=_TIMEOUT_S, context=tls.client_context(identity)
    )
    try:
        connection.request("GET", "/v1/price-blobs/" + "0" * 64)
        date = connection.getresponse().headers.get("date", "")
        skew_s = clock.now_us() / 1e6 - parsedate_to_datetime(date).timestamp()
    except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
        return found("clock", "warn", type(error).__name__, "clock_unknown")
    finally:
        connection.close()
    level = "ok" if abs(skew_s) < _SKEW_WARN_S else "warn" if abs(skew_s) < _SKEW_FAIL_S else "fail"
    return found("clock", level, f"{skew_s:+.0f} s", "clock")
