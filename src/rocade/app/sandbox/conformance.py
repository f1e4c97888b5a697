"""What a program must have shown to be let near a real hub, judged from what the sandbox saw of it.

Each line of the report is a rule with what was seen: passed, failed, or not seen yet. Failed means that the program did
something a real hub would refuse or that would harm its user; not seen yet means: try it before you go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec


class Seen(msgspec.Struct):
    """What one party did at the sandbox."""

    party: str
    calls: Counter[str] = msgspec.field(default_factory=Counter)
    """Answered calls by operation."""
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    """Refused calls by code."""
    past_prices: int = 0
    unknown_parts: int = 0
    pages: int = 0
    ends: int = 0
    sent: dict[str, list[bytes]] = {}
    """Digests of each message id, one a time it was sent."""
    lost: set[str] = set()
    """Messages whose first receipt the sandbox lost."""
    decided: dict[str, str] = {}
    """Outcomes of the pretend DMS."""
    asked_after: set[str] = set()
    """Messages whose decision was fetched."""
    news: int = 0


class Line(msgspec.Struct, frozen=True):
    rule: str
    state: str
    """passed | failed | not seen yet"""
    seen: str


class Report(msgspec.Struct, frozen=True):
    party: str
    is_conformant: bool
    lines: list[Line]


def judge(seen: Seen) -> Report:
    """The report on one party."""
    repeated = [id for id in seen.lost if len(seen.sent.get(id, ())) > 1]
    changed = [id for id, digests in seen.sent.items() if len(set(digests)) > 1]
    given_up = [id for id in seen.lost if len(seen.sent.get(id, ())) == 1]
    refused = [id for id, outcome in seen.decided.items() if outcome == "refused"]
    weak = sorted(code for code in seen.refused if code.startswith(("soap.", "xml.", "trust.")))
    lines = [
        _line("signed calls are answered", bool(sum(seen.calls.values())), f"{sum(seen.calls.values())} calls"),
        _line("asks a price at an instant of the past", seen.past_prices > 0, f"{seen.past_prices} times"),
        _line("asks for a part that does not exist and goes on", seen.unknown_parts > 0, f"{seen.unknown_parts} times"),
        _line("follows price changes to the last page", seen.ends > 0, f"{seen.pages} pages, {seen.ends} ends"),
        _line("sends a message", bool(seen.sent), f"{len(seen.sent)} messages"),
        _line(
            "sends a message again when its receipt was lost",
            bool(repeated),
            f"{len(repeated)} of {len(seen.lost)} repeated",
            bad=f"never repeated: {', '.join(sorted(given_up)[:3])}" if given_up and seen.asked_after else "",
        ),
        _line(
            "repeats a message with the same content under the same id",
            bool(repeated),
            f"{len(repeated)} repeated unchanged" if not changed else "",
            bad=f"other content under one id: {', '.join(sorted(changed)[:3])}" if changed else "",
        ),
        _line(
            "fetches why a message was refused",
            bool(seen.asked_after & set(refused)),
            f"{len(seen.asked_after & set(refused))} of {len(refused)} refusals read",
        ),
        _line("follows its news by stream, long poll or webhook", seen.news > 0, f"{seen.news} looks"),
        _line("is refused nothing for its signatures, certificates or XML", not weak, "none refused",
              bad=", ".join(f"{code} ({seen.refused[code]})" for code in weak)),
    ]  # fmt: skip
    return Report(seen.party, all(line.state == "passed" for line in lines), lines)


def _line(rule: str, is_seen: bool, seen: str, bad: str = "") -> Line:
    if bad:
        return Line(rule, "failed", bad)
    return Line(rule, "passed" if is_seen else "not seen yet", seen)


def as_text(reports: Sequence[Report]) -> str:
    """For people."""
    marks = {"passed": "ok  ", "failed": "FAIL", "not seen yet": " -  "}
    parts = []
    for report in reports:
        head = f"{report.party}: {'conformant' if report.is_conformant else 'not there yet'}"
        parts.append("\n".join([head, *(f"  {marks[one.state]} {one.rule}: {one.seen}" for one in report.lines)]))
    return "\n\n".join(parts) or "Nobody has called yet."
