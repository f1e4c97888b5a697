"""How long values stay: rules by signal and by brand, counted from arrival, or from the sample's own time if a rule says so.

Flow: `apply(history, rules, now_us, tell)` once in a while (the worker role, hourly) -> what each rule lets go is counted and
told, if there is any -> whole days of arrival that no rule keeps any more are dropped -> one erasure of the rows that a narrower
rule lets go -> told again, with what is left. Told is the audit log, so that a run that was killed stands there too, and the
proof of its last entry is a certificate. The most particular rule decides: signal and vehicles, then signal, then
vehicles, then the rule for all; among equals the first in the list.
Refuses: no rule for all, or more than one. Nothing is removed early: whole chunks go, by their newest possible sample.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

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
    of: str = "all"
    """In words, as whoever configured it would say: which signals, which vehicles."""

    @property
    def keep_us(self) -> int:
        return int(self.days * DAY_US)


type Facts = Mapping[str, int | float | str]
type Tell = Callable[[str, Facts], Awaitable[None]]
"""`await tell(action, facts)`: into the audit log."""
BEGUN, DONE = "telemetry.retention", "telemetry.retention.done"


class Applied(msgspec.Struct, frozen=True):
    """What one run removed; `rows_erased` apart from the days."""

    days_dropped: int
    rows_erased: int
    parts_rewritten: int


async def apply(history: History, rules: Sequence[Rule], now_us: int, tell: Tell) -> Applied:
    """Remove what the rules no longer keep. Raises: Misconfigured `telemetry.retention.rules`; what `tell` raises."""
    ordered = _ordered(rules)
    condition, which, parameters = _expired(ordered, now_us)
    held = await store.held_where(history, condition, which, parameters)
    if not held:
        return Applied(0, 0, 0)
    said = _said(ordered, now_us, held)
    await tell(BEGUN, said)
    dropped = 0
    if all(rule.counted_from == "arrival" for rule in ordered):
        dropped = await store.drop_arrival_days(history, now_us - max(rule.keep_us for rule in ordered))
    erased = await store.erase_where(history, condition, parameters)
    applied = Applied(dropped, erased.rows, erased.parts_before)
    await tell(DONE, {**said, **msgspec.structs.asdict(applied), "parts_after": erased.parts_after})
    return applied


def _said(ordered: Sequence[Rule], now_us: int, held: Mapping[int, tuple[int, int]]) -> Facts:
    """Of each rule that lets something go: its words, the instant it keeps nothing before, how many rows that is."""
    said: dict[str, int | float | str] = {"rows": sum(rows for rows, _ in held.values())}
    for number, (rows, _) in held.items():
        rule = ordered[number]
        said[f"rule{number}"] = f"{rule.of}: {rule.days:g} days from {rule.counted_from}"
        said |= {f"before{number}_us": now_us - rule.keep_us, f"rows{number}": rows}
    return said


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


def _expired(ordered: Sequence[Rule], now_us: int) -> tuple[str, str, dict[str, object]]:
    """One condition over a chunk's row: the first rule that fits says whether it is too old. And that rule's number."""
    cases, numbers, parameters = list[str](), list[str](), dict[str, object]()
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
        when = f"{' AND '.join(fits)}, " if fits else ""
        cases.append(f"{when}{instant} < {{before{number}:Int64}}")
        numbers.append(f"{when}{number}")
    if len(cases) == 1:
        return cases[0], numbers[0], parameters
    return f"multiIf({', '.join(cases)})", f"multiIf({', '.join(numbers)})", parameters
