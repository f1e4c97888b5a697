"""Samples as a stream of bytes: CSV, JSON, Arrow or Parquet. Memory is bounded by one part (an hour of one signal) or,
for Parquet, one row group.

Flow: parts from `store.samples` -> one Arrow table each -> the format's writer -> bytes as they come.
Columns: `vehicle` and `signal` where more than one is asked for (named by the caller, who knows who may see which),
`time` (RFC 3339, UTC, microseconds), `value`, `quality` (core.signals.Quality). CSV and JSON write numbers and texts in
`value`; Arrow and Parquet have `value` (float64) and `text` (string), one of which is null. A number that is not finite is
null in JSON. Refuses: other formats (`telemetry.export.format`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from rocade.core.errors import Refused
from rocade.services.telemetry.chunks import Samples
from rocade.services.telemetry.store import Part

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
ROW_GROUP = 131_072


async def export(
    parts: AsyncIterator[Part],
    form: str,
    vehicle_names: Mapping[int, str] | None = None,
    signal_names: Mapping[int, str] | None = None,
) -> AsyncIterator[bytes]:
    """Write parts in `form`. Raises: Refused `telemetry.export.format`."""
    if form not in MEDIA_TYPES:
        raise Refused("telemetry.export.format", f"formats are {', '.join(MEDIA_TYPES)}")
    make: Callable[[pa.Schema], Any] = {"csv": _Csv, "json": _Json, "arrow": _Arrow, "parquet": _Parquet}[form]
    names = (("vehicle", vehicle_names), ("signal", signal_names))
    named = [(column, known) for column, known in names if known is not None]
    writer = make(pa.schema([*((column, pa.string()) for column, _ in named), *_FIELDS]))
    async for vehicle, signal, samples in parts:
        keys = {"vehicle": vehicle, "signal": signal}
        writer.write(_table(samples, [known.get(keys[column], "") for column, known in named], writer.schema))
        if data := writer.taken():
            yield data
    writer.close()
    if data := writer.taken():
        yield data


_FIELDS = (
    pa.field("time", pa.timestamp("us", "UTC")),
    pa.field("value", pa.float64()),
    pa.field("text", pa.string()),
    pa.field("quality", pa.uint8()),
)


def _table(samples: Samples, keys: list[str], schema: pa.Schema) -> pa.Table:
    size = len(samples.time_us)
    is_text = samples.value.dtype == object
    columns = [pa.repeat(pa.scalar(key, pa.string()), size) for key in keys]
    columns.append(pa.array(samples.time_us).cast(schema.field("time").type))
    columns.append(pa.nulls(size, pa.float64()) if is_text else pa.array(samples.value))
    columns.append(pa.array(samples.value, pa.string()) if is_text else pa.nulls(size, pa.string()))
    columns.append(pa.array(samples.quality))
    return pa.Table.from_arrays(columns, schema=schema)


class Sink:
    """A file that is emptied as it is written."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Nothing waits here."""

    def taken(self) -> bytes:
        data, self._pieces = b"".join(self._pieces), []
        return data


class _Arrow:
    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._sink = Sink()
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, "w"), schema)

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table)

    def taken(self) -> bytes:
        return self._sink.taken()

    def close(self) -> None:
        self._writer.close()


class _Parquet(_Arrow):
    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._sink = Sink()
        self._waiting: list[pa.Table] = []
        self._writer = pyarrow.parquet.ParquetWriter(pa.PythonFile(self._sink, "w"), schema, compression="zstd")

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        if sum(waiting.num_rows for waiting in self._waiting) >= ROW_GROUP:
            self._emit()

    def close(self) -> None:
        self._emit()
        super().close()

    def _emit(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=ROW_GROUP)
            self._waiting = []


class _Csv(_Arrow):
    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._sink = Sink()
        self._sink.write(",".join(name for name in schema.names if name != "text").encode() + b"\n")

    def write(self, table: pa.Table) -> None:
        is_text = table.column("value").null_count == table.num_rows
        shown = table.drop_columns(["value" if is_text else "text"])
        shown = shown.set_column(shown.schema.get_field_index("time"), "time", _rfc3339(table.column("time")))
        try:
            self._append(shown, "none")
        except pa.ArrowInvalid:  # a text holds a comma, a quote or a line end
            self._append(shown, "needed")

    def _append(self, table: pa.Table, quoting: str) -> None:
        options = pyarrow.csv.WriteOptions(include_header=False, quoting_style=quoting)
        lines = pa.BufferOutputStream()
        pyarrow.csv.write_csv(table, lines, options)
        self._sink.write(lines.getvalue())

    def close(self) -> None:
        """CSV has no end."""


class _Json(_Arrow):
    """One array of objects."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._sink = Sink()
        self._begun = False

    def write(self, table: pa.Table) -> None:
        known = {name: table.column(name)[0].as_py() for name in self.schema.names[: -len(_FIELDS)]}
        begin = (orjson.dumps(known)[:-1] + b"," * bool(known)).decode() + '"time":"'
        columns = _rfc3339(table.column("time")), _literals(table), table.column("quality").cast(pa.string())
        lines = pc.binary_join_element_wise(
            begin, columns[0], '","value":', columns[1], ',"quality":', columns[2], "},", ""
        )
        self._sink.write(b",\n" if self._begun else b"[")
        self._sink.write(b"".join(memoryview(part.buffers()[2]) for part in lines.chunks)[:-1])
        self._begun = True

    def close(self) -> None:
        self._sink.write(b"]\n" if self._begun else b"[]\n")


def _rfc3339(instants: pa.ChunkedArray) -> pa.ChunkedArray:
    """2026-11-21T08:00:00.000000Z of each instant; sixteen times faster than a format string."""
    plain = instants.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(plain, 10, 11, "T"), "Z", "")


def _literals(table: pa.Table) -> pa.ChunkedArray:
    """The values as JSON writes them; a number that is not finite is null."""
    numbers = table.column("value")
    if numbers.null_count < table.num_rows:
        return pc.if_else(pc.is_finite(numbers), numbers.cast(pa.string()), "null")
    texts = table.column("text").combine_chunks().dictionary_encode()
    known = pa.array([orjson.dumps(text).decode() for text in texts.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([known.take(texts.indices)])
