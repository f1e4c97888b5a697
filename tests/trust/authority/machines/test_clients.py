"""The register of machine clients."""

from __future__ import annotations

import pytest
from tests.notebook import Notebook
from tests.trust.authority.machines.conftest import ACME, OPERATOR

from rocade.core.errors import Refused
from rocade.core.identifiers import Identity
from rocade.trust.authority.machines import Clients


async def test_a_client_is_registered_changed_listed_and_dropped_each_with_a_note(
    clients: Clients, audit: Notebook
) -> None:
    await clients.put(ACME, ["research", "insurance", "research"], "op")
    await clients.put(Identity("test.rocade", "eu", "dealer", "garage"), ["maintenance"], "op")
    assert [(one.identity, one.purposes) for one in await clients.all()] == [
        ("spiffe://test.rocade/eu/dealer/garage", ("maintenance",)),
        (ACME.uri, ("insurance", "research")),
    ]
    await clients.put(ACME, ["traffic"], "op")
    assert (await clients.all())[1].purposes == ("traffic",)
    await clients.drop(ACME, "op")
    assert len(await clients.all()) == 1
    assert [entry.action for entry in audit.entries] == ["access.client.put"] * 3 + ["access.client.drop"]
    assert {entry.actor for entry in audit.entries} == {"op"}


@pytest.mark.parametrize(
    ("identity", "purposes", "code"),
    [
        (OPERATOR, ["insurance"], "access.client.kind"),
        (Identity("test.rocade", "eu", "vehicle", "VF1"), ["insurance"], "access.client.kind"),
        (ACME, [], "access.client.purpose"),
        (ACME, ["Insurance"], "access.client.purpose"),
        (ACME, ["insurance", "gossip"], "access.client.purpose"),
    ],
)
async def test_refused_is_a_client_without_meaning(
    clients: Clients, identity: Identity, purposes: list[str], code: str, audit: Notebook
) -> None:
    with pytest.raises(Refused) as refused:
        await clients.put(identity, purposes, "op")
    assert refused.value.code == code
    assert not audit.entries
    assert not await clients.all()


async def test_a_client_that_is_not_there_cannot_be_dropped(clients: Clients, audit: Notebook) -> None:
    with pytest.raises(Refused, match="no registered client"):
        await clients.drop(ACME, "op")
    assert not audit.entries
