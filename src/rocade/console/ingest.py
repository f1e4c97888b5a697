"""The ingestion page's figures, made from what the processes report: rates between two looks, worst latency and lag.

Shape: `watch` yields a `status` event a second. Counters of the processes are since their start; a process that started
anew begins again at zero, so its first difference is left out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from rocade.doors.http.streams import event, pause
from rocade.fabric.status import ProcessStatus, StatusBoard

type Seen = Mapping[tuple[str, str], ProcessStatus]


class Figures(msgspec.Struct, frozen=True):
    connections: int
    messages_per_s: float | None
    points_per_s: float | None
    ack_p50_ms: float | None
    ack_p99_ms: float | None
    lag_s: float | None
    refusals: dict[str, int]
    quarantine: dict[str, int]
    processes: list[dict[str, Any]]


async def watch(board: StatusBoard, closing: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield figures once a second; the first have no rates yet."""
    before: Seen = {}
    while not closing.is_set():
        processes = await board.read()
        yield event("status", msgspec.json.encode(figures(processes, before)))
        before = {(one.role, one.process): one for one in processes}
        await pause(closing)


def figures(processes: Sequence[ProcessStatus], before: Seen) -> Figures:
    """What the page shows. Latencies and lag are those of the worst process."""
    alive = [one for one in processes if one.is_alive]
    gateways = [one for one in alive if one.role == "gateway"]
    workers = [one for one in alive if one.role == "worker"]
    return Figures(
        connections=int(sum(_number(one, "connections") or 0 for one in gateways)),
        messages_per_s=_rate(gateways, before, "acknowledged"),
        points_per_s=_rate(gateways, before, "points"),
        ack_p50_ms=_worst(gateways, "ack_p50_ms"),
        ack_p99_ms=_worst(gateways, "ack_p99_ms"),
        lag_s=_worst(workers, "lag_s"),
        refusals=_summed(alive, "refusals"),
        quarantine=_summed(workers, "quarantined"),
        processes=[
            {"process": one.process, "is_alive": one.is_alive, "values": one.values}
            for one in sorted(processes, key=lambda one: (not one.is_alive, one.process))
        ],
    )


def _rate(processes: Sequence[ProcessStatus], before: Seen, name: str) -> float | None:
    """Sum of what was counted since the last look, per second; None at the first look."""
    total, known = 0.0, False
    for one in processes:
        earlier = before.get((one.role, one.process))
        if earlier is None or one.at_us <= earlier.at_us:
            known = known or earlier is not None
            continue
        added = (_number(one, name) or 0) - (_number(earlier, name) or 0)
        known = True
        if added >= 0:
            total += added / ((one.at_us - earlier.at_us) / 1e6)
    return total if known else None


def _worst(processes: Sequence[ProcessStatus], name: str) -> float | None:
    return max((value for one in processes if (value := _number(one, name)) is not None), default=None)


def _summed(processes: Sequence[ProcessStatus], name: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in processes:
        found = one.values.get(name)
        if isinstance(found, dict):
            total.update({str(key): int(count) for key, count in found.items() if isinstance(count, int | float)})
    return dict(total)


def _number(process: ProcessStatus, name: str) -> float | None:
    value = process.values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
