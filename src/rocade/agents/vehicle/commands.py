"""Commands in the car: proven, in order, done exactly once, never after their deadline; what became of them is told until heard.

Flow: `receive` (a body from `down/command`) -> `command_check` proves it -> the newest version of its lane counts: an older one is
answered `superseded`, the same one by its last report -> it is in the book before anything is done -> `tick` acts when its time
has come and the vehicle is awake (`waking` is told first): BEGUN goes to disk, the actuator acts, the outcome goes to disk with
its report -> `owed` reports go up until `settle`.
Power lost in between: what was BEGUN is asked of the actuator (`done`): if it did it, it is applied; if not, a lasting state
(charge limit, locked doors) is set now; a moment (horn) of which nobody knows is not repeated but told as `command.interrupted`.
Time: an act whose deadline may have come, by this clock's doubt, is `expired`; a clock that lags is moved up by what is signed.
Source: docs/decisions/0048-vehicle-commands.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from rocade.agents.vehicle.command_book import BEGUN, WAITING, Book, Lane, report_of
from rocade.agents.vehicle.command_check import Checker, SignerCache, claimed
from rocade.agents.vehicle.journal import Journal
from rocade.core.errors import Refused, Unavailable
from rocade.core.ports import Clock
from rocade.trust.identity import directory
from rocade.wire.commands import ACTS, INTERRUPTED, USED, Command, Report, State, check

DOUBT_US = 2_000_000
"""How wrong this vehicle's clock may be. An act is not begun less than this before its deadline."""
AWAKE_LOOK_US = 250_000
RETRY_US = 2_000_000


class Actuator(Protocol):
    """The machine that obeys. Calls must not block."""

    def is_awake(self) -> bool:
        """Whether it can act now; if not, this call wakes it up."""
        ...

    def apply(self, command: Command) -> None:
        """Do it, and remember lane and version with the effect where the machine can.

        Raises: Refused (it will not: the code says why), Unavailable (not now, and nothing was done; asked again).
        """
        ...

    def done(self, lane: str) -> int | None:
        """The version whose effect the machine carries or carried out last in this lane; 0 = none, None = it does not remember."""
        ...


class Executor:
    """The commands of one vehicle. `tick` is to be called at `due_us`, and when the vehicle woke up."""

    def __init__(
        self, book: Book, checker: Checker, actuator: Actuator, clock: Clock, doubt_us: int = DOUBT_US
    ) -> None:
        self.book, self._checker, self._actuator = book, checker, actuator
        self._clock, self._doubt_us = clock, doubt_us
        self.due_us: int | None = None
        """When `tick` has something to do next; None = when a command comes."""
        self.refused = 0
        """Commands that proved nothing, since the start."""

    @classmethod
    def of_directory(cls, identity_dir: Path, journal: Journal, actuator: Actuator, clock: Clock) -> Executor:
        """The executor of an enrolled vehicle, over its identity directory and its journal."""
        live = directory.LiveIssuers(identity_dir)
        checker = Checker(directory.load_identity(identity_dir).id, SignerCache(lambda: live.table))
        return cls(Book(journal.connection), checker, actuator, clock)

    def receive(self, body: bytes) -> None:
        """Take a command; when this returns it may be acknowledged. Raises: Unavailable `journal.full`: it may not."""
        now_us = self._now_us()
        try:
            command = self._checker.check(body, now_us)
        except Refused as error:
            self._turn_away(body, error.code)
            return
        known = self.book.newest(command.lane)
        if known is None or command.version > known.command.version:
            self._take(command, known)
        elif command.id == known.command.id:
            self.book.owe(_latest(known))
        elif command.version == known.command.version:
            self.book.owe(self._answer(command, "rejected", USED.code))
        else:
            self.book.owe(self._answer(command, "superseded", newest=known.command.version))

    def tick(self) -> None:
        """Do what is due. Raises: Unavailable `journal.full`."""
        self.due_us = None
        for lane in self.book.open_lanes():
            self._look_at(lane)

    def _take(self, command: Command, known: Lane | None) -> None:
        """Into the book, with what becomes of the one before it."""
        now_us, reports = self._now_us(), list[Report]()
        if known is not None and known.is_open:
            reports.append(report_of(known, "superseded", now_us, newest=command.version))
        lane = self._judge(command)
        reports.append(_latest(lane))
        self.book.put(lane, reports)
        if lane.state == BEGUN:
            self._act(lane)
        elif lane.is_open:
            self._look_at(lane)

    def _judge(self, command: Command) -> Lane:
        """What becomes of a new command: over at once, to be done now (BEGUN, so that it is written once), or waiting."""
        now_us = self._now_us()
        if self._is_late(command):
            return Lane(command, "expired", "", False, now_us)
        try:
            if command.act in ACTS and ACTS[command.act].lane != command.lane:
                raise Refused("command.malformed", "the act belongs into another lane")
            check(command.act, command.parameters, now_us)
        except Refused as error:
            return Lane(command, "rejected", error.code, False, now_us)
        is_ready = now_us >= command.not_before_us and self._actuator.is_awake()
        return Lane(command, BEGUN if is_ready else WAITING, "", False, now_us)

    def _look_at(self, lane: Lane) -> None:
        command, now_us = lane.command, self._now_us()
        if lane.state == BEGUN and self._recover(lane):
            return
        if self._is_late(command):
            self._end(lane, "expired")
        elif now_us < command.not_before_us:
            self._again_at(min(command.not_before_us, command.expires_us - self._doubt_us))
        elif not self._actuator.is_awake():
            if not lane.is_waking:
                lane = Lane(command, lane.state, "", True, now_us)
                self.book.put(lane, [report_of(lane, "waking", now_us)])
            self._again_at(now_us + AWAKE_LOOK_US)
        else:
            self._act(lane)

    def _act(self, lane: Lane) -> None:
        if lane.state == WAITING:
            lane = Lane(lane.command, BEGUN, "", lane.is_waking, self._now_us())
            self.book.put(lane, [])
        if self._is_late(lane.command):  # the disk may have taken its time
            self._end(lane, "expired")
            return
        try:
            self._actuator.apply(lane.command)
        except Refused as error:
            self._end(lane, "rejected", error.code)
        except Unavailable:
            self.book.put(Lane(lane.command, WAITING, "", lane.is_waking, self._now_us()), [])
            self._again_at(self._now_us() + RETRY_US)
        else:
            self._end(lane, "applied")

    def _recover(self, lane: Lane) -> bool:
        """Whether a command that was begun before is over, by what the machine remembers."""
        done = self._actuator.done(lane.command.lane)
        if done == lane.command.version:
            self._end(lane, "applied")
        elif done is None and (not ACTS[lane.command.act].is_goal or self._is_late(lane.command)):
            self._end(lane, "rejected", INTERRUPTED.code)
        else:
            return False
        return True

    def _end(self, lane: Lane, state: State, code: str = "") -> None:
        ended = Lane(lane.command, state, code, lane.is_waking, self._now_us())
        self.book.put(ended, [_latest(ended)])

    def _turn_away(self, body: bytes, code: str) -> None:
        """Say what was wrong, if it says who it is; nothing unproven changes a lane."""
        self.refused += 1
        command = claimed(body)
        if command is None:
            return
        known = self.book.newest(command.lane)
        is_known = known is not None and known.command.id == command.id
        self.book.owe(_latest(known) if known and is_known else self._answer(command, "rejected", code))

    def _answer(self, command: Command, state: State, code: str = "", **result: int) -> Report:
        return Report(
            id=command.id, version=command.version, state=state, at_us=self._now_us(), code=code, result=dict(result)
        )

    def _is_late(self, command: Command) -> bool:
        return self._now_us() + self._doubt_us >= command.expires_us

    def _now_us(self) -> int:
        return max(self._clock.now_us(), self.book.newest_issue_us)

    def _again_at(self, at_us: int) -> None:
        self.due_us = at_us if self.due_us is None else min(self.due_us, at_us)


def _latest(lane: Lane) -> Report:
    """What a lane's state is called in a report."""
    match lane.state:
        case "applied" | "rejected" | "expired" as state:
            return report_of(lane, state, lane.at_us)
    return report_of(lane, "waking" if lane.is_waking else "accepted", lane.at_us)
