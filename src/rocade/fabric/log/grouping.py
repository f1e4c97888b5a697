"""Natural group commit: one write at a time, every append that arrives meanwhile joins the next one.

No timer: an idle log writes at once, a busy one writes larger groups. A caller that is cancelled leaves its records in the
group; they are stored or not as the others are.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from rocade.core.errors import Unavailable
from rocade.fabric.log import Record

CLOSE_TIMEOUT_S = 10.0


class _Append(msgspec.Struct, eq=False):
    stream: str
    records: Sequence[Record]
    size_bytes: int
    done: asyncio.Future[None]


class Grouping:
    """`append` returns when `write(stream, records)` has stored a group that holds these records."""

    def __init__(self, write: Callable[[str, Sequence[Record]], Awaitable[None]], group_bytes: int) -> None:
        self._write = write
        self._group_bytes = group_bytes
        self._waiting: deque[_Append] = deque()
        self._task: asyncio.Task[None] | None = None

    async def append(self, stream: str, records: Sequence[Record]) -> None:
        size_bytes = sum([len(record.body) for record in records])
        append = _Append(stream, records, size_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(append)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write_waiting(), name="log writer")
        await append.done

    async def close(self) -> None:
        """Let what waits be written, for a while."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
            self._task.cancel()

    async def _write_waiting(self) -> None:
        while self._waiting:
            group = self._take_group()
            records = group[0].records if len(group) == 1 else [record for each in group for record in each.records]
            try:
                await self._write(group[0].stream, records)
            except Exception as error:
                _answer(group, error)
            except BaseException:  # we are being ended; nobody may wait for ever
                _answer(
                    [*group, *self._waiting], Unavailable("log.closed", "the log was closed before it had answered")
                )
                self._waiting.clear()
                raise
            else:
                _answer(group, None)

    def _take_group(self) -> list[_Append]:
        """The longest run of waiting appends to one stream that is not too large; at least one."""
        group = [self._waiting.popleft()]
        size_bytes = group[0].size_bytes
        while (
            self._waiting
            and self._waiting[0].stream == group[0].stream
            and size_bytes + self._waiting[0].size_bytes <= self._group_bytes
        ):
            group.append(self._waiting.popleft())
            size_bytes += group[-1].size_bytes
        return group


def _answer(group: Sequence[_Append], error: Exception | None) -> None:
    for append in group:
        if append.done.done():
            continue  # its caller was cancelled
        if error is None:
            append.done.set_result(None)
        else:
            append.done.set_exception(error)
