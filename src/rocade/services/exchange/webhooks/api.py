"""HTTP API of webhooks: each party keeps its own endpoints; the secret is shown once, when it is made."""

from __future__ import annotations

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, SkipValidation

from rocade.doors.http import AnyRequest, caller_of, does
from rocade.services.exchange.news import reader_of
from rocade.services.exchange.webhooks.service import EVENTS, Webhooks
from rocade.services.exchange.webhooks.store import Endpoint
from rocade.trust.authority.gate import acts

WebhooksDependency = NamedDependency[SkipValidation[Webhooks]]


class NewEndpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str
    events: tuple[str, ...] = EVENTS


class EndpointView(msgspec.Struct, frozen=True):
    """`paused_us` not 0: it is told nothing until it is resumed. `status`: the receiver's last answer, 0 = none."""

    id: str
    url: str
    events: tuple[str, ...]
    made_us: int
    attempt: int
    due_us: int
    paused_us: int
    status: int
    secret: str = ""


class EndpointsView(msgspec.Struct, frozen=True):
    items: list[EndpointView]


class SecretView(msgspec.Struct, frozen=True):
    secret: str


def _view(one: Endpoint, secret: str = "") -> EndpointView:
    return EndpointView(
        one.id, one.url, one.events, one.made_us, one.attempt, one.due_us, one.paused_us, one.status, secret
    )


@get("/v1/webhooks", opt=does(acts.KEEP_WEBHOOKS))
async def list_endpoints(request: AnyRequest, webhooks: WebhooksDependency) -> EndpointsView:
    """The caller's endpoints and how they are doing."""
    return EndpointsView([_view(one) for one in await webhooks.of(reader_of(caller_of(request).id))])


@post("/v1/webhooks", opt=does(acts.KEEP_WEBHOOKS))
async def add_endpoint(request: AnyRequest, data: JSONBody[NewEndpoint], webhooks: WebhooksDependency) -> EndpointView:
    """A new endpoint; its secret is in this answer and nowhere else."""
    return _view(*await webhooks.add(reader_of(caller_of(request).id), data.url, data.events))


@delete("/v1/webhooks/{id:str}", opt=does(acts.KEEP_WEBHOOKS), status_code=204)
async def remove_endpoint(request: AnyRequest, id: FromPath[str], webhooks: WebhooksDependency) -> None:
    """Tell it nothing more."""
    await webhooks.remove(reader_of(caller_of(request).id), id)


@post("/v1/webhooks/{id:str}/rotate", opt=does(acts.KEEP_WEBHOOKS))
async def rotate_secret(request: AnyRequest, id: FromPath[str], webhooks: WebhooksDependency) -> SecretView:
    """A new secret; for a day the old one signs besides."""
    return SecretView(await webhooks.rotate(reader_of(caller_of(request).id), id))


@post("/v1/webhooks/{id:str}/resume", opt=does(acts.KEEP_WEBHOOKS), status_code=204)
async def resume_endpoint(request: AnyRequest, id: FromPath[str], webhooks: WebhooksDependency) -> None:
    """Try a paused endpoint again; it goes on where it was."""
    await webhooks.resume(reader_of(caller_of(request).id), id)


HANDLERS = [list_endpoints, add_endpoint, remove_endpoint, rotate_secret, resume_endpoint]
