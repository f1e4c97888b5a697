"""Why: a message's way is told to its sender and to support, and to nobody else."""

from __future__ import annotations

import pytest
from tests.services.exchange.hub import Hub

from rocade.core import why
from rocade.services.exchange import Wanted
from rocade.services.exchange.explaining import Messages


async def test_a_messages_way_is_told_step_by_step(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    for number in range(2):
        await dealer.send(dealer.message(b"%d" % number))
    first, second = sorted(await hub.exchange.search(Wanted()), key=lambda one: one.number)
    await hub.exchange.decide(second.number, "local/desk", "refused", "claim.late", "too late")
    told = Messages(hub.exchange)
    chain = await told.explain(str(second.number))
    assert chain
    assert [fact.key.partition(".")[2] for fact in chain.facts] == [
        "signed", "recorded", "order", "routed", "refused", "code",
    ]  # fmt: skip
    assert chain.about.recipients == {"dealer:FR-1"}
    assert chain.about.acts == ("exchange.search",)
    for language in why.LANGUAGES:
        assert "claim.late" in " ".join(sentence.text for sentence in why.sentences(chain, language))
    waiting = await told.explain(str(first.number))
    assert waiting
    assert waiting.facts[-1].key == "message.is_received"


@pytest.mark.parametrize("rest", ["", "x", "999999", "-1", "1" * 40])
async def test_what_is_no_message_is_not_told(hub: Hub, rest: str) -> None:
    assert await Messages(hub.exchange).explain(rest) is None
