"""The line to a maker's back end: sends what the hub hands down, keeps each request in its own place, says what the answers mean.

Flow: `send` (as a door's) opens the signed command -> expired or overtaken in its lane: said so, not sent -> a wake-up beyond what
the maker allows in its window waits for its turn -> the form makes the request -> `Transport.post`. `heard` (an answer) finds its
command by the correlation id -> the dialect of the brand's file says what its code means -> reports go to the hub as an agent's do.
The token had ended: nothing was done; with a new token the same command goes again, once, if it still counts. What was handed in
is not handed in again however often the hub repeats it: there, a repetition is a second order. A line that was started
anew does not know what the one before it handed in: lasting states are ordered again, moments (horn) are not.
Refuses (as reports): `command.maker.unsupported`, `command.maker.refused` with the maker's own code, `command.maker.token`,
`command.interrupted`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from rocade.core.catalogue import Commands as BrandCommands
from rocade.core.errors import Refused, RocadeError
from rocade.core.ports import Clock
from rocade.services.vehicles.commands.makers.psa import Answer, Psa
from rocade.trust.identity.envelope import payload_of
from rocade.wire.commands import ACTS, INTERRUPTED, Command, Report, State, read_command, read_down

MOST_KEPT = 10_000
"""Commands remembered; the oldest that are over are forgotten first."""
LOOK_S = 0.25
"""A clock may be set: what waits for its time looks at it at least so often."""
FAILED = Refused(
    "command.maker.refused", "the maker's back end took the order and ended it with an error; order again later"
)
LOCKED_OUT = Refused("command.maker.token", "the maker's back end refused a new access token too; sign in there again")
_log = logging.getLogger(__name__)


class Transport(Protocol):
    """How the back end is reached: HTTP, MQTT, whatever the maker runs."""

    async def post(self, service: str, body: bytes) -> None:
        """Hand a request in. Raises: Unavailable: nothing was handed in; the hub will repeat the command."""
        ...

    async def token(self, *, is_new: bool) -> str:
        """The access token; `is_new`: the last one had ended. Raises: Unavailable, Refused."""
        ...


class Form(Protocol):
    """The shape of a maker's messages."""

    def request(self, command: Command, token: str, now_us: int) -> tuple[str, str, bytes]: ...
    def read(self, body: bytes) -> Answer | None: ...


FORMS: Mapping[str, Callable[[], Form]] = {"psa": Psa}
"""By the name that `[commands.dialect]` gives."""


class _Held(msgspec.Struct):
    """A command as the line remembers it."""

    command: Command
    state: State | None = None
    correlation_id: str = ""
    """Of the request that counts; answers to earlier ones are old news."""
    is_sent: bool = False
    has_new_token: bool = False
    over: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        return self.state in ("applied", "rejected", "superseded", "expired")


class Counters(msgspec.Struct):
    """What passed over the line since the start."""

    sent: int = 0
    tokens: int = 0
    waited: int = 0
    strange: int = 0
    """Answers that belong to no command known here."""


class MakerLine:
    """One maker's vehicles. `report(vehicle_id, report)` takes what is to be told to the hub."""

    def __init__(
        self,
        brand: BrandCommands,
        form: Form,
        transport: Transport,
        report: Callable[[str, Report], Awaitable[None]],
        clock: Clock,
    ) -> None:
        if brand.dialect is None:
            raise ValueError("a brand without a dialect has no maker's line")
        self._dialect, self._wakes = brand.dialect, brand.wakes
        self._form, self._transport, self._report, self._clock = form, transport, report, clock
        self._began_us = clock.now_us()
        self._held: dict[str, _Held] = {}
        self._newest: dict[tuple[str, str], str] = {}
        """Command id by vehicle and lane."""
        self._woken_us: deque[int] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self.counters = Counters()

    def send(self, party: str, tail: str, body: bytes) -> asyncio.Future[bool]:
        """Take what the hub sends down; as `doors.mqtt.Door.send`."""
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        try:
            command = read_command(payload_of(read_down(body)[0]))
        except Refused:
            done.set_result(False)
            return done
        done.set_result(tail == "command" and command.vehicle == party and command.act in ACTS)
        if done.result():
            task = asyncio.create_task(self._take(command), name="maker-command")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return done

    async def heard(self, body: bytes) -> None:
        """Take an answer of the back end."""
        answer = self._form.read(body)
        if answer is None:
            return
        held = self._held.get(answer.command_id)
        if held is None or answer.correlation_id != held.correlation_id or held.is_over:
            self.counters.strange += 1
            return
        if not answer.is_end:
            await self._say(held, self._dialect.process.get(answer.code, "accepted"))
            return
        meaning = self._dialect.returned.get(answer.code, "rejected")
        if meaning == "token":
            await self._again_with_new_token(held)
        elif meaning == "applied":
            await self._say(held, "applied")
        else:
            _log.info("a maker's back end ended a command with its code %s (%s)", answer.code, answer.reason)
            await self._say(held, "rejected", FAILED.code, maker_code=answer.code)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, command: Command) -> None:
        held = self._held.setdefault(command.id, _Held(command))
        if held.is_sent or held.is_over:
            if held.state is not None:
                await self._say(held, held.state)
            return
        held.is_sent = True
        if command.issued_us < self._began_us and not ACTS[command.act].is_goal:
            await self._say(held, "rejected", INTERRUPTED.code)
            return
        await self._overtake(held)
        await self._go(held, is_new_token=False)
        self._forget()

    async def _overtake(self, held: _Held) -> None:
        """The newest version of a lane counts; the one before it is over, whatever the back end still says of it."""
        place = held.command.vehicle, held.command.lane
        before = self._held.get(self._newest.get(place, ""))
        if before is not None and before.command.version > held.command.version:
            await self._say(held, "superseded")
            return
        self._newest[place] = held.command.id
        if before is not None and before is not held and not before.is_over:
            await self._say(before, "superseded")

    async def _go(self, held: _Held, *, is_new_token: bool) -> None:
        """Send the request of a command that still counts."""
        try:
            await self._await_turn(held)
            token = await self._transport.token(is_new=is_new_token)
            if held.is_over:
                return
            if self._clock.now_us() >= held.command.expires_us:
                await self._say(held, "expired")
                return
            service, held.correlation_id, body = self._form.request(held.command, token, self._clock.now_us())
            await self._transport.post(service, body)
            self.counters.sent += 1
        except Refused as error:
            await self._say(held, "rejected", error.code)
        except RocadeError as error:
            _log.warning("a maker's back end was not reached: %s", error.code)
            held.is_sent = False  # the hub's next repetition tries again

    async def _await_turn(self, held: _Held) -> None:
        """Not before its time; and a wake-up waits until the maker's window has room."""
        await self._until(held, held.command.not_before_us)
        if self._wakes is None or held.command.act != "power.wake":
            return
        window_us = int(self._wakes.window_s * 1e6)
        while len(self._woken_us) >= self._wakes.most and not held.is_over:
            self.counters.waited += 1
            await self._until(held, self._woken_us[0] + window_us)
            while self._woken_us and self._woken_us[0] <= self._clock.now_us() - window_us:
                self._woken_us.popleft()
            if self._clock.now_us() >= held.command.expires_us:
                return
        self._woken_us.append(self._clock.now_us())

    async def _until(self, held: _Held, at_us: int) -> None:
        """Until this instant, or the command's end."""
        while (now_us := self._clock.now_us()) < min(at_us, held.command.expires_us) and not held.is_over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(held.over.wait(), min(max((at_us - now_us) / 1e6, 0.001), LOOK_S))

    async def _again_with_new_token(self, held: _Held) -> None:
        self.counters.tokens += 1
        if held.has_new_token:
            await self._say(held, "rejected", LOCKED_OUT.code)
            return
        held.has_new_token = True
        await self._go(held, is_new_token=True)

    async def _say(self, held: _Held, state: State, code: str = "", **result: str) -> None:
        command = held.command
        held.state = state
        if held.is_over:
            held.over.set()
        report = Report(
            id=command.id,
            version=command.version,
            state=state,
            at_us=self._clock.now_us(),
            code=code,
            result=dict(result),
        )
        await self._report(command.vehicle, report)

    def _forget(self) -> None:
        """Those that are over and old; what counts in a lane is kept."""
        if len(self._held) > MOST_KEPT:
            kept = set(self._newest.values())
            old = [id for id, held in self._held.items() if held.is_over and id not in kept]
            for id in old[: MOST_KEPT // 2]:
                del self._held[id]
