"""A hub's signing desk and a machine that remembers what was done to it, for tests of the vehicle's side of commands."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chance import Seeded
from tests.clocks import SetClock

from rocade.agents.vehicle.command_book import Book
from rocade.agents.vehicle.command_check import Checker, SignerCache
from rocade.agents.vehicle.commands import DOUBT_US, Executor
from rocade.agents.vehicle.journal import Journal
from rocade.core.errors import RocadeError
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.authority.region import Region, create_region
from rocade.trust.identity import IssuerTable, envelope
from rocade.trust.identity.keys import PrivateKey, new_key
from rocade.wire.commands import ACTS, COMMAND_TYPE, SERVICE, Command, Report, encode, encode_down, read_report

VEHICLE = "VF1AAAAA000000001"
MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Signing:
    """A key and the chain that proves whose it is."""

    key: PrivateKey
    chain_pem: str


class Desk:
    """Signs commands as the platform does; `credential(name)` makes other signers."""

    def __init__(self, directory: Path, clock: SetClock) -> None:
        self.region: Region = create_region(directory, "eu", "test.rocade", SystemClock(), SystemRandom())
        self.clock = clock
        self.signer = self.credential(SERVICE)
        self._number = 0

    def issuers(self) -> IssuerTable:
        return self.region.issuers

    def credential(self, name: str, kind: str = "service") -> Signing:
        key = new_key()
        issued = self.region.issue(key.public_key(), self.region.identity(kind, name))
        return Signing(key, issued.chain_pem.decode())

    def command(self, act: str, parameters: dict[str, Any] | None = None, **more: Any) -> Command:
        """The next command; versions of all lanes grow together."""
        self._number += 1
        fields: dict[str, Any] = {
            "id": f"{self._number:032x}", "vehicle": VEHICLE, "lane": ACTS[act].lane if act in ACTS else "other",
            "version": self._number, "act": act, "parameters": parameters or {}, "issued_us": self.clock.now_us(),
            "expires_us": self.clock.now_us() + 10 * MINUTE_US,
        }  # fmt: skip
        return Command(**(fields | more))

    def seal(self, command: Command, signer: Signing | None = None, payload_type: str = COMMAND_TYPE) -> bytes:
        """The body that goes down."""
        by = signer or self.signer
        sealed = envelope.seal(payload_type, encode(command), by.key)
        return encode_down(sealed, by.chain_pem)


class PowerCut(BaseException):
    """The vehicle loses power here."""


class Machine:
    """Obeys, and keeps a list of what was done; survives the agent. `remembers`: knows the last version of each lane."""

    def __init__(self, *, remembers: bool = True) -> None:
        self.did: list[Command] = []
        self.remembers = remembers
        self.awake = True
        self.refuses: dict[str, RocadeError] = {}
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self._newest: dict[str, int] = {}

    def is_awake(self) -> bool:
        return self.awake

    def apply(self, command: Command) -> None:
        self.before()
        if command.act in self.refuses:
            raise self.refuses[command.act]
        self.did.append(command)
        self._newest[command.lane] = command.version
        self.after()

    def done(self, lane: str) -> int | None:
        return self._newest.get(lane, 0) if self.remembers else None

    @property
    def acts(self) -> list[str]:
        return [command.act for command in self.did]


class Car:
    """A vehicle whose agent may be killed and started again over the same file and machine."""

    def __init__(self, desk: Desk, clock: SetClock, path: Path | None, *, remembers: bool = True) -> None:
        self.desk, self.clock, self.path = desk, clock, path
        self.machine = Machine(remembers=remembers)
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.path, self.clock, Seeded())
        checker = Checker(VEHICLE, SignerCache(self.desk.issuers))
        self.executor = Executor(Book(self.journal.connection), checker, self.machine, self.clock, DOUBT_US)
        self.executor.tick()

    def kill(self) -> None:
        """As a power cut: nothing is closed in good order, what was not committed is gone."""
        connection: sqlite3.Connection = self.journal.connection
        if connection.in_transaction:
            connection.rollback()
        connection.close()

    def take(self, command: Command) -> list[tuple[str, str]]:
        """Receive a command; all reports since the last look."""
        self.executor.receive(self.desk.seal(command))
        return self.told()

    def reports(self) -> list[Report]:
        """What is owed, then settled."""
        owed = self.executor.book.owed(0, 100)
        for number, _ in owed:
            self.executor.book.settle(number)
        return [read_report(body) for _, body in owed]

    def told(self) -> list[tuple[str, str]]:
        return [(report.state, report.code) for report in self.reports()]
