"""Source: CAN logs (GVRET CSV) with DBC dictionaries, by a mapping file or by a DBC file alone.

Flow: frames -> one time line (below) -> decoded in whole columns -> each CAN signal that the mapping names, or that the
brand's overlay knows by its DBC name, becomes a `Series` of exact values; diagnostic buses pass ISO-TP and give trouble
codes. One catalogue signal is fed by one CAN signal: the mapping's choice, else the message with the lowest id.
Every frame is counted once: sent when a value of it goes out, repaired when its stamp had to be moved, else refused
with the reason (most often that nobody mapped a signal of its message).

Time: a CAN log counts microseconds from an origin of its own. `origin` says when the first frame was. Steps back of
less than a second are buses interleaved and only sorted. A larger one is the logger's clock starting again: the longest
stretch keeps its stamps, the others are moved to touch it, and their frames are marked as repaired.
"""

from __future__ import annotations

import re
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rocade.agents.vehicle.mapping import LogRule, Mapping
from rocade.agents.vehicle.series import Account, Note, Reading, Series
from rocade.agents.vehicle.times import to_us
from rocade.core.catalogue import Catalogue, Meaning
from rocade.core.errors import Misconfigured
from rocade.wire import can
from rocade.wire.can.decoding import known
from rocade.wire.can.trouble_codes import read_codes

RESTART_US = 1_000_000
COUNT, LIST = "Vehicle.Diagnostics.DTCCount", "Vehicle.Diagnostics.DTCList"


@dataclass(frozen=True)
class _TimeLine:
    at_us: NDArray[np.int64]
    repaired: NDArray[np.bool_]


def dbc_mapping(dbc: Path, brand: str) -> Mapping:
    """The mapping that `--dbc FILE` stands for: this DBC on every bus, the brand's names."""
    return Mapping(format="gvret", brand=brand, log=(LogRule(dbc={"*": str(dbc.resolve())}),))


def load_dictionaries(rule: LogRule, places: AnyMapping[str, Path]) -> dict[int, can.Dbc]:
    """DBC files of a log by bus; looked for beside the mapping and beside the log (`places`).

    Raises: Misconfigured `mapping.dbc` naming the file; Refused `can.dbc.malformed`.
    """
    found: dict[int, can.Dbc] = {}
    for bus, name in rule.dbc.items():
        candidates = [place / name for place in places.values()]
        file = next((path for path in candidates if path.is_file()), None)
        if file is None:
            raise Misconfigured("mapping.dbc", f"no DBC file {name} beside {' or '.join(places)}")
        dictionary = can.parse(file.read_bytes())
        found |= dict.fromkeys(range(256) if bus == "*" else (int(bus),), dictionary)
    return found


def read_log(
    content: bytes,
    file: Path,
    mapping: Mapping,
    dictionaries: AnyMapping[int, can.Dbc],
    catalogue: Catalogue,
    now_us: int,
) -> Reading:
    """Read one log.

    Raises: Refused `can.gvret.malformed`; Misconfigured `mapping.invalid` for an origin that cannot be read.
    """
    log = can.read(content)
    frames, rule = log.frames, mapping.log_rule(file)
    line = _time_line(frames.stamp_us, _origin_us(mapping.time.origin, file, now_us))
    sent = np.zeros(len(frames), bool)
    series = []
    for column, meaning in _chosen(can.decode(frames, dict(dictionaries)), mapping, catalogue):
        series.append(_series(column, meaning, line))
        sent[column.rows] = True
    for bus in rule.diagnostics:
        series += _diagnostics(frames, bus, line, sent, catalogue)

    account = Account(read=log.rows_read)
    account.sent, account.repaired = int((sent & ~line.repaired).sum()), int((sent & line.repaired).sum())
    for number, reason in log.refused.items():
        account.refused[reason] += 1
        account.notes.append(Note(file.name, number, f"refused: {reason}", ""))
    has_name = known(frames, dict(dictionaries))
    for mask, reason in (
        (~sent & has_name, "no signal of its message is mapped"),
        (~sent & ~has_name, "its message is in no DBC"),
    ):
        if mask.any():
            account.refused[reason] = int(mask.sum())
    if line.repaired.any():
        rows = np.flatnonzero(line.repaired)
        what = f"time repaired: the logger's clock started again ({len(rows)} frames moved)"
        account.notes.append(
            Note(file.name, int(log.line[rows[0]]), what, f"stamps from {int(frames.stamp_us[rows[0]])} us")
        )
    return Reading(series, account)


def _origin_us(origin: str, file: Path, now_us: int) -> int:
    """When the first frame was: a time, `file:<strptime>` for the start of the file's name, or now when not given."""
    if not origin:
        return now_us
    try:
        if not origin.startswith("file:"):
            return to_us(datetime.fromisoformat(origin).replace(tzinfo=UTC))
        match = re.match(r"[0-9]+", file.name)
        return to_us(datetime.strptime(match[0] if match else "", origin[5:]).replace(tzinfo=UTC))
    except ValueError as error:
        raise Misconfigured("mapping.invalid", f"[time] origin {origin!r} does not fit {file.name}") from error


def _time_line(stamp_us: NDArray[np.int64], origin_us: int) -> _TimeLine:
    """Instants of all frames; stretches of a logger's clock that started again are moved to touch the longest one."""
    borders = np.flatnonzero(np.diff(stamp_us) < -RESTART_US) + 1
    stretches = np.split(np.arange(len(stamp_us)), borders)
    at_us, repaired = stamp_us.copy(), np.zeros(len(stamp_us), bool)
    main = max(range(len(stretches)), key=lambda place: len(stretches[place]))
    for place in range(main + 1, len(stretches)):
        rows, before = stretches[place], stretches[place - 1]
        at_us[rows] += int(at_us[before].max()) + 1 - int(stamp_us[rows].min())
        repaired[rows] = True
    for place in range(main - 1, -1, -1):
        rows, after = stretches[place], stretches[place + 1]
        at_us[rows] += int(at_us[after].min()) - 1 - int(stamp_us[rows].max())
        repaired[rows] = True
    if len(at_us):
        at_us += origin_us - int(at_us.min())
    return _TimeLine(at_us, repaired)


def _chosen(columns: list[can.Column], mapping: Mapping, catalogue: Catalogue) -> list[tuple[can.Column, Meaning]]:
    """Columns that feed a catalogue signal, each signal once."""
    rules = {rule.can: rule for rule in mapping.can}
    by_name = sorted(
        columns, key=lambda column: (f"{column.message.name}.{column.signal.name}" not in rules, column.message.id)
    )
    chosen: dict[int, tuple[can.Column, Meaning]] = {}
    for column in by_name:
        rule = rules.get(f"{column.message.name}.{column.signal.name}")
        meaning = None
        if rule:
            meaning = catalogue.meaning(rule.signal, mapping.brand)
            if rule.factor is not None or rule.offset:
                meaning = Meaning(meaning.signal, rule.factor or 1.0, rule.offset)
        elif mapping.brand and mapping.brand_names:
            meaning = catalogue.overlay(mapping.brand).aliases.get(column.signal.name)
        if meaning and meaning.signal.id not in chosen:
            chosen[meaning.signal.id] = column, meaning
    return list(chosen.values())


def _series(column: can.Column, meaning: Meaning, line: _TimeLine) -> Series:
    order = np.argsort(line.at_us[column.rows], kind="stable")
    rows = column.rows[order]
    repaired = line.repaired[rows] if line.repaired[rows].any() else None
    signal, factor, offset = meaning.signal, Decimal(str(meaning.factor)).normalize(), Decimal(str(meaning.offset))
    if signal.is_text:
        texts = [column.signal.texts.get(raw, str(raw)) for raw in column.raw[order].tolist()]
        return Series(signal, line.at_us[rows], texts, None, repaired)
    if signal.datatype == "boolean":
        return Series(signal, line.at_us[rows], column.raw[order] != 0, None, repaired)
    exact = column.scaled()
    decimals = max(0, -int(factor.as_tuple().exponent))
    if exact is None or decimals > 6 or offset:
        values = column.values[order] * float(factor) + float(offset)
        return Series(signal, line.at_us[rows], values, None, repaired)
    return Series(signal, line.at_us[rows], exact[0][order] * int(factor * 10**decimals), exact[1] - decimals, repaired)


def _diagnostics(
    frames: can.Frames, bus: int, line: _TimeLine, sent: NDArray[np.bool_], catalogue: Catalogue
) -> list[Series]:
    """Trouble codes that modules report on a diagnostic bus: one list and one count per answer."""
    rows = np.flatnonzero((frames.bus == bus) & (frames.id >= 0x700) & (frames.id < 0x800))
    answers = can.reassemble(frames.where(rows))
    found = []
    for row, first, last in zip(
        range(len(answers.frames)), answers.first_row.tolist(), answers.last_row.tolist(), strict=True
    ):
        codes = read_codes(answers.frames.data[row, : answers.frames.length[row]].tobytes())
        if codes is not None:
            same = frames.id[rows[first : last + 1]] == frames.id[rows[last]]
            sent[rows[first : last + 1][same]] = True
            found.append(
                (int(line.at_us[rows[last]]), f"{frames.id[rows[last]]:03X}: {' '.join(codes) or 'none'}", len(codes))
            )
    if not found:
        return []
    found.sort(key=lambda one: one[0])
    at_us = np.array([one[0] for one in found], np.int64)
    return [
        Series(catalogue.by_name(LIST), at_us, [one[1] for one in found]),
        Series(catalogue.by_name(COUNT), at_us, np.array([one[2] for one in found], np.int64), 0),
    ]
