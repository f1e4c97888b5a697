"""Writes docs/batch-vectors.json: batches as hexadecimal with what they say, for people who implement docs/batch.md.

Run `python tools/batch_vectors.py` after a change of the format; a test decodes the file and compares.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

from rocade.wire.batch import Batch, Clock, Column, Mark, decode_many, layout, pack

T0_US = 1_760_000_000_000_000
LATITUDE, LONGITUDE, SPEED, GEAR = 1, 2, 3, 4
PATH = Path(__file__).parent.parent / "docs" / "batch-vectors.json"


def sound() -> dict[str, tuple[bytes, str]]:
    """Batches every reader must accept, with a word on each."""
    second = T0_US + np.arange(4) * 1_000_000
    minute = T0_US + np.arange(60) * 1_000_000

    def one(column: Column, times: Any = second) -> Batch:
        return Batch(0xA1, 1, T0_US + 10_000_000, [Clock(times)], [column])

    clocks = [Clock(second), Clock(np.array([T0_US, T0_US + 250_000, T0_US + 1_750_000]))]
    mixed = [
        Column(SPEED, 0, np.array([12.5, 12.6, 12.6, 300.0])),
        Column(GEAR, 0, ["D", "D", "N", "R"]),
        Column(5, 0, np.array([True, False, False, True])),
        Column(6, 1, np.array([1, 1 << 40, -(1 << 62)])),
        Column(7, 0, np.array([7, 0, 0, 9]), present=np.array([True, False, False, True])),
    ]
    marks = [Mark(2, 64, clock=0), Mark(0, 1, column=3)]
    repeated = np.round(np.sin(np.arange(60) / 9) * 20, 1)
    compressible = Batch(0xA1, 2, T0_US, [Clock(minute)], [Column(n, 0, repeated) for n in range(1, 4)])
    return {
        "spent": (pack(Batch(0xA1, 9, T0_US)), "no columns: number 9 has no content and never will"),
        "constant": (pack(one(Column(SPEED, 0, np.array([50.5] * 4)))), "kind 0: only `first`"),
        "int8": (pack(one(Column(SPEED, 0, np.array([12.5, 12.6, 12.4, 12.4])))), "deltas 0, 1, -2, 0 in tenths"),
        "longitude 1555.63": (
            pack(one(Column(LONGITUDE, 0, np.array([-6.8586350, -6.8586351, 1555.6333, -6.8586352])))),
            "in units of 1e-7 the third value does not fit 32 bits: int64 deltas",
        ),
        "float64": (pack(one(Column(SPEED, 0, np.array([0.1 + 0.2, float("inf"), -1e300, 5e-324])))), "raw float64"),
        "mixed": (
            pack(Batch((1 << 64) - 1, 3, T0_US + 10_000_000, clocks, mixed, marks, 17, 2, "VF3CCHMZ6GY012345"), compress=False),
            "words, bits, an irregular clock, a subset clock, marks, a vehicle id",
        ),
        "zstd": (pack(compressible), "body is one zstd frame"),
        "unknown field": (pack(Batch(0xA1, 9, T0_US)) + b"\xfa\x07\x02hi", "field 127 of a later version is kept and passed over"),
    }  # fmt: skip


def broken() -> dict[str, bytes]:
    """Batches every reader must refuse, by the code Rocade gives."""
    good = pack(Batch(0xA1, 1, T0_US, [Clock(T0_US + np.arange(4))], [Column(SPEED, 0, np.array([1, 2, 3, 5]))]))
    envelope = layout.Envelope.FromString(good)
    columns = layout.Columns.FromString(envelope.body)

    def changed(**fields: Any) -> bytes:
        other = layout.Envelope()
        other.CopyFrom(envelope)
        for name, value in fields.items():
            setattr(other, name, value)
        return bytes(other.SerializeToString(deterministic=True))

    def rebuilt(**fields: Any) -> bytes:
        other = layout.Columns()
        other.CopyFrom(columns)
        for name, value in fields.items():
            setattr(other, name, value)
        body = other.SerializeToString(deterministic=True)
        return changed(body=body, body_size=len(body), checksum=zlib.crc32(body))

    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(64 << 20))
    return {
        "batch.malformed": good[:-3],
        "batch.version": changed(version=2),
        "batch.identity": changed(sequence=0),
        "batch.encoding": changed(encoding=9),
        "batch.size": changed(encoding=1, body=bomb, body_size=64 << 20, checksum=zlib.crc32(bomb)),
        "batch.checksum": changed(checksum=envelope.checksum ^ 1),
        "batch.compression": changed(encoding=1),
        "batch.arrays": rebuilt(signal=b""),
        "batch.clocks": rebuilt(clock_rows=bytes(4)),
        "batch.columns": rebuilt(column_kind=b"\x08"),
        "batch.lengths": rebuilt(i8=b"\x00\x01"),
        "batch.marks": rebuilt(mark_at=b"\x00\x00", mark_row=b"\x04\x00\x00\x00", mark_flags=b"\x01"),
        "batch.words": rebuilt(column_kind=b"\x11"),
    }


def described(body: bytes) -> dict[str, Any]:
    """What a batch says, in plain words of JSON; floats as their shortest decimal text."""
    decoded = decode_many([body])
    columns, clocks = decoded.columns, decoded.clocks
    return {
        "epoch": f"{int(decoded.epoch[0]):016x}",
        "sequence": int(decoded.sequence[0]),
        "sent_at_us": int(decoded.sent_at_us[0]),
        "scheme": [int(decoded.scheme[0]), int(decoded.scheme_version[0])],
        "vehicle_id": decoded.vehicle_ids[0],
        "columns": [
            {
                "signal": int(columns.signal[column]),
                "times_us": clocks.times_of(int(columns.clock[column])).tolist(),
                "values": [
                    repr(value) if isinstance(value, float) else value for value in list(_plain(columns.values_of(column)))
                ],
                "marks": [
                    [int(row), int(flags)]
                    for at, row, flags in zip(decoded.mark_column, decoded.mark_row, decoded.mark_flags, strict=True)
                    if at == column
                ],
            }
            for column in np.argsort(columns.order).tolist()
        ],
    }  # fmt: skip


def _plain(values: Any) -> list[Any]:
    return values if isinstance(values, list) else list(values.tolist())


def vectors() -> dict[str, Any]:
    """The whole file."""
    return {
        "accepted": [
            {"name": name, "note": note, "hex": body.hex(), "says": described(body)}
            for name, (body, note) in sound().items()
        ],
        "refused": [{"code": code, "hex": body.hex()} for code, body in broken().items()],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1) + "\n", "utf-8")
