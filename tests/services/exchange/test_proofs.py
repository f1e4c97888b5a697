"""A receipt proven to anybody: the file that the hub writes, the region's root certificate, and nothing else."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest
from tests.clocks import PassingClock
from tests.services.exchange.hub import Hub

from rocade.core.errors import Refused
from rocade.services.exchange import Wanted
from rocade.services.exchange.proving import proofs
from rocade.trust.identity.directory import load_issuers
from rocade.trust.identity.proof import read_trust, verify

DAY_US = 86_400_000_000


async def written(hub: Hub) -> list[bytes]:
    """The proof files of one refused message among others."""
    dealer = await (await hub.dealer("FR-1")).connect()
    for number in range(5):
        await dealer.send(dealer.message(b"%d" % number))
    (standing,) = await hub.exchange.search(Wanted(id="main-3"))
    await hub.exchange.decide(standing.number, "local/desk", "refused", "claim.late", "too late")
    issuers = load_issuers(hub.directory / "trust")
    return await proofs(hub.exchange, standing.number, issuers.sealed)


async def test_both_receipts_are_proven_with_the_roots_certificate_alone(hub: Hub) -> None:
    trust = read_trust((hub.directory / "trust" / "trust.pem").read_bytes())
    received, decided = (verify(file, trust) for file in await written(hub))
    assert '"kind":"received"' in " ".join(received)
    assert '"code":"claim.late"' in " ".join(decided)


async def test_a_proof_stays_good_after_the_hubs_key_was_renewed(hub: Hub, clock: PassingClock) -> None:
    files = await written(hub)
    clock.ahead_us += 6 * DAY_US
    assert await hub.signer.renew()
    trust = read_trust((hub.directory / "trust" / "trust.pem").read_bytes())
    assert all(verify(file, trust) for file in files)
    (standing,) = await hub.exchange.search(Wanted(id="main-3"))
    again = await proofs(hub.exchange, standing.number, load_issuers(hub.directory / "trust").sealed)
    assert [json.loads(one)["content"] for one in again] == [json.loads(one)["content"] for one in files]


@pytest.mark.parametrize("field", ["content", "position", "path", "head", "chains"])
async def test_a_proof_that_was_changed_is_refused(hub: Hub, field: str) -> None:
    document = json.loads((await written(hub))[1])
    other = json.loads((await written_again(hub))[0])
    document[field] = {"position": 7, "path": b64encode(bytes(32)).decode(), "chains": []}.get(field, other[field])
    trust = read_trust((hub.directory / "trust" / "trust.pem").read_bytes())
    with pytest.raises(Refused, match=r"proof\."):
        verify(json.dumps(document).encode(), trust)


async def written_again(hub: Hub) -> list[bytes]:
    """Another message's proof."""
    dealer = hub.dealers[0]
    message = dealer.message(b"another")
    await dealer.send(message)
    (standing,) = await hub.exchange.search(Wanted(id=message.id))
    return await proofs(hub.exchange, standing.number, load_issuers(hub.directory / "trust").sealed)
