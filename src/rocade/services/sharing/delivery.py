"""Feeds by webhook: each record posted to the address the third party chose, signed as Standard Webhooks has it, in order.

A feed is a contract with an address. It has a task of its own, a connection of its own and a cursor into what waits, which moves
when the receiver has answered 2xx; so a receiver that is slow, away or sends elsewhere delays nobody but itself. Contract and
consent are asked, and the post is dated, when the connection stands, however long that took. A failure is
tried again after `RETRY_S`, then every half hour; what has waited as long as records are kept goes, with a line in the
contract's log, an audit entry and a notice in the next post (`sharing.expired`). 410 pauses a feed until it is resumed.
A contract that has ended says so once (`sharing.ended`, no data), and what waits for it is never sent.
Processes share the feeds by leases; a crash leads to a repetition, known by its `webhook-id`.
Refuses: addresses that are not public, redirects (not followed, they count as failures).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import zlib
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from rocade.core.errors import RocadeError
from rocade.core.identifiers import PARTITIONS, Identity
from rocade.core.latency import RecentHistogram
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.doors.webhooks import Kept, Poster, signing
from rocade.fabric.database import Leases
from rocade.services.sharing import store
from rocade.services.sharing.feeding import Bell, Feeding, Lines, Sent
from rocade.services.sharing.model import Contract, Line, Webhook
from rocade.trust.authority.gate import Principal, of_certificate
from rocade.trust.authority.sealing import REGION, Group, Keyring
from rocade.wire.resources.schema import write_instant

RETRY_S = (5, 30, 120, 600, 1800)
IDLE_S = 30.0
AGAIN_S = 1.0
SAVE_S = 0.5
"""How often places are written: a crash repeats what was told since."""
AT_ONCE = 512
"""Posts under way in one process; one that fails or takes long waits among its like, `SLOW_AT_ONCE` of them."""
SLOW_AT_ONCE = 64
SLOW_S = 2.0
_log = logging.getLogger(__name__)


class Counters(msgspec.Struct):
    feeds: int = 0
    posted: int = 0
    failed: int = 0
    expired: int = 0
    told_p50_ms: float = 0.0
    """From the commit that let a record wait to the receiver's 2xx."""
    told_p99_ms: float = 0.0


class Secrets:
    """Secrets of webhooks: made from the region's key in custody, the contract and its generation; no table holds one."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def of(self, one: Webhook, generation: int = 0) -> str:
        """Raises: Unavailable `custody.down`, `custody.refused`."""
        name = (REGION, int(Group.EXPORT))
        key = self._keyring.held(*name) or (await self._keyring.ensure([name]))[name]
        master = hmac.new(key, b"sharing webhooks", sha256).digest()
        return signing.secret_of(master, one.contract, generation or one.generation)


class Delivery:
    """`run` keeps a task for each feed that is this process's."""

    def __init__(
        self, feeding: Feeding, bell: Bell, lines: Lines, leases: Leases, secrets: Secrets, place: Identity, audit: Audit,
        clock: Clock, random: Random, poster: Poster | None = None,
    ) -> None:  # fmt: skip
        """`place` is an identity of this region: third parties are identities beside it."""
        self.feeding = feeding
        self.bell = bell
        self.lines = lines
        self._leases = leases
        self._secrets = secrets
        self._place = place
        self._audit = audit
        self.clock = clock
        self.random = random
        self.poster = poster or Poster()
        self.pool = feeding.sharing.database.pool
        self._feeds: dict[str, tuple[_Feed, asyncio.Task[None]]] = {}
        self._moved: dict[str, tuple[str, int, int, int, int, int, int]] = {}
        self._quick = asyncio.Semaphore(AT_ONCE)
        self._slow = asyncio.Semaphore(SLOW_AT_ONCE)
        self._told = RecentHistogram()
        self.counters = Counters()

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the feeds of the partitions held until told to stop."""
        saving = asyncio.create_task(self._save_for_ever())
        try:
            while not stop.is_set():
                try:
                    held = await self._leases.renew()
                    await self._match(set(held))
                except (RocadeError, OSError, *store.FAILURES) as error:
                    _log.warning("feeds wait a moment: %s", error)
                await _pause(stop, 1.0)
        finally:
            saving.cancel()
            tasks = [task for _, task in self._feeds.values()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(saving, *tasks, return_exceptions=True)
            await self.save()
            await self._leases.release()

    async def _match(self, held: set[int]) -> None:
        """Begin feeds that are ours and due, end those that are not ours; wake those whose contract has ended."""
        for id, (feed, task) in list(self._feeds.items()):
            if task.done():
                del self._feeds[id]
                if not task.cancelled() and (failure := task.exception()):
                    _log.error("a feed failed and begins again", exc_info=failure)
            elif _partition(id) not in held:
                task.cancel()
            elif not self._runs(id):
                feed.wake.set()
        now_us = self.clock.now_us()
        for one in await store.webhooks(self.pool):
            id = one.contract
            if id in self._feeds:
                self._feeds[id][0].fresh = one
                continue
            if one.paused_us or one.due_us > now_us or _partition(id) not in held:
                continue
            if contract := self.feeding.book.by_id.get(id) or await self.feeding.sharing.find(id):
                feed = _Feed(self, contract, one)
                self._feeds[id] = feed, asyncio.create_task(feed.run(), name=f"feed {id}")
        self.counters.feeds = len(self._feeds)

    def _runs(self, id: str) -> bool:
        contract = self.feeding.book.by_id.get(id)
        return self.feeding.sharing.table.is_stale or bool(contract and self.feeding.sharing.classes_of(contract))

    # --- what a feed asks ---------------------------------------------------------------------------------------------

    def actor(self, contract: Contract) -> Principal:
        return of_certificate(Identity(self._place.trust_domain, self._place.region, *contract.party.split(":", 1)))

    async def post(
        self, line: Kept, hook: Webhook, id: str, body: bytes, one: Sent | None, *, is_slow: bool
    ) -> tuple[int, float]:
        """(status, seconds). Raises: Unavailable, Refused `webhooks.*`; _Changed: `one` may not leave as it was read."""
        secrets = [await self._secrets.of(hook)]
        if hook.generation > 1 and self.clock.now_us() < hook.rotated_us + signing.OVERLAP_US:
            secrets.append(await self._secrets.of(hook, hook.generation - 1))

        def sign() -> Mapping[str, str]:
            if one is not None:
                if not self.feeding.is_agreed(one):
                    raise _Changed
                self.feeding.note(self.actor(one.contract), one.contract)
            return signing.headers(secrets, id, self.clock.now_us() // 1_000_000, body)

        async with self._slow if is_slow else self._quick:
            begun_s = self.clock.monotonic_s()
            status = await line.post(sign, body)
            return status, self.clock.monotonic_s() - begun_s

    def told(self, one: Sent) -> None:
        now_us = self.clock.now_us()
        self._told.add_many([now_us - one.at_us], now_us)
        self.counters.told_p50_ms = self._told.quantile_us(0.5) / 1000
        self.counters.told_p99_ms = self._told.quantile_us(0.99) / 1000

    def note(self, contract: Contract, action: str, code: str, **facts: int) -> None:
        entry = AuditEntry(self.clock.now_us(), "sharing", action, contract.id, "refused", code, dict(facts))
        self._audit.note(entry)

    def keep(self, hook: Webhook) -> None:
        """Where a feed stands, written with the next `save`."""
        row = (hook.contract, hook.cursor, hook.attempt, hook.due_us, hook.paused_us, hook.status, hook.told_us)
        self._moved[hook.contract] = row

    async def save(self) -> None:
        if self._moved:
            taken, self._moved = self._moved, {}
            try:
                await store.moved(self.pool, list(taken.values()))
            except BaseException:
                self._moved = taken | self._moved
                raise

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SAVE_S)
            try:
                await self.save()
            except (OSError, RocadeError, *store.FAILURES) as error:
                _log.warning("places of feeds cannot be written: %s", type(error).__name__)


class _Changed(Exception):
    """What is agreed is another than when a record was read."""


class _Feed:
    """One contract's records to one address."""

    def __init__(self, delivery: Delivery, contract: Contract, hook: Webhook) -> None:
        self._delivery = delivery
        self._contract = contract
        self._hook = self.fresh = hook
        """`fresh`: the row as it was read last; whether it has another address or what expired stands there."""
        self._line: Kept | None = None
        self._is_slow = hook.attempt > 0
        self.wake = asyncio.Event()

    async def run(self) -> None:
        ref = self._contract.ref
        try:
            with self._delivery.bell.ringing([ref], self.wake):
                while await self._turn() and self._contract.ref == ref:  # with a new reference it begins again
                    try:
                        async with asyncio.timeout(IDLE_S):
                            await self.wake.wait()
                    except TimeoutError:
                        pass
                    self.wake.clear()
        finally:
            await self._hang_up()

    async def _hang_up(self) -> None:
        if self._line is not None:
            line, self._line = self._line, None
            await line.close()

    async def _turn(self) -> bool:
        """Tell what waits; False when this feed is over."""
        feeding, fresh = self._delivery.feeding, self.fresh
        try:
            if (fresh.url, fresh.generation) != (self._hook.url, self._hook.generation):
                self._hook = msgspec.structs.replace(fresh, cursor=self._hook.cursor)
                await self._hang_up()
            contract = feeding.book.by_id.get(self._contract.id)
            if contract is None or not feeding.sharing.classes_of(contract):
                why = await feeding.sharing.over(self._contract.id)
                return await self._end(why) if why else await self._in_a_moment()
            self._contract = contract
            if fresh.expired and not await self._tell_expired(fresh.expired):
                return await self._later()
            is_all = False
            while not is_all:
                found, after, is_all = await feeding.after([contract], self._hook.cursor)
                for one in found:
                    if not await self._tell(one):
                        return await self._later()
                self._move(after)
            return True
        except _Changed:  # what is agreed is another than when it was read: read again from here
            self.wake.set()
            return True
        except (RocadeError, *store.FAILURES) as error:
            # consents, keys or the database are away: from the same place, in a moment
            _log.warning("a feed waits: %s", getattr(error, "code", type(error).__name__))
            return await self._in_a_moment()

    async def _in_a_moment(self) -> bool:
        """What is known here is older than the database, or cannot be known now."""
        await asyncio.sleep(AGAIN_S)
        self.wake.set()
        return True

    async def _later(self) -> bool:
        """After a failure this feed is over; `Delivery` begins it again when its time has come."""
        await self._delivery.save()
        return False

    async def _tell_expired(self, records: int) -> bool:
        """The notice that records are gone which it could not be told in time; they are in the history still."""
        said = {
            "contract": self._contract.id,
            "records": records,
            "how": f"/v1/sharing/contracts/{self._contract.id}/parquet",
        }
        body = {"type": "sharing.expired", "timestamp": write_instant(self._delivery.clock.now_us()), "data": said}
        status, code = await self._post(f"{self._contract.id}.{self._hook.cursor}.expired", msgspec.json.encode(body))
        if not 200 <= status < 300:
            self._failed(status, code)
            return False
        await store.told_expired(self._delivery.pool, self._contract.id, records)
        self.fresh = msgspec.structs.replace(self.fresh, expired=0)
        return True

    async def _tell(self, one: Sent) -> bool:
        """Post one record; whether the receiver took it (or nothing of it may go out)."""
        if not one.body:
            self._move(one.number)
            return True
        body = b'{"type":"sharing.record","timestamp":"%s","data":%s}' % (write_instant(one.at_us).encode(), one.body)
        status, code = await self._post(f"{one.contract.id}.{one.number}", body, one)
        if not 200 <= status < 300:
            self._failed(status, code)
            return False
        if self._hook.attempt:
            self._log("resumed", "")
        self._move(one.number, attempt=0, status=status, told_us=self._delivery.clock.now_us())
        self._delivery.lines.add(self._delivery.feeding.line("webhook", one))
        self._delivery.counters.posted += 1
        self._delivery.told(one)
        return True

    async def _post(self, id: str, body: bytes, one: Sent | None = None) -> tuple[int, str]:
        delivery = self._delivery
        try:
            if self._line is None:
                self._line = delivery.poster.kept(self._hook.url)
            status, took_s = await delivery.post(self._line, self._hook, id, body, one, is_slow=self._is_slow)
            self._is_slow = took_s > SLOW_S or not 200 <= status < 300
            return status, "webhooks.answer"
        except RocadeError as error:
            if not error.code.startswith("webhooks."):
                raise
            self._is_slow = True
            return 0, error.code

    def _move(self, number: int, **more: Any) -> None:
        self._hook = msgspec.structs.replace(self._hook, cursor=max(number, self._hook.cursor), **more)
        self._delivery.keep(self._hook)

    def _failed(self, status: int, code: str) -> None:
        delivery, now_us = self._delivery, self._delivery.clock.now_us()
        attempt = self._hook.attempt + 1
        wait_s = RETRY_S[min(attempt, len(RETRY_S)) - 1] * (0.9 + 0.2 * delivery.random.uniform())
        is_over = status == 410
        delivery.counters.failed += 1
        self._move(
            self._hook.cursor, attempt=attempt, due_us=now_us + int(wait_s * 1e6), paused_us=now_us if is_over else 0,
            status=status,
        )  # fmt: skip
        if attempt == 1 or is_over:
            self._log("failing", f"{code} {status}" if status else code)
            delivery.note(self._contract, "sharing.webhook", code, status=status)

    def _log(self, kind: str, code: str) -> None:
        now_us = self._delivery.clock.now_us()
        self._delivery.lines.add(Line(self._contract.id, now_us, kind, "webhook", self._contract.version, code=code))

    async def _end(self, why: str) -> bool:
        """The contract has ended: say so once, with nothing in it."""
        said = {"contract": self._contract.id, "why": why}
        body = {"type": "sharing.ended", "timestamp": write_instant(self._delivery.clock.now_us()), "data": said}
        await self._post(f"{self._contract.id}.ended", msgspec.json.encode(body))
        await store.drop_webhook(self._delivery.pool, self._contract.id)
        return False


def _partition(contract: str) -> int:
    return zlib.crc32(contract.encode()) % PARTITIONS


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
