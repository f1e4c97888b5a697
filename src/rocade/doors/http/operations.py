"""Operating a region: health, metrics, what the processes report, and the audit log (tail and verification)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.core.errors import Corrupt
from rocade.core.ports import AuditEntry
from rocade.doors.http.access import does
from rocade.doors.http.shell import BUCKETS_S, Traffic
from rocade.fabric.status import ProcessStatus, StatusBoard
from rocade.trust.authority.gate import acts

CHECK_TIMEOUT_S = 2.0
type Checks = Mapping[str, Callable[[], Awaitable[bool]]]


@get("/health/live", opt=does(acts.CHECK_HEALTH))
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "alive"}


@get("/health/ready", opt=does(acts.CHECK_HEALTH))
async def is_ready(ready: NamedDependency[SkipValidation[Checks]]) -> Response[dict[str, Any]]:
    """Every engine this process needs answers within two seconds; 503 otherwise, naming what does not."""
    answers = dict(zip(ready, await asyncio.gather(*map(_check, ready.values())), strict=True))
    is_fine = all(answers.values())
    body = {"status": "ready" if is_fine else "not ready", "checks": answers}
    return Response(body, status_code=200 if is_fine else 503, headers={"cache-control": "no-store"})


async def _check(check: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return bool(await asyncio.wait_for(check(), CHECK_TIMEOUT_S))
    except Exception:
        return False


@get("/metrics", opt=does(acts.READ_METRICS), media_type="text/plain; version=0.0.4", include_in_schema=True)
async def metrics(request: Request[Any, Any, Any], status: NamedDependency[SkipValidation[StatusBoard]]) -> str:
    """Prometheus text: this process's requests, and what every process reports of itself."""
    lines = [*_traffic_lines(request.app.state.traffic), *_status_lines(await status.read())]
    return "\n".join(lines) + "\n"


def _traffic_lines(traffic: Traffic) -> Iterator[str]:
    yield "# TYPE rocade_http_requests_total counter"
    for (method, route, code), count in sorted(traffic.requests.items()):
        yield f'rocade_http_requests_total{{method="{method}",route="{_text(route)}",status="{code}"}} {count}'
    yield "# TYPE rocade_http_request_seconds histogram"
    for route, counts in sorted(traffic.seconds.items()):
        below = 0
        for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=True):
            below += count
            yield f'rocade_http_request_seconds_bucket{{route="{_text(route)}",le="{bound}"}} {below}'
        yield f'rocade_http_request_seconds_sum{{route="{_text(route)}"}} {traffic.seconds_sum[route]:.6f}'
        yield f'rocade_http_request_seconds_count{{route="{_text(route)}"}} {below}'


def _status_lines(processes: list[ProcessStatus]) -> Iterator[str]:
    yield "# TYPE rocade_process_up gauge"
    for one in processes:
        labels = f'role="{_text(one.role)}",process="{_text(one.process)}"'
        yield f"rocade_process_up{{{labels}}} {int(one.is_alive)}"
        for name, value in sorted(one.values.items()):
            if isinstance(value, bool | int | float):
                yield f"rocade_{one.role}_{_name(name)}{{{labels}}} {float(value):.10g}"
            elif isinstance(value, dict):
                for key, count in sorted(value.items()):
                    if isinstance(count, bool | int | float):
                        yield f'rocade_{one.role}_{_name(name)}{{{labels},key="{_text(key)}"}} {float(count):.10g}'


def _name(text: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in text)


def _text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class ProcessView(msgspec.Struct, frozen=True):
    """What one process said of itself last; `is_alive` is False when it fell silent."""

    role: str
    process: str
    at_us: int
    is_alive: bool
    values: dict[str, Any]


class StatusView(msgspec.Struct, frozen=True):
    processes: list[ProcessView]


@get("/v1/status", opt=does(acts.READ_STATUS))
async def show_status(status: NamedDependency[SkipValidation[StatusBoard]]) -> StatusView:
    """Every process seen in the last hour and what it reports."""
    return StatusView([msgspec.convert(one, ProcessView, from_attributes=True) for one in await status.read()])


class AuditReader(Protocol):
    """The audit log as the API reads it."""

    async def tail(self, limit: int) -> Sequence[tuple[int, AuditEntry]]:
        """The newest entries with their positions, newest first."""
        ...

    async def verify(self) -> object:
        """A report of a log that holds. Raises: Corrupt naming the first entry that does not."""
        ...


class AuditLine(msgspec.Struct, frozen=True):
    position: int
    at_us: int
    actor: str
    action: str
    subject: str
    outcome: str
    reason: str
    facts: dict[str, str | float]


class AuditLines(msgspec.Struct, frozen=True):
    items: list[AuditLine]


@get("/v1/audit", opt=does(acts.READ_AUDIT))
async def show_audit(book: NamedDependency[SkipValidation[AuditReader]], limit: FromQuery[int] = 50) -> AuditLines:
    """The newest entries of the audit log, newest first."""
    lines = await book.tail(max(1, min(limit, 1000)))
    return AuditLines([AuditLine(position, *msgspec.structs.astuple(entry)) for position, entry in lines])


@get("/v1/audit/verify", opt=does(acts.VERIFY_AUDIT))
async def verify_audit(book: NamedDependency[SkipValidation[AuditReader]]) -> dict[str, Any]:
    """Check every entry against the signed tree heads; `ok` is false and `code` and `position` say where it breaks."""
    try:
        report = await book.verify()
    except Corrupt as broken:
        return {"ok": False, "code": broken.code, "message": broken.message, **broken.facts}
    return {"ok": True, **msgspec.to_builtins(report)}


HANDLERS = [live, is_ready, metrics, show_status, show_audit, verify_audit]
