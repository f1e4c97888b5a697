"""Looks: what the owner is shown of who saw what of his vehicle, when, for which purpose, under which consent.

Flow: `note` counts a look in memory (looks of one kind within a minute are one row) and tells the audit log of the first of
them -> every `FLUSH_S` one transaction writes what came (COPY) -> `of` reads them, the newest first. What was answered is in
the table one commit later: a process that is killed loses the looks of its last `FLUSH_S` plus one commit, no more; that the
first of each kind happened is also in the audit log.
Refuses: a look that could not be kept (`consent.looks.full`, the database away for long): such an answer must not leave.
Source: docs/decisions/0033-consent.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import asyncpg

from rocade.core import data_classes
from rocade.core.errors import Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.services.consent import errors, store
from rocade.services.consent.model import Look, LooksPage
from rocade.trust.authority.gate.model import Permit

FLUSH_S = 0.25
RETRY_S = 0.5
WRITE_S = 10.0
MINUTE_US = 60_000_000
PENDING_LIMIT = 100_000
PAGE_LIMIT = 1_000
NAMED_SIGNALS = 1_000
"""A look at more signals than these is kept as a look at all of its classes."""

type Kind = tuple[int, int, str, str, str, str, int, tuple[int, ...], str]
"""ref, minute_us, actor, recipient, purpose, what, classes, signals, grant: what makes looks one row."""

_log = logging.getLogger(__name__)


class Looks:
    """Looks of one process. Open one in every process that answers; they share the table."""

    def __init__(self, database: Database, audit: Audit, clock: Clock) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._pending: dict[Kind, list[int]] = {}
        self._audited: set[Kind] = set()
        self._minute_us = 0
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._connection: asyncpg.Connection | None = None
        self._closing = asyncio.Event()
        self._is_failing = False
        self._writer = asyncio.create_task(self._write_for_ever(), name="looks")

    def note(self, permit: Permit, ref: int, what: str, signals: Iterable[int], at_us: int) -> None:
        """Note that an answer is about to leave; `signals` empty = all of the classes the permit allows. Never blocks.

        Raises: Unavailable `consent.looks.full`; then nothing may be answered.
        """
        who, right = permit.principal, permit.right
        named = tuple(signals)
        minute_us = at_us - at_us % MINUTE_US
        kind = (
            ref, minute_us, who.id, who.recipient, permit.purpose, what, right.classes,
            named if len(named) <= NAMED_SIGNALS else (), right.grant,
        )  # fmt: skip
        if minute_us > self._minute_us or len(self._audited) > PENDING_LIMIT:
            self._minute_us = max(minute_us, self._minute_us)
            self._audited.clear()
        if kind not in self._audited:
            self._audited.add(kind)
            self._audit.note(_entry(kind, at_us))
        if not right.is_owned:
            return
        if (look := self._pending.get(kind)) is not None:
            look[1] = at_us
            look[2] += 1
            return
        if len(self._pending) >= PENDING_LIMIT:
            raise Unavailable("consent.looks.full", "looks cannot be noted now, so nothing is shown; try again later")
        self._pending[kind] = [at_us, at_us, 1]
        self._wake.set()

    async def of(
        self, ref: int, since_us: int = 0, cursor: str | None = None, limit: int = 100, without: str = ""
    ) -> LooksPage:
        """Looks at a vehicle, the newest first; `without` leaves out one actor's (the owner's own).

        Raises: Refused `consent.cursor`; Unavailable `database.down`.
        """
        limit = max(1, min(limit, PAGE_LIMIT))
        try:
            found = await store.looks_of(self._database.pool, ref, since_us, _place(cursor), limit + 1, without)
        except (*DOWN, TimeoutError) as error:
            raise Unavailable("database.down", f"looks cannot be read: {type(error).__name__}") from error
        more = len(found) > limit
        return LooksPage(found[:limit], f"{found[limit - 1].minute_us:x}-{found[limit - 1].id:x}" if more else None)

    async def find(self, id: int) -> Look | None:
        return await store.look(self._database.pool, id)

    async def settled(self) -> None:
        """Wait until every look noted before now is in the table."""
        while self._pending or not self._written.is_set():
            self._wake.set()
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        """Write what is pending and stop; gives up after `WRITE_S`."""
        self._closing.set()
        self._wake.set()
        try:
            await asyncio.wait_for(self._writer, WRITE_S)
        except TimeoutError:
            _log.error("%d looks were not written before the end", len(self._pending))
        if self._connection is not None:
            self._connection.terminate()

    async def _write_for_ever(self) -> None:
        self._written.set()
        while self._pending or not self._closing.is_set():
            if not self._pending and not self._closing.is_set():
                await self._wake.wait()
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), FLUSH_S)
            if self._pending:
                self._written.clear()
                taken, self._pending = self._pending, {}
                await self._write(taken)
                self._written.set()

    async def _write(self, taken: dict[Kind, list[int]]) -> None:
        """One transaction, tried until the database takes it. A commit whose answer was lost counts its looks twice."""
        rows = sorted(_row(kind, look) for kind, look in taken.items())
        while True:
            try:
                async with asyncio.timeout(WRITE_S):
                    if self._connection is None or self._connection.is_closed():
                        self._connection = await asyncpg.connect(self._database.url, timeout=WRITE_S)
                    async with self._connection.transaction():
                        await store.add_looks(self._connection, rows)
                self._is_failing = False
                return
            except (*DOWN, TimeoutError, asyncpg.PostgresError) as error:
                if not self._is_failing:
                    _log.error("looks cannot be written: %s", type(error).__name__)
                self._is_failing = True
                if self._connection is not None:
                    self._connection.terminate()
                    self._connection = None
                await asyncio.sleep(RETRY_S)


def _entry(kind: Kind, at_us: int) -> AuditEntry:
    ref, _, actor, recipient, purpose, what, classes, signals, grant = kind
    facts: dict[str, str | int | float] = {"what": what, "purpose": purpose, "recipient": recipient}
    facts |= {"classes": " ".join(data_classes.names(classes)), "signals": len(signals)}
    return AuditEntry(at_us, actor, "consent.look", f"vehicle:{ref}", facts=facts | ({"grant": grant} if grant else {}))


def _row(kind: Kind, look: list[int]) -> tuple[Any, ...]:
    """A row as `store.add_looks` wants it."""
    ref, minute_us, actor, recipient, purpose, what, classes, signals, grant = kind
    digest = blake2b(repr(kind[2:]).encode(), digest_size=16).digest()
    return digest, ref, minute_us, actor, recipient, purpose, what, classes, list(signals), grant, *look


def _place(cursor: str | None) -> tuple[int, int] | None:
    """Raises: Refused `consent.cursor`."""
    if cursor is None:
        return None
    if not re.fullmatch(r"[0-9a-f]{1,15}-[0-9a-f]{1,15}", cursor):
        raise errors.bad_cursor()
    minute, id = cursor.split("-")
    return int(minute, 16), int(id, 16)
