"""GVRET logs with all their habits are read in whole columns; a row that cannot be read is named, never guessed."""

from __future__ import annotations

import pytest

from rocade.core.errors import Refused
from rocade.wire.can import read

HEAD = "Time Stamp,ID,Extended,Bus,LEN,D1,D2,D3,D4,D5,D6,D7,D8"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_frames_keep_order_stamps_and_bytes(end: str) -> None:
    rows = [
        HEAD,
        "-364210,00000121,false,1,8,8F,07,33,04,00,00,00,FF",
        "5,1ABCDEF0,true,0,2,0a,ff",
        "",
        "3,7DF,false,0,0",
    ]
    reading = read((end.join(rows)).encode())
    frames = reading.frames
    assert frames.stamp_us.tolist() == [-364210, 5, 3]
    assert frames.id.tolist() == [0x121, 0x1ABCDEF0 | 1 << 31, 0x7DF]
    assert (frames.bus.tolist(), frames.length.tolist()) == ([1, 0, 0], [8, 2, 0])
    assert frames.data[0].tobytes() == bytes.fromhex("8F073304000000FF")
    assert frames.data[1].tobytes() == bytes.fromhex("0AFF000000000000")
    assert (reading.line.tolist(), reading.refused, reading.rows_read) == ([2, 3, 5], {}, 3)


def test_an_extra_column_and_trailing_commas_do_not_matter() -> None:
    text = HEAD.replace("Bus", "Dir,Bus") + "\n22213513,00000111,false,Rx,2,8,1,02,00,00,00,00,00,00,\n"
    frames = read(text.encode()).frames
    assert (frames.bus.tolist(), frames.data[0, :2].tolist()) == ([2], [1, 2])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("x,1,false,0,1,00", "time stamp"),
        ("1,xyz,false,0,1,00", "CAN id"),
        ("1,800,false,0,1,00", "CAN id"),
        ("1,20000000,true,0,1,00", "CAN id"),
        ("1,1,false,300,1,00", "bus"),
        ("1,1,false,0,9,00", "LEN"),
        ("1,1,false,0,2,00", "byte"),
        ("1,1,false,0,1,100", "byte"),
        ("1,1,false,0,1,zz", "byte"),
        ("1,1,false", "missing"),
        ("99999999999999999999,1,false,0,1,00", "time stamp"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_alone(row: str, reason: str) -> None:
    reading = read(f"{HEAD}\n1,1,false,0,1,0A\n{row}\n2,2,false,0,1,0B\n".encode())
    assert reading.frames.id.tolist() == [1, 2]
    assert list(reading.refused) == [3]
    assert reason in reading.refused[3]
    assert reading.rows_read == 3


@pytest.mark.parametrize("text", [b"", b"\n", b"Date,Time,Soc\n1,2,3\n", b"\x00\xff\xfe"])
def test_another_kind_of_file_is_refused(text: bytes) -> None:
    with pytest.raises(Refused) as refused:
        read(text)
    assert refused.value.code == "can.gvret.malformed"
