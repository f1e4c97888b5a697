"""What one station really accepts: a memory of every way to limit it, filled by its answers and proven by its meter. Pure.

A way is a purpose of OCPP's smart charging and a unit. They are tried from the narrowest to the widest: the transaction's own
profile, the default of its connector, the maximum of the whole station; first in the unit the station says it prefers. What it
refused or took without obeying is tried last, and again after a week; new firmware forgets all. A station never seen begins with
what its kin (make, model, firmware) have shown.
`judge` compares meter values with the limit: a way is proven only by a draw that would have been larger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from rocade.services.charging.stations.model import LEAST_A, Limit, Proof, Purpose, Sample, Unit

PURPOSES: tuple[Purpose, ...] = ("tx", "tx_default", "station_max")
RETRY_US = 7 * 86_400_000_000
SETTLE_US = 20_000_000
"""A car may take so long to follow its station (IEC 61851-1 allows 5 s, cars take more)."""
STRIKES = 2
"""Values over the limit, one after the other, before a station is taken not to obey."""
_TOLERANCE, _SLACK_W = 1.08, 150.0


class Way(msgspec.Struct, frozen=True, order=True):
    purpose: Purpose
    unit: Unit


class Shown(msgspec.Struct):
    """What a station has shown about one way."""

    way: Way
    proof: Proof = "untried"
    at_us: int = 0
    times: int = 0
    code: str = ""


class Dialect(msgspec.Struct):
    """`units` and `most_*` are what the station says of itself; `shown` what it did."""

    units: tuple[Unit, ...] = ()
    most_periods: int = 0
    most_stack: int = 0
    is_asked: bool = False
    """Whether it was asked what it can."""
    shown: list[Shown] = []

    def of(self, way: Way) -> Shown:
        for one in self.shown:
            if one.way == way:
                return one
        self.shown.append(Shown(way))
        return self.shown[-1]

    def note(self, way: Way, proof: Proof, at_us: int, code: str = "") -> bool:
        """Whether this is news."""
        one = self.of(way)
        is_news = one.proof != proof
        if not (proof == "accepted" and one.proof == "proven"):
            one.proof = proof
        one.at_us, one.times, one.code = at_us, one.times + 1, code
        return is_news


def seed(kin: Iterable[Dialect]) -> Dialect:
    """What to begin with: ways most of the kin refused or ignored are put last, ways proven there count as accepted."""
    votes: dict[Way, int] = {}
    newest_us: dict[Way, int] = {}
    for one in kin:
        for shown in one.shown:
            vote = {"proven": 1, "rejected": -1, "ignored": -1}.get(shown.proof, 0)
            votes[shown.way] = votes.get(shown.way, 0) + vote
            newest_us[shown.way] = max(newest_us.get(shown.way, 0), shown.at_us)
    begun = Dialect()
    for way, vote in votes.items():
        if vote:
            begun.shown.append(Shown(way, "accepted" if vote > 0 else "rejected", newest_us[way]))
    return begun


def ways(dialect: Dialect, *, has_transaction: bool, may_limit_station: bool, now_us: int) -> list[Way]:
    """Which ways to try, best first."""
    units: tuple[Unit, ...] = dialect.units or ("A", "W")
    found = [
        Way(purpose, unit)
        for purpose in PURPOSES
        if (purpose != "tx" or has_transaction) and (purpose != "station_max" or may_limit_station)
        for unit in units
    ]
    return sorted(found, key=lambda way: _rank(dialect.of(way), now_us))


def _rank(shown: Shown, now_us: int) -> int:
    """Failed ways go last, until they are worth another try; `sorted` keeps the order of purposes among equals."""
    is_fresh = now_us - shown.at_us < RETRY_US
    return {"ignored": 2, "rejected": 2}.get(shown.proof, 0) if is_fresh else 0


type Verdict = Literal["proven", "over", "kept", "open"]


def judge(limit_kw: float, before_w: float | None, sample: Sample, sent_us: int) -> Verdict:
    """One meter value against the limit: it shows obedience, disobedience, merely no harm, or nothing yet."""
    drawn_w = sample.watts
    if drawn_w is None or sample.at_us < sent_us:
        return "open"
    limit_w = limit_kw * 1000
    if drawn_w > limit_w * _TOLERANCE + _SLACK_W:
        return "over" if sample.at_us >= sent_us + SETTLE_US else "open"
    if before_w is not None and before_w > limit_w * _TOLERANCE + _SLACK_W:
        return "proven"
    return "kept"


def amperes(power_kw: float, phases: int, voltage: float) -> float:
    """Per phase; what a car cannot use is a pause. One decimal, rounded down: the limit is a limit."""
    current = power_kw * 1000 / (voltage * max(1, phases))
    return int(current * 10 + 1e-6) / 10 if current >= LEAST_A else 0.0


def periods(
    limit: Limit, unit: Unit, phases: int, voltage: float, from_us: int, most: int
) -> tuple[int, list[tuple[int, float]]]:
    """(begin_us, [(seconds from the begin, amperes or watts)]) of what is left of a limit, equal neighbours joined.

    `most` 0 = as many as there are; else later periods are joined under the lowest of them.
    """
    begin_us = max(from_us, limit.slots[0].start_us) // 1_000_000 * 1_000_000
    rows: list[tuple[int, float]] = []
    for at, slot in enumerate(limit.slots):
        ends_us = limit.slots[at + 1].start_us if at + 1 < len(limit.slots) else limit.until_us
        if ends_us <= begin_us:
            continue
        value = amperes(slot.power_kw, phases, voltage) if unit == "A" else float(int(slot.power_kw * 1000))
        second = max(0, (slot.start_us - begin_us) // 1_000_000)
        if rows and rows[-1][0] == second:
            rows.pop()
        if not rows or rows[-1][1] != value:
            rows.append((second, value))
    if most and len(rows) > most:
        rows = [*rows[: most - 1], (rows[most - 1][0], min(value for _, value in rows[most - 1 :]))]
    return begin_us, rows


def drawn(samples: Sequence[Sample]) -> float | None:
    """The last power that was said."""
    return next((sample.watts for sample in reversed(samples) if sample.watts is not None), None)
