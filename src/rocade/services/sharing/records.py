"""What one block of the worker holds of one vehicle, as bytes that wait and as what a third party reads.

Flow in: rows of the history's table as they are stored (`chunks.TABLE`, one vehicle's) -> Arrow's stream form, compressed.
Flow out: unfolded -> the signals a contract shares -> per signal name, unit, class, origin, and every sample with instant,
value and quality flags: the same values, at the same rate, as the history has them. What is withheld is named, not shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from rocade.core.catalogue import Catalogue
from rocade.core.data_classes import bit
from rocade.services.sharing.model import Contract, Terms
from rocade.services.sharing.origin import origin_of
from rocade.services.telemetry import chunks

_ZSTD = pa.ipc.IpcWriteOptions(compression="zstd")
_KEPT = [name for name, _ in chunks.TABLE.columns if name not in ("vehicle", "n", "total", "low", "high")]
"""Sums are not sent: who has the samples can make them."""


class About(msgspec.Struct, frozen=True):
    """A signal as a reader needs it."""

    name: str
    unit: str
    data_class: str
    origin: str


class Series(msgspec.Struct, frozen=True):
    """All samples of one signal in one record; parallel arrays in order of time."""

    signal: int
    about: About
    samples: chunks.Samples


class Scope:
    """Which signals go out under a contract, with its terms, while `classes` may."""

    def __init__(self, contract: Contract, terms: Terms, catalogue: Catalogue) -> None:
        self._contract = contract
        self._named = frozenset(contract.signals)
        self._withheld = frozenset(terms.withheld)
        self._catalogue = catalogue

    def shows(self, signal: int, classes: int) -> bool:
        if self._named and signal not in self._named:
            return False
        return signal not in self._withheld and bool(bit(self._catalogue.class_of(signal)) & classes)

    def withheld(self, classes: int) -> list[str]:
        """Names of what would go out if it were no trade secret."""
        of = (one for one in self._withheld if not self._named or one in self._named)
        return sorted(self.about(one).name for one in of if bit(self._catalogue.class_of(one)) & classes)

    def about(self, signal: int) -> About:
        return about(self._catalogue, signal)


@lru_cache(maxsize=16_384)
def about(catalogue: Catalogue, signal: int) -> About:
    """A signal nobody has named is called by its number."""
    found = catalogue.get(signal)
    if found is None:
        return About(str(signal), "", "other", "raw")
    return About(found.name, found.unit, found.data_class, origin_of(found.name))


def packed(rows: pa.Table) -> bytes:
    """One vehicle's rows as they wait."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.select(_KEPT).schema, options=_ZSTD) as writer:
        writer.write_table(rows.select(_KEPT).combine_chunks())
    found: bytes = sink.getvalue().to_pybytes()
    return found


def series(body: bytes, scope: Scope, classes: int) -> Iterator[Series]:
    """What goes out of one record, by signal."""
    rows = pa.ipc.open_stream(body).read_all()
    signals = rows.column("signal").to_numpy()
    is_text = chunks.lengths(rows.column("s")) > 0
    shown = np.array([scope.shows(int(one), classes) for one in np.unique(signals)], bool)
    wanted = np.isin(signals, np.unique(signals)[shown])
    for kind in (~is_text, is_text):
        places = np.flatnonzero(kind & wanted)
        if len(places):
            order = places[np.lexsort((rows.column("t0_us").to_numpy()[places], signals[places]))]
            yield from _split(chunks.samples_of(rows.take(order)), signals[order], scope)


def _split(
    samples: chunks.Samples, signals: np.ndarray[tuple[int], np.dtype[np.uint32]], scope: Scope
) -> Iterator[Series]:
    of_sample = signals[samples.row]
    edges = [0, *(np.flatnonzero(np.diff(of_sample)) + 1).tolist(), len(of_sample)]
    for begin, end in pairwise(edges):
        at = slice(begin, end)
        one = chunks.Samples(samples.time_us[at], samples.value[at], samples.quality[at], samples.row[at])
        if np.any(np.diff(one.time_us) < 0):
            one = one.between(0, 1 << 62)
        yield Series(int(of_sample[begin]), scope.about(int(of_sample[begin])), one)


def written(contract: Contract, number: int, arrived_us: int, found: list[Series], withheld: list[str]) -> bytes:
    """A record as JSON: what server-sent events and webhooks carry. A number that is not finite is null."""
    return orjson.dumps(
        {
            "contract": contract.id,
            "version": contract.version,
            "number": str(number),
            "arrived_us": arrived_us,
            "series": [
                {
                    "signal": one.about.name,
                    "unit": one.about.unit,
                    "data_class": one.about.data_class,
                    "origin": one.about.origin,
                    "time_us": np.ascontiguousarray(one.samples.time_us),
                    "value": _values(one.samples),
                    "quality": np.ascontiguousarray(one.samples.quality),
                }
                for one in found
            ],
            "withheld": withheld,
        },
        option=orjson.OPT_SERIALIZE_NUMPY,
    )


def _values(samples: chunks.Samples) -> object:
    return samples.value.tolist() if samples.value.dtype == object else np.ascontiguousarray(samples.value)


def count(found: list[Series]) -> int:
    return sum(len(one.samples.time_us) for one in found)


def samples_in(rows: pa.Table) -> int:
    """Samples of all rows, not unfolded."""
    return sum(int(chunks.lengths(rows.column(name)).sum()) for name in (*chunks.NUMBERS, "s"))
