"""A vehicle's executor in a process of its own, to be killed: `python command_agent_process.py FOLDER`, commands in hex by line.

Its hardware is a file that outlives it: each act is one line, written at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rocade.agents.vehicle.command_book import Book
from rocade.agents.vehicle.command_check import Checker, SignerCache
from rocade.agents.vehicle.commands import Executor
from rocade.agents.vehicle.journal import Journal
from rocade.core.ports import SystemClock, SystemRandom
from rocade.trust.identity.directory import load_issuers
from rocade.wire.commands import Command


class Hardware:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def is_awake(self) -> bool:
        return True

    def done(self, lane: str) -> int:
        lines = [line.split() for line in self._file.read_text().splitlines()]
        return max((int(version) for where, version, _ in lines if where == lane), default=0)

    def apply(self, command: Command) -> None:
        os.write(self._out, f"{command.lane} {command.version} {command.id}\n".encode())


def main(folder: Path, vehicle: str) -> None:
    clock, random = SystemClock(), SystemRandom()
    issuers = load_issuers(folder / "region")
    journal = Journal(folder / "car.sqlite3", clock, random)
    checker = Checker(vehicle, SignerCache(lambda: issuers))
    executor = Executor(Book(journal.connection), checker, Hardware(folder / "did"), clock)
    executor.tick()
    print("up", flush=True)
    for line in sys.stdin.buffer:
        executor.receive(bytes.fromhex(line.decode()))
        print("took", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
