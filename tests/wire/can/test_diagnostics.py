"""Diagnostic answers of several frames come back whole or not at all; trouble codes are read from them."""

from __future__ import annotations

import numpy as np
import pytest

from rocade.wire.can import Frames, reassemble
from rocade.wire.can.trouble_codes import read_codes


def log(*rows: tuple[int, int, str]) -> Frames:
    """(stamp_us, id, payload in hex) -> frames."""
    data = np.zeros((len(rows), 8), np.uint8)
    for place, (_, _, payload) in enumerate(rows):
        content = bytes.fromhex(payload)
        data[place, : len(content)] = np.frombuffer(content, np.uint8)
    stamps, ids = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], np.uint32)
    lengths = np.array([len(bytes.fromhex(row[2])) for row in rows], np.uint16)
    return Frames(stamps, ids, np.zeros(len(rows), np.uint8), lengths, data)


def test_interleaved_answers_are_put_together() -> None:
    found = reassemble(
        log(
            (0, 0x7EC, "100A490211223344"), (1, 0x7ED, "0341000000000000"), (2, 0x7E4, "3000000000000000"),
            (3, 0x7EC, "2155667788AAAAAA"),
        )
    )  # fmt: skip
    assert [found.frames.data[row, : found.frames.length[row]].tobytes().hex() for row in range(2)] == [
        "410000",
        "49021122334455667788",
    ]
    assert (found.singles, found.firsts, found.consecutives, found.flow_controls, found.complete) == (1, 1, 1, 1, 1)
    assert (found.first_row.tolist(), found.last_row.tolist()) == ([1, 0], [1, 3])


@pytest.mark.parametrize(
    "rows",
    [
        [(0, 1, "100A490211223344"), (1, 1, "2255667788AAAAAA")],
        [(0, 1, "1014490211223344"), (1, 1, "2155667788AAAAAA")],
        [(0, 1, "100A490211223344"), (2_000_000, 1, "2155667788AAAAAA")],
        [(0, 1, "2155667788AAAAAA")],
        [(0, 1, "00")],
        [(0, 1, "")],
    ],
    ids=["wrong count", "cut short", "too late", "no first frame", "empty single", "no byte"],
)
def test_a_broken_transfer_gives_nothing(rows: list[tuple[int, int, str]]) -> None:
    found = reassemble(log(*rows))
    assert len(found.frames) == found.complete == 0


@pytest.mark.parametrize(
    ("payload", "codes"),
    [
        ("4300", []),
        ("43020301C123", ["P0301", "U0123"]),
        ("5902FF", []),
        ("59020996030008", ["B1603-00"]),
        ("43020301", None),
        ("5902FF0102", None),
        ("4100", None),
        ("", None),
    ],
)
def test_trouble_codes(payload: str, codes: list[str] | None) -> None:
    assert read_codes(bytes.fromhex(payload)) == codes
