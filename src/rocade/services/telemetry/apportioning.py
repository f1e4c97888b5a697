"""Whose a record is when a vehicle changed hands: each sample goes to the reference it had when it was taken.

A vehicle may deliver late what it measured for its former owner, and for a moment the gateway may still file under the old
reference. So a record of a vehicle that changed hands is split by the time of its samples: the part of another owner is
forwarded through the log under that owner's reference, where the worker of its partition takes it in like any other; what
comes twice after a crash falls to the numbers. A number is spent under both references, so that none is asked for again.
The vehicle's clock decides, moved back where it runs ahead for certain (a batch closed after it arrived); one that runs
behind cannot be told from a batch that was kept, so it gives as much of the new time to the old owner as it is behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from rocade.core.identifiers import VehicleRef, partition_of
from rocade.fabric.log import Record
from rocade.services.telemetry.model import BATCH
from rocade.wire.batch import Batch, Clock, Column, Decoded, Mark, decode_many, pack

FAR_US = 1 << 62


class Renewal(msgspec.Struct, frozen=True):
    """The vehicle known as `ref` goes on as `renewed`, with what it measures from `at_us` on."""

    ref: int
    renewed: int
    at_us: int


class Renewals:
    """Changes of owner by the reference they end and by the one they begin."""

    def __init__(self, found: Sequence[Renewal] = ()) -> None:
        self.ending: Mapping[int, Renewal] = {one.ref: one for one in found}
        self.beginning: Mapping[int, Renewal] = {one.renewed: one for one in found}

    def now(self, ref: int) -> int:
        """The reference under which the registry knows the vehicle of `ref`, as far as these changes tell."""
        while ref in self.ending:
            ref = self.ending[ref].renewed
        return ref

    def __bool__(self) -> bool:
        return bool(self.ending)

    def __contains__(self, ref: object) -> bool:
        return ref in self.ending or ref in self.beginning


def apportion(records: Sequence[Record], renewals: Renewals) -> tuple[list[Record], list[Record]]:
    """(records to take in here, records to forward under another reference); all are binary batches.

    A batch that is not sound stays as it is: whoever decodes it says why.
    """
    kept: list[Record] = []
    forwarded: list[Record] = []
    for record in records:
        decoded = decode_many([record.body]) if record.key in renewals else None
        if decoded is None or not len(decoded.index):
            kept.append(record)
            continue
        mine, others = _shares(record, decoded, renewals)
        kept.append(record if mine is record.body else msgspec.structs.replace(record, body=mine))
        forwarded += [_moved(record, ref, body) for ref, body in others]
    return kept, forwarded


def _shares(record: Record, decoded: Decoded, renewals: Renewals) -> tuple[bytes, list[tuple[int, bytes]]]:
    """What of a batch stays under its reference, and what goes to which other."""
    skew_us = max(0, int(decoded.sent_at_us[0]) - record.arrived_us)
    begin, end = renewals.beginning.get(record.key), renewals.ending.get(record.key)
    since_us = begin.at_us + skew_us if begin else -FAR_US
    is_over = end is not None and record.arrived_us >= end.at_us
    until_us = end.at_us + skew_us if end and is_over else FAR_US
    others: list[tuple[int, bytes]] = []
    if begin and (earlier := _part(decoded, -FAR_US, since_us)):
        others.append((begin.ref, earlier))
    later = _part(decoded, until_us, FAR_US) if end else None
    is_whole = not others and later is None
    if end:
        others.append((end.renewed, later or _spent(decoded)))
    return record.body if is_whole else _part(decoded, since_us, until_us) or _spent(decoded), others


def _part(decoded: Decoded, since_us: int, until_us: int) -> bytes | None:
    """The rows measured from `since_us` until before `until_us`, as a batch of its own; None if there are none."""
    columns, clocks = decoded.columns, decoded.clocks
    times = [clocks.times_of(number) for number in range(len(clocks.rows))]
    chosen = [(since_us <= some) & (some < until_us) for some in times]
    places = {number: place for place, number in enumerate(n for n, rows in enumerate(chosen) if rows.any())}
    if not places:
        return None
    made: list[Column] = []
    marks: list[Mark] = []
    for number in np.argsort(columns.order).tolist():
        clock = int(columns.clock[number])
        if clock not in places:
            continue
        rows, values = chosen[clock], columns.values_of(number)
        mine = (
            values[rows] if isinstance(values, np.ndarray) else [values[row] for row in np.flatnonzero(rows).tolist()]
        )
        for at in np.flatnonzero(decoded.mark_column == number).tolist():
            row = int(decoded.mark_row[at])
            if rows[row]:
                marks.append(Mark(int(rows[:row].sum()), int(decoded.mark_flags[at]), column=len(made)))
        made.append(Column(int(columns.signal[number]), places[clock], mine))
    shared = [Clock(times[number][chosen[number]]) for number in places]
    return pack(_envelope(decoded, shared, made, marks), compress=False)


def _spent(decoded: Decoded) -> bytes:
    """A batch that only says that its number is spent."""
    return pack(_envelope(decoded, (), (), ()), compress=False)


def _envelope(decoded: Decoded, clocks: Sequence[Clock], columns: Sequence[Column], marks: Sequence[Mark]) -> Batch:
    return Batch(
        int(decoded.epoch[0]),
        int(decoded.sequence[0]),
        int(decoded.sent_at_us[0]),
        clocks,
        columns,
        marks,
        int(decoded.scheme[0]),
        int(decoded.scheme_version[0]),
        decoded.vehicle_ids[0],
    )


def _moved(record: Record, ref: int, body: bytes) -> Record:
    return Record(partition_of(VehicleRef(ref)), ref, BATCH, record.arrived_us, body)
