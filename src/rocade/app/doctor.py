"""`rocade doctor`: what this machine must offer before vehicles are let in. Each check says what it saw and what to do.

Checks: clock (kernel says synchronised, sane year), open-file limit against the configured connections, fsync time on
the data directory, disk room, memory, the ports, TLS 1.3, key files' modes.
"""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from rocade.app.configuration import Configuration


class Finding(msgspec.Struct, frozen=True):
    name: str
    level: str
    """"ok", "warn" or "fail"; one fail makes the command exit 1."""
    seen: str
    advice: str = ""


def examine(configuration: Configuration, *, is_running: bool) -> list[Finding]:
    """Run every check; nothing is changed but a few kilobytes written and removed in the data directory."""
    checks: list[Callable[[Configuration], Iterator[Finding]]] = [_clock, _files, _fsync, _disk, _memory, _tls, _keys]
    if not is_running:
        checks.append(_ports)
    return [finding for check in checks for finding in check(configuration)]


def _clock(_: Configuration) -> Iterator[Finding]:
    year = time.gmtime().tm_year
    if not 2025 <= year < 2100:
        yield Finding("clock", "fail", f"the year is {year}", "set the clock; certificates depend on it")
        return
    buffer = ctypes.create_string_buffer(256)  # struct timex, only read
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except (OSError, AttributeError):
        yield Finding("clock", "warn", "the kernel's clock state cannot be read here", "run a time service")
        return
    if state == 5:  # TIME_ERROR: not synchronised, man 2 adjtimex
        yield Finding(
            "clock", "warn", "not synchronised, says the kernel", "run a time service (chrony, systemd-timesyncd)"
        )
    else:
        yield Finding("clock", "ok", "synchronised" if state == 0 else f"kernel state {state}")


def _files(configuration: Configuration) -> Iterator[Finding]:
    need = configuration.mqtt.max_connections + 512
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        yield Finding(
            "open files", "fail", f"hard limit {hard}, needed {need}", "raise LimitNOFILE or lower mqtt.max_connections"
        )
    else:
        yield Finding("open files", "ok", f"soft {soft}, hard {hard}, needed {need} (raised at start)")


def _fsync(configuration: Configuration) -> Iterator[Finding]:
    times: list[float] = []
    with tempfile.NamedTemporaryFile(dir=configuration.root, prefix=".doctor-") as file:
        for _ in range(30):
            file.write(b"\0" * 8192)
            file.flush()
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    median, worst = statistics.median(times), max(times)
    seen = f"median {median:.2f} ms, worst {worst:.1f} ms over 30 writes of 8 KiB"
    if median > 20:
        yield Finding("fsync", "warn", seen, "acknowledgements wait for this; use a disk with power-loss protection")
    elif median < 0.02:
        yield Finding("fsync", "warn", seen, "too fast to be true: does this disk keep its promise at power loss?")
    else:
        yield Finding("fsync", "ok", seen)


def _disk(configuration: Configuration) -> Iterator[Finding]:
    free_gb = shutil.disk_usage(configuration.root).free / 1e9
    level = "ok" if free_gb > configuration.log.max_gb else "warn" if free_gb > 2 else "fail"
    advice = "" if level == "ok" else "make room, or lower log.max_gb; intake stops before the disk is full"
    yield Finding("disk", level, f"{free_gb:.1f} GB free at {configuration.root}", advice)


def _memory(_: Configuration) -> Iterator[Finding]:
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    yield Finding(
        "memory",
        "ok" if total > 3.5 else "warn",
        f"{total:.1f} GB, {available:.1f} GB unused",
        "" if total > 3.5 else "4 GB carry a small fleet comfortably",
    )


def _tls(_: Configuration) -> Iterator[Finding]:
    yield Finding(
        "tls", "ok" if ssl.HAS_TLSv1_3 else "fail", ssl.OPENSSL_VERSION, "" if ssl.HAS_TLSv1_3 else "TLS 1.3 needed"
    )


def _keys(configuration: Configuration) -> Iterator[Finding]:
    loose = [
        str(path.relative_to(configuration.root))
        for folder in (configuration.trust, configuration.server, configuration.operator)
        for path in sorted(Path(folder).rglob("*key*.pem"))
        if path.stat().st_mode & 0o077
    ]
    if loose:
        yield Finding(
            "keys", "fail", f"readable by others: {', '.join(loose[:5])}", "chmod 600 them and think about a re-issue"
        )
    else:
        yield Finding("keys", "ok", "private keys are readable by their owner only")


def _ports(configuration: Configuration) -> Iterator[Finding]:
    wanted = {
        "mqtt.port": (configuration.mqtt.host, configuration.mqtt.port),
        "est.port": (configuration.est.host, configuration.est.port),
        "http.api_port": (configuration.http.api_host, configuration.http.api_port),
        "http.pages_port": ("127.0.0.1", configuration.http.pages_port),
    }
    for name, (host, port) in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                yield Finding(name, "fail", f"port {port} on {host}: {error.strerror}", f"free it or change {name}")
            else:
                yield Finding(name, "ok", f"port {port} is free")
