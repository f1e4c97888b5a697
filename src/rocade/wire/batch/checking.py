"""What the gateway does to every batch before the log: structure and limits, no value decoded.

Cost: goal 10 us a batch of 1,200 points; `benchmarks/data_path.py` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocade.wire.batch.parsing import open_many


@dataclass(frozen=True, slots=True)
class Checked:
    """One entry per body handed in; entries of refused bodies are 0 and ''."""

    reasons: list[str | None]
    """Code of the refusal (`parsing.CODES`), None = sound."""
    epoch: NDArray[np.uint64]
    sequence: NDArray[np.uint64]
    sent_at_us: NDArray[np.int64]
    points: NDArray[np.int64]
    vehicle_ids: list[str]


def check_many(bodies: Sequence[bytes], no_float32: NDArray[np.uint32] | None = None) -> Checked:
    """Check the structure of many bodies in one pass.

    `no_float32`: ids of signals that must not travel as float32 (positions).
    """
    sides, reasons = open_many(bodies, no_float32)

    def spread(values: Any, form: Any) -> NDArray[Any]:
        if len(sides.index) == len(bodies):
            return np.array(values, form)
        out = np.zeros(len(bodies), form)
        out[sides.index] = values
        return out

    vehicle_ids = [""] * len(bodies)
    if any(sides.scalars["vehicle_id"]):
        for place, vehicle_id in zip(sides.index.tolist(), sides.scalars["vehicle_id"], strict=True):
            vehicle_ids[place] = vehicle_id
    return Checked(
        reasons=reasons,
        epoch=spread(sides.scalars["epoch"], np.uint64),
        sequence=spread(sides.scalars["sequence"], np.uint64),
        sent_at_us=spread(sides.sent_at_us, np.int64),
        points=spread(sides.points, np.int64),
        vehicle_ids=vehicle_ids,
    )
