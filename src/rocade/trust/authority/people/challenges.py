"""Challenges that passkeys sign: drawn here, good once, for two minutes, for one purpose, in the browser that asked.

`browser` is a secret only that browser holds: its session, or before there is one a random value given to it. A challenge
counts as used from its first showing on, whatever becomes of that attempt. Refuses (`people.challenge.`): `unknown` (never
drawn here, or forgotten), `used`, `expired`, `foreign` (another browser, purpose or person).
"""

from __future__ import annotations

from hashlib import sha256

from rocade.core.errors import Refused
from rocade.trust.authority.people import store
from rocade.trust.authority.people.model import MINUTE_US
from rocade.trust.authority.people.once import store as once
from rocade.trust.authority.people.parts import SECRET_BYTES, Parts, hash_of

CHALLENGE_US = 2 * MINUTE_US


class Challenges:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def draw(self, kind: str, browser: str, person: int | None = None, detail: bytes = b"") -> bytes:
        """A fresh challenge; `detail` comes back with `take`."""
        challenge = self._parts.random.bits(SECRET_BYTES * 8).to_bytes(SECRET_BYTES)
        now_us = self._parts.clock.now_us()
        drawn = once.Challenge(kind, hash_of(browser), person, detail, now_us + CHALLENGE_US, None)
        async with store.transaction(self._parts.database) as connection:
            await once.add_challenge(connection, sha256(challenge).digest(), drawn, now_us)
        return challenge

    async def take(self, challenge: bytes, kind: str, browser: str, person: int | None = None) -> bytes:
        """Use a challenge up; what it was drawn with.

        Raises: Refused `people.challenge.*`.
        """
        now_us = self._parts.clock.now_us()
        async with store.transaction(self._parts.database) as connection:
            drawn = await once.use_challenge(connection, sha256(challenge).digest(), now_us)
        if drawn is None:
            raise Refused("people.challenge.unknown", "this answers no challenge of ours; begin again")
        if drawn.used_us is not None:
            raise Refused("people.challenge.used", "this challenge was answered already; begin again")
        if now_us >= drawn.until_us:
            raise Refused("people.challenge.expired", "a challenge is good for two minutes; begin again")
        if (drawn.kind, drawn.browser_hash, drawn.person) != (kind, hash_of(browser), person):
            raise Refused(
                "people.challenge.foreign", "this challenge was made for another browser or purpose; begin again"
            )
        return drawn.detail
