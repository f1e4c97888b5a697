"""Ordering commands and asking how they stand. Who may order what is the gate's business, asked by whoever calls this.

Flow of `order_many`: each order is checked by itself (act and parameters, deadline, key, what the model can do, how often a
sleeping vehicle may be woken) -> audit -> one transaction: repeated keys get the command they got before; newer versions
of the lanes, under their locks; signed; what was open in these lanes is superseded; written; gateways and watchers are told.
So of two who order at once the later one counts, and the earlier one's command says that it was superseded.
Refuses: `command.act.unknown`, `command.parameters.*`, `command.deadline`, `command.key.*`, `command.capability`,
`command.wake.budget`, `vehicles.unknown`. Orders of one moment share a transaction. Source: docs/decisions/0047-commands.md.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Protocol

import asyncpg
import msgspec

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Audit, AuditEntry, Clock, Random
from rocade.fabric.database import Database
from rocade.fabric.database.connection import DOWN, plan_anew
from rocade.services.vehicles.commands import errors, store
from rocade.services.vehicles.commands.capability import Capabilities
from rocade.services.vehicles.commands.following import Following
from rocade.services.vehicles.commands.model import (
    DEFAULT_LIFE_US,
    MOST_KEY,
    QUEUED,
    Order,
    Page,
    Standing,
)
from rocade.services.vehicles.commands.waking import WakeBudget
from rocade.services.vehicles.model import Vehicle
from rocade.services.vehicles.service import Registry
from rocade.trust.authority.sealing import Keys, keyring_of
from rocade.trust.identity import envelope
from rocade.wire import commands as wire

PAGE_LIMIT = 200
ID_BYTES = 16
BATCH = 1_000
"""Orders of one transaction."""
AT_ONCE = 3
"""Transactions of one process: the database writes one while the next is signed."""
AUDITED_SINGLY = 200
KEY_LEFT_US = 86_400_000_000
"""What is not with its vehicle so long before its key ends is signed again with the newer one."""
SIGN_AGAIN_S = 60.0
_log = logging.getLogger(__name__)
_KEY = re.compile(rf"[!-~]{{1,{MOST_KEY}}}")
_ID = re.compile(r"[0-9a-f]{32}")


class Signer(Protocol):
    """`trust.authority.signing.ServiceSigner`, as far as commands need it."""

    @property
    def key_id(self) -> bytes: ...
    def seal(self, payload_type: str, payload: bytes) -> bytes: ...
    async def refresh(self) -> None: ...


class _Ready(msgspec.Struct, frozen=True, gc=False):
    """An order that was checked."""

    order: Order
    act: wire.Act
    vehicle: Vehicle
    parameters: dict[str, Any]
    encoded: bytes
    expires_us: int


class Commands:
    """The commands of one region's database."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        signer: Signer,
        capabilities: Capabilities,
        audit: Audit,
        clock: Clock,
        random: Random,
        budget: WakeBudget | None = None,
    ) -> None:
        self._database = database
        self._registry = registry
        self._signer = signer
        self._audit = audit
        self._clock = clock
        self._random = random
        self._budget = budget or WakeBudget()
        self._following = Following(database)
        self._writing = asyncio.Semaphore(AT_ONCE)
        self._waiting: list[tuple[Order, asyncio.Future[Standing]]] = []
        self._worker: asyncio.Task[None] | None = None
        self.capabilities = capabilities

    @property
    def _keys(self) -> Keys:
        return keyring_of(self._database)

    # --- ordering -----------------------------------------------------------------------------------------------------

    async def order(self, order: Order) -> Standing:
        """Give one command; those given at once go together.

        Raises: Refused `command.*`, `vehicles.unknown`; Unavailable `database.down`, `audit.down`.
        """
        answer: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._serve(), name="commands")
        return await answer

    async def _serve(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            try:
                found = await self.order_many([order for order, _ in some])
            except BaseException as error:
                for _, answer in some:
                    if not answer.done():
                        answer.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, answer), one in zip(some, found, strict=True):
                if answer.done():
                    continue
                if isinstance(one, Refused):
                    answer.set_exception(one)
                else:
                    answer.set_result(one)

    async def order_many(self, orders: Sequence[Order]) -> list[Standing | Refused]:
        """Give many commands; each gets its answer, in the order of the orders.

        Raises: Unavailable `database.down`, `audit.down`: of the part that was under way nothing was written; keys make it safe
        to repeat.
        """
        answers: list[Standing | Refused | None] = [None] * len(orders)
        now_us = self._clock.now_us()
        try:
            vehicles = await self._registry.by_refs({VehicleRef(order.ref) for order in orders})
            ready: dict[int, _Ready] = {}
            for place, order in enumerate(orders):
                try:
                    ready[place] = self._check(order, vehicles, now_us)
                except Refused as refusal:
                    answers[place] = refusal
            for place, tired in (await self._over_budget(ready, now_us)).items():
                answers[place] = tired
                del ready[place]
            self._note_refused(orders, answers, now_us)
            while ready:
                first = _first_of_each_lane(ready)
                parts = [dict(first[at : at + BATCH]) for at in range(0, len(first), BATCH)]
                for written in await asyncio.gather(*map(self._write, parts)):
                    for place, standing in written.items():
                        answers[place] = standing
                        del ready[place]
        except (*DOWN, TimeoutError) as error:
            raise Unavailable("database.down", f"commands cannot be given now: {type(error).__name__}") from error
        return [answer for answer in answers if answer is not None]

    def _check(self, order: Order, vehicles: Mapping[VehicleRef, Vehicle], now_us: int) -> _Ready:
        """Raises: Refused."""
        checked = wire.check(order.act, order.parameters, now_us)
        vehicle = vehicles.get(VehicleRef(order.ref))
        if vehicle is None:
            raise Refused("vehicles.unknown", "no vehicle with this id is registered here; enrol it first")
        expires_us = order.expires_us or max(now_us, order.not_before_us) + DEFAULT_LIFE_US
        if expires_us <= now_us:
            raise errors.deadline("the deadline has passed; give a later one")
        if expires_us - now_us > wire.MOST_LIFE_US:
            raise errors.deadline("a command may wait for seven days; order it later")
        if not 0 <= order.not_before_us < expires_us:
            raise errors.deadline("a command cannot begin after its deadline")
        if order.key and not _KEY.fullmatch(order.key):
            raise errors.bad_key()
        if self.capabilities.of(vehicle.brand, vehicle.model)[order.act] == "no":
            raise errors.incapable(order.act, vehicle.brand, vehicle.model)
        parameters = msgspec.to_builtins(checked)
        try:
            wire.proof(order.act, parameters)
        except (ValueError, OverflowError):  # an instant that no calendar has could be kept, but never proven
            raise Refused("command.parameters.time", f"the instant given to {order.act} lies too far ahead") from None
        encoded = msgspec.json.encode(parameters)
        return _Ready(order, wire.ACTS[order.act], vehicle, parameters, encoded, expires_us)

    async def _over_budget(self, ready: Mapping[int, _Ready], now_us: int) -> dict[int, Refused]:
        """Orders that would wake a sleeping vehicle once too often."""
        refs = {one.order.ref for one in ready.values()}
        spent = await self._budget.spent(self._database.pool, self._keys, refs, now_us)
        return {
            place: errors.asleep(spent[one.order.ref], self._budget.most)
            for place, one in ready.items()
            if one.order.ref in spent
        }

    async def _write(self, part: Mapping[int, _Ready]) -> dict[int, Standing | Refused]:
        """One transaction; a key that somebody uses at the same moment begins it anew."""
        async with self._writing:
            await self._signer.refresh()
            while True:
                try:
                    async with self._database.pool.acquire() as connection, connection.transaction():
                        return await self._write_once(connection, part)
                except asyncpg.UniqueViolationError:
                    continue

    async def _write_once(self, connection: Any, part: Mapping[int, _Ready]) -> dict[int, Standing | Refused]:
        if len(part) > store.FEW:
            await plan_anew(connection)
        answers = await self._repeated(connection, part)
        fresh = [(place, one) for place, one in part.items() if place not in answers]
        if not fresh:
            return answers
        now_us = self._clock.now_us()
        refs, lanes = [one.order.ref for _, one in fresh], [one.act.lane for _, one in fresh]
        versions = await store.next_versions(connection, refs, lanes, now_us)
        made = [
            self._sign(one, id, versions[one.order.ref, one.act.lane], now_us)
            for (_, one), id in zip(fresh, self._ids(len(fresh)), strict=True)
        ]
        await self._audit_orders(made, now_us)
        await store.supersede(connection, refs, lanes, [one.id for one in made], now_us)
        await store.add(connection, self._keys, made)
        await store.notify(connection, store.QUEUED_CHANNEL, refs)
        written = await store.read(connection, self._keys, [one.id for one in made]) if len(made) == 1 else {}
        for (place, ready), new in zip(fresh, made, strict=True):
            answers[place] = written.get(new.id) or store.standing_of(new, ready.parameters)
        return answers

    async def _repeated(self, connection: Any, part: Mapping[int, _Ready]) -> dict[int, Standing | Refused]:
        """What was ordered under these keys before; another order under the same key is refused."""
        keyed = [(place, one) for place, one in part.items() if one.order.key]
        if not keyed:
            return {}
        actors, keys = [one.order.by for _, one in keyed], [one.order.key for _, one in keyed]
        known = await store.read_keys(connection, self._keys, actors, keys)
        answers: dict[int, Standing | Refused] = {}
        for place, one in keyed:
            if found := known.get((one.order.by, one.order.key)):
                standing, parameters = found
                is_same = (standing.ref, standing.act, parameters) == (one.order.ref, one.order.act, one.encoded)
                answers[place] = standing if is_same else errors.reused_key()
        return answers

    def _ids(self, count: int) -> list[bytes]:
        """Drawn together: one by one they cost a fifteenth of an order."""
        drawn = self._random.bits(8 * ID_BYTES * count).to_bytes(ID_BYTES * count)
        return [drawn[at : at + ID_BYTES] for at in range(0, len(drawn), ID_BYTES)]

    def _sign(self, one: _Ready, id: bytes, version: int, now_us: int) -> store.New:
        order = one.order
        command = wire.Command(
            id=id.hex(), vehicle=one.vehicle.id, lane=one.act.lane, version=version, act=order.act,
            parameters=one.parameters, issued_us=now_us, not_before_us=order.not_before_us, expires_us=one.expires_us,
        )  # fmt: skip
        return store.New(
            id, order.ref, one.act.lane, version, order.act, one.encoded, order.by, order.purpose, order.key,
            one.vehicle.brand, order.not_before_us, one.expires_us,
            self._signer.seal(wire.COMMAND_TYPE, wire.encode(command)), self._signer.key_id, now_us,
            QUEUED, self._clock.now_us(), now_us,
        )  # fmt: skip

    async def _audit_orders(self, made: Sequence[store.New], now_us: int) -> None:
        """In the audit log before it counts: each by itself, a large batch as one entry with the digest of its ids."""
        if len(made) > AUDITED_SINGLY:
            digest = sha256(b"".join(one.id for one in made)).hexdigest()
            facts: dict[str, str | int | float] = {"commands": len(made), "sha256": digest}
            await self._audit.record(AuditEntry(now_us, made[0].actor, "command.order", "vehicles", facts=facts))
            return
        await asyncio.gather(
            *(
                self._audit.record(
                    AuditEntry(
                        now_us, one.actor, "command.order", f"vehicle:{one.ref}", facts={"command": one.id.hex(), "act": one.act}
                    )
                )
                for one in made
            )
        )  # fmt: skip

    def _note_refused(self, orders: Sequence[Order], answers: Sequence[Standing | Refused | None], now_us: int) -> None:
        for order, answer in zip(orders, answers, strict=True):
            if isinstance(answer, Refused):
                subject = f"vehicle:{order.ref}"
                self._audit.note(AuditEntry(now_us, order.by, "command.order", subject, "refused", answer.code))

    # --- asking -------------------------------------------------------------------------------------------------------

    async def standing(self, id: str) -> Standing:
        """How a command stands. Raises: Refused `command.unknown`."""
        if not _ID.fullmatch(id):
            raise errors.unknown()
        found = await store.read(self._database.pool, self._keys, [bytes.fromhex(id)])
        if not found:
            raise errors.unknown()
        return found[bytes.fromhex(id)]

    async def of(self, ref: int, cursor: str | None = None, limit: int = 50) -> Page:
        """Commands of a vehicle, the newest first. Raises: Refused `command.cursor`."""
        before_us, before_id = _place(cursor)
        limit = max(1, min(limit, PAGE_LIMIT))
        found = await store.read_of(
            self._database.pool, self._keys, ref, before_us, before_id, limit + 1, is_open=False
        )
        last = found[limit - 1] if len(found) > limit else None
        return Page(found[:limit], f"{last.created_us:x}.{last.id}" if last else None)

    async def open_of(self, ref: int) -> list[Standing]:
        """What may still happen to a vehicle by itself, the newest first: at most one a lane."""
        return await store.read_of(self._database.pool, self._keys, ref, *_place(None), PAGE_LIMIT, is_open=True)

    async def able(self, ref: int) -> Mapping[str, str]:
        """What a vehicle can be told to do: each act with yes, no or unknown. Raises: Refused `vehicles.unknown`."""
        vehicle = await self._registry.by_ref(VehicleRef(ref))
        return self.capabilities.of(vehicle.brand, vehicle.model)

    async def follow(self, ref: int) -> AsyncIterator[Standing | None]:
        """The newest commands of a vehicle as they stand, then each one again when it has changed, for ever. None now and then:
        nothing has changed.
        """
        sent: dict[str, Standing] = {}
        with self._following.of(ref) as changed:
            while True:
                for one in reversed((await self.of(ref, limit=20)).commands):
                    if sent.get(one.id) != one:
                        sent[one.id] = one
                        yield one
                yield None
                await changed.wait()

    async def follow_one(self, id: str) -> AsyncIterator[Standing | None]:
        """A command as it stands and each time it has changed, until nothing happens by itself any more. None now and then.

        Raises: Refused `command.unknown`.
        """
        last: Standing | None = None
        ref = (await self.standing(id)).ref
        with self._following.of(ref) as changed:
            while last is None or last.is_open:
                standing = await self.standing(id)
                if standing != last:
                    last = standing
                    yield standing
                else:
                    yield None
                    await changed.wait()

    # --- keys and ends ------------------------------------------------------------------------------------------------

    async def sign_again(self) -> int:
        """Sign anew what waits for vehicles and outlives the key it was signed with; how many. It stays the same command."""
        await self._signer.refresh()
        key_id, now_us = self._signer.key_id, self._clock.now_us()
        ageing = await store.read_ageing(self._database.pool, self._keys, key_id, now_us + KEY_LEFT_US)
        signed = []
        for id, ref, envelope_ in ageing:
            command = msgspec.structs.replace(wire.read_command(envelope.payload_of(envelope_)), issued_us=now_us)
            signed.append((id, ref, self._signer.seal(wire.COMMAND_TYPE, wire.encode(command))))
        if signed:
            await store.seal_again(self._database.pool, self._keys, signed, key_id)
        return len(signed)

    async def keep_signed(self, every_s: float = SIGN_AGAIN_S) -> None:
        """Sign again what needs it, for ever; a failure is tried again."""
        while True:
            await asyncio.sleep(every_s)
            try:
                await self.sign_again()
            except (*DOWN, TimeoutError, RocadeError) as error:
                _log.warning("waiting commands could not be signed again: %s", type(error).__name__)

    async def close(self) -> None:
        await self._following.close()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)


def _first_of_each_lane(ready: Mapping[int, _Ready]) -> list[tuple[int, _Ready]]:
    """Those in which no lane and no key occurs twice; what is left goes next, so that it is newer."""
    taken: list[tuple[int, _Ready]] = []
    lanes: set[tuple[int, str]] = set()
    keys: set[tuple[str, str]] = set()
    for place, one in ready.items():
        lane, key = (one.order.ref, one.act.lane), (one.order.by, one.order.key)
        if lane not in lanes and key not in keys:
            taken.append((place, one))
        lanes.add(lane)
        keys |= {key} if one.order.key else set()
    return taken


def _place(cursor: str | None) -> tuple[int, bytes]:
    """Raises: Refused `command.cursor`."""
    if cursor is None:
        return (1 << 63) - 1, b"\xff" * 16
    at, _, id = cursor.partition(".")
    if not re.fullmatch(r"[0-9a-f]{1,15}", at) or not _ID.fullmatch(id):
        raise errors.bad_cursor()
    return int(at, 16), bytes.fromhex(id)
