"""ISO-TP (ISO 15765-2): put diagnostic answers of several frames together again.

Flow: per (bus, id) in log order; single frames are complete at once, a first frame opens a transfer, consecutive frames
must count 1..15, 0, 1.. and fill it, flow-control frames carry no payload. A transfer that is interrupted by a new one,
by a wrong count or by more than `timeout_us` is counted as incomplete and dropped, never padded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rocade.wire.can.frames import Frames

TIMEOUT_US = 1_000_000
"""N_Cr: longest wait for the next consecutive frame (ISO 15765-2 gives 1 s)."""


@dataclass(slots=True)
class Transfers:
    """What was found. `frames` has one row a complete payload, stamped when its last frame came.

    Shape: `first_row`, `last_row` are the frames each payload began and ended with.
    """

    frames: Frames
    first_row: NDArray[np.int64]
    last_row: NDArray[np.int64]
    singles: int = 0
    firsts: int = 0
    consecutives: int = 0
    flow_controls: int = 0
    others: int = 0
    complete: int = 0
    """Complete transfers of more than one frame; `firsts - complete` were cut short."""


@dataclass(slots=True)
class _Open:
    size: int
    payload: bytearray
    stamp_us: int
    first_row: int
    expected: int = 1


@dataclass(slots=True)
class _Found:
    rows: list[int] = field(default_factory=list)
    first_rows: list[int] = field(default_factory=list)
    payloads: list[bytes] = field(default_factory=list)


def reassemble(frames: Frames, *, timeout_us: int = TIMEOUT_US) -> Transfers:
    """Payloads of all ISO-TP transfers in the frames; select diagnostic ids first."""
    nothing = np.zeros(0, np.int64)
    transfers = Transfers(frames.where(nothing), nothing, nothing)
    found = _Found()
    pending: dict[tuple[int, int], _Open] = {}
    rows = zip(frames.bus.tolist(), frames.id.tolist(), frames.length.tolist(), frames.stamp_us.tolist(), strict=True)
    for row, (bus, number, length, stamp_us) in enumerate(rows):
        data = frames.data[row, :length].tobytes()
        kind = data[0] >> 4 if data else 15
        key = (bus, number)
        if kind == 0:
            transfers.singles += 1
            pending.pop(key, None)
            size, start = (data[0] & 15, 1) if data[0] & 15 or length <= 8 else (data[1], 2)
            if 0 < size <= len(data) - start:
                found.rows.append(row)
                found.first_rows.append(row)
                found.payloads.append(data[start : start + size])
        elif kind == 1 and length >= 8:
            transfers.firsts += 1
            size, start = ((data[0] & 15) << 8) | data[1], 2
            if size == 0:
                size, start = int.from_bytes(data[2:6]), 6
            pending[key] = _Open(size, bytearray(data[start:]), stamp_us, row)
        elif kind == 2:
            transfers.consecutives += 1
            _continue(transfers, found, pending, key, (row, stamp_us, data), timeout_us)
        elif kind == 3:
            transfers.flow_controls += 1
        else:
            transfers.others += 1
    transfers.frames = _as_frames(frames, found)
    transfers.first_row, transfers.last_row = np.array(found.first_rows, np.int64), np.array(found.rows, np.int64)
    return transfers


def _continue(
    transfers: Transfers,
    found: _Found,
    pending: dict[tuple[int, int], _Open],
    key: tuple[int, int],
    frame: tuple[int, int, bytes],
    timeout_us: int,
) -> None:
    row, stamp_us, data = frame
    transfer = pending.pop(key, None)
    if transfer is None or data[0] & 15 != transfer.expected or stamp_us - transfer.stamp_us > timeout_us:
        return
    transfer.payload += data[1:]
    transfer.expected = (transfer.expected + 1) & 15
    transfer.stamp_us = stamp_us
    if len(transfer.payload) < transfer.size:
        pending[key] = transfer
        return
    transfers.complete += 1
    found.rows.append(row)
    found.first_rows.append(transfer.first_row)
    found.payloads.append(bytes(transfer.payload[: transfer.size]))


def _as_frames(frames: Frames, found: _Found) -> Frames:
    rows = np.array(found.rows, np.int64)
    width = max((len(payload) for payload in found.payloads), default=8)
    data = np.zeros((len(rows), max(width, 8)), np.uint8)
    for place, payload in enumerate(found.payloads):
        data[place, : len(payload)] = np.frombuffer(payload, np.uint8)
    length = np.array([len(payload) for payload in found.payloads], np.uint16)
    return Frames(frames.stamp_us[rows], frames.id[rows], frames.bus[rows], length, data)
