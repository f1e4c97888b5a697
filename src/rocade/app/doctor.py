"""`rocade doctor`: what this machine must offer before vehicles are let in. Each check says what it saw and what to do.

Checks: clock (kernel says synchronised, sane year), open-file limit against the configured connections, fsync time on
the data directory, disk room, memory, the ports, TLS 1.3, key files' modes, custody of the region key, certificates near their end, settings that changed since
the last start, the embedded database's commit log.
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

from rocade.app import last_settings
from rocade.app.configuration import Configuration
from rocade.app.custodies import custody_of
from rocade.core.errors import Corrupt, RocadeError
from rocade.fabric.database import EmbeddedPostgres
from rocade.trust.identity.directory import load_issuers, load_leaf, renewal_due_us
from rocade.trust.identity.issuers import to_us

LEAST_FILES = 2048
"""Fewer do not carry the engines and a handful of vehicles."""
SOON_US = 60 * 86_400_000_000
"""Before an intermediate's end it is time to roll it; a leaf of it lives up to that long."""


class Finding(msgspec.Struct, frozen=True):
    name: str
    level: str
    """"ok", "warn" or "fail"; one fail makes the command exit 1."""
    seen: str
    advice: str = ""


def examine(configuration: Configuration, *, is_running: bool) -> list[Finding]:
    """Run every check; nothing is changed but a few kilobytes written and removed in the data directory."""
    checks: list[Callable[[Configuration], Iterator[Finding]]]
    checks = [_clock, _files, _fsync, _disk, _memory, _tls, _keys, _custody, _certificates, _settings, _commit_log]
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
        level = "warn" if hard >= LEAST_FILES else "fail"
        seen = (
            f"hard limit {hard}: {max(0, hard - 512)} vehicles at once, {configuration.mqtt.max_connections} configured"
        )
        yield Finding("open files", level, seen, "raise LimitNOFILE, or lower mqtt.max_connections to what is true")
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


def _custody(configuration: Configuration) -> Iterator[Finding]:
    try:
        version = custody_of(configuration).current()
    except RocadeError as error:
        yield Finding("custody", "fail", f"{error.message} [{error.code}]", "docs/sealing.md; `rocade custody status`")
        return
    beside = not Path(configuration.custody.directory).is_absolute() and configuration.custody.kind == "file"
    if not version:
        yield Finding("custody", "warn", "no region key yet", "the first start makes it, and needs custody for that")
    elif beside:
        seen = f"region key {version} lies beside the tables it protects"
        yield Finding("custody", "warn", seen, "`rocade custody move` gives it to another party")
    else:
        yield Finding("custody", "ok", f"region key {version} is kept elsewhere")


def _certificates(configuration: Configuration) -> Iterator[Finding]:
    """Leaves of this machine and the region's intermediates. What the processes renew by themselves only ever warns."""
    now_us = time.time_ns() // 1000
    found = list(_leaves(configuration, now_us))
    try:
        table = load_issuers(configuration.trust)
    except (RocadeError, OSError) as error:
        found.append(Finding("certificates", "fail", f"issuer table: {error}", "restore DIR/trust from a copy"))
        table = None
    newest = {(issuer.kind, issuer.purpose): issuer for issuer in table or ()}
    for (kind, purpose), issuer in newest.items():
        if issuer.not_after_us - now_us < SOON_US and purpose == "operational":
            advice = f"bring trust/root back and `rocade roll {kind}`"
            level = "warn" if issuer.not_after_us > now_us else "fail"
            found.append(
                Finding("certificates", level, f"{kind} intermediate ends {_day(issuer.not_after_us)}", advice)
            )
    yield from found or [Finding("certificates", "ok", "none near its end")]


def _settings(configuration: Configuration) -> Iterator[Finding]:
    try:
        found = last_settings.changed(configuration.root)
    except Corrupt as damage:
        yield Finding("settings", "warn", f"{damage.message} [{damage.code}]", "the next start writes it anew")
        return
    for change in found:
        yield Finding("settings", "warn", f"changed since the last start: {change}", "if nobody did that, put it back")
    if not found:
        yield Finding("settings", "ok", "as at the last start")


def _commit_log(configuration: Configuration) -> Iterator[Finding]:
    place = configuration.root / "postgres"
    if configuration.database_url or not (place / "data").exists():
        return
    try:
        damages = [str(damage) for damage in EmbeddedPostgres(place).examine()]
    except RocadeError as error:
        damages = [f"{error.message} [{error.code}]"]
    for damage in damages:
        yield Finding("commit log", "fail", damage, "stop the region; `rocade database mend`")
    if not damages:
        yield Finding("commit log", "ok", "as it was when it was kept")


def _leaves(configuration: Configuration, now_us: int) -> Iterator[Finding]:
    advice = {
        "server": "the running processes renew it by themselves within seconds; see logs/api.log if this stays",
        "operator": "`rocade operator renew`",
    }
    for name, directory in (("server", configuration.server), ("operator", configuration.operator)):
        try:
            leaf = load_leaf(directory)
        except RocadeError as error:
            yield Finding("certificates", "fail", f"{name}: {error.message}", advice[name])
            continue
        end_us = to_us(leaf.not_valid_after_utc)
        if now_us >= end_us:
            level = "fail" if name == "operator" else "warn"
            yield Finding("certificates", level, f"the {name}'s ended {_day(end_us)}", advice[name])
        elif now_us >= renewal_due_us(leaf):
            what = f"the {name}'s ends {_day(end_us)} and was due for renewal"
            yield Finding("certificates", "warn", what, advice[name])


def _day(at_us: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_us / 1e6))


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
