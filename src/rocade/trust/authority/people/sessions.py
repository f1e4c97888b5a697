"""Sessions: 256 random bits in the browser, their hash here; idle and absolute limits; ended one by one or all at once.

A process remembers a session for at most a second. All that are in use are read again together, in one query, so that a
thousand open streams cost one query a second, and what was ended, or whose rights changed, is known everywhere within
two. With the database away nobody is somebody (Unavailable), never who he was.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from rocade.core.errors import Refused
from rocade.trust.authority.people import store
from rocade.trust.authority.people.model import DAY_US, HOUR_US, MINUTE_US, Person, Session, person_number
from rocade.trust.authority.people.parts import Parts, hash_of

MEMORY_S = 0.8
"""A session read this long ago is read again; the query and one tick of a stream make it less than two seconds."""
USED_EVERY_US = MINUTE_US
LIMITS_US = {"operator": (HOUR_US, 12 * HOUR_US), "person": (14 * DAY_US, 90 * DAY_US), "link": (HOUR_US, 12 * HOUR_US)}
"""(idle, whole) life of a session: of operators, of other people with a passkey, of those let in without one."""
REMEMBERED = 20_000
IN_USE_S = 3.0
"""A session asked for this lately is read again with the others; a stream asks once a second."""


class Sessions:
    """Shape: `secret` is what the browser holds."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: dict[bytes, tuple[float, Session | None]] = {}
        self._asked: dict[bytes, float] = {}
        self._changes = 0
        self._reading: asyncio.Task[None] | None = None

    async def open(self, connection: asyncpg.Connection, person: Person, means: str, passkey: int | None = None) -> str:
        """Open a session inside the caller's transaction; its secret, seen here alone."""
        secret, now_us = self._parts.secret(), self._parts.clock.now_us()
        kind = "link" if means != "passkey" else "operator" if person.is_operator else "person"
        idle_us, whole_us = LIMITS_US[kind]
        await store.add_session(
            connection, self._parts.number(), hash_of(secret), person_number(person.id), means, passkey, now_us,
            idle_us, now_us + whole_us,
        )  # fmt: skip
        return secret

    async def session(self, secret: str) -> Session | None:
        """Who holds this secret, or None: unknown, ended, idle for too long, or its person has ended.

        Raises: Unavailable `database.down`.
        """
        digest, clock = hash_of(secret), self._parts.clock
        while True:
            read_s, known = self._known.get(digest, (float("-inf"), None))
            self._asked.pop(digest, None)
            self._asked[digest] = clock.monotonic_s()
            if self._asked[digest] - read_s < MEMORY_S:
                return known if known is not None and clock.now_us() < known.until_us else None
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="sessions")
            await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Read again at the next use: something has just been changed here."""
        self._known = {}
        self._changes += 1

    async def _read(self) -> None:
        """Read everything asked for lately, in one query; what changes here meanwhile makes the answer void."""
        await asyncio.sleep(0)
        parts, changes = self._parts, self._changes
        began_s, now_us = parts.clock.monotonic_s(), parts.clock.now_us()
        in_use = {digest: at_s for digest, at_s in self._asked.items() if began_s - at_s < IN_USE_S}
        self._asked = dict(list(in_use.items())[-REMEMBERED:])
        wanted = list(self._asked)
        async with store.transaction(parts.database) as connection:
            found = await store.read_sessions(connection, parts.columns, wanted, now_us, parts.region)
            await store.use_sessions(connection, [one.number for one in found.values()], now_us, now_us - USED_EVERY_US)
        if changes == self._changes:
            self._known = {digest: (began_s, found.get(digest)) for digest in wanted}

    async def end(self, session: Session) -> None:
        """Sign out here."""
        await self._end(session, session.person.id, "people.sign_out", number=session.number)

    async def end_all(self, actor: Session, person: str | None = None) -> int:
        """Sign a person out everywhere, this browser included; how many sessions were ended."""
        return await self._end(actor, person or actor.person.id, "people.sign_out_everywhere")

    async def end_one(self, actor: Session, number: int) -> None:
        """End one of one's own sessions.

        Raises: Refused `people.session.unknown`.
        """
        if not await self._end(actor, actor.person.id, "people.sign_out", number=number):
            raise Refused("people.session.unknown", "there is no such session of yours, or it has ended")

    async def list(self, person: str) -> list[dict[str, Any]]:
        """A person's sessions in force: number, means, opened_us, used_us, passkey."""
        async with store.transaction(self._parts.database) as connection:
            return await store.list_sessions(
                connection, self._parts.columns, person_number(person), self._parts.clock.now_us()
            )

    async def _end(self, actor: Session, person: str, action: str, *, number: int | None = None) -> int:
        async with store.transaction(self._parts.database) as connection:
            now_us = self._parts.clock.now_us()
            ended = await store.end_sessions(connection, person_number(person), now_us, number=number)
            which: dict[str, str] = {} if number is None else {"number": f"{number:x}"}
            await self._parts.record(actor.person.id, action, person, sessions=ended, **which)
        self.forget()
        return ended
