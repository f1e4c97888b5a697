"""What is stored, counted: points per vehicle and bytes on disk. The demo, the benchmark and erasure compare with it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.fabric.history import History
from rocade.services.telemetry import chunks

_POINTS = "toInt64(length(d8) + length(d32) + length(f) + length(s))"


class Footprint(msgspec.Struct, frozen=True):
    """Bytes are those of the active parts, as compressed on disk."""

    points: int
    bytes: int

    @property
    def bytes_per_point(self) -> float:
        return self.bytes / self.points if self.points else 0.0


async def footprint(history: History) -> Footprint:
    """All points and the bytes they take. Cost: reads array lengths of the whole table."""
    name = chunks.TABLE.name
    points = await history.query(f"SELECT sum({_POINTS}) AS points FROM {name}")
    size = await history.query(
        "SELECT toInt64(sum(bytes_on_disk)) AS size FROM system.parts "
        f"WHERE active AND database = currentDatabase() AND table = '{name}'"
    )
    return Footprint(int(points.column(0)[0].as_py() or 0), int(size.column(0)[0].as_py() or 0))


async def points_by_vehicle(history: History, vehicles: Sequence[int], arrived_from_us: int = 0) -> dict[int, int]:
    """Stored points of each of these vehicles that arrived since then; vehicles without any are left out."""
    table = await history.query(
        f"SELECT vehicle, sum({_POINTS}) AS points FROM {chunks.TABLE.name} "
        "WHERE vehicle IN {vehicles:Array(UInt64)} AND arrived_us >= {since:Int64} GROUP BY vehicle",
        {"vehicles": list(vehicles), "since": arrived_from_us},
    )
    return {int(row["vehicle"]): int(row["points"]) for row in table.to_pylist()}


async def points_by_signal(history: History, vehicle: int) -> dict[int, int]:
    """Stored points of each signal of a vehicle."""
    table = await history.query(
        f"SELECT signal, sum({_POINTS}) AS points FROM {chunks.TABLE.name} "
        "WHERE vehicle = {vehicle:UInt64} GROUP BY signal",
        {"vehicle": vehicle},
    )
    return {int(row["signal"]): int(row["points"]) for row in table.to_pylist()}
