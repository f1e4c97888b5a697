"""Whole-column decoding gives what a slow bit-by-bit reading and cantools give, for any signal anywhere in a payload."""

from __future__ import annotations

import struct

import cantools
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.wire.can import Dbc, Frames, Message, Signal, decode, parse


def frames_of(payloads: list[bytes], number: int = 1, bus: int = 0) -> Frames:
    width = max(8, *(len(payload) for payload in payloads))
    data = np.zeros((len(payloads), width), np.uint8)
    for row, payload in enumerate(payloads):
        data[row, : len(payload)] = np.frombuffer(payload, np.uint8)
    count = len(payloads)
    lengths = np.array([len(payload) for payload in payloads], np.uint16)
    return Frames(np.arange(count), np.full(count, number, np.uint32), np.full(count, bus, np.uint8), lengths, data)


def slow(signal: Signal, payload: bytes) -> int:
    """Bit by bit, from the definition of the format."""
    bits = []
    byte, bit = divmod(signal.start, 8)
    for _ in range(signal.length):
        bits.append(payload[byte] >> bit & 1)
        if signal.is_big_endian:
            byte, bit = (byte + 1, 7) if bit == 0 else (byte, bit - 1)
        else:
            byte, bit = (byte + 1, 0) if bit == 7 else (byte, bit + 1)
    if not signal.is_big_endian:
        bits.reverse()
    value = int("".join(map(str, bits)), 2)
    return value - (1 << signal.length) if signal.is_signed and bits[0] else value


@st.composite
def signals(draw: st.DrawFn) -> tuple[Signal, int]:
    width = draw(st.sampled_from([1, 3, 8, 9, 12, 55]))
    length = draw(st.integers(1, min(64, 8 * width)))
    first = draw(st.integers(0, 8 * width - length))
    big = draw(st.booleans())
    start = first // 8 * 8 + 7 - first % 8 if big else first
    return Signal("S", start, length, big, draw(st.booleans())), width


@settings(max_examples=400, deadline=None)
@given(signals(), st.randoms(use_true_random=False))
def test_any_signal_equals_a_bit_by_bit_reading(case: tuple[Signal, int], random: object) -> None:
    signal, width = case
    payloads = [random.randbytes(width) for _ in range(5)] + [bytes(width), b"\xff" * width]  # type: ignore[attr-defined]
    (column,) = decode(frames_of(payloads), Dbc({1: Message(1, "M", width, "X", (signal,))}))
    assert column.raw.tolist() == [slow(signal, payload) for payload in payloads]


def test_multiplexed_and_short_frames_carry_only_what_they_carry() -> None:
    dbc = parse(
        'BO_ 1 A: 8 X\n SG_ Top M : 0|8@1+ (1,0) [0|0] "" X\n SG_ One m1 : 8|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ Two m2 : 8|8@1+ (1,0) [0|0] "" X\n SG_ Late : 56|8@1+ (1,0) [0|0] "" X\n'
    )
    payloads = [bytes([1, 11, 0, 0, 0, 0, 0, 9]), bytes([2, 22]), bytes([1]), bytes([2, 33, 0, 0, 0, 0, 0, 8])]
    found = {
        column.signal.name: (column.rows.tolist(), column.raw.tolist()) for column in decode(frames_of(payloads), dbc)
    }
    assert found == {
        "Top": ([0, 1, 2, 3], [1, 2, 1, 2]),
        "One": ([0], [11]),
        "Two": ([1, 3], [22, 33]),
        "Late": ([0, 3], [9, 8]),
    }


def test_nested_multiplexers_need_both_switches() -> None:
    dbc = parse(
        'BO_ 1 A: 8 X\n SG_ Top M : 0|8@1+ (1,0) [0|0] "" X\n SG_ Sub m2M : 8|8@1+ (1,0) [0|0] "" X\n'
        ' SG_ Leaf m1 : 16|8@1+ (1,0) [0|0] "" X\nSG_MUL_VAL_ 1 Leaf Sub 1-3;\nSG_MUL_VAL_ 1 Sub Top 2-2;\n'
    )
    payloads = [bytes([2, 3, 7, 0, 0, 0, 0, 0]), bytes([1, 3, 8, 0, 0, 0, 0, 0]), bytes([2, 4, 9, 0, 0, 0, 0, 0])]
    leaf = next(column for column in decode(frames_of(payloads), dbc) if column.signal.name == "Leaf")
    assert (leaf.rows.tolist(), leaf.raw.tolist()) == ([0], [7])


def test_floats_and_unsigned_64_bits_are_kept() -> None:
    dbc = parse(
        'BO_ 1 A: 16 X\n SG_ F : 0|32@1- (2,1) [0|0] "" X\n SG_ D : 39|64@0- (1,0) [0|0] "" X\n'
        'BO_ 2 B: 8 X\n SG_ U : 0|64@1+ (1,0) [0|0] "" X\nSIG_VALTYPE_ 1 F : 1;\nSIG_VALTYPE_ 1 D : 2;\n'
    )
    payload = struct.pack("<f", 1.5) + struct.pack(">d", -0.1) + bytes(4)
    values = {column.signal.name: column.values.tolist() for column in decode(frames_of([payload]), dbc)}
    assert values == {"F": [4.0], "D": [-0.1]}
    (wide,) = decode(frames_of([b"\xff" * 8], number=2), dbc)
    assert wide.raw.tolist() == [2**64 - 1]


def test_values_with_decimal_factors_are_the_nearest_floats() -> None:
    dbc = parse('BO_ 1 A: 8 X\n SG_ S : 0|16@1+ (0.1,-40) [0|0] "" X\n')
    (column,) = decode(frames_of([bytes([n % 256, n // 256, 0, 0, 0, 0, 0, 0]) for n in range(3000)]), dbc)
    assert column.values.tolist() == [float(f"{n - 400}e-1") for n in range(3000)]
    scaled = column.scaled()
    assert scaled is not None
    assert (scaled[0][:3].tolist(), scaled[1]) == ([-400, -399, -398], -1)


def test_each_bus_has_its_own_dictionary() -> None:
    one, two = (parse(f'BO_ 1 A: 8 X\n SG_ {name} : 0|8@1+ (1,0) [0|0] "" X\n') for name in ("Here", "There"))
    frames = frames_of([bytes([5] + [0] * 7)] * 2)
    frames.bus[1] = 1
    assert [(c.bus, c.signal.name, c.rows.tolist()) for c in decode(frames, {0: one, 1: two})] == [
        (0, "Here", [0]),
        (1, "There", [1]),
    ]


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=8, max_size=8))
def test_cantools_reads_the_same(payload: bytes) -> None:
    text = (
        'VERSION ""\nNS_ :\nBS_:\nBU_: X\nBO_ 1 A: 8 X\n SG_ A1 : 3|13@1- (0.5,3) [0|0] "" X\n'
        ' SG_ A2 : 23|11@0+ (1,0) [0|0] "" X\n SG_ A3 : 35|29@1+ (0.01,0) [0|0] "" X\n'
    )
    theirs = cantools.database.load_string(text).decode_message(1, payload)
    ours = {column.signal.name: column.values[0] for column in decode(frames_of([payload]), parse(text))}
    assert {name: float(value) for name, value in ours.items()} == {name: float(f"{value:.9g}") if isinstance(value, float) else value for name, value in theirs.items()}  # fmt: skip
