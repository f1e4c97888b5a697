"""What proves that an append reached the disk: a batch number given out behind it.

Nothing is written after an append before the append is on the disk. Marks of acknowledgement are not flushed: what lies behind a frame can
be whole although a power cut took the frame, so that alone proves nothing. Nor does what is not chained to the end of its transaction:
after a power cut SQLite goes on over what it does not take, and whole frames of before stay behind.
"""

from __future__ import annotations

import re
import sqlite3

from rocade.agents.sqlite.write_ahead import Frames
from rocade.agents.vehicle.row_sums import row_sum

_NEXT = re.compile(rb"\x04\x15([\x01-\x06])([\x01-\x06\x08\x09])next")
"""The row of `fact` that says which number comes next, as SQLite writes it: lengths of value and sum, then the name."""
_LENGTHS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


class NumbersGiven:
    """The proof of a journal (`write_ahead.Proof`), in next numbers."""

    def behind(self, frames: Frames, first: int) -> int:
        """The highest next number behind a frame of which it is sure that it was flushed; 0 if none is, or if what lies before the
        frame has it.
        """
        highest = given = 0
        is_over = False
        for frame in range(first + 1, frames.count):
            if not frames.is_sound[frame]:
                given, is_over = 0, False  # what follows may be of an earlier process
                continue
            if is_over:
                highest = max(highest, given)
            given = max(given, _next_number(frames.page(frame)))
            is_over = frames.is_end(frame)
        before = range(frames.last_end(first) + 1) if highest else ()
        return highest if highest > max((_next_number(frames.page(frame)) for frame in before), default=0) else 0

    def before(self, connection: sqlite3.Connection) -> int:
        has_facts = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'fact'").fetchone()
        row = has_facts and connection.execute("SELECT value FROM fact WHERE name = 'next'").fetchone()
        return int(row[0]) if row else 1


def _next_number(page: bytes) -> int:
    """What the fact `next` is on a page, where its row fits its sum; 0 if it is not there."""
    found = [0]
    for row in _NEXT.finditer(page):
        (value_bytes, sum_bytes), at = (_LENGTHS[code[0]] for code in row.groups()), row.end()
        value = int.from_bytes(page[at : at + value_bytes])
        kind = row[2][0]
        held = kind - 8 if kind >= 8 else int.from_bytes(page[at + value_bytes : at + value_bytes + sum_bytes])
        if held == row_sum("next", value):
            found.append(value)
    return max(found)
