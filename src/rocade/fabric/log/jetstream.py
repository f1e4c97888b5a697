"""The log on a NATS JetStream cluster: three replicas, every acknowledgement fsynced by a majority.

One append (with those that joined it) is one message: all or none, one replicated fsync for hundreds of vehicle batches. The
message's sequence is the position of all its records, the writer is always 0. Publishing repeats with the same `Nats-Msg-Id`
until it is acknowledged, through leader changes and restarts; it never gives up on what may have been stored. Reading is
stateless: direct batch gets after the cursor, served by any replica. Cursors, groups and leases live in PostgreSQL.

Set-up: servers >= 2.11 with `jetstream { sync_interval: always }`; the server cannot be asked for it, `rocade doctor` says so.
Refuses: Unavailable `log.full` (readers are behind, retention keeps what they need), Refused `log.too_large`.
Decision and figures: docs/decisions/0010-jetstream.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec
import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import PARTITIONS
from rocade.core.ports import Clock, Random, SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.fabric.log import Lag, Limits, Positions, Record, Slice
from rocade.fabric.log.blocks import unpack
from rocade.fabric.log.cursors import Cursors
from rocade.fabric.log.grouping import Grouping
from rocade.fabric.log.segments import Retention, check_stream

WRITER = 0
REPLICAS = 3
DUPLICATE_WINDOW_S = 600.0
ACK_TIMEOUT_S = 2.0
REQUEST_TIMEOUT_S = 5.0
ENSURE_TIMEOUT_S = 20.0
BACK_OFF_S = (0.02, 0.5)
BATCH_MESSAGES = 256
HEADER_BYTES = 4_096
SAMPLE_MESSAGES = 64  # lag counts so many unread messages exactly and the rest by their mean
EXISTS_OTHERWISE = 10058
FULL = {10023, 10047, 10077}  # insufficient resources, storage exceeded, maximum bytes
DOWN = (nats.errors.Error, nats.js.errors.Error, OSError, asyncio.TimeoutError)

_encode = msgspec.msgpack.Encoder().encode


class _Error(msgspec.Struct):
    err_code: int = 0
    description: str = ""


class _Acknowledgement(msgspec.Struct):
    seq: int = 0
    error: _Error | None = None


_acknowledgement = msgspec.json.Decoder(_Acknowledgement).decode


class JetStreamLog:
    """Implements `Log`; open it with `connect`."""

    def __init__(
        self, client: Client, database: Database, name: str, random: Random, clock: Clock, retention: Retention
    ) -> None:
        self._nats = client
        self._manager = client.jetstream(timeout=REQUEST_TIMEOUT_S)
        self._pool = database.pool
        self._name = name
        self._clock = clock
        self._random = random
        self._retention = retention
        self._session = random.bits(63)
        self._count = 0
        self._ensured: set[str] = set()
        self._cursors = Cursors(database, clock)
        self.positions = self._cursors.positions
        self.commit = self._cursors.commit
        self.retire = self._cursors.retire
        self._grouping = Grouping(self._write, client.max_payload // 2)

    @classmethod
    async def connect(
        cls,
        database: Database,
        servers: Sequence[str],
        *,
        name: str = "rocade",
        tls: ssl.SSLContext | None = None,
        random: Random | None = None,
        clock: Clock | None = None,
        retention: Retention | None = None,
    ) -> Self:
        """`name` prefixes the streams, so that several deployments may share a cluster.

        Raises: Unavailable `log.down`.
        """
        try:
            client = await nats.connect(
                list(servers), name="rocade log", tls=tls, max_reconnect_attempts=-1, reconnect_time_wait=0.2,
                connect_timeout=2, ping_interval=2, max_outstanding_pings=2, pending_size=64 << 20,
                error_cb=_ignore,
            )  # fmt: skip
        except DOWN as error:
            raise Unavailable("log.down", f"no NATS server answers: {type(error).__name__}") from error
        return cls(client, database, name, random or SystemRandom(), clock or SystemClock(), retention or Retention())

    async def append(self, stream: str, records: Sequence[Record]) -> None:
        check_stream(stream)
        if records:
            await self._grouping.append(stream, records)

    async def read(
        self, stream: str, partitions: Sequence[int], after: Positions, max_records: int, max_bytes: int
    ) -> Slice:
        """Read whole messages after the lowest cursor of `partitions`; at least one if there is one.

        Raises: Unavailable `log.down`; Corrupt `log.block`.
        """
        if not partitions:
            return Slice([], {})
        lows = {partition: after.get((partition, WRITER), 0) for partition in partitions}
        records: list[Record] = []
        upto = 0
        for sequence, body in await self._get(stream, min(lows.values()) + 1, max_records, max_bytes):
            found = _select(unpack(body), sequence, {partition: (low, sequence) for partition, low in lows.items()})
            if upto and len(records) + len(found) > max_records:
                break
            records += found
            upto = sequence
        return Slice(records, {(p, WRITER): (low, upto) for p, low in lows.items() if low < upto})

    async def reread(self, stream: str, limits: Limits) -> Slice:
        """Read exactly these bounds, waiting for a replica that has them all.

        Raises: Unavailable `log.behind` when none has within some seconds.
        """
        records: list[Record] = []
        if limits:
            bounds = {partition: bound for (partition, _), bound in limits.items()}
            at, upto = min(after for after, _ in bounds.values()), max(upto for _, upto in bounds.values())
            ends_s = self._clock.monotonic_s() + REQUEST_TIMEOUT_S
            while at < upto:
                messages = await self._get(stream, at + 1, upto - at, 8 << 20)
                for sequence, body in messages:
                    if sequence <= upto:
                        records += _select(unpack(body), sequence, bounds)
                    at = sequence
                if not messages:
                    if self._clock.monotonic_s() > ends_s:
                        raise Unavailable("log.behind", f"no replica of {stream} holds position {upto} yet")
                    await asyncio.sleep(BACK_OFF_S[0])
        return Slice(records, dict(limits))

    async def lag(self, group: str, stream: str) -> Lag:
        """Unread records; beyond the first messages an estimate from their mean size.

        The leader says where the log ends: a replica that came back and holds less is not taken for its end.
        Raises: Unavailable `log.behind` when no replica holds what is unread within some seconds.
        """
        ends_s = self._clock.monotonic_s() + REQUEST_TIMEOUT_S
        while True:
            state = await self._state(stream)
            if state is None:
                return Lag(0, None)
            cursors = await self._read_upto(group, stream)
            low = min(cursors.values())
            messages = await self._get(stream, low + 1, SAMPLE_MESSAGES, 8 << 20)
            if messages or not state.messages or low >= state.last_seq:
                break
            if self._clock.monotonic_s() > ends_s:
                raise Unavailable("log.behind", f"no replica of {stream} holds position {low + 1} yet")
            await asyncio.sleep(BACK_OFF_S[0])
        unread = [
            record for sequence, body in messages for record in unpack(body) if cursors[record.partition] < sequence
        ]
        beyond = state.last_seq - messages[-1][0] if messages else 0
        count = len(unread) + round(beyond * len(unread) / max(1, len(messages)))
        return Lag(count, min((record.arrived_us for record in unread), default=None))

    async def trim(self) -> int:
        """Drop messages every active group has read, when they are old or the stream is nearly full."""
        streams = await self._pool.fetch("SELECT DISTINCT stream FROM log_group")
        known = self._ensured | {stream for (stream,) in streams}
        return sum([await self._trim(stream) for stream in sorted(known)])

    async def forget(self, stream: str, keys: Mapping[int, int]) -> None:
        """A message holds records of many keys and cannot be changed; it goes with retention."""

    async def close(self) -> None:
        await self._grouping.close()
        await self._nats.close()

    async def _write(self, stream: str, records: Sequence[Record]) -> None:
        body = _encode(records)
        if len(body) + HEADER_BYTES > self._nats.max_payload:
            raise Refused("log.too_large", f"one append is at most {self._nats.max_payload - HEADER_BYTES} bytes here")
        await self._ensure(stream)
        self._count += 1
        headers = {"Nats-Msg-Id": f"{self._session:x}.{self._count}"}
        pause_s = BACK_OFF_S[0]
        may_be_stored = False
        has_trimmed = False
        while True:
            answer = await self._publish(stream, body, headers)
            if answer is None:
                may_be_stored = True
            elif answer.error is None:
                return
            elif answer.error.err_code in FULL and not may_be_stored:
                if has_trimmed or await self._trim(stream) == 0:
                    raise Unavailable(
                        "log.full",
                        f"stream {stream} has reached its limit and a reader has not caught up; intake waits for it",
                        stream=stream,
                    )
                has_trimmed = True
                continue
            await asyncio.sleep(pause_s * (0.5 + self._random.uniform()))
            pause_s = min(2 * pause_s, BACK_OFF_S[1])

    async def _publish(self, stream: str, body: bytes, headers: dict[str, str]) -> _Acknowledgement | None:
        """The leader's answer, or None when there was none: then it may be stored or not."""
        try:
            reply = await self._nats.request(self._subject(stream), body, timeout=ACK_TIMEOUT_S, headers=headers)
            return _acknowledgement(reply.data)
        except (*DOWN, msgspec.DecodeError):
            return None

    async def _ensure(self, stream: str) -> None:
        """Create the stream if absent, with some patience for a cluster that is choosing its leader."""
        if stream in self._ensured:
            return
        ends_s = self._clock.monotonic_s() + ENSURE_TIMEOUT_S
        configuration = StreamConfig(
            name=self._stream(stream), subjects=[self._subject(stream)], storage=StorageType.FILE,
            num_replicas=REPLICAS, discard=DiscardPolicy.NEW, max_bytes=self._retention.limit_bytes,
            duplicate_window=DUPLICATE_WINDOW_S, allow_direct=True,
        )  # fmt: skip
        while stream not in self._ensured:
            try:
                await self._manager.add_stream(configuration)
                self._ensured.add(stream)
            except nats.js.errors.BadRequestError as error:
                if error.err_code != EXISTS_OTHERWISE:
                    raise Unavailable("log.down", f"JetStream refuses the stream: {error.description}") from error
                self._ensured.add(stream)  # an operator's choice of settings
            except DOWN as error:
                if self._clock.monotonic_s() > ends_s:
                    raise Unavailable("log.down", f"JetStream does not answer: {type(error).__name__}") from error
                await asyncio.sleep(BACK_OFF_S[1])

    async def _get(self, stream: str, start: int, messages: int, max_bytes: int) -> list[tuple[int, bytes]]:
        """One direct batch get: (sequence, body) from `start` on."""
        ask = {"seq": start, "batch": min(messages, BATCH_MESSAGES), "max_bytes": max_bytes,
               "next_by_subj": self._subject(stream)}  # fmt: skip
        inbox = self._nats.new_inbox()
        found: list[tuple[int, bytes]] = []
        try:
            replies = await self._nats.subscribe(inbox)
            try:
                await self._nats.publish(f"$JS.API.DIRECT.GET.{self._stream(stream)}", msgspec.json.encode(ask), inbox)
                while True:
                    reply = await replies.next_msg(REQUEST_TIMEOUT_S)
                    if not reply.headers or "Nats-Sequence" not in reply.headers:
                        return found  # end of batch, or nothing there
                    found.append((int(reply.headers["Nats-Sequence"]), reply.data))
            finally:
                await replies.unsubscribe()
        except DOWN as error:
            raise Unavailable("log.down", f"JetStream does not answer: {type(error).__name__}") from error

    async def _trim(self, stream: str) -> int:
        state = await self._state(stream)
        if state is None or not state.messages:
            return 0
        groups = await self._pool.fetch("SELECT name FROM log_group WHERE stream = $1", stream)
        upto = min([min((await self._read_upto(name, stream)).values()) for (name,) in groups], default=state.last_seq)
        is_tight = state.bytes >= 0.8 * self._retention.limit_bytes
        if not is_tight and self._retention.age_s > 0:
            upto = min(upto, await self._last_older(stream, upto, state.first_seq))
        if upto < state.first_seq:
            return 0
        await self._manager.purge_stream(self._stream(stream), seq=upto + 1)
        after = await self._state(stream)
        return int(state.bytes - after.bytes) if after else 0

    async def _last_older(self, stream: str, upto: int, first: int) -> int:
        """The last sequence in [first, upto] whose records all arrived before the age limit; halving."""
        limit_us = self._clock.now_us() - int(self._retention.age_s * 1_000_000)
        low, high = first - 1, upto
        while low < high:
            middle = (low + high + 1) // 2
            messages = await self._get(stream, middle, 1, 1)
            is_old = bool(messages) and max(record.arrived_us for record in unpack(messages[0][1])) < limit_us
            low, high = (middle, high) if is_old else (low, middle - 1)
        return low

    async def _read_upto(self, group: str, stream: str) -> dict[int, int]:
        """A group's cursor in every partition, 0 where it never read."""
        rows = await self._pool.fetch(
            "SELECT partition, position FROM log_cursor WHERE name = $1 AND stream = $2 AND writer = $3",
            group, stream, WRITER,
        )  # fmt: skip
        return dict.fromkeys(range(PARTITIONS), 0) | dict(rows)

    async def _state(self, stream: str) -> Any:
        try:
            return (await self._manager.stream_info(self._stream(stream))).state
        except nats.js.errors.NotFoundError:
            return None
        except DOWN as error:
            raise Unavailable("log.down", f"JetStream does not answer: {type(error).__name__}") from error

    def _stream(self, stream: str) -> str:
        return f"{self._name}_{check_stream(stream)}"

    def _subject(self, stream: str) -> str:
        return f"{self._name}.{check_stream(stream)}"


def _select(records: list[Record], position: int, bounds: Mapping[int, tuple[int, int]]) -> list[Record]:
    wanted = {partition for partition, (after, upto) in bounds.items() if after < position <= upto}
    return records if len(wanted) == PARTITIONS else [record for record in records if record.partition in wanted]


async def _ignore(_: Exception) -> None:
    """Connection errors are expected and retried where they matter."""
