"""HTTP API of the register of machine clients, for operators: who may ask /oauth/token for which purposes.

`POST /v1/clients?kind=partner&id=acme&purposes=insurance,research` registers or changes, `GET /v1/clients` lists,
`DELETE /v1/clients?kind=partner&id=acme` drops, `POST /v1/clients/keys` rotates the key that signs. Each change is effective in every process within moments, on tokens given
before as well, and audited by `trust.authority.machines.Clients`.
"""

from __future__ import annotations

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.core.identifiers import Identity
from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.trust.authority.gate import acts
from rocade.trust.authority.machines import Client, Clients, Tokens


class ClientView(msgspec.Struct, frozen=True):
    """A registered client."""

    kind: str
    id: str
    purposes: tuple[str, ...]
    added_us: int
    added_by: str


class ClientsView(msgspec.Struct, frozen=True):
    """All registered clients."""

    items: list[ClientView]


def _view(client: Client) -> ClientView:
    identity = Identity.parse(client.identity)
    return ClientView(identity.kind, identity.id, client.purposes, client.added_us, client.added_by)


def _identity(tokens: Tokens, kind: str, id: str) -> Identity:
    """A party of this region.

    Raises: Refused `trust.identity.malformed`.
    """
    return Identity.parse(Identity(tokens.place.trust_domain, tokens.place.region, kind, id).uri)


@get("/v1/clients", opt=does(acts.READ_CERTIFICATES))
async def listed(clients: NamedDependency[SkipValidation[Clients]]) -> ClientsView:
    """Every machine that may ask for access tokens, and for which purposes."""
    return ClientsView([_view(client) for client in await clients.all()])


@post("/v1/clients", status_code=200, opt=does(acts.ENROL_PARTY))
async def put(
    request: AnyRequest,
    clients: NamedDependency[SkipValidation[Clients]],
    tokens: NamedDependency[SkipValidation[Tokens]],
    kind: FromQuery[str],
    id: FromQuery[str],
    purposes: FromQuery[str],
) -> ClientView:
    """Register a client, or give it other purposes (words with commas between)."""
    words = [word.strip() for word in purposes.split(",")]
    return _view(await clients.put(_identity(tokens, kind, id), words, caller_of(request).id))


@delete("/v1/clients", status_code=204, opt=does(acts.ENROL_PARTY))
async def drop(
    request: AnyRequest,
    clients: NamedDependency[SkipValidation[Clients]],
    tokens: NamedDependency[SkipValidation[Tokens]],
    kind: FromQuery[str],
    id: FromQuery[str],
) -> None:
    """Take a client off the register; its tokens are refused from then on."""
    await clients.drop(_identity(tokens, kind, id), caller_of(request).id)


class KeyView(msgspec.Struct, frozen=True):
    """The key that signs next."""

    kid: str


@post("/v1/clients/keys", opt=does(acts.ENROL_PARTY))
async def rotate(
    request: AnyRequest,
    tokens: NamedDependency[SkipValidation[Tokens]],
    withdraw: FromQuery[bool] = False,
) -> KeyView:
    """Sign with a new key once every process has it; `withdraw` refuses everything signed so far, at once."""
    return KeyView(await tokens.rotate(caller_of(request).id, withdraw=withdraw))


HANDLERS = [listed, put, drop, rotate]
