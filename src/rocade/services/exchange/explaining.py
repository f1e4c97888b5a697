"""What the exchange can explain: `message:<number>`, a message's way from its signature to the word about it. Never what it says."""

from __future__ import annotations

import re

from rocade.core.errors import Refused
from rocade.core.why import About, Chain, Fact
from rocade.services.exchange.model import Standing
from rocade.services.exchange.service import Exchange
from rocade.trust.authority.gate.acts import SEARCH_EXCHANGE

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class Messages:
    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    async def explain(self, rest: str) -> Chain | None:
        if not _NUMBER.fullmatch(rest):
            return None
        try:
            standing = await self._exchange.standing(int(rest))
        except Refused:
            return None
        recipients = frozenset({standing.party.replace("/", ":", 1)})
        return Chain(f"message:{rest}", tuple(_facts(standing)), About((SEARCH_EXCHANGE.name,), recipients=recipients))


def _facts(one: Standing) -> list[Fact]:
    facts = [
        Fact("message.signed", {"created_us": one.created_us, "party": one.party, "sha256": one.sha256}),
        Fact("message.recorded", {"recorded_us": one.recorded_us, "number": one.number}),
        Fact("message.order", {"stream": one.stream, "sequence": one.sequence}),
    ]
    if one.target:
        facts.append(Fact("message.routed", {"target": one.target, "service": one.service}))
    if one.state in {"accepted", "refused"} and one.decided_us:
        facts.append(Fact(f"message.{one.state}", {"decided_us": one.decided_us}))
    elif one.state in {"waiting", "conflict", "refused"}:
        facts.append(Fact(f"message.is_{one.state}"))
    else:
        facts.append(Fact("message.is_received"))
    if one.code:
        facts.append(Fact("message.code", {"code": one.code}, one.code))
    return facts
