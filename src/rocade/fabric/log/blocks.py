"""Blocks: how records lie in rows of the log's tables.

Eight neighbouring partitions share a lane; the records one commit brings for a lane are packed into rows of at most one
PostgreSQL page, each a msgpack array of `Record`. A row has the next position of its writer, so a position names a row, and
its upper bits name the segment (the table) that holds it. Rows are built in COPY's binary form by ourselves.
Figures that chose this shape: docs/decisions/0004-log.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from rocade.core.errors import Corrupt
from rocade.core.identifiers import PARTITIONS
from rocade.fabric.log import Place, Record

LANE = 8  # partitions in a lane
LANES = PARTITIONS // LANE
BLOCK_BYTES = 7_900  # of a row's body, so that the row fits one page and needs no TOAST
RECORD_OVERHEAD_BYTES = 26  # msgpack heads of one record, at most
SEGMENT_SHIFT = 40  # position = segment << 40 | number within the segment

COLUMNS = ("lane", "writer", "position", "session", "records", "partitions", "oldest_us", "body")
_HEAD = struct.Struct("!hihiiiqiqiiihiqi")
_COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_COPY_END = struct.pack("!h", -1)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class Copy(NamedTuple):
    """One commit's rows in COPY's binary form, and the place of its last row (all rows exist or none)."""

    data: bytes
    last_lane: int
    last_position: int


def lane_of(partition: int) -> int:
    return partition // LANE


def segment_of(position: int) -> int:
    return position >> SEGMENT_SHIFT


def build_copy(records: Sequence[Record], writer: int, session: int, position: int) -> Copy:
    """Pack records into rows at positions `position`, `position + 1`, ...

    Cost: 0.5 us a record of 100 bytes.
    """
    parts = [_COPY_BEGIN]
    lane = 0
    position -= 1
    for lane, block in _blocks(records):
        position += 1
        mask = 0
        oldest_us = block[0].arrived_us
        for record in block:
            mask |= 1 << (record.partition % LANE)
            oldest_us = min(oldest_us, record.arrived_us)
        body = _encode(block)
        parts.append(
            _HEAD.pack(8, 2, lane, 4, writer, 8, position, 8, session, 4, len(block), 2, mask, 8, oldest_us, len(body))
        )
        parts.append(body)
    parts.append(_COPY_END)
    return Copy(b"".join(parts), lane, position)


def _blocks(records: Sequence[Record]) -> Iterable[tuple[int, list[Record]]]:
    lanes: list[list[Record]] = [[] for _ in range(LANES)]
    for record in records:
        lanes[record.partition // LANE].append(record)
    for lane, members in enumerate(lanes):
        block: list[Record] = []
        room = BLOCK_BYTES
        for record in members:
            size = len(record.body) + RECORD_OVERHEAD_BYTES
            if size > room and block:
                yield lane, block
                block, room = [], BLOCK_BYTES
            block.append(record)
            room -= size
        if block:
            yield lane, block


def unpack(body: bytes) -> list[Record]:
    """Raises: Corrupt `log.block`."""
    try:
        return _decode(body)
    except msgspec.DecodeError as error:
        raise Corrupt("log.block", f"a block of the log does not decode: {error}") from error


def lanes_of(limits: Mapping[Place, tuple[int, int]]) -> dict[Place, dict[int, tuple[int, int]]]:
    """Limits of partitions gathered by (lane, writer): {partition: (after, upto)}."""
    gathered: dict[Place, dict[int, tuple[int, int]]] = {}
    for (partition, writer), bounds in limits.items():
        gathered.setdefault((partition // LANE, writer), {})[partition] = bounds
    return gathered


def select(records: list[Record], position: int, bounds: Mapping[int, tuple[int, int]]) -> list[Record]:
    """The records of one row that lie within the bounds of their own partition."""
    wanted = {partition for partition, (after, upto) in bounds.items() if after < position <= upto}
    return records if len(wanted) == LANE else [record for record in records if record.partition in wanted]
