"""What telemetry can explain: a gap, a record in quarantine, and why a value carries a flag.

`gap:<ref>:<epoch, 16 hexadecimal digits>:<first>`, `quarantine:<number>`, `flag:<ref>:<signal id>:<time_us>`. Flags stand
beside values and never change; the reason is worked out again here, from the stored neighbours and the catalogue's
limits (`quality`, by the same rules). Where the neighbours of today no longer show it (samples that came later lie
between, or the sender itself had marked the value), the chain says that instead of inventing a reason.
"""

from __future__ import annotations

import re

import numpy as np

from rocade.core import data_classes
from rocade.core.catalogue import Catalogue
from rocade.core.signals import Quality, Signal
from rocade.core.why import About, Chain, Fact, code_facts
from rocade.core.why.model import Value
from rocade.fabric.history import History
from rocade.services.telemetry import store
from rocade.services.telemetry.chunks import DAY_US, HOUR_US, Samples
from rocade.services.telemetry.gaps import MAX_ASKS, Numbers
from rocade.services.telemetry.ledger import Ledger
from rocade.services.telemetry.quality import AHEAD_US, MOVING_KMH
from rocade.services.vehicles.twin import TwinStore
from rocade.trust.authority.gate.acts import PLAN_ERASURE, READ_GAPS, READ_HISTORY, READ_QUARANTINE

_GAP = re.compile(r"(\d{1,19}):([0-9a-f]{16}):(\d{1,19})", re.ASCII)
_FLAG = re.compile(r"(\d{1,19}):(\d{1,10}):(-?\d{1,19})", re.ASCII)
_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
LOOK_BACK_US = (HOUR_US, DAY_US, 31 * DAY_US)
"""How far before a value its neighbour is looked for, step by step."""
MOVING_WINDOW_US = 60_000_000
LARGEST = (1 << 63) - 1


class Gaps:
    """Numbers that have not come: since when, how often they were asked for, or why no more."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def explain(self, rest: str) -> Chain | None:
        found = _GAP.fullmatch(rest)
        if not found or not 0 < int(found[1]) <= LARGEST:
            return None
        ref, epoch, number = int(found[1]), _signed(int(found[2], 16)), int(found[3])
        journals = await self._ledger.numbers(ref)
        journal = next((one for one in journals if one.epoch == epoch), None)
        if journal is None or not 0 < number <= journal.highest:
            return None
        span = next(((first, last) for first, last in journal.gaps if first <= number <= last), None)
        facts = await self._open(journal, *span) if span else [Fact("gap.filled", {"number": number})]
        return Chain(f"gap:{rest}", (*facts, *code_facts("telemetry.gap")), About((READ_GAPS.name,), ref))

    async def _open(self, journal: Numbers, first: int, last: int) -> list[Fact]:
        asked, again_us = await self._ledger.asks(journal.ref, journal.epoch)
        told = [
            Fact("gap.missing", {"first": first, "last": last, "count": last - first + 1, "highest": journal.highest}),
            Fact("gap.journal", {"opened_us": journal.opened_us, "arrived_us": journal.arrived_us}),
        ]
        if journal.closed is not None:
            return [*told, Fact("gap.given_up")]
        if asked >= MAX_ASKS:
            return [*told, Fact("gap.asked_out", {"asked": asked})]
        key = "gap.asked" if asked else "gap.to_ask"
        return [*told, Fact(key, {"asked": asked, "again_us": again_us})]


class Held:
    """A record in quarantine: when it came, why it could not be taken in, what became of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def explain(self, rest: str) -> Chain | None:
        found = await self._ledger.held(int(rest)) if _NUMBER.fullmatch(rest) else None
        if found is None:
            return None
        held = found[0]
        facts = [
            Fact("quarantine.at", {"at_us": held.arrived_us, "size_bytes": held.size_bytes, "code": held.reason}, held.reason),
            Fact("quarantine.detail", {"detail": held.detail}),
            *code_facts(held.reason),
            Fact(f"quarantine.{held.state}"),
        ]  # fmt: skip
        about = About((READ_QUARANTINE.name, PLAN_ERASURE.name), held.ref)  # an owner sees what is kept of his
        return Chain(f"quarantine:{held.id}", tuple(facts), about)


class Flags:
    """Why a value is doubtful: the value, then each flag with its rule, the limits and the neighbours it was held against."""

    def __init__(self, history: History, twins: TwinStore, catalogue: Catalogue) -> None:
        self._history = history
        self._twins = twins
        self._catalogue = catalogue
        self._speed = int(catalogue.by_name("Vehicle.Speed").id)

    async def explain(self, rest: str) -> Chain | None:
        found = _FLAG.fullmatch(rest)
        if not found:
            return None
        ref, number, at_us = (int(one) for one in found.groups())
        signal = self._catalogue.get(number)
        if signal is None or not 0 < ref <= LARGEST or abs(at_us) > LARGEST:
            return None
        value, quality = await self._value(ref, number, at_us)
        if value is None:
            return None
        told: dict[str, Value] = {"signal": signal.name, "value": value, "unit": signal.unit, "at_us": at_us}
        facts = [Fact("flag.value", told)]
        for flag in Quality:
            if flag and quality & flag:
                facts += await self._flag(flag, ref, signal, at_us, value)
        if not quality:
            facts.append(Fact("flag.none"))
        classes = data_classes.bit(signal.data_class)
        return Chain(f"flag:{rest}", tuple(facts), About((READ_HISTORY.name,), ref, classes, (number,)))

    async def _value(self, ref: int, signal: int, at_us: int) -> tuple[float | str | None, int]:
        """The stored value at this instant; a value of the last moments may stand in the twin alone."""
        found = await store.series(self._history, ref, signal, at_us, at_us + 1)
        if len(found.time_us):
            value = found.value[0]
            return (value if isinstance(value, str) else float(value)), int(np.bitwise_or.reduce(found.quality))
        twin = await self._twins.latest(ref)
        latest = twin.reported.get(signal) if twin else None
        if latest is None or latest.time_us != at_us:
            return None, 0
        return (latest.value if isinstance(latest.value, str) else float(latest.value)), latest.quality

    async def _flag(self, flag: Quality, ref: int, signal: Signal, at_us: int, value: float | str) -> list[Fact]:
        """The reason of one flag, then what the flag means in general."""
        name = (flag.name or "").lower()
        fact: Fact | None = None
        if flag is Quality.CLOCK:
            fact = await self._clock(ref, signal, at_us)
        elif flag in {Quality.ZERO_POSITION, Quality.NOT_FINITE, Quality.TIME_REPAIRED}:
            fact = Fact(f"flag.{name}")
        elif isinstance(value, float):
            fact = await self._number(flag, ref, signal, at_us, value)
        return [fact or Fact("flag.unseen", {"flag": name}), *code_facts(f"quality.{name}")]

    async def _number(self, flag: Quality, ref: int, signal: Signal, at_us: int, value: float) -> Fact | None:
        if flag is Quality.OUT_OF_RANGE:
            return _out_of_range(signal, value)
        if flag is Quality.IMPOSSIBLE_POSITION:
            limit = 90 if signal.name.endswith("Latitude") else 180
            return Fact("flag.impossible_position", {"limit": limit}) if abs(value) > limit else None
        if flag is Quality.JUMP:
            return await self._jump(ref, signal, at_us, value)
        return await self._stuck(ref, signal, at_us, value)

    async def _jump(self, ref: int, signal: Signal, at_us: int, value: float) -> Fact | None:
        before = await self._before(ref, int(signal.id), at_us)
        if before is None or signal.max_rate is None:
            return None
        before_us, earlier = before
        seconds = (at_us - before_us) / 1e6
        rate = abs(value - earlier) / seconds
        if rate <= signal.max_rate:
            return None
        return Fact(
            "flag.jump",
            {"before": earlier, "before_us": before_us, "seconds": seconds, "rate": rate, "limit": signal.max_rate,
             "unit": signal.unit},
        )  # fmt: skip

    async def _stuck(self, ref: int, signal: Signal, at_us: int, value: float) -> Fact | None:
        limit_s = signal.stuck_after_s
        if limit_s is None:
            return None
        begin_us = at_us - max(int(4 * limit_s * 1e6), DAY_US)
        found = await store.series(self._history, ref, int(signal.id), begin_us, at_us + 1)
        others = np.flatnonzero(found.value != value)
        since_us = int(found.time_us[min(others[-1] + 1, len(found.time_us) - 1)] if len(others) else found.time_us[0])
        held_s = (at_us - since_us) / 1e6
        if held_s <= limit_s:
            return None
        speed = await store.series(self._history, ref, self._speed, at_us - MOVING_WINDOW_US, at_us + MOVING_WINDOW_US)
        fastest = float(speed.value.max()) if len(speed.value) else 0.0
        return Fact(
            "flag.stuck",
            {
                "since_us": since_us,
                "held_s": held_s,
                "limit_s": limit_s,
                "speed_kmh": fastest,
                "moving_kmh": MOVING_KMH,
            },
        )

    async def _clock(self, ref: int, signal: Signal, at_us: int) -> Fact:
        arrived_us = await store.arrived(self._history, ref, int(signal.id), at_us)
        if arrived_us is None or at_us <= arrived_us + AHEAD_US:
            return Fact("flag.clock", {"at_us": at_us, "arrived_us": arrived_us or 0})
        return Fact(
            "flag.clock_ahead", {"at_us": at_us, "arrived_us": arrived_us, "seconds": (at_us - arrived_us) / 1e6}
        )

    async def _before(self, ref: int, signal: int, at_us: int) -> tuple[int, float] | None:
        """The sample before an instant, looked for ever further back."""
        for back_us in LOOK_BACK_US:
            found: Samples = await store.series(self._history, ref, signal, at_us - back_us, at_us)
            if len(found.time_us):
                return int(found.time_us[-1]), float(found.value[-1])
        return None


def _out_of_range(signal: Signal, value: float) -> Fact | None:
    if signal.min is not None and value < signal.min:
        return Fact("flag.too_low", {"limit": signal.min, "unit": signal.unit})
    if signal.max is not None and value > signal.max:
        return Fact("flag.too_high", {"limit": signal.max, "unit": signal.unit})
    return None


def _signed(epoch: int) -> int:
    """Epochs are shown as 64 unsigned bits and stored signed."""
    return epoch - (1 << 64) if epoch >> 63 else epoch
