"""Whose signature counts: every key the region certified for a party, with its time, and the one rule about time.

A party may sign with any key it holds a certificate for, so keys overlap at every renewal. The rule, by the time of arrival,
because what a message says of its own time is not proven:
  in force                                  counts
  ended, never revoked                      counts for what was made before the end and arrives within GRACE of it: a queue
                                            that waited for the line drains with the signatures it has
  revoked                                   nothing that arrives from then on counts, whatever its date says; what was recorded
                                            before stays as it is. Its owner signs what waits again, with a newer key: same
                                            identifier, same content, so still the same message.
Keys are read when a party connects (one query for all who do at that moment), when a key is not among them, and after a revocation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from rocade.core.errors import Unavailable
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN
from rocade.fabric.database.gathering import Gathering
from rocade.services.exchange import errors
from rocade.trust.authority import read_signing_keys
from rocade.trust.identity.keys import PublicKey, key_of_point

GRACE_US = 45 * 86_400_000_000


class PartyKey(msgspec.Struct, frozen=True, gc=False):
    """A key and when it counts; `revoked_us` 0 = it was not."""

    key: PublicKey
    key_id: bytes
    not_before_us: int
    not_after_us: int
    revoked_us: int


type PartyKeys = Mapping[str, PartyKey]
"""By hex key id."""


class KeyBook:
    """`generation` grows with each revocation; keys read before are asked for again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._reading: Gathering[str, PartyKeys] = Gathering(self._load)
        self.generation = 0

    def revoked(self, _serials: object) -> None:
        """Something was revoked: what connections know of keys is old. (A watcher of the deny set.)"""
        self.generation += 1

    async def keys(self, uri: str) -> PartyKeys:
        """Raises: Unavailable `database.down`."""
        return await self._reading.get(uri) or {}

    async def _load(self, uris: list[str]) -> dict[str, PartyKeys]:
        try:
            async with self._database.pool.acquire() as connection:
                rows = await read_signing_keys(connection, uris, self._clock.now_us() - GRACE_US)
        except DOWN as error:
            raise Unavailable("database.down", f"keys cannot be read: {type(error).__name__}") from error
        found: dict[str, dict[str, PartyKey]] = {}
        for row in rows:
            held = found.setdefault(row.identity, {})
            again = held.get(row.key_id.hex())
            if again is None or again.not_after_us < row.not_after_us:
                key = key_of_point(row.public_key)
                held[row.key_id.hex()] = PartyKey(key, row.key_id, row.not_before_us, row.not_after_us, row.revoked_us)
        return dict(found)


def check_time(key: PartyKey, made_us: int, now_us: int) -> None:
    """The rule above. Raises: Refused `exchange.key.revoked`, `.early`, `.ended`."""
    if key.revoked_us and now_us >= key.revoked_us:
        raise errors.key_revoked()
    if now_us < key.not_before_us:
        raise errors.key_early()
    if now_us >= key.not_after_us and (made_us >= key.not_after_us or now_us >= key.not_after_us + GRACE_US):
        raise errors.key_ended()


def signer_of(names: Sequence[str], keys: PartyKeys) -> PartyKey:
    """The key that one of these ids names. Raises: Refused `exchange.key.unknown`."""
    for name in names:
        if name in keys:
            return keys[name]
    raise errors.key_unknown()
