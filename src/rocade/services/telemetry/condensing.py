"""Past days take less room: all chunks of a signal in one hour become one, once a day of arrival is over.

A minute's chunk costs its head (summaries, times) 60 times an hour, and small arrays compress badly. Flow, a partition of
the history (one day of arrival) at a time, by one process of all: nothing late is pending -> its rows, in order of signal
and vehicle, are unfolded, joined by hours and written to a staged table -> both hold the same samples -> if no late block and no
erasure came meanwhile, the staged partition takes the old one's place, all at once.
Exactly once: late blocks and erasures say so before they act (`Ledger.change_past`), and whatever was condensed before is
thrown away. From `move_past` to `moved_past` they wait; who dies in between leaves a move that the next one repeats.
Refuses: Corrupt `telemetry.condensing.differs` when the staged rows do not hold the same samples; nothing is changed then.
Nothing is joined that would be stored less exactly, in wider numbers, or in another partition. Figures: decision 0005.
"""

from __future__ import annotations

import asyncio
import logging

import msgspec
import numpy as np
import pyarrow as pa

from rocade.core.errors import Corrupt, Refused, Unavailable
from rocade.fabric.history import History
from rocade.services.telemetry import chunks, joining, store
from rocade.services.telemetry.chunks import DAY_US, HOUR_US
from rocade.services.telemetry.ledger import Ledger

log = logging.getLogger(__name__)
STAGED = "signal_chunk_staged"
SETTLE_US = 6 * HOUR_US
"""After the end of a day, before it is condensed."""
LATE_US = 5 * HOUR_US
"""A block with older records announces itself; an hour less, so that two clocks may differ."""
LATEST_US = 22 * HOUR_US
"""What arrived later than this after it was measured stays as it is: joined, it might belong to another partition."""
DENSE = {
    name: kind.replace("ZSTD)", "ZSTD(12))")
    for name, kind in chunks.TABLE.columns
    if name in ("d8", "h8", "d32", "f", "s", "dt", "q")
}
"""What is compressed once and kept for years is compressed harder: a tenth of what joining costs."""
TURN_SAMPLES = 4_000_000


DISCARD_TRIES, DISCARD_S = 300, 1.0


class Condensed(msgspec.Struct, frozen=True):
    """What became of one partition."""

    partition: str
    rows_before: int
    rows_after: int
    samples: int


async def condense(history: History, ledger: Ledger, now_us: int) -> list[Condensed]:
    """Condense every past day that is not condensed yet; nothing when another process does.

    Raises: Unavailable; Corrupt `telemetry.condensing.differs`.
    """
    async with ledger.alone() as is_alone:
        if not is_alone:
            return []
        await _finish_move(history, ledger)
        done, known = list[Condensed](), await ledger.condensed()
        for partition, value in await history.partitions(chunks.TABLE.name):
            day, is_apart = value.strip("()").split(",")
            until_us = (int(day) + 1) * DAY_US
            if until_us + SETTLE_US > now_us or await store.rows_of(history, partition) == known.get(partition):
                continue
            try:
                one = await _condense(history, ledger, partition, until_us, is_late=is_apart.strip() == "1")
            except Refused as error:
                log.info("past days stay as they are: %s", error.code)
                break
            done += [one] if one else []
        return done


async def _condense(
    history: History, ledger: Ledger, partition: str, until_us: int, *, is_late: bool
) -> Condensed | None:
    changes = await ledger.past(until_us)
    if changes is None:
        return None
    erased = await ledger.erased()
    await history.stage(chunks.TABLE.name, STAGED, DENSE)
    before = after = samples = turn = 0
    async for rows in store.whole_hours(history, partition, TURN_SAMPLES):
        before += rows.num_rows
        kept = _kept(rows, erased)
        if kept.num_rows:
            made = await asyncio.to_thread(_joined, kept, is_late=is_late)
            await history.insert(STAGED, made, f"{partition}-{changes}-{turn}")
            samples, after, turn = samples + store.samples_in(kept), after + made.num_rows, turn + 1
    if await store.samples_of_table(history, STAGED) != samples:
        await history.discard(STAGED)
        raise Corrupt(
            "telemetry.condensing.differs", "condensed rows do not hold the same samples; the day stays as it was"
        )
    if not samples or not await ledger.move_past(partition, until_us, changes):
        await history.discard(STAGED)
        return None
    await _finish_move(history, ledger)
    return Condensed(partition, before, after, samples)


async def _finish_move(history: History, ledger: Ledger) -> None:
    """Put in place what was claimed, by us or by one who died."""
    partition = await ledger.moving()
    if partition is None:
        return
    await history.put_in_place(chunks.TABLE.name, partition, STAGED)
    await ledger.moved_past(partition, await store.rows_of(history, partition))
    await history.discard(STAGED)


async def discard_staged(history: History, ledger: Ledger) -> None:
    """Remove the rows a broken-off condensing left beside the table; one under way gives up by itself, having been told.

    Raises: Unavailable `telemetry.past.moving`.
    """
    for _ in range(DISCARD_TRIES):
        async with ledger.alone() as is_alone:
            if is_alone:
                await _finish_move(history, ledger)
                await history.discard(STAGED)
                return
        await asyncio.sleep(DISCARD_S)
    raise Unavailable("telemetry.past.moving", "past days are being condensed; again in a moment")


def _kept(rows: pa.Table, erased: frozenset[int]) -> pa.Table:
    if not erased:
        return rows
    gone = np.isin(rows.column("vehicle").to_numpy(), np.array(sorted(erased), np.uint64))
    return rows.filter(pa.array(~gone)) if gone.any() else rows


def _joined(rows: pa.Table, *, is_late: bool) -> pa.Table:
    """Rows of the same samples, the fewest there can be."""
    late_us = rows.column("arrived_us").to_numpy() - rows.column("t0_us").to_numpy()
    may = (late_us >= 0) & (is_late | (late_us <= LATEST_US))
    stays = rows.filter(pa.array(~may))
    made = (
        chunks.rows_from(joining.join([chunks.unfolded(rows.filter(pa.array(may)))], hourly=True))
        if may.any()
        else None
    )
    parts = [part for part in (made, stays if stays.num_rows else None) if part is not None]
    return pa.concat_tables([part.cast(parts[0].schema) for part in parts])
