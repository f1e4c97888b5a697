"""Mutated batches: whatever comes, the answer is a code or a sound decoding, and memory stays bounded.

Structure-aware: besides flipping bytes, single fields of the envelope and of the body are replaced and the checksum is
made right again, so that every check behind it is reached.
"""

from __future__ import annotations

import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Refused
from rocade.wire.batch import CODES, Batch, Clock, Column, Mark, check_many, decode_many, json_form, layout, pack

T0_US = 1_760_000_000_000_000
POSITIONS = np.array([1, 2], np.uint32)


def seed_batch(*, compress: bool) -> bytes:
    clocks = [Clock(T0_US + np.arange(12) * 1_000_000), Clock(T0_US + np.cumsum(np.arange(12)) * 1000)]
    present = np.arange(12) % 3 > 0
    columns = [
        Column(1, 0, np.arange(12) / 1e7),
        Column(3, 0, np.full(12, 5)),
        Column(4, 1, ["a", "b", "c", "a"] * 3),
        Column(5, 1, np.arange(12) % 2 == 0),
        Column(6, 0, np.arange(12) ** 9, present),
        Column(7, 0, np.sqrt(np.arange(12.0))),
        Column(8, 1, np.arange(12) * 1000),
    ]
    return pack(Batch(1, 1, T0_US, clocks, columns, [Mark(1, 64, clock=1), Mark(2, 4, column=3)]), compress=compress)


PLAIN, SQUEEZED = seed_batch(compress=False), seed_batch(compress=True)
ARRAYS = [name for name in layout.ARRAYS if name != "words"]
numbers = st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 2**16, 2**31, 2**32 - 1]))


def refilled(fields: dict[str, bytes], words: list[str] | None = None) -> bytes:
    """The plain seed with some arrays replaced, checksum and sizes right."""
    envelope = layout.Envelope.FromString(PLAIN)
    columns = layout.Columns.FromString(envelope.body)
    for name, value in fields.items():
        setattr(columns, name, value)
    if words is not None:
        del columns.words[:]
        columns.words.extend(words)
    body = columns.SerializeToString(deterministic=True)
    envelope.body, envelope.body_size, envelope.checksum = body, len(body), zlib.crc32(body)
    return bytes(envelope.SerializeToString(deterministic=True))


def examine(*bodies: bytes) -> None:
    """Sound or refused, and both readers of one mind; a good neighbour is not harmed."""
    together = [PLAIN, *bodies, PLAIN]
    checked, decoded = check_many(together, POSITIONS), decode_many(together, POSITIONS)
    assert checked.reasons[0] is checked.reasons[-1] is decoded.reasons[0] is decoded.reasons[-1] is None
    assert {*checked.reasons, *decoded.reasons} <= {None, *CODES}
    for gate, worker in zip(checked.reasons, decoded.reasons, strict=True):
        assert worker in {gate, "batch.words"}
    columns, clocks = decoded.columns, decoded.clocks
    count = columns.integer_count
    assert columns.rows[:count].sum() == len(columns.ints)
    assert columns.rows[count:].sum() == len(columns.floats)
    assert decoded.points.sum() == columns.rows.sum()
    assert (columns.rows == clocks.rows[columns.clock]).all()
    assert (decoded.mark_row < columns.rows[decoded.mark_column]).all()
    for column in np.flatnonzero(columns.batch == len(decoded.index) - 1).tolist():
        columns.values_of(column)
        clocks.times_of(int(columns.clock[column]))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([PLAIN, SQUEEZED]), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_flipped_bytes_are_refused_or_sound(seed: bytes, flips: list[tuple[int, int]]) -> None:
    body = bytearray(seed)
    for place, value in flips:
        body[place % len(body)] = value
    examine(bytes(body))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([PLAIN, SQUEEZED]), st.integers(0, 4000), st.binary(max_size=8))
def test_truncated_and_lengthened_batches_are_refused_or_sound(seed: bytes, length: int, tail: bytes) -> None:
    examine(seed[: length % (len(seed) + 1)] + tail)


@settings(max_examples=400, deadline=None)
@given(
    st.dictionaries(st.sampled_from(ARRAYS), st.one_of(st.binary(max_size=64), st.none()), max_size=3),
    st.dictionaries(st.sampled_from(ARRAYS), st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=3),
    st.one_of(st.none(), st.lists(st.text(max_size=3), max_size=4)),
)
def test_replaced_and_nudged_arrays_are_refused_or_sound(
    whole: dict[str, bytes | None], nudged: dict[str, tuple[int, int]], words: list[str] | None
) -> None:
    columns = layout.Columns.FromString(layout.Envelope.FromString(PLAIN).body)
    fields: dict[str, bytes] = {name: value or b"" for name, value in whole.items()}
    for name, (place, value) in nudged.items():
        data = bytearray(fields.get(name, getattr(columns, name)))
        if data:
            data[place % len(data)] = value
            fields[name] = bytes(data)
    examine(refilled(fields, words))


@settings(max_examples=150, deadline=None)
@given(numbers, numbers, st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_any_envelope_is_refused_or_sound(encoding: int, size: int, epoch: int, sent_us: int, start_us: int) -> None:
    envelope = layout.Envelope.FromString(SQUEEZED)
    envelope.encoding = encoding if encoding % 3 else 1
    envelope.body_size = size if size % 2 else envelope.body_size
    envelope.epoch, envelope.sent_at_us, envelope.start_us = epoch, sent_us, start_us
    examine(bytes(envelope.SerializeToString(deterministic=True)))


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
        max_leaves=8,
    ),
    st.sampled_from(["version", "epoch", "sequence", "sent_at_us", "clocks", "columns", "scheme", "vehicle_id", ""]),
)
def test_any_json_is_refused_or_sound(value: Any, field: str) -> None:
    import msgspec

    good: dict[str, Any] = {
        "version": 1,
        "epoch": "a1",
        "sequence": 1,
        "sent_at_us": T0_US,
        "clocks": [{"times_us": [T0_US, T0_US + 1]}],
        "columns": [{"signal": "Vehicle.Speed", "clock": 0, "values": [1, None]}],
    }
    body = msgspec.json.encode(good | {field: value} if field else value)
    try:
        batch = json_form.to_batch(json_form.parse(body), lambda _: json_form.Meaning(3))
    except Refused as error:
        codes = {error.code}
    else:
        codes = {*decode_many([pack(batch)]).reasons}
    assert codes <= {None, *CODES}


def bomb(plain_bytes: int, *, streamed: bool) -> bytes:
    """A frame that unfolds to many bytes; streamed frames do not state their size."""
    compressor = zstandard.ZstdCompressor(level=19)
    if not streamed:
        return compressor.compress(bytes(plain_bytes))
    stream = compressor.compressobj()
    return stream.compress(bytes(plain_bytes)) + stream.flush()


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("declared", [1, 1000, layout.MAX_PLAIN_BYTES, layout.MAX_PLAIN_BYTES + 1, 1 << 31])
def test_a_zstd_bomb_never_takes_more_than_is_allowed(declared: int, streamed: bool) -> None:
    frame = bomb(256 << 20, streamed=streamed)
    assert len(frame) < layout.MAX_CARRIED_BYTES
    envelope = layout.Envelope.FromString(SQUEEZED)
    envelope.body, envelope.body_size, envelope.checksum = frame, declared, zlib.crc32(frame)
    body = envelope.SerializeToString()
    tracemalloc.start()
    try:
        assert check_many([body]).reasons[0] in {"batch.size", "batch.compression"}
        assert tracemalloc.get_traced_memory()[1] < 3 * layout.MAX_PLAIN_BYTES
    finally:
        tracemalloc.stop()


def test_constant_columns_cannot_unfold_without_bound() -> None:
    rows = layout.MAX_ROWS
    clock = Clock(T0_US + np.arange(rows) * 1000)
    columns = [Column(n, 0, np.full(rows, 5)) for n in range(4)]
    fits, too_many = (
        pack(Batch(1, 1, T0_US, [clock], columns)),
        pack(Batch(1, 1, T0_US, [clock], [*columns, columns[0]])),
    )
    assert check_many([fits, too_many]).reasons == [None, "batch.limits"]
    decoded = decode_many([fits] * 50, max_points=1_000_000)
    assert decoded.taken == 3
    assert len(decoded.columns.ints) <= 1_000_000


@pytest.mark.parametrize(
    ("bits", "expected"),
    [(0b1101_1011_0110, None), (0b1_0101_1011_0110, "batch.clocks"), (0b1111_1011_0110, "batch.clocks")],
    ids=["eight ones", "a one in the padding", "nine ones"],
)
def test_a_subset_has_as_many_ones_as_rows_and_none_in_the_padding(bits: int, expected: str | None) -> None:
    assert check_many([refilled({"clock_bits": bits.to_bytes(2, "little")})]).reasons == [expected]


def test_a_message_above_the_limit_is_refused_unread() -> None:
    assert check_many([bytes(layout.MAX_CARRIED_BYTES + 1)]).reasons == ["batch.too_large"]


def test_positions_must_not_travel_as_float32() -> None:
    columns = layout.Columns.FromString(layout.Envelope.FromString(PLAIN).body)
    signal = np.frombuffer(columns.signal, "<u4").copy()
    at = list(columns.column_kind).index(layout.FLOAT64)
    kind = bytearray(columns.column_kind)
    kind[at] = layout.FLOAT32
    f32 = np.frombuffer(columns.f64, "<f8").astype("<f4").tobytes()
    for number, expected in ((1, "batch.position_f32"), (9, None)):
        signal[at] = number
        body = refilled({"signal": signal.tobytes(), "column_kind": bytes(kind), "f32": f32, "f64": b""})
        assert check_many([body], POSITIONS).reasons == [expected]
