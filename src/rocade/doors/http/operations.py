"""Operating the API process: /health/live, /health/ready, /metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.doors.http.access import EVERYBODY, PAGES
from rocade.doors.http.shell import BUCKETS_S, Traffic
from rocade.fabric.status import ProcessStatus, StatusBoard

CHECK_TIMEOUT_S = 2.0
type Checks = Mapping[str, Callable[[], Awaitable[bool]]]


@get("/health/live", opt={"audience": EVERYBODY})
async def live() -> dict[str, str]:
    """This process answers."""
    return {"status": "alive"}


@get("/health/ready", opt={"audience": EVERYBODY})
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


@get("/metrics", opt={"audience": PAGES}, media_type="text/plain; version=0.0.4", include_in_schema=True)
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


HANDLERS = [live, is_ready, metrics]
