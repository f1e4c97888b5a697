"""A drop folder: somebody writes a file, it is taken whole or not at all, and an answer beside it says what was wrong.

Flow of a file: it is seen, has an own name (not `.part`, `.tmp`, hidden) and keeps size and time over two looks -> it is
claimed by renaming (two agents at one folder take it once) -> read by the format of its ending and the resource of its name
(`price-change-2026-11.csv`) -> handed on, all lines or none -> renamed to `.taken` or `.refused`, with `NAME.answer.csv`
beside it, written under another name and renamed. What a crash leaves claimed is taken up again at the next start.

A CSV whose last line does not end, or XML that stops in the middle, is left alone while it may still grow and refused when it
has not for `patience_s`. What the receiver cannot take now (Unavailable) stays and is tried again.
"""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Clock
from rocade.wire.resources import RESOURCES, Reading, Resource, from_csv, from_json

_log = logging.getLogger(__name__)

SIZE_LIMIT_BYTES = 64 << 20
UNFINISHED = (".part", ".tmp", ".filepart", ".crdownload", ".swp")
OURS = (".answer.csv", ".taken", ".refused", ".working")
SETTLE_S = 2.0
PATIENCE_S = 60.0
_HALF = {"formats.csv.unfinished", "formats.csv.quotes", "formats.csv.header", "xml.malformed", "formats.json"}
"""Codes that a file cut off in the middle gives."""


class Given(msgspec.Struct, frozen=True):
    """What one file brought. `lines` are the numbers of its lines, or 1, 2, 3... where the format has none."""

    name: str
    resource: Resource
    rows: Sequence[Any]
    lines: Sequence[int]


class Accepted(msgspec.Struct, frozen=True):
    """What became of one row: a reference the sender can ask for, or a code and a message."""

    reference: str = ""
    code: str = ""
    message: str = ""


type Accept = Callable[[Given], Awaitable[Sequence[Accepted]]]
"""All rows of a file at once: an `Accepted` each. Raises: Refused (of the whole file), Unavailable (try again)."""


class DropFolder:
    """One folder. `await look()` takes what is ready and returns how many files were answered; call it every second."""

    def __init__(
        self,
        directory: Path,
        accept: Accept,
        clock: Clock,
        *,
        encoding: str = "utf-8",
        settle_s: float = SETTLE_S,
        patience_s: float = PATIENCE_S,
        resources: Sequence[str] = tuple(RESOURCES),
        keeps: bool = True,
    ) -> None:
        """`keeps`: what was answered stays beside its answer; False leaves its name alone, on a disk of somebody else."""
        self._directory = directory
        self._accept = accept
        self._clock = clock
        self._encoding = encoding
        self._settle_s = settle_s
        self._patience_s = patience_s
        self._resources = [RESOURCES[name] for name in resources]
        self._keeps = keeps
        self._seen: dict[str, tuple[int, int, float]] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in directory.glob(".*.working"):  # claimed by a process that ended
            left.replace(directory / left.name.removeprefix(".").removesuffix(".working"))

    async def look(self) -> int:
        """Take every file that has settled."""
        answered = 0
        names = sorted(entry.name for entry in os.scandir(self._directory) if entry.is_file(follow_symlinks=False))
        for name in names:
            if is_own_name(name) and self._is_settled(name):
                answered += await self.take(name)
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
        return answered

    def _is_settled(self, name: str) -> bool:
        """Same size and time as `settle_s` ago."""
        try:
            status = (self._directory / name).stat(follow_symlinks=False)
        except FileNotFoundError:
            return False
        now_s, is_as = self._clock.monotonic_s(), (status.st_size, status.st_mtime_ns)
        seen = self._seen.get(name)
        if seen is None or seen[:2] != is_as:
            self._seen[name] = (*is_as, now_s)
            return self._settle_s <= 0
        return now_s - seen[2] >= self._settle_s

    async def take(self, name: str, *, is_whole: bool = False) -> bool:
        """Take one file now; whether it was answered. `is_whole`: its writer said that it is, so nothing is waited for."""
        claimed = self._directory / f".{name}.working"
        try:
            (self._directory / name).replace(claimed)
        except FileNotFoundError:
            return False
        try:
            outcome = await self._work(name, claimed)
            if not is_whole and outcome[2] and outcome[2] <= _HALF and self._may_grow(name):
                claimed.replace(self._directory / name)
                return False
        except Unavailable as error:
            _log.warning("a dropped file waits: %s", error.code)
            claimed.replace(self._directory / name)
            return False
        is_taken, answer, _ = outcome
        self._answer(name, answer)
        answered = self._directory / f"{name}{'.taken' if is_taken else '.refused'}"
        if self._keeps:
            claimed.replace(answered)
        else:
            answered.write_bytes(b"")
            claimed.unlink()
        self._seen.pop(name, None)
        return True

    def _may_grow(self, name: str) -> bool:
        seen = self._seen.get(name)
        return seen is not None and self._clock.monotonic_s() - seen[2] < self._patience_s

    async def _work(self, name: str, file: Path) -> tuple[bool, bytes, set[str]]:
        """(taken, answer file, codes)."""
        try:
            resource = self._resource(name)
            reading = await asyncio.to_thread(self._read, name, file, resource)
            if reading.faults:
                rows = [(fault.line, "refused", fault.code, fault.message, "") for fault in reading.faults]
                rows += [(line, "not taken", "", "other lines of the file are wrong", "") for line in reading.lines]
                return False, _csv(sorted(rows)), {fault.code for fault in reading.faults}
            accepted = await self._accept(Given(name, resource, reading.rows, reading.lines))
        except Unavailable:
            raise
        except RocadeError as error:
            says = error.message if isinstance(error, Refused) else "the set-up here is not as it should be"
            return False, _csv([(0, "refused", error.code, says, "")]), {error.code}
        rows = [
            (line, "refused" if one.code else "taken", one.code, one.message, one.reference)
            for line, one in zip(reading.lines, accepted, strict=True)
        ]
        return not any(one.code for one in accepted), _csv(rows), set()

    def _resource(self, name: str) -> Resource:
        for resource in self._resources:
            if name.lower().startswith(resource.name):
                return resource
        known = ", ".join(one.name for one in self._resources)
        raise Refused("drop.name", f"the name of a file begins with what it holds: {known}")

    def _read(self, name: str, file: Path, resource: Resource) -> Reading:
        if file.stat().st_size > SIZE_LIMIT_BYTES:
            raise Refused("drop.size", f"a dropped file may have {SIZE_LIMIT_BYTES} bytes")
        content = file.read_bytes()
        ending = name.lower().rpartition(".")[2]
        if ending in {"csv", "txt"}:
            return from_csv(content, resource, self._encoding)
        if ending not in {"xml", "json"}:
            raise Refused("drop.ending", "files end with .csv, .xml or .json")
        rows = _from_xml(content, resource) if ending == "xml" else from_json(content, resource)
        return Reading(list(rows), list(range(1, len(rows) + 1)), [])

    def _answer(self, name: str, content: bytes) -> None:
        partial = self._directory / f"{name}.answer.csv.part"
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self._directory / f"{name}.answer.csv")


def _from_xml(content: bytes, resource: Resource) -> Sequence[Any]:
    """Raises: Refused `drop.ending` where the library for XML is not installed (an agent does without)."""
    try:
        from rocade.wire.resources.xml_form import from_xml
    except ImportError:
        raise Refused("drop.ending", "XML is not read here, for lack of lxml; write CSV or JSON") from None
    return from_xml(content, resource)


def is_own_name(name: str) -> bool:
    """Whether a file has its final name: not hidden, not in the making, none of ours."""
    return not name.startswith((".", "~")) and not name.lower().endswith((*UNFINISHED, *OURS))


def _csv(rows: Sequence[tuple[object, ...]]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=";", lineterminator="\r\n")
    writer.writerow(("line", "outcome", "code", "message", "reference"))
    writer.writerows(rows)
    return file.getvalue().encode()
