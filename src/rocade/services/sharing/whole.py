"""Everything at once: all that is kept of a vehicle in its owner's time, as one zip of open formats that explains itself.

    index.html, style.css       what lies here, in words; opens in any browser, without a network
    data/<class>.parquet|csv|json   every sample of a kind of data, doubtful ones too, with unit, class and origin
    derived/<name>.json|csv     what the platform worked out (trips, battery health, ...): marked so, apart
    agreements/<name>.json|csv  owner, consents, contracts and their logs, drivers, who looked, what was ordered

Streamed: memory is bounded by an hour of a signal, nothing is written to a disk here. The files of one kind hold the same
samples; each is a pass of its own over the history. Source: Regulation (EU) 2023/2854 Art. 4.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Any, cast

import msgspec

from rocade.core.catalogue import Catalogue
from rocade.core.ports import Clock
from rocade.fabric.history import History
from rocade.services.sharing import files
from rocade.services.sharing.records import about
from rocade.services.telemetry import Sink
from rocade.services.telemetry import store as history_store
from rocade.services.telemetry.store import Part

DAY_US = 86_400_000_000
FORMS = ("parquet", "csv", "json")

type Rows = Sequence[Mapping[str, Any]]
type Reader = Callable[[int], Awaitable[Rows]]
"""`await reader(ref)`: rows of one kind about a vehicle, plain values only."""
type DerivedReader = Callable[[int, Sequence[str]], Awaitable[Rows | None]]
"""`await reader(ref, classes)`: the same for who may see these classes; None = they do not suffice, there is no file."""


class SignalLine(msgspec.Struct):
    """What the index says of one signal."""

    name: str
    unit: str
    origin: str
    samples: int = 0
    first_us: int = 0
    last_us: int = 0


class Kind(msgspec.Struct):
    """A kind of data with its files' signals."""

    name: str
    signals: list[SignalLine]

    @property
    def samples(self) -> int:
        return sum(one.samples for one in self.signals)


class Table(msgspec.Struct):
    """A file of rows that are no samples."""

    name: str
    rows: int


class Contents(msgspec.Struct):
    """What the index is written from."""

    made_us: int
    kinds: list[Kind] = []
    derived: list[Table] = []
    agreements: list[Table] = []


class Whole:
    """Makes the zip. `derived` and `agreements` are readers by name of what other services keep."""

    def __init__(
        self, history: History, catalogue: Catalogue, clock: Clock, derived: Mapping[str, DerivedReader],
        agreements: Mapping[str, Reader],
    ) -> None:  # fmt: skip
        self._history = history
        self._catalogue = catalogue
        self._clock = clock
        self._derived = derived
        self._agreements = agreements

    async def zipped(
        self, ref: int, classes: Sequence[str], index: Callable[[Contents], dict[str, bytes]], *, is_owner: bool
    ) -> AsyncIterator[bytes]:
        """The zip as it is written; `index` makes the files a reader opens first. Who is no owner gets no agreements."""
        contents = Contents(self._clock.now_us(), [], [], [])
        out = Sink()
        with zipfile.ZipFile(cast("IO[bytes]", out), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as zipped:
            async for piece in self._samples(zipped, out, ref, classes, contents):
                yield piece
            for name, derived in self._derived.items():
                if (rows := await derived(ref, classes)) is not None:
                    contents.derived.append(Table(name, _put(zipped, f"derived/{name}", rows)))
                    yield out.taken()
            for name, reader in self._agreements.items() if is_owner else ():
                contents.agreements.append(Table(name, _put(zipped, f"agreements/{name}", await reader(ref))))
                yield out.taken()
            for name, content in index(contents).items():
                zipped.writestr(name, content)
        yield out.taken()

    async def _samples(
        self, zipped: zipfile.ZipFile, out: Sink, ref: int, classes: Sequence[str], contents: Contents
    ) -> AsyncIterator[bytes]:
        until_us = self._clock.now_us() + DAY_US
        kept = await history_store.signals_of(self._history, ref, 0, until_us)
        for name in classes:
            signals = [one for one in kept if self._catalogue.class_of(one) == name]
            if not signals:
                continue
            lines = {one: self._line(one) for one in signals}
            contents.kinds.append(Kind(name, list(lines.values())))
            for form in FORMS:
                parts = history_store.samples(self._history, [ref], signals, 0, until_us)
                counted = _counted(parts, lines) if form == FORMS[0] else parts
                with _member(zipped, f"data/{name}.{form}", is_packed=form == "parquet") as member:
                    async for piece in files.write(counted, form, lambda one: about(self._catalogue, one)):
                        member.write(piece)
                        yield out.taken()

    def _line(self, signal: int) -> SignalLine:
        known = about(self._catalogue, signal)
        return SignalLine(known.name, known.unit, known.origin)


async def _counted(parts: AsyncIterator[Part], lines: Mapping[int, SignalLine]) -> AsyncIterator[Part]:
    async for part in parts:
        line, times = lines[part[1]], part[2].time_us
        line.first_us = min(line.first_us or int(times[0]), int(times[0]))
        line.last_us = max(line.last_us, int(times[-1]))
        line.samples += len(times)
        yield part


@contextmanager
def _member(zipped: zipfile.ZipFile, name: str, *, is_packed: bool) -> Iterator[Any]:
    """A file of the zip to write to; what is packed already is only stored."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
    with zipped.open(info, "w", force_zip64=True) as member:
        yield member


def _put(zipped: zipfile.ZipFile, name: str, rows: Rows) -> int:
    """Rows as JSON and as CSV; how many."""
    zipped.writestr(f"{name}.json", msgspec.json.format(msgspec.json.encode(rows), indent=1))
    text = io.StringIO()
    fields = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    zipped.writestr(f"{name}.csv", text.getvalue())
    return len(rows)


def _cell(value: Any) -> Any:
    """A spreadsheet must not take a text for a formula."""
    if isinstance(value, list | tuple | dict):
        value = msgspec.json.encode(value).decode()
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@") else value
