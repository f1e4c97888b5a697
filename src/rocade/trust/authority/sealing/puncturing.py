"""Changes of the region key: the first one, a puncture, the end of an interrupted one, a move to another custody.

A puncture makes keys that were destroyed unreadable in every older copy of the tables, wherever it lies (WAL, dead rows, a
backup). In this order, so that a kill between any two steps loses nothing and is ended by the next start (`finish`):

    1. custody makes region key n+1
    2. one transaction: buckets of destroyed owners get new keys, their rows are wrapped anew, then every bucket key by n+1
    3. custody destroys region key n: what n wrapped is gone
    4. the owners that 2 took are marked as punctured

Killed after 1: n+1 is used by the next puncture. After 2: `finish`, or the next puncture before it begins, does 3 and 4: while they
cannot be done no more keys are made. Custody's older versions are destroyed only
when it holds the one the tables name. Source: D. Boneh, R. Lipton, A Revocable Backup System, USENIX Security 1996.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rocade.core.errors import Unavailable
from rocade.trust.authority.sealing import store
from rocade.trust.authority.sealing.custody import RegionCustody, unknown_version
from rocade.trust.authority.sealing.model import BUCKETS, REGION, Group, Punctured, bucket_of
from rocade.trust.authority.sealing.wrapping import bucket_aad, new_key, unwrap_key, wrap_key

type Keep = Callable[[], Awaitable[object]]
"""Copies the key tables to where they are kept apart from the rest."""

AT_ONCE = 64
"""Buckets whose rows are in memory at a time."""
PATIENCE_S = 120.0
"""For another process's puncture."""


async def prepare(pool: asyncpg.Pool, custody: RegionCustody, now_us: int) -> None:
    """Make the bucket keys and the region's own data keys where there are none: of a new region, or of an older one.

    Raises: Unavailable `custody.down`, `custody.refused` when there is nothing yet and custody does not help.
    """
    async with store.connected(pool) as connection:
        if await store.has_buckets(connection):
            return
        async with connection.transaction():
            await store.lock_alone(connection)
            if await store.has_buckets(connection):
                return
            version = await asyncio.to_thread(lambda: custody.current() or custody.create())
            keys = {bucket: (1, new_key()) for bucket in range(BUCKETS)}
            await store.write_buckets(connection, await asyncio.to_thread(_wrap_buckets, custody, version, keys))
            bucket = bucket_of(REGION)
            cipher = AESGCM(keys[bucket][1])
            own = [(REGION, int(group), bucket, wrap_key(cipher, REGION, group, bucket, new_key())) for group in Group]
            await store.add_keys(connection, own, now_us)


async def puncture(
    pool: asyncpg.Pool, custody: RegionCustody, keep: Keep | None = None, *, everything: bool = False
) -> Punctured:
    """`everything`: all buckets get new keys, whether an owner in them was destroyed or not. `keep` is awaited between 2 and
    3, to copy the new tables to where they are kept apart: from 3 on a lost machine could not be helped by an older copy.

    Cost: one transaction over the touched buckets, during which no key can be made or destroyed.
    """
    async with store.connected(pool) as connection, store.puncturing(connection, PATIENCE_S) as is_ours:
        if not is_ours:
            raise Unavailable("custody.busy", "another process changes the region key; try again")
        await _end_begun(connection, custody, keep)
        done, gone = await _change(connection, custody, everything=everything)
        await _end(connection, custody, done.version_after, keep, gone)
    return done


async def finish(pool: asyncpg.Pool, custody: RegionCustody, keep: Keep | None = None) -> bool:
    """End a puncture that was killed between its commit and its end. Returns whether there was one."""
    async with store.connected(pool) as connection, store.puncturing(connection, 0.0) as is_ours:
        return is_ours and await _end_begun(connection, custody, keep)


async def _end_begun(connection: asyncpg.Connection, custody: RegionCustody, keep: Keep | None) -> bool:
    version = await store.read_version(connection)
    gone = await store.gone_before(connection, version)
    held = await asyncio.to_thread(custody.versions)
    if version not in held or (held[0] == version and not gone):
        return False
    await _end(connection, custody, version, keep, gone)
    return True


async def _change(
    connection: asyncpg.Connection, custody: RegionCustody, *, everything: bool
) -> tuple[Punctured, list[int]]:
    """Steps 1 and 2; with the owners whose keys were taken."""
    async with connection.transaction():
        await store.lock_alone(connection)
        before = await store.read_version(connection)
        gone = await store.gone_before(connection)
        after = await asyncio.to_thread(_next_version, custody, before)
        touched = set(range(BUCKETS)) if everything else {bucket_of(owner) for owner in gone}
        rows = await store.read_buckets(connection, range(BUCKETS))
        plain = await asyncio.to_thread(_unwrap_buckets, custody, rows)
        fresh = {bucket: new_key() for bucket in touched}
        for first in range(0, BUCKETS, AT_ONCE):
            await _renew(connection, [one for one in range(first, first + AT_ONCE) if one in touched], plain, fresh)
        keys = {
            bucket: (generation + (bucket in fresh), fresh.get(bucket, plain[bucket]))
            for bucket, generation, _, _ in rows
        }
        await store.write_buckets(connection, await asyncio.to_thread(_wrap_buckets, custody, after, keys))
        await store.mark_gone(connection, gone, after)
    return Punctured(before, after, len(touched)), gone


async def rewrap(pool: asyncpg.Pool, old: RegionCustody, new: RegionCustody) -> int:
    """Wrap the bucket keys of these tables by a new key of another custody, and return its version; done already, as after a
    kill, it changes nothing. The old custody is left as it is: destroying its key, when nothing else hangs on it, is the
    caller's last step.
    """
    async with store.connected(pool) as connection, connection.transaction():
        await store.lock_alone(connection)
        rows = await store.read_buckets(connection, range(BUCKETS))
        before = await store.read_version(connection)
        if before in await asyncio.to_thread(new.versions):
            await asyncio.to_thread(_unwrap_buckets, new, rows[:1])
            return before
        plain = await asyncio.to_thread(_unwrap_buckets, old, rows)
        version = await asyncio.to_thread(new.create, before)
        keys = {bucket: (generation, plain[bucket]) for bucket, generation, _, _ in rows}
        await store.write_buckets(connection, await asyncio.to_thread(_wrap_buckets, new, version, keys))
        return version


async def _renew(
    connection: asyncpg.Connection, buckets: list[int], old: dict[int, bytes], new: dict[int, bytes]
) -> None:
    """Wrap the rows of these buckets anew."""
    if not buckets:
        return
    before = {bucket: AESGCM(old[bucket]) for bucket in buckets}
    after = {bucket: AESGCM(new[bucket]) for bucket in buckets}
    rows = await store.keys_of_buckets(connection, buckets)

    def wrap() -> list[tuple[int, int, bytes]]:
        return [
            (owner, group, wrap_key(after[at], owner, group, at, unwrap_key(before[at], owner, group, at, wrapped)))
            for owner, group, at, wrapped in rows
        ]

    await store.rewrap_keys(connection, await asyncio.to_thread(wrap))


async def _end(
    connection: asyncpg.Connection, custody: RegionCustody, version: int, keep: Keep | None, gone: list[int]
) -> None:
    """Steps 3 and 4; may be done again."""

    def destroy_older() -> None:
        held = custody.versions()
        if version not in held:
            raise unknown_version(version)
        for older in held:
            if older < version:
                custody.destroy(older)

    if keep is not None:
        await keep()
    await asyncio.to_thread(destroy_older)
    await store.close_gone(connection, gone)


def _next_version(custody: RegionCustody, before: int) -> int:
    """A version that an interrupted puncture has left, else a new one."""
    held = custody.versions()
    if before not in held:
        raise unknown_version(before)
    return held[-1] if held[-1] > before else custody.create()


def _wrap_buckets(
    custody: RegionCustody, version: int, keys: dict[int, tuple[int, bytes]]
) -> list[tuple[int, int, int, bytes]]:
    return [
        (bucket, generation, version, custody.wrap(version, key, bucket_aad(bucket, generation)))
        for bucket, (generation, key) in keys.items()
    ]


def _unwrap_buckets(custody: RegionCustody, rows: list[tuple[int, int, int, bytes]]) -> dict[int, bytes]:
    return {
        bucket: custody.unwrap(version, wrapped, bucket_aad(bucket, generation))
        for bucket, generation, version, wrapped in rows
    }
