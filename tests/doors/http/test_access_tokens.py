"""An access token on a route that reads a vehicle, over real mutual TLS: what it opens, and what it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from litestar import Request, get
from litestar.params import FromPath
from tests.doors.http.conftest import CLOCK, Stand
from tests.doors.http.test_oauth import GRANT
from tests.trust.authority.machines.conftest import PURPOSES
from tests.unowned import Unowned

from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, Listeners, build, does, loopback_sockets, oauth
from rocade.doors.http.access import permit_of
from rocade.fabric.database import Database
from rocade.trust.authority.gate import Gate, Principal, Right, acts
from rocade.trust.authority.machines import Clients, Place, Tokens
from rocade.trust.identity.directory import load_leaf

TWIN = "/v1/vehicles/7/twin"


@get("/v1/vehicles/{ref:int}/twin", opt=does(acts.READ_TWIN))
async def read(request: Request, ref: FromPath[int]) -> dict[str, str]:
    return {"purpose": permit_of(request).purpose, "grant": permit_of(request).right.grant}


@get("/v1/many", opt=does(acts.READ_CERTIFICATES))
async def certificates() -> str:
    return "certificates"


@get("/v1/touch", opt=does(acts.REVOKE))
async def undoable() -> str:
    return "revoked"


class Granted(Unowned):
    """Vehicle 7 is owned; acme may see its energy for insurance and for research."""

    def right(self, principal: Principal, ref: int, purpose: str, at_us: int) -> Right:
        mask = 8 if principal.recipient == "partner:acme" and purpose in {"insurance", "research"} else 0
        return Right("none", mask, "consent-1" if mask else "", is_owned=True)


@pytest.fixture
async def reading(stand: Stand, database: Database, tmp_path: Path) -> AsyncIterator[Stand]:
    clients = Clients(database, stand.audit, CLOCK, PURPOSES)
    for name in ("acme", "other"):
        await clients.put(stand.region.identity("partner", name), ["insurance", "traffic"], "test")
    place = Place("test.rocade", "eu", "https://localhost:8443")
    tokens = await Tokens.open(database, tmp_path / "tokens", place, stand.audit, CLOCK, SystemRandom())
    gate = Gate("eu", Granted())
    access = Access(stand._verify, stand.revoked.__contains__, gate, stand.audit, CLOCK, tokens=tokens)
    stand.app = build([*oauth.HANDLERS, read, certificates, undoable], {"tokens": tokens}, access, version="0")
    yield stand
    await tokens.close()


async def token_of(client: httpx.AsyncClient, *purposes: str) -> dict[str, str]:
    scope = " ".join(f"purpose:{purpose}" for purpose in purposes)
    answer = await client.post("/oauth/token", data={**GRANT, "scope": scope})
    return {"authorization": f"Bearer {answer.json()['access_token']}"}


async def test_a_token_reads_for_its_purposes_on_its_own_connection(reading: Stand) -> None:
    stand = reading
    async with (
        stand.serve() as (_, address),
        stand.client(address, stand.identity("partner", "acme")) as acme,
        stand.client(address, stand.identity("partner", "other")) as other,
    ):
        token = await token_of(acme, "insurance")
        answer = await acme.get(TWIN, headers=token)
        assert (answer.status_code, answer.json()) == (200, {"purpose": "insurance", "grant": "consent-1"})
        cases = [
            (acme, {}, "?purpose=insurance", 403, "gate.denied"),
            (acme, token, "?purpose=research", 403, "gate.denied"),
            (acme, await token_of(acme, "traffic"), "", 403, "gate.denied"),
            (other, token, "", 401, "access.token.certificate"),
            (other, await token_of(other, "insurance"), "", 403, "gate.denied"),
            (acme, {"authorization": "Bearer a.b.c"}, "", 401, "access.token.malformed"),
            (acme, {}, "?access_token=" + token["authorization"][7:], 401, "access.token.query"),
        ]
        for client, headers, query, status, code in cases:
            answer = await client.get(TWIN + query, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (query, code)
            assert stand.audit.entries[-1].reason == code
            assert token["authorization"][7:] not in str(stand.audit.entries), "a token stands in no audit entry"
            if status == 401:
                assert answer.headers["www-authenticate"] == 'Bearer realm="rocade", error="invalid_token"'


async def test_a_revoked_certificate_ends_its_tokens_on_the_open_connection(reading: Stand) -> None:
    stand = reading
    directory = stand.identity("partner", "acme")
    async with stand.serve() as (_, address), stand.client(address, directory) as acme:
        token = await token_of(acme, "insurance")
        assert (await acme.get(TWIN, headers=token)).status_code == 200
        stand.revoked.add(load_leaf(directory).serial_number)
        answer = await acme.get(TWIN, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (403, "trust.certificate.revoked")
        again = await acme.post("/oauth/token", data=GRANT)
        assert (again.status_code, again.json()["error"]) == (401, "invalid_client")
        assert again.json()["code"] == "trust.certificate.revoked"


async def test_a_token_proves_nobody_over_loopback(reading: Stand) -> None:
    stand = reading
    async with stand.serve() as (_, address), stand.client(address, stand.identity("partner", "acme")) as acme:
        token = await token_of(acme, "insurance")
    sockets = loopback_sockets(0)
    listeners = Listeners(stand.app, SystemRandom(), pages=sockets)
    serving = asyncio.create_task(listeners.serve())
    await listeners.started()
    async with httpx.AsyncClient(base_url=f"http://localhost:{sockets[0].getsockname()[1]}", trust_env=False) as bare:
        answer = await bare.get(TWIN, headers=token)
        assert (answer.status_code, answer.json()["code"]) == (401, "access.token.bare")
        asked = await bare.post("/oauth/token", data=GRANT, headers={"origin": str(bare.base_url)})
        assert (asked.status_code, asked.json().get("error"), asked.json()["code"]) == (
            401, "invalid_client", "access.token.bare")  # fmt: skip
    listeners.stop()
    await asyncio.wait_for(serving, 30)


async def test_an_operators_token_reads_but_does_nothing_that_cannot_be_undone(reading: Stand) -> None:
    stand = reading
    async with stand.serve() as (_, address), stand.client(address, stand.identity("operator", "first")) as operator:
        token = await token_of(operator, "operation")
        assert (await operator.get("/v1/many", headers=token)).status_code == 200
        assert (await operator.get("/v1/touch")).status_code == 200, "the certificate itself may"
        refused = await operator.get("/v1/touch", headers=token)
        assert (refused.status_code, refused.json()["code"]) == (403, "gate.denied")
