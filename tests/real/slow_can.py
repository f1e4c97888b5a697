"""CAN logs read slowly: one frame, one signal, one bit at a time, with the csv module and regular expressions alone.

Shares no code with the product; slow and plain on purpose.
"""

from __future__ import annotations

import csv
import fnmatch
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

type Values = list[tuple[int, Fraction]]

_MESSAGE = re.compile(r"^BO_ (\d+) (\w+) *:")
_SIGNAL = re.compile(r"^ SG_ (\w+) *(m\d+|M)? *: *(\d+)\|(\d+)@([01])([+-]) *\(([^,]+),([^)]+)\)")


@dataclass(frozen=True)
class Slot:
    """One signal of one message."""

    message: str
    name: str
    start: int
    length: int
    is_little: bool
    is_signed: bool
    factor: Fraction
    offset: Fraction
    multiplexed: str

    def value(self, payload: bytes) -> Fraction | None:
        """None where the frame is too short to carry it."""
        places, place = [], self.start
        for _ in range(self.length):
            places.append(place)
            place = place + 1 if self.is_little else place - 1 if place % 8 else place + 15
        if max(places) // 8 >= len(payload):
            return None
        bits = [payload[place // 8] >> place % 8 & 1 for place in places]
        raw = 0
        for bit in reversed(bits) if self.is_little else bits:
            raw = raw * 2 + bit
        if self.is_signed and raw >= 1 << (self.length - 1):
            raw -= 1 << self.length
        return raw * self.factor + self.offset


def dictionary(path: Path) -> dict[int, list[Slot]]:
    found: dict[int, list[Slot]] = {}
    number, message = 0, ""
    for line in path.read_text("utf-8").splitlines():
        if match := _MESSAGE.match(line):
            number, message = int(match[1]), match[2]
        elif match := _SIGNAL.match(line):
            name, multiplexed, start, length, order, sign, factor, offset = match.groups()
            slot = Slot(
                message, name, int(start), int(length), order == "1", sign == "-", Fraction(factor.strip()),
                Fraction(offset.strip()), multiplexed or "",
            )  # fmt: skip
            found.setdefault(number, []).append(slot)
    return found


def frames(path: Path) -> list[tuple[int, int, int, bytes]]:
    """(stamp in us, bus, id, payload) of every row."""
    with gzip.open(path, "rt", newline="") as stream:
        return [
            (
                int(row["Time Stamp"]), int(row["Bus"]), int(row["ID"], 16),
                bytes(int(row[f"D{at}"], 16) for at in range(1, int(row["LEN"]) + 1)),
            )
            for row in csv.DictReader(stream)
        ]  # fmt: skip


def instants(stamps: list[int], origin_us: int) -> list[int]:
    """The longest stretch between restarts of the logger's clock keeps its stamps; an earlier one ends 1 us before it."""
    stretches: list[list[int]] = [[]]
    for at, stamp in enumerate(stamps):
        if at and stamp - stamps[at - 1] < -1_000_000:
            stretches.append([])
        stretches[-1].append(at)
    assert len(stretches) <= 2
    moved = list(stamps)
    if len(stretches) == 2:
        first, main = stretches
        assert len(main) > len(first)
        shift = min(stamps[at] for at in main) - 1 - max(stamps[at] for at in first)
        for at in first:
            moved[at] += shift
    begin = min(moved)
    return [origin_us + stamp - begin for stamp in moved]


def _read_log(path: Path, rule: dict[str, Any], wanted: set[str]) -> Iterator[tuple[int, int, Slot, Fraction]]:
    """(time, id, slot, value) of what the log's dictionaries name and somebody wants, by `name` or `message.name`."""
    dictionaries = {
        int(bus): {
            number: [slot for slot in slots if {slot.name, f"{slot.message}.{slot.name}"} & wanted]
            for number, slots in dictionary(path.parent / name).items()
        }
        for bus, name in rule.get("dbc", {}).items()
    }
    rows = frames(path)
    origin = datetime.strptime(path.name[:6], "%y%m%d").replace(tzinfo=UTC)
    times = instants([row[0] for row in rows], int(origin.timestamp()) * 1_000_000)
    for at_us, (_, bus, number, payload) in zip(times, rows, strict=True):
        for slot in dictionaries.get(bus, {}).get(number, ()):
            value = slot.value(payload)
            if value is not None:
                yield at_us, number, slot, value


def catalogue_values(folder: Path, mapping: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Values]:
    """What the mapping and the brand's overlay make of all logs.

    One CAN signal feeds one catalogue signal in each log: the one the mapping names, else the one of the message with
    the lowest id.
    """
    chosen = {rule["can"]: rule["signal"] for rule in mapping["can"]}
    booleans = {one["name"] for one in overlay["signals"] if one["datatype"] == "boolean"}
    booleans.add("Vehicle.Powertrain.TractionBattery.Charging.ChargingPort.AnyPosition.IsChargingCableConnected")
    result: dict[str, Values] = {}
    for path in sorted(folder.glob("*.csv.gz")):
        rule = next((one for one in mapping["log"] if fnmatch.fnmatch(path.name, one["match"])), {})
        candidates: dict[str, dict[tuple[bool, int, str], Values]] = {}
        for at_us, number, slot, value in _read_log(path, rule, {*chosen, *overlay["aliases"]}):
            full = f"{slot.message}.{slot.name}"
            alias = overlay["aliases"].get(slot.name)
            signal = chosen.get(full) or (alias and alias["signal"])
            if not signal:
                continue
            assert not slot.multiplexed, "a multiplexed signal is mapped: teach this reader"
            value *= Fraction(str(alias.get("factor", 1))) if alias and full not in chosen else 1
            value = Fraction(int(value != 0)) if signal in booleans else value
            candidates.setdefault(signal, {}).setdefault((full not in chosen, number, slot.name), []).append(
                (at_us, value)
            )
        for signal, found in candidates.items():
            result.setdefault(signal, []).extend(found[min(found)])
    return result
