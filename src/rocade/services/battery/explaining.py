"""What battery health can explain: `battery:<ref>`, how the answer came about, or why there is none."""

from __future__ import annotations

import re

from rocade.core.errors import Unavailable
from rocade.core.why import About, Chain, Fact
from rocade.services.battery.model import KNOWN, Health
from rocade.services.battery.service import Batteries
from rocade.trust.authority.gate.acts import READ_BATTERY

_REF = re.compile(r"\d{1,19}", re.ASCII)


class Answers:
    def __init__(self, batteries: Batteries) -> None:
        self._batteries = batteries

    async def explain(self, rest: str) -> Chain | None:
        if not _REF.fullmatch(rest) or not 0 < int(rest) < 1 << 63:
            return None
        try:
            health = await self._batteries.health(int(rest), most_windows=1)
        except Unavailable:
            return None
        if not health.made_us:
            return None
        return Chain(f"battery:{rest}", tuple(_facts(health)), About((READ_BATTERY.name,), int(rest)))


def _facts(health: Health) -> list[Fact]:
    found, seen = health.found, health.seen
    facts = [Fact("battery.read", {"read_until_us": health.read_until_us, "used": found.used, "needed": found.needed})]
    if health.pack.new_kwh:
        facts.append(Fact("battery.new", {"new_kwh": health.pack.new_kwh}))
    facts += [Fact(f"battery.left_out.{why}", {"count": count}) for why, count in sorted(health.left_out.items())]
    if found.state == KNOWN and found.percent:
        interval = {"percent": found.percent.value, "low": found.percent.low, "high": found.percent.high}
        facts.append(Fact("battery.known", {**interval, "charges": found.charges, "drives": found.drives}))
        if found.odd:
            facts.append(Fact("battery.odd", {"count": found.odd}))
    else:
        facts.append(Fact(f"battery.{found.state}", {"used": found.used, "needed": found.needed}))
    if seen.reported_percent is not None:
        facts.append(Fact("battery.reported", {"percent": seen.reported_percent}))
    return [*facts, *(Fact(f"battery.flag.{flag}") for flag in found.flags)]
