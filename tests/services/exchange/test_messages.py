"""Messages on the line: recorded before they are receipted, receipted twice, one effect whatever is repeated."""

from __future__ import annotations

from tests.services.exchange.hub import Hub

from rocade.services.exchange import Wanted


async def test_a_signed_message_is_on_disk_and_gets_a_signed_receipt(hub: Hub) -> None:
    dealer = await (await hub.dealer("FR-1")).connect()
    message = dealer.message(b"claim 1")
    assert await dealer.send(message) == (0, "")
    (receipt,) = await dealer.receipts(message)
    assert (receipt.sender, receipt.hub) == (dealer.identity.uri, "spiffe://test.rocade/eu/service/exchange")
    (standing,) = await hub.exchange.search(Wanted(party="dealer/FR-1"))
    assert (standing.state, standing.target, standing.sha256) == ("received", "local/desk", receipt.message_sha256)
    assert await hub.audited("exchange-commit:1")
