"""What the gateway does to every batch before the log: structure and limits, no value decoded.

Cost: goal 10 us a batch of 1,200 points; `benchmarks/data_path.py` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from rocade.wire.batch import layout
from rocade.wire.batch.familiar import Familiar
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


def check_many(
    bodies: Sequence[bytes], no_float32: NDArray[np.uint32] | None = None, familiar: Familiar | None = None
) -> Checked:
    """Check the structure of many bodies in one pass.

    `no_float32`: ids of signals that must not travel as float32 (positions). `familiar`: what this process has seen
    before; it learns from what the full check finds sound.
    """
    many = len(bodies)
    checked = Checked(
        [None] * many,
        np.zeros(many, np.uint64),
        np.zeros(many, np.uint64),
        np.zeros(many, np.int64),
        np.zeros(many, np.int64),
        [""] * many,
    )
    known, rest = familiar.recognise(bodies) if familiar else ([], list(range(many)))
    for group in known:
        checked.epoch[group.places] = group.epoch
        checked.sequence[group.places] = group.sequence
        checked.sent_at_us[group.places] = group.sent_at_us
        checked.points[group.places] = group.points
    if rest:
        _check_fully(bodies, rest, no_float32, checked)
        if familiar:
            for place in rest:
                if checked.reasons[place] is None and not checked.vehicle_ids[place]:
                    familiar.learn(bodies[place], int(checked.points[place]))
    return checked


def sequence_of(body: bytes) -> int:
    """The sequence an envelope names; 0 if it is no envelope. Cost: a microsecond and a copy of the body."""
    try:
        return int(layout.Envelope.FromString(body).sequence)
    except DecodeError:
        return 0


def _check_fully(
    bodies: Sequence[bytes], places: list[int], no_float32: NDArray[np.uint32] | None, checked: Checked
) -> None:
    """Open the bodies at `places` and enter what was found."""
    sides, reasons = open_many([bodies[place] for place in places], no_float32)
    for place, reason in zip(places, reasons, strict=True):
        checked.reasons[place] = reason
    sound = np.array(places)[sides.index]
    checked.epoch[sound] = np.array(sides.scalars["epoch"], np.uint64)
    checked.sequence[sound] = np.array(sides.scalars["sequence"], np.uint64)
    checked.sent_at_us[sound] = sides.sent_at_us
    checked.points[sound] = sides.points
    if any(sides.scalars["vehicle_id"]):
        for place, vehicle_id in zip(sound.tolist(), sides.scalars["vehicle_id"], strict=True):
            checked.vehicle_ids[place] = vehicle_id
