"""The keyring: data keys by name, in bulk, kept in memory on a lease of custody; one a process.

    fetch, ensure    cache -> one query for what is missing -> unwrapped with bucket keys, which custody unwraps once
    held             from the cache alone, for hot paths
    destroy          in the caller's transaction: rows gone at its commit, every process forgets within a second
    puncture         no older copy of the tables gives a destroyed key any more (puncturing.py)

Lease: custody is asked again every third of `lease_s`. While it does not answer the cached keys go on until the lease ends, then
everything is forgotten and Unavailable `custody.down` is raised until it answers; a custody that refuses ends the lease at once
(`custody.refused`). A process that cannot hear of destructions (database away) ends its lease after ten. Never a key in a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Self

import asyncpg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Audit, AuditEntry, Clock
from rocade.fabric.database import Database
from rocade.fabric.database.connection import CONNECT_TIMEOUT_S
from rocade.fabric.database.following import follow
from rocade.trust.authority.sealing import puncturing, store
from rocade.trust.authority.sealing.cache import KeyCache
from rocade.trust.authority.sealing.custody import RegionCustody
from rocade.trust.authority.sealing.model import REGION, Name, Punctured, State, bucket_of
from rocade.trust.authority.sealing.probing import BucketRow, Probe
from rocade.trust.authority.sealing.wrapping import bucket_aad, new_key, unwrap_key, wrap_key

LEASE_S = 60.0
CONNECTIONS = 3
CACHED_KEYS = 200_000
POLL_S = 1.0
TRIES = 4
RETRY_S = 1.0
DEAF_LEASES = 10
"""So many leases a process may go on without hearing of destructions: nothing can be erased while the database is away."""
PATIENCE_S = 20.0
"""For custody's answer."""
MANY = 2_000
"""So many keys are unwrapped in a thread."""
_log = logging.getLogger(__name__)


class Keyring:
    """Keys by (owner, group). Use `open`; `close` when done."""

    def __init__(
        self,
        database: Database,
        custody: RegionCustody,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        limit: int = CACHED_KEYS,
        keep: puncturing.Keep | None = None,
        audit: Audit | None = None,
    ) -> None:
        self.custody = custody
        self.keep = keep
        """Awaited in a puncture before the old region key is destroyed."""
        self._database = database
        self._clock = clock
        self._lease_s = lease_s
        self._cache = KeyCache(limit)
        self._buckets: dict[int, tuple[int, AESGCM]] = {}
        self._confirmed_s = float("-inf")
        self._heard_s = float("-inf")
        self._asking = asyncio.Lock()
        self._last_gone = 0
        self._probe = Probe(self._read_probe)
        self._audit = audit
        self._failed: tuple[float, RocadeError] | None = None
        """When custody last refused or did not answer, until it does again."""
        self._custodian = ThreadPoolExecutor(1, thread_name_prefix="custody")
        self._starting = asyncio.Lock()
        self._connections: asyncpg.Pool | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        database: Database,
        custody: RegionCustody,
        clock: Clock,
        *,
        lease_s: float = LEASE_S,
        keep: puncturing.Keep | None = None,
        audit: Audit | None = None,
    ) -> Self:
        """A keyring that has begun. Custody may be away for a region that has its tables: keys then come when it answers.

        Raises: Unavailable `database.down`; of a region without bucket keys also `custody.down`, `custody.refused`.
        """
        opened = cls(database, custody, clock, lease_s=lease_s, keep=keep, audit=audit)
        await opened._pool()
        return opened

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._probe.close()
        if self._connections is not None:
            self._connections.terminate()
        self._custodian.shutdown(wait=False, cancel_futures=True)
        self._forget()

    async def _pool(self) -> asyncpg.Pool:
        """Connections of our own: who asks for a key may hold all others. The first call begins: make what the region lacks,
        end an interrupted puncture, follow destructions.
        """
        if self._connections is not None:
            return self._connections
        async with self._starting:
            if self._connections is None:
                pool = asyncpg.create_pool(
                    self._database.url, min_size=0, max_size=CONNECTIONS, timeout=CONNECT_TIMEOUT_S
                )
                try:
                    await pool
                    await self._begin(pool)
                except BaseException:
                    pool.terminate()
                    raise
                self._connections = pool
        return self._connections

    async def _begin(self, pool: asyncpg.Pool) -> None:
        await puncturing.prepare(pool, self.custody, self._clock.now_us())
        with contextlib.suppress(Unavailable):
            await puncturing.finish(pool, self.custody, self.keep)
        async with store.connected(pool) as connection:
            self._last_gone = await store.last_gone(connection)
        self._heard_s = self._clock.monotonic_s()
        self._tasks = [
            asyncio.create_task(follow(self._database, store.CHANNEL, self._hear, poll_s=POLL_S), name="keyring"),
            asyncio.create_task(self._keep_lease(), name="keyring-lease"),
        ]

    # --- keys -------------------------------------------------------------------------------------------------------

    def held(self, owner: int, group: int) -> bytes | None:
        """The key if it is in memory and the lease runs; None says: ask `fetch`, which tells why."""
        return self._cache.get((owner, group)) if self._is_leased else None

    async def fetch(self, names: Iterable[Name]) -> dict[Name, bytes]:
        """The keys that exist; names without one (never made, or destroyed) are left out.

        Cost: one query for all that are not in memory.
        Raises: Unavailable `custody.down`, `custody.refused`, `database.down`; Corrupt `custody.key`, `custody.wrap`.
        """
        return (await self._fetch(names))[0]

    async def ensure(self, names: Iterable[Name]) -> dict[Name, bytes]:
        """As `fetch`; a key that was never made is made. Destroyed owners are left out."""
        wanted = set(names)
        found, gone = await self._fetch(wanted)
        missing = wanted - found.keys() - gone
        if missing:
            await self._make(sorted(missing))
            found |= await self.fetch(missing)
        return found

    async def destroy(self, connection: asyncpg.Connection, owners: Collection[int]) -> None:
        """All keys of these owners, for good, in the caller's transaction: gone for everybody when it commits.

        Raises: Refused `custody.owner`: the region's own keys stay.
        """
        if REGION in owners:
            raise Refused("custody.owner", "the region's own keys cannot be destroyed as an owner's")
        if owners:
            await store.destroy(connection, list(owners), self._clock.now_us())
            self._cache.drop(owners)

    async def puncture(self, *, everything: bool = False) -> Punctured:
        """Make every older copy of the key tables useless; see puncturing.py. Safe to repeat after a failure.

        Raises: Unavailable `custody.down`, `custody.refused`, `custody.busy`, `database.down`.
        """
        try:
            return await puncturing.puncture(await self._pool(), self.custody, self.keep, everything=everything)
        finally:
            self._buckets.clear()

    async def state(self) -> State:
        """How it stands, without asking custody for more than whether it answers.

        Raises: Unavailable `database.down`.
        """
        try:
            await self._ask()
            versions, trouble = await self._of_custody(self.custody.versions), ""
        except RocadeError as error:
            versions, trouble = [], error.code
        async with store.connected(await self._pool()) as connection:
            keys, gone, open_gone = await store.count(connection)
            return State(await store.read_version(connection), tuple(versions), trouble, keys, gone, open_gone)

    async def _fetch(self, names: Iterable[Name]) -> tuple[dict[Name, bytes], set[Name]]:
        """What there is, and which of the names were destroyed."""
        await self._lease()
        found: dict[Name, bytes] = {}
        missing: list[Name] = []
        for name in dict.fromkeys(names):
            if (key := self._cache.use(name)) is None:
                missing.append(name)
            else:
                found[name] = key
        if not missing:
            return found, set()
        loaded, gone = await self._load(missing)
        return found | loaded, gone

    async def _load(self, names: list[Name]) -> tuple[dict[Name, bytes], set[Name]]:
        found: dict[Name, bytes] = {}
        gone: set[Name] = set()
        for _ in range(TRIES):
            epoch = self._cache.epoch
            async with store.connected(await self._pool()) as connection:
                rows = await store.read_keys(connection, names)
                stale = {row[2] for row in rows if row[4] is not None and not self._knows(row[2], row[3])}
                await self._load_buckets(connection, stale)
            if not all(row[4] is None or self._knows(row[2], row[3]) for row in rows):
                continue  # a puncture came between
            ciphers = {bucket: cipher for bucket, (_, cipher) in self._buckets.items()}
            keys = await asyncio.to_thread(_unwrap, rows, ciphers) if len(rows) > MANY else _unwrap(rows, ciphers)
            sure = {name: key for name, key in keys.items() if not self._cache.is_doubtful(name[0], epoch)}
            self._cache.remember(sure)
            found |= sure
            gone |= {(row[0], row[1]) for row in rows if row[4] is None}
            names = [name for name in keys if name not in sure]
            if not names:
                return found, gone
        raise Unavailable("custody.busy", "keys change faster than they can be read; try again")

    async def _make(self, names: list[Name]) -> None:
        """Draw keys for these names; of two processes the first one's stays, and a destroyed owner gets none."""
        async with store.connected(await self._pool()) as connection, connection.transaction():
            await store.lock_shared(connection)
            rows = await store.read_buckets(connection, {bucket_of(owner) for owner, _ in names})
            while unknown := [row for row in rows if not self._knows(row[0], row[1])]:
                await self._take_buckets(unknown)
            drawn = [
                (owner, group, bucket, wrap_key(self._buckets[bucket][1], owner, group, bucket, new_key()))
                for owner, group in names
                for bucket in (bucket_of(owner),)
            ]
            await store.add_keys(connection, drawn, self._clock.now_us())

    # --- bucket keys ------------------------------------------------------------------------------------------------

    def _knows(self, bucket: int, generation: int) -> bool:
        return bucket in self._buckets and self._buckets[bucket][0] == generation

    async def _load_buckets(self, connection: asyncpg.Connection, buckets: set[int]) -> None:
        if not buckets:
            return
        try:
            await self._take_buckets(await store.read_buckets(connection, buckets))
        except Unavailable:  # a puncture may have come between the reading and the asking
            await self._take_buckets(await store.read_buckets(connection, buckets))

    async def _take_buckets(self, rows: list[tuple[int, int, int, bytes]]) -> None:
        """Have custody unwrap these bucket keys."""

        def unwrap() -> dict[int, tuple[int, AESGCM]]:
            return {
                bucket: (generation, AESGCM(self.custody.unwrap(version, wrapped, bucket_aad(bucket, generation))))
                for bucket, generation, version, wrapped in rows
            }

        if rows:
            self._buckets |= await self._of_custody(unwrap)

    def _forget(self) -> None:
        self._cache.forget()
        self._buckets.clear()

    # --- destructions heard of ---------------------------------------------------------------------------------------

    async def _hear(self, connection: asyncpg.Connection) -> None:
        """Forget what was destroyed since the last reading."""
        if rows := await store.gone_after(connection, self._last_gone):
            self._last_gone = rows[-1][0]
            self._cache.drop(owner for _, owner in rows)
        self._heard_s = self._clock.monotonic_s()

    # --- the lease --------------------------------------------------------------------------------------------------

    @property
    def lease_left_s(self) -> float:
        """Seconds until the keys in memory are forgotten unless custody answers; not above 0 = they are."""
        now_s = self._clock.monotonic_s()
        return min(self._confirmed_s + self._lease_s, self._heard_s + self._lease_s * DEAF_LEASES) - now_s

    @property
    def custody_left_s(self) -> float:
        """As `lease_left_s` for a key of the region, which nobody can destroy: the database may be away."""
        return self._confirmed_s + self._lease_s - self._clock.monotonic_s()

    @property
    def _is_leased(self) -> bool:
        return self.lease_left_s > 0

    async def _lease(self) -> None:
        """Return while the lease runs; else ask custody now, not more often than every `RETRY_S`."""
        if self._is_leased:
            return
        async with self._asking:
            if self._is_leased:
                return
            self._forget()
            if self._failed is not None and self._clock.monotonic_s() - self._failed[0] < RETRY_S:
                error = self._failed[1]
                raise type(error)(error.code, error.message)
            async with store.connected(await self._pool()) as connection:
                await self._hear(connection)
            await self._ask()

    async def _keep_lease(self) -> None:
        """Ask every third of the lease; forget everything at its end or when refused."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            if self._confirmed_s == float("-inf"):
                continue  # nobody needs a key now
            try:
                await self._ask()
            except RocadeError:
                pass  # said already
            except Exception:  # a lease that nobody keeps would end although custody is there
                _log.exception("custody could not be asked")
            if not self._is_leased:
                self._forget()

    async def _ask(self) -> None:
        """Have custody open one bucket key: proof that it is there and still willing. Both changes stand in the audit log."""
        asked_s = self._clock.monotonic_s()
        try:
            await self._probe_custody()
        except RocadeError as error:
            if error.code != "custody.down":
                self._confirmed_s = float("-inf")
            if self._failed is None or self._failed[1].code != error.code:
                self._note("custody.lost", "refused", error.code)
            self._failed = asked_s, error
            raise
        if self._failed is not None:
            self._note("custody.back")
        self._failed, self._confirmed_s = None, asked_s

    async def _probe_custody(self) -> None:
        """Again with a row that has changed meanwhile: a puncture destroys the version that was read before it."""
        refusal: tuple[BucketRow, RocadeError] | None = None
        for _ in range(TRIES):
            row = bucket, generation, version, wrapped = await self._probe.newest()
            if refusal is not None and refusal[0] == row:
                break
            try:
                place = bucket_aad(bucket, generation)
                await self._of_custody(partial(self.custody.unwrap, version, wrapped, place))
            except RocadeError as error:
                refusal = row, error
            else:
                return
        if refusal is not None:
            raise refusal[1]

    async def _read_probe(self) -> BucketRow:
        async with store.connected(await self._pool()) as connection:
            return (await store.read_buckets(connection, (0,)))[0]

    async def _of_custody[T](self, work: Callable[[], T]) -> T:
        """Custody's answer, in a thread of its own. Raises: also Unavailable `custody.down` when it takes too long."""
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._custodian, work)
            return await asyncio.wait_for(answer, PATIENCE_S)
        except TimeoutError:
            raise Unavailable("custody.down", "key custody has not answered in time; ask again") from None

    def _note(self, action: str, outcome: str = "done", reason: str = "") -> None:
        (_log.warning if reason else _log.info)("%s %s", action, reason)
        if self._audit is not None:
            self._audit.note(AuditEntry(self._clock.now_us(), "keyring", action, "custody", outcome, reason))


def _unwrap(rows: list[tuple[int, int, int, int, bytes]], ciphers: dict[int, AESGCM]) -> dict[Name, bytes]:
    return {
        (owner, group): unwrap_key(ciphers[bucket], owner, group, bucket, wrapped)
        for owner, group, bucket, _, wrapped in rows
        if wrapped is not None
    }
