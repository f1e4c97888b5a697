"""Replay: real log files through the real door, every row accounted for, ended only when all is acknowledged.

Flow: file -> `tables` or `can_logs` -> batches -> journal (with the file's progress, so that an interrupted replay goes
on where it stopped and sends nothing twice) -> agent -> acknowledged. `speed` 0 sends as fast as the platform takes it,
1 in the log's own time, 10 ten times as fast. A file already sent completely is not sent again unless `again`.
Raises: Refused or Misconfigured for a file or mapping that cannot be used; Unavailable `replay.unreachable` or Refused
`replay.denied` when the platform cannot be reached or refuses the vehicle for longer than `patience_s`.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import msgspec

from rocade.agents.vehicle import batching, can_logs, mapping, tables
from rocade.agents.vehicle.agent import Agent
from rocade.agents.vehicle.journal import Journal
from rocade.agents.vehicle.series import Account, Reading
from rocade.core.catalogue import Catalogue, standard
from rocade.core.errors import Misconfigured, Refused, Unavailable
from rocade.core.ports import Clock, SystemClock, SystemRandom
from rocade.wire.batch import Batch

JOURNAL = "journal.sqlite3"
_AHEAD_BYTES = 32 << 20
"""How much may wait in the journal before the reader waits too."""
_CHUNK = 50
_MOST_DENIED = 3
_MOST_TURNED_AWAY = 6
"""A gateway that starts anew may cut off one or two."""
_MOST_FILE_BYTES = 1 << 30


class Note(msgspec.Struct, frozen=True):
    file: str
    line: int
    what: str
    raw: str


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of every row: rows_read = rows_sent + repaired + refused."""

    files: int
    rows_read: int
    rows_sent: int
    repaired: int
    refused: int
    refused_by_reason: dict[str, int]
    cells_refused: dict[str, int]
    batches: int
    points: int
    """Points in all batches of these files."""
    set_aside: dict[int, str]
    """Batches the platform refused for good, by sequence number, with the reason."""
    already_sent: tuple[str, ...]
    """Files an earlier replay had sent completely; they were read and counted, not sent again."""
    seconds: float
    notes: tuple[Note, ...]

    @property
    def adds_up(self) -> bool:
        return self.rows_read == self.rows_sent + self.repaired + self.refused

    @property
    def exit_status(self) -> int:
        """0 when every row is accounted for and every batch acknowledged."""
        return 0 if self.adds_up and not self.set_aside else 1


class Progress(msgspec.Struct, frozen=True):
    """Given to the progress callback about ten times a second."""

    file: str
    rows_read: int
    batches: int
    acknowledged: int
    points: int
    is_connected: bool
    problem: str


type OnProgress = Callable[[Progress], None]


def replay(
    files: Sequence[Path],
    identity_dir: Path,
    *,
    host: str,
    port: int,
    mapping_file: Path | None = None,
    dbc_file: Path | None = None,
    brand: str = "",
    speed: float = 0,
    again: bool = False,
    journal_file: Path | None = None,
    patience_s: float = 120,
    progress: OnProgress | None = None,
) -> ReplayReport:
    """Send whole files and return when the platform has acknowledged everything."""
    clock, random = SystemClock(), SystemRandom()
    catalogue = standard()
    chosen = _mapping(mapping_file, dbc_file, brand, catalogue)
    with Journal(journal_file or identity_dir / JOURNAL, clock, random) as journal:
        agent = Agent.of_directory(identity_dir, host, port, journal, clock, random, window=20)
        run = Replay(agent, chosen, catalogue, clock, progress=progress, again=again, patience_s=patience_s)
        run.mapping_dir = mapping_file.parent if mapping_file else None
        return asyncio.run(run.files(files, speed))


def _mapping(mapping_file: Path | None, dbc_file: Path | None, brand: str, catalogue: Catalogue) -> mapping.Mapping:
    if mapping_file:
        return mapping.load(mapping_file, catalogue)
    if dbc_file:
        return can_logs.dbc_mapping(dbc_file, brand)
    raise Misconfigured("replay.mapping", "say what the columns mean: --mapping FILE.toml or --dbc FILE")


def read(
    file: Path, chosen: mapping.Mapping, catalogue: Catalogue, clock: Clock, mapping_dir: Path | None = None
) -> tuple[Reading, str]:
    """Read one log; also a digest that names its content and mapping.

    Raises: Refused `replay.file` and what the sources raise.
    """
    content = _content(file)
    digest = hashlib.sha256(content + msgspec.json.encode(chosen)).hexdigest()[:32]
    if chosen.format == "csv":
        return tables.read_table(content, file.name, chosen, catalogue, clock.now_us()), digest
    places = {"the log": file.parent, "the mapping": mapping_dir or file.parent}
    dictionaries = can_logs.load_dictionaries(chosen.log_rule(file), places)
    return can_logs.read_log(content, file, chosen, dictionaries, catalogue, clock.now_us()), digest


def _content(file: Path) -> bytes:
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read(_MOST_FILE_BYTES + 1)
    except (OSError, EOFError) as error:
        raise Refused("replay.file", f"{file.name} cannot be read: {error}") from error
    if len(content) > _MOST_FILE_BYTES:
        raise Refused("replay.file", f"{file.name} is larger than {_MOST_FILE_BYTES >> 20} MiB; split it")
    return content


class Replay:
    """One replay through one agent; `files` may be called once."""

    def __init__(
        self,
        agent: Agent,
        chosen: mapping.Mapping,
        catalogue: Catalogue,
        clock: Clock,
        *,
        progress: OnProgress | None = None,
        again: bool = False,
        patience_s: float = 120,
    ) -> None:
        self.mapping_dir: Path | None = None
        self._agent, self._mapping, self._catalogue, self._clock = agent, chosen, catalogue, clock
        self._progress, self._again, self._patience_s = progress, again, patience_s
        self._account = Account()
        self._file, self._batches, self._points = "", 0, 0
        self._already: list[str] = []
        self._acknowledged_before = agent.journal.acknowledged_batches

    async def files(self, files: Sequence[Path], speed: float = 0) -> ReplayReport:
        began_s = self._clock.monotonic_s()
        aside_before = self._agent.journal.aside()
        first_of_run = self._agent.journal.next_sequence
        running = asyncio.create_task(self._agent.run())
        try:
            for file in files:
                await self._one(file, speed)
            await self._guarded(self._agent.drained())
        finally:
            await self._agent.stop()
            await running
        account = self._account
        aside = {n: why for n, why in self._agent.journal.aside().items() if n not in aside_before or n >= first_of_run}
        return ReplayReport(
            files=len(files),
            rows_read=account.read,
            rows_sent=account.sent,
            repaired=account.repaired,
            refused=account.refused.total(),
            refused_by_reason=dict(account.refused),
            cells_refused=dict(account.cells_refused),
            batches=self._batches,
            points=self._points,
            set_aside=aside,
            already_sent=tuple(self._already),
            seconds=self._clock.monotonic_s() - began_s,
            notes=tuple(Note(note.file, note.line, note.what, note.raw) for note in account.notes),
        )

    async def _one(self, file: Path, speed: float) -> None:
        self._file = file.name
        reading, digest = await asyncio.to_thread(
            read, file, self._mapping, self._catalogue, self._clock, self.mapping_dir
        )
        self._account.add(reading.account)
        batches = await asyncio.to_thread(batching.cut, reading.series)
        source = f"replay:{digest}"
        done = self._agent.journal.position(source)
        if self._again and done == len(batches):
            done = 0
        if batches and done == len(batches):
            self._already.append(file.name)
        self._batches += len(batches)
        self._points += sum(points for _, points in batches)
        if speed > 0:
            await self._paced(batches, done, source, speed)
            return
        for start in range(done, len(batches), _CHUNK):
            chunk = batches[start : start + _CHUNK]
            self._agent.journal.append(chunk, {source: start + len(chunk)})
            self._agent.wake()
            await self._guarded(self._room())

    async def _paced(self, batches: Sequence[tuple[Batch, int]], done: int, source: str, speed: float) -> None:
        """Append each batch when its last sample would have been made."""
        began_s, start_us = self._clock.monotonic_s(), None
        for place in range(done, len(batches)):
            batch, points = batches[place]
            end_us = max(int(clock.times_us[-1]) for clock in batch.clocks)
            start_us = start_us if start_us is not None else min(int(clock.times_us[0]) for clock in batch.clocks)
            due_s = began_s + (end_us - start_us) / 1e6 / speed
            while (wait_s := due_s - self._clock.monotonic_s()) > 0:
                await asyncio.sleep(min(wait_s, 0.1))
                self._tell()
            self._agent.journal.append([(batch, points)], {source: place + 1})
            self._agent.wake()

    async def _room(self) -> None:
        """Return when the journal holds little enough to read on."""
        await asyncio.sleep(0)
        while self._agent.journal.waiting_bytes > _AHEAD_BYTES:  # noqa: ASYNC110 - the journal is plain and has no events
            await asyncio.sleep(0.05)

    async def _guarded(self, work: Coroutine[object, object, None]) -> None:
        """Wait for `work`, telling progress; give up when nothing was acknowledged for `patience_s`."""
        task = asyncio.create_task(work)
        last, since_s = -1, self._clock.monotonic_s()
        try:
            while not task.done():
                await asyncio.wait([task], timeout=0.1)
                self._tell()
                counters = self._agent.counters
                if counters.acknowledged + counters.set_aside != last:
                    last, since_s = counters.acknowledged + counters.set_aside, self._clock.monotonic_s()
                if counters.denied >= _MOST_DENIED:
                    raise Refused("replay.denied", f"the platform refuses this vehicle: {counters.last_problem}")
                if counters.turned_away >= _MOST_TURNED_AWAY:
                    raise Refused(
                        "replay.turned_away",
                        "the platform ends every connection without a word: this vehicle's certificate may be revoked or"
                        " withdrawn; enrol it again",
                    )
                if self._clock.monotonic_s() - since_s > self._patience_s:
                    raise Unavailable(
                        "replay.unreachable",
                        f"nothing was acknowledged for {self._patience_s:.0f} s ({counters.last_problem or 'no answer'});"
                        " what is in the journal goes on at the next replay of the same file",
                    )
            task.result()
        finally:
            task.cancel()

    def _tell(self) -> None:
        if self._progress:
            self._progress(
                Progress(
                    file=self._file,
                    rows_read=self._account.read,
                    batches=self._batches,
                    acknowledged=self._agent.journal.acknowledged_batches - self._acknowledged_before,
                    points=self._points,
                    is_connected=self._agent.is_connected,
                    problem=self._agent.counters.last_problem,
                )
            )
