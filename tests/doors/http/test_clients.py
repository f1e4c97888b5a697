"""The register of machine clients over real mutual TLS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.doors.http.conftest import CLOCK, Stand
from tests.doors.http.test_oauth import GRANT
from tests.trust.authority.machines.conftest import PURPOSES

from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, build, clients, oauth
from rocade.fabric.database import Database
from rocade.trust.authority.machines import Clients, Place, Tokens


@pytest.fixture
async def registering(stand: Stand, database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    place = Place("test.rocade", "eu", "https://localhost:8443")
    tokens = await Tokens.open(database, tmp_path / "tokens", place, stand.audit, CLOCK, SystemRandom())
    access = Access(stand._verify, stand.revoked.__contains__, stand.gate, stand.audit, CLOCK, tokens=tokens)
    dependencies = {"tokens": tokens, "clients": Clients(database, stand.audit, CLOCK, PURPOSES)}
    stand.app = build([*oauth.HANDLERS, *clients.HANDLERS], dependencies, access, version="0")
    yield stand
    await tokens.close()


async def test_an_operator_registers_changes_lists_and_drops_a_client(registering: Stand) -> None:
    stand = registering
    acme = {"kind": "partner", "id": "acme"}
    async with (
        stand.serve() as (_, address),
        stand.client(address, stand.identity("operator", "first")) as operator,
        stand.client(address, stand.identity("partner", "acme")) as partner,
    ):
        assert (await partner.post("/oauth/token", data=GRANT)).json()["code"] == "access.token.client"
        put = await operator.post("/v1/clients", params={**acme, "purposes": "research, insurance"})
        assert put.json()["purposes"] == ["insurance", "research"]
        (listed,) = (await operator.get("/v1/clients")).json()["items"]
        assert (listed["kind"], listed["id"], listed["added_by"]) == (
            "partner", "acme", stand.region.identity("operator", "first").uri)  # fmt: skip
        for _ in range(50):
            answer = await partner.post("/oauth/token", data=GRANT)
            if answer.status_code == 200:
                break
        assert answer.json()["scope"] == "purpose:insurance purpose:research"
        assert (await operator.delete("/v1/clients", params=acme)).status_code == 204
        gone = await operator.delete("/v1/clients", params=acme)
        assert (gone.status_code, gone.json()["code"]) == (404, "access.client.unknown")


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"kind": "vehicle", "id": "VF1", "purposes": "insurance"}, "access.client.kind"),
        ({"kind": "partner", "id": "acme", "purposes": ""}, "access.client.purpose"),
        ({"kind": "partner", "id": "a/b", "purposes": "insurance"}, "trust.identity.malformed"),
        ({"kind": "partner", "id": "acme"}, "http.request.invalid"),
    ],
)
async def test_a_client_without_meaning_is_refused(registering: Stand, parameters: dict[str, str], code: str) -> None:
    stand = registering
    async with stand.serve() as (_, address), stand.client(address, stand.identity("operator", "first")) as operator:
        assert (await operator.post("/v1/clients", params=parameters)).json()["code"] == code


async def test_a_partner_does_not_register_itself(registering: Stand) -> None:
    stand = registering
    async with stand.serve() as (_, address), stand.client(address, stand.identity("partner", "acme")) as partner:
        mine = {"kind": "partner", "id": "acme", "purposes": "insurance"}
        assert (await partner.post("/v1/clients", params=mine)).status_code == 403
        assert (await partner.get("/v1/clients")).status_code == 403
        assert (await partner.delete("/v1/clients", params=mine)).status_code == 403
