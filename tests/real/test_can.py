"""Every DBC file people published loads, and the Kona logs decode to what slow independent readings give."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import cantools
import numpy as np
import pytest

from rocade.wire.can import Column, Frames, Signal, decode, parse, read, reassemble

LOGS = {
    "230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz": (39_546, 1_845, {0: 24_263, 1: 15_283}),
    "221217-1-2021-pcan-bcan-no-key.csv.gz": (14_294, 1_029, {0: 8_969, 1: 5_325}),
    "250105-1-2020-comp-can-heating.csv.gz": (27_982, 1, {0: 27_982}),
    "221210-1-2021-dcan-car-scanner-elm327.csv.gz": (1_845, 0, {1: 1_845}),
}


@pytest.mark.parametrize(
    ("file", "messages", "signals", "independent"),
    [
        ("kona_can/pcan.dbc", 107, 445, 0),
        ("kona_can/bcan.dbc", 7, 4, 0),
        ("kona_can/ccan.dbc", 2, 1, 0),
        ("kona_can/comp_can.dbc", 5, 12, 0),
        ("psa_dbc/psa_aee2010_r3.dbc", 107, 430, 106),
        ("mf4_canedge/tp_uds_nissan.dbc", 1, 6, 0),
    ],
)
def test_every_dbc_file_loads(data: Path, file: str, messages: int, signals: int, independent: int) -> None:
    dbc = parse((data / file).read_bytes())
    assert (len(dbc.messages), dbc.signal_count, len(dbc.independent)) == (messages, signals, independent)


def test_no_dbc_file_is_left_out(data: Path) -> None:
    for file in sorted(data.glob("*/*.dbc")):
        assert parse(file.read_bytes()).messages, file.name


def test_the_psa_file_keeps_its_odd_names_and_its_texts(data: Path) -> None:
    dbc = parse((data / "psa_dbc/psa_aee2010_r3.dbc").read_bytes())
    assert {"0_COUNTER", "0_CHECKSUM"} <= {signal.name for signal in dbc.messages[0x305].signals}
    speed = dbc.messages[0x38D].signal("VITESSE_VEHICULE_ROUES")
    assert (speed.unit, speed.scale()) == ("km/h", (1, 0, -2))
    assert sum(bool(signal.texts) for message in dbc.messages.values() for signal in message.signals) == 57
    assert any("°" in signal.unit for message in dbc.messages.values() for signal in message.signals)


@pytest.mark.parametrize("name", list(LOGS))
def test_frames_equal_a_reading_by_the_csv_module(data: Path, name: str) -> None:
    content = gzip.decompress((data / "kona_can" / name).read_bytes())
    reading = read(content)
    frames = reading.frames
    rows = list(csv.DictReader(content.decode().splitlines()))
    count, backwards, buses = LOGS[name]
    assert (len(frames), len(rows), reading.refused) == (count, count, {})
    assert int((np.diff(frames.stamp_us) < 0).sum()) == backwards
    assert {int(bus): int((frames.bus == bus).sum()) for bus in np.unique(frames.bus)} == buses
    assert frames.stamp_us.tolist() == [int(row["Time Stamp"]) for row in rows]
    assert frames.id.tolist() == [int(row["ID"], 16) for row in rows]
    for place in range(0, count, 7):
        row, length = rows[place], int(rows[place]["LEN"])
        assert int(frames.length[place]) == length
        assert frames.data[place, :length].tolist() == [int(row[f"D{byte + 1}"], 16) for byte in range(length)]


def bit_by_bit(signal: Signal, payload: bytes) -> int:
    byte, bit = divmod(signal.start, 8)
    bits = []
    for _ in range(signal.length):
        bits.append(payload[byte] >> bit & 1)
        if signal.is_big_endian:
            byte, bit = (byte + 1, 7) if bit == 0 else (byte, bit - 1)
        else:
            byte, bit = (byte + 1, 0) if bit == 7 else (byte, bit + 1)
    value = int("".join(map(str, bits if signal.is_big_endian else bits[::-1])), 2)
    top = bits[0] if signal.is_big_endian else bits[-1]
    return value - (1 << signal.length) if signal.is_signed and top else value


def kona(data: Path, name: str, dbcs: dict[int, str]) -> tuple[Frames, list[Column]]:
    frames = read(gzip.decompress((data / "kona_can" / name).read_bytes())).frames
    return frames, decode(frames, {bus: parse((data / "kona_can" / dbc).read_bytes()) for bus, dbc in dbcs.items()})


@pytest.mark.parametrize(
    ("name", "dbcs", "values"),
    [
        ("230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz", {0: "pcan.dbc", 1: "ccan.dbc"}, 155_177),
        ("221217-1-2021-pcan-bcan-no-key.csv.gz", {0: "pcan.dbc", 1: "bcan.dbc"}, None),
        ("250105-1-2020-comp-can-heating.csv.gz", {0: "comp_can.dbc"}, None),
    ],
)
def test_decoded_columns_equal_a_bit_by_bit_reading(
    data: Path, name: str, dbcs: dict[int, str], values: int | None
) -> None:
    frames, columns = kona(data, name, dbcs)
    for column in columns:
        assert {int(number) for number in frames.id[column.rows]} == {column.message.id}
        for place in range(0, len(column.rows), max(1, len(column.rows) // 12)):
            row = int(column.rows[place])
            payload = frames.data[row, : frames.length[row]].tobytes()
            raw = bit_by_bit(column.signal, payload)
            assert int(column.raw[place]) == raw, column.signal.name
            assert column.values[place] == pytest.approx(float(raw * column.signal.factor + column.signal.offset))
    if values:
        assert sum(len(column.raw) for column in columns) == values


def test_cantools_decodes_the_compressor_bus_to_the_same_values(data: Path) -> None:
    """The one Kona file it accepts; every value of every 25th frame."""
    frames, columns = kona(data, "250105-1-2020-comp-can-heating.csv.gz", {0: "comp_can.dbc"})
    theirs = cantools.database.load_file(str(data / "kona_can/comp_can.dbc"))
    ours = {
        (column.signal.name, int(row)): value
        for column in columns
        for row, value in zip(column.rows, column.values, strict=True)
    }
    compared = 0
    for row in range(0, len(frames), 25):
        try:
            message = theirs.get_message_by_frame_id(int(frames.id[row]))
        except KeyError:
            continue
        for name, value in message.decode(frames.data[row, : frames.length[row]].tobytes()).items():
            assert ours[name, row] == value
            compared += 1
    assert compared > 2000


def test_known_values_of_the_traction_battery(data: Path) -> None:
    _, columns = kona(data, "230112-7-2019-pcan-ccan-power-off-on-ready-off.csv.gz", {0: "pcan.dbc", 1: "ccan.dbc"})
    span = {f"{c.message.name}.{c.signal.name}": (float(c.values.min()), float(c.values.max())) for c in columns}
    assert span["Batt_HV_Status.VBatt"] == (354.8, 355.1)
    assert span["Batt_HV_Status.IBatt"] == (0.0, 3.4)
    assert span["BMS_542.SocDisp"] == (36.5, 36.5)
    assert (span["BatteryLimits.SoC_Maybe"], span["BatteryLimits.SoC_Fraction"]) == ((35.5, 35.5), (0.3, 0.3))
    assert span["TwelveVolt_Battery_INCORRECT.BAT_SOC"] == (0.0, 255.0)


def test_the_diagnostic_log_is_reassembled(data: Path) -> None:
    frames = read(gzip.decompress((data / "kona_can/221210-1-2021-dcan-car-scanner-elm327.csv.gz").read_bytes())).frames
    found = reassemble(frames)
    counts = (found.singles, found.firsts, found.consecutives, found.flow_controls, found.complete, found.others)
    assert counts == (1_806, 10, 21, 8, 8, 0)
    answers = {found.frames.data[row, : found.frames.length[row]].tobytes() for row in range(len(found.frames))}
    assert any(b"SEVB68" in answer for answer in answers)
    assert any(b"BECM-B" in answer for answer in answers)


def test_the_nissan_file_decodes_its_nested_multiplexers_after_reassembly(data: Path) -> None:
    dbc = parse((data / "mf4_canedge/tp_uds_nissan.dbc").read_bytes())
    payload = bytearray(55)
    payload[1], payload[2] = 97, 1
    payload[34:37] = (712_345).to_bytes(3)
    frames = Frames(np.array([0]), np.array([1979], np.uint32), np.zeros(1, np.uint8), np.array([55], np.uint16),
                    np.frombuffer(bytes(payload), np.uint8)[None, :])  # fmt: skip
    values = {column.signal.name: column.values.tolist() for column in decode(frames, dbc)}
    assert values == {"service": [97.0], "response": [1.0], "SoC": [71.2345]}
