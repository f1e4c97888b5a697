"""What interconnection can explain: `opening:<number>`, one stream that was opened or refused, by what rule, and how it ended."""

from __future__ import annotations

import re

from rocade.core.why import About, Chain, Fact
from rocade.services.interconnection.model import Opening
from rocade.services.interconnection.service import Interconnection
from rocade.trust.authority.gate.acts import READ_INTERCONNECTION

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Openings:
    def __init__(self, interconnection: Interconnection) -> None:
        self._interconnection = interconnection

    async def explain(self, rest: str) -> Chain | None:
        found = await self._interconnection.openings(before=int(rest) + 1, limit=1) if _NUMBER.fullmatch(rest) else []
        if not found or found[0].id != int(rest):
            return None
        (opening,) = found
        return Chain(f"opening:{rest}", tuple(_facts(opening)), About((READ_INTERCONNECTION.name,)))


def _facts(opening: Opening) -> list[Fact]:
    facts = [Fact("opening.asked", {"at_us": opening.at_us, "site": opening.site, "service": opening.service})]
    if opening.device:
        facts.append(Fact("opening.device", {"device": opening.device}))
    if opening.rule:
        facts.append(Fact("opening.by_rule", {"rule": opening.rule}))
    if opening.is_refused:
        return [*facts, Fact("opening.refused", {"code": opening.code}, opening.code)]
    if opening.closed_us is None:
        return [*facts, Fact("opening.open")]
    sizes = {"up_bytes": opening.up_bytes, "down_bytes": opening.down_bytes}
    facts.append(Fact("opening.closed", {"closed_us": opening.closed_us, **sizes}))
    return [*facts, Fact("opening.broke", {"code": opening.code}, opening.code)] if opening.code else facts
