"""Changes of the region key: the first one, a puncture, the end of an interrupted one, a move to another custody.

A puncture makes keys that were destroyed unreadable in every older copy of the tables, wherever it lies (WAL, dead rows, a
backup). In this order, so that a kill between any two steps loses nothing and is ended by the next start (`finish`):

    1. custody makes region key n+1
    2. one transaction: buckets of destroyed owners get new keys, their rows are wrapped anew, then every bucket key by n+1
    3. custody destroys region key n: what n wrapped is gone
    4. the destroyed owners are marked as punctured

Killed after 1: n+1 is used by the next puncture. After 2: `finish` does 3 and 4. Custody's older versions are destroyed only
when it holds the one the tables name. Source: D. Boneh, R. Lipton, A Revocable Backup System, USENIX Security 1996.
"""

from __future__ import annotations

import asyncio

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rocade.fabric.database import Database
from rocade.trust.authority.sealing import store
from rocade.trust.authority.sealing.custody import RegionCustody, unknown_version
from rocade.trust.authority.sealing.model import BUCKETS, Punctured, bucket_of
from rocade.trust.authority.sealing.wrapping import bucket_aad, new_key, unwrap_key, wrap_key


async def prepare(database: Database, custody: RegionCustody) -> None:
    """Make the bucket keys of a region that has none, as a new or an older one; else end what a kill left.

    Raises: Unavailable `custody.down`, `custody.refused` when there is nothing yet and custody does not help.
    """
    async with store.connected(database) as connection:
        if await store.has_buckets(connection):
            return
        async with connection.transaction():
            await store.lock_alone(connection)
            if await store.has_buckets(connection):
                return
            version = await asyncio.to_thread(lambda: custody.current() or custody.create())
            await store.write_buckets(connection, await asyncio.to_thread(_first_buckets, custody, version))


async def puncture(database: Database, custody: RegionCustody, *, everything: bool = False) -> Punctured:
    """`everything`: all buckets get new keys, whether an owner in them was destroyed or not.

    Cost: one transaction over the touched buckets, during which no new key can be made.
    """
    async with store.connected(database) as connection:
        async with connection.transaction():
            await store.lock_alone(connection)
            before = await store.read_version(connection)
            gone = await store.gone_open(connection)
            after = await asyncio.to_thread(_next_version, custody, before)
            touched = set(range(BUCKETS)) if everything else {bucket_of(owner) for _, owner in gone}
            rows = await store.read_buckets(connection, range(BUCKETS))
            plain = await asyncio.to_thread(_unwrap_buckets, custody, rows)
            fresh = {}
            for bucket in sorted(touched):
                fresh[bucket] = await _renew(connection, bucket, plain[bucket])
            keys = {
                bucket: (generation + (bucket in fresh), fresh.get(bucket, plain[bucket]))
                for bucket, generation, _, _ in rows
            }
            await store.write_buckets(connection, await asyncio.to_thread(_wrap_buckets, custody, after, keys))
        await _end(connection, custody, after, [number for number, _ in gone])
    return Punctured(before, after, len(touched))


async def finish(database: Database, custody: RegionCustody) -> bool:
    """End a puncture that was killed between its commit and its end. Returns whether there was one."""
    async with store.connected(database) as connection, connection.transaction():
        await store.lock_alone(connection)
        version = await store.read_version(connection)
        held = await asyncio.to_thread(custody.versions)
        if version not in held or held[0] == version:
            return False
        await _end(connection, custody, version, [])
        return True


async def rewrap(database: Database, old: RegionCustody, new: RegionCustody) -> int:
    """Wrap the bucket keys of these tables by a new key of another custody, and return its version. The old custody is left
    as it is: destroying its key, when nothing else hangs on it, is the caller's last step.
    """
    async with store.connected(database) as connection, connection.transaction():
        await store.lock_alone(connection)
        rows = await store.read_buckets(connection, range(BUCKETS))
        plain = await asyncio.to_thread(_unwrap_buckets, old, rows)
        version = await asyncio.to_thread(new.create)
        keys = {bucket: (generation, plain[bucket]) for bucket, generation, _, _ in rows}
        await store.write_buckets(connection, await asyncio.to_thread(_wrap_buckets, new, version, keys))
        return version


async def _renew(connection: asyncpg.Connection, bucket: int, old: bytes) -> bytes:
    """A new key for one bucket, its rows wrapped anew."""
    key = new_key()
    before, after = AESGCM(old), AESGCM(key)
    await store.rewrap_keys(
        connection,
        [
            (owner, group, wrap_key(after, owner, group, bucket, unwrap_key(before, owner, group, bucket, wrapped)))
            for owner, group, wrapped in await store.keys_of_bucket(connection, bucket)
        ],
    )
    return key


async def _end(connection: asyncpg.Connection, custody: RegionCustody, version: int, gone: list[int]) -> None:
    def destroy_older() -> None:
        held = custody.versions()
        if version not in held:
            raise unknown_version(version)
        for older in held:
            if older < version:
                custody.destroy(older)

    await asyncio.to_thread(destroy_older)
    await store.close_gone(connection, gone, version)


def _next_version(custody: RegionCustody, before: int) -> int:
    """A version that an interrupted puncture has left, else a new one."""
    held = custody.versions()
    if before not in held:
        raise unknown_version(before)
    return held[-1] if held[-1] > before else custody.create()


def _first_buckets(custody: RegionCustody, version: int) -> list[tuple[int, int, int, bytes]]:
    return _wrap_buckets(custody, version, {bucket: (1, new_key()) for bucket in range(BUCKETS)})


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
