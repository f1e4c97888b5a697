"""Samples with their marks as Parquet, CSV or JSON: what a contract's bulk reads and an owner's download are written in.

Columns: `signal`, `time` (RFC 3339, UTC, microseconds; a timestamp in Parquet), `value` (number), `text`, `quality` (flags of
core.signals.Quality), `unit`, `data_class`, `origin` (raw | preprocessed | derived). One writer for each form, fed part by part,
so that memory is bounded by one part (an hour of one signal) or one row group.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from rocade.core.errors import Refused
from rocade.services.sharing.records import About
from rocade.services.telemetry import Sink
from rocade.services.telemetry.store import Part

MEDIA_TYPES = {
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
ROW_GROUP = 131_072
SCHEMA = pa.schema(
    [
        pa.field("signal", pa.dictionary(pa.int32(), pa.string())),
        pa.field("time", pa.timestamp("us", "UTC")),
        pa.field("value", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("quality", pa.uint8()),
        pa.field("unit", pa.dictionary(pa.int32(), pa.string())),
        pa.field("data_class", pa.dictionary(pa.int32(), pa.string())),
        pa.field("origin", pa.dictionary(pa.int32(), pa.string())),
    ]
)


async def write(parts: AsyncIterator[Part], form: str, about: Callable[[int], About]) -> AsyncIterator[bytes]:
    """Bytes as they come. Raises: Refused `sharing.form`."""
    writer = writer_of(form)
    async for _, signal, samples in parts:
        writer.write(table(about(signal), samples))
        if data := writer.taken():
            yield data
    writer.close()
    if data := writer.taken():
        yield data


def writer_of(form: str) -> Any:
    """Raises: Refused `sharing.form`."""
    if form not in MEDIA_TYPES:
        raise Refused("sharing.form", f"forms are {', '.join(MEDIA_TYPES)}")
    return {"parquet": _Parquet, "csv": _Csv, "json": _Json}[form]()


def table(about: About, samples: Any) -> pa.Table:
    size, is_text = len(samples.time_us), samples.value.dtype == object
    columns = [
        _repeated(about.name, size),
        pa.array(samples.time_us).cast(SCHEMA.field("time").type),
        pa.nulls(size, pa.float64()) if is_text else pa.array(samples.value),
        pa.array(samples.value, pa.string()) if is_text else pa.nulls(size, pa.string()),
        pa.array(samples.quality),
        *(_repeated(word, size) for word in (about.unit, about.data_class, about.origin)),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _repeated(word: str, size: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), size), pa.array([word]))


class _Parquet:
    def __init__(self) -> None:
        self._sink = Sink()
        self._waiting: list[pa.Table] = []
        self._rows = 0
        self._writer = pa.parquet.ParquetWriter(pa.PythonFile(self._sink, "w"), SCHEMA, compression="zstd")

    def write(self, rows: pa.Table) -> None:
        self._waiting.append(rows)
        self._rows += rows.num_rows
        if self._rows >= ROW_GROUP:
            self._emit()

    def _emit(self) -> None:
        if self._waiting:
            found = pa.concat_tables(self._waiting).unify_dictionaries()
            self._writer.write_table(found, row_group_size=ROW_GROUP)
            self._waiting, self._rows = [], 0

    def close(self) -> None:
        self._emit()
        self._writer.close()

    def taken(self) -> bytes:
        return self._sink.taken()


class _Csv:
    """Texts and numbers in columns of their own, as in Parquet."""

    def __init__(self) -> None:
        self._sink = Sink()
        self._sink.write(",".join(SCHEMA.names).encode() + b"\n")

    def write(self, rows: pa.Table) -> None:
        plain = rows.set_column(1, "time", _instants(rows))
        plain = pa.table({name: _plain(plain.column(name)) for name in SCHEMA.names})
        pyarrow.csv.write_csv(plain, self._sink, pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed"))

    def close(self) -> None:
        """CSV has no end."""

    def taken(self) -> bytes:
        return self._sink.taken()


class _Json:
    """An array with an object a signal and hour: what is the same for all its samples once, then columns."""

    def __init__(self) -> None:
        self._sink = Sink()
        self._begun = False

    def write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        known = {name: rows.column(name)[0].as_py() for name in ("signal", "unit", "data_class", "origin")}
        is_text = rows.column("value").null_count == rows.num_rows
        values = rows.column("text" if is_text else "value").to_pylist()
        columns = {
            "time": _instants(rows).to_pylist(),
            "value": values,
            "quality": rows.column("quality").to_pylist(),
        }
        self._sink.write((b",\n" if self._begun else b"[\n") + orjson.dumps(known | columns))
        self._begun = True

    def close(self) -> None:
        self._sink.write(b"\n]\n" if self._begun else b"[]\n")

    def taken(self) -> bytes:
        return self._sink.taken()


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()) if pa.types.is_dictionary(column.type) else column


def _instants(rows: pa.Table) -> pa.ChunkedArray:
    plain = rows.column("time").cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(plain, 10, 11, "T"), "Z", "")
