"""Two readings of the same tables, of which the newer is done before the older: a stall that a busy machine makes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest

CHANCE_S = 0.5
"""How long the newer may overtake; where readings come one at a time it waits for the older, and this passes."""
LIMIT_S = 120.0


async def overtake(
    monkeypatch: pytest.MonkeyPatch,
    module: ModuleType,
    read: str,
    older: Callable[[], Awaitable[Any]],
    newer: Callable[[], Awaitable[Any]],
) -> None:
    """Stall `older` when it has read with `module.read`, let `newer` run meanwhile, then let both end."""
    reading, has_read, go_on = getattr(module, read), asyncio.Event(), asyncio.Event()

    async def stalled(*arguments: Any) -> Any:
        found = await reading(*arguments)
        if not has_read.is_set():
            has_read.set()
            await go_on.wait()
        return found

    monkeypatch.setattr(module, read, stalled)
    async with asyncio.timeout(LIMIT_S):
        first = asyncio.ensure_future(older())
        await has_read.wait()
        second = asyncio.ensure_future(newer())
        await asyncio.wait({second}, timeout=CHANCE_S)
        go_on.set()
        await asyncio.gather(first, second)
