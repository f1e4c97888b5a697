"""How long values stay: rules by signal and by brand, counted from arrival, or from the sample's own time if a rule says so.

Flow: `apply(history, rules, now_us)` once in a while (the worker role, hourly) -> drop whole days of arrival that no rule
keeps any more -> one erasure of the rows that a narrower rule lets go. The most particular rule decides: signal and
vehicles, then signal, then vehicles, then the rule for all; among equals the first in the list.
Refuses: no rule for all, or more than one. Nothing is removed early: whole chunks go, by their newest possible sample.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.core.errors import Misconfigured
from rocade.fabric.history import History
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import DAY_US, HOUR_US


class Rule(msgspec.Struct, frozen=True):
    """Keep values `days` long. None = all signals, all vehicles (the caller turns a brand into its vehicles)."""

    days: float
    signals: tuple[int, ...] | None = None
    vehicles: tuple[int, ...] | None = None
    counted_from: str = "arrival"
    """ "arrival" or "event"."""

    @property
    def keep_us(self) -> int:
        return int(self.days * DAY_US)


class Applied(msgspec.Struct, frozen=True):
    """What one run removed."""

    days_dropped: int
    rows_erased: int
    parts_rewritten: int


async def apply(history: History, rules: Sequence[Rule], now_us: int) -> Applied:
    """Remove what the rules no longer keep. Raises: Misconfigured `telemetry.retention.rules`."""
    ordered = _ordered(rules)
    dropped = 0
    if all(rule.counted_from == "arrival" for rule in ordered):
        dropped = await store.drop_arrival_days(history, now_us - max(rule.keep_us for rule in ordered))
    condition, parameters = _expired(ordered, now_us)
    erased = await store.erase_where(history, condition, parameters)
    return Applied(dropped, erased.rows, erased.parts_before)


def _ordered(rules: Sequence[Rule]) -> list[Rule]:
    """From the most particular rule to the one for all."""
    ordered = sorted(rules, key=lambda rule: 2 * (rule.signals is None) + (rule.vehicles is None))
    if sum(rule.signals is None and rule.vehicles is None for rule in rules) != 1:
        raise Misconfigured(
            "telemetry.retention.rules", "retention needs exactly one rule for all signals and vehicles"
        )
    for rule in rules:
        if rule.counted_from not in ("arrival", "event") or rule.days <= 0:
            raise Misconfigured(
                "telemetry.retention.rules", "a rule keeps more than 0 days, counted from arrival or event"
            )
    return ordered


def _expired(ordered: Sequence[Rule], now_us: int) -> tuple[str, dict[str, object]]:
    """One condition over a chunk's row: the first rule that fits says whether it is too old."""
    cases, parameters = list[str](), dict[str, object]()
    for number, rule in enumerate(ordered):
        fits = list[str]()
        if rule.signals is not None:
            fits.append(f"signal IN {{signals{number}:Array(UInt32)}}")
            parameters[f"signals{number}"] = list(rule.signals)
        if rule.vehicles is not None:
            fits.append(f"vehicle IN {{vehicles{number}:Array(UInt64)}}")
            parameters[f"vehicles{number}"] = list(rule.vehicles)
        instant = "arrived_us" if rule.counted_from == "arrival" else f"(t0_us + {HOUR_US} - t0_us % {HOUR_US})"
        parameters[f"before{number}"] = now_us - rule.keep_us
        cases.append(
            f"{' AND '.join(fits)}, {instant} < {{before{number}:Int64}}"
            if fits
            else f"{instant} < {{before{number}:Int64}}"
        )
    return (f"multiIf({', '.join(cases)})" if len(cases) > 1 else cases[0]), parameters
