"""The two protobuf messages of a batch, built in code, and every constant of the format. Source: docs/batch.md.

Array fields are declared `bytes`: on the wire a packed repeated fixed-size field is the same, and numpy reads it in place.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

VERSION = 1
PLAIN, ZSTD = 0, 1

MAX_CARRIED_BYTES = 1 << 20
"""Of a whole message as it travels."""
MAX_PLAIN_BYTES = 8 << 20
"""Of the Columns message after decompression."""
MAX_CLOCKS = 4096
MAX_COLUMNS = 4096
MAX_ROWS = 65_536
"""Of one clock."""
MAX_POINTS = 262_144
"""Of one batch, over all columns; bounds what constant columns can unfold to."""
MAX_WORDS = 65_536
MAX_MARKS = 65_536
MAX_EXPONENT = 15
MAX_START_US = 1 << 53
"""Instants lie in [0, MAX_START_US): 1970 to 2255."""

CONSTANT, INT8, INT16, INT32, INT64, FLOAT32, FLOAT64, BITS = range(8)
TEXT = 16
"""Added to an integer kind: the integers are indexes into the batch's words."""
REGULAR, CLOCK_INT16, CLOCK_INT32, SUBSET = CONSTANT, INT16, INT32, BITS
MARK_CLOCK = 0x8000

HEADER_BYTES = 66
"""All scalars of the envelope, each with its one-byte tag, when written in order and none left out."""

_FIELD = descriptor_pb2.FieldDescriptorProto
_ENVELOPE = (
    ("version", _FIELD.TYPE_FIXED32),
    ("encoding", _FIELD.TYPE_FIXED32),
    ("epoch", _FIELD.TYPE_FIXED64),
    ("sequence", _FIELD.TYPE_FIXED64),
    ("sent_at_us", _FIELD.TYPE_SFIXED64),
    ("start_us", _FIELD.TYPE_SFIXED64),
    ("scheme", _FIELD.TYPE_FIXED32),
    ("scheme_version", _FIELD.TYPE_FIXED32),
    ("body_size", _FIELD.TYPE_FIXED32),
    ("checksum", _FIELD.TYPE_FIXED32),
    ("body", _FIELD.TYPE_BYTES),
    ("vehicle_id", _FIELD.TYPE_STRING),
)
ARRAYS = (
    *("clock_start", "clock_step", "clock_rows", "clock_kind", "clock_i16", "clock_i32", "clock_bits"),
    *("signal", "column_clock", "column_kind", "exponent", "first"),
    *("i8", "i16", "i32", "i64", "f32", "f64", "bits", "words", "mark_at", "mark_row", "mark_flags"),
)
"""Fields of Columns in order of their numbers, from 1."""


def _messages() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="rocade/batch.proto", package="rocade.batch.v1", syntax="proto3")
    envelope = file.message_type.add(name="Envelope")
    for number, (name, form) in enumerate(_ENVELOPE, 1):
        envelope.oneof_decl.add(name=f"_{name}")
        envelope.field.add(
            name=name,
            number=number,
            type=form,
            label=_FIELD.LABEL_OPTIONAL,
            proto3_optional=True,
            oneof_index=number - 1,
        )
    columns = file.message_type.add(name="Columns")
    for number, name in enumerate(ARRAYS, 1):
        is_text = name == "words"
        columns.field.add(
            name=name,
            number=number,
            type=_FIELD.TYPE_STRING if is_text else _FIELD.TYPE_BYTES,
            label=_FIELD.LABEL_REPEATED if is_text else _FIELD.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    names = ("rocade.batch.v1.Envelope", "rocade.batch.v1.Columns")
    first, second = (message_factory.GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)
    return first, second


Envelope, Columns = _messages()
