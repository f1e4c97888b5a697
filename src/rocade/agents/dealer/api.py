"""The API for the dealer's software (DMS), on this machine only: prices at an instant, messages out and in, receipts.

Every call carries `Authorization: Bearer <token>`; each route names the scope it needs. The software never holds the site's
key: it hands in what is to be said, the agent signs it. Instants are microseconds since 1970 UTC, or ISO 8601 with an
offset; money is integer minor units with its currency. OpenAPI 3.1 at /v1/openapi.json. Described in docs/dealer-agent.md.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

import msgspec
from litestar import Controller, Litestar, Request, Response, get, post
from litestar.config.response_cache import ResponseCacheConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi.config import OpenAPIConfig
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from rocade import __version__
from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.inbox import Arrived
from rocade.agents.dealer.instants import instant
from rocade.agents.dealer.outbox import Draft, Sent
from rocade.agents.dealer.web import MAX_BODY_BYTES, document
from rocade.core.errors import Refused, RocadeError
from rocade.wire.exchange import Address

MOST_REFS = 10_000
LONGEST_WAIT_S = 25.0
_PART = ("ref", "family", "label", "superseded_by")

AnyRequest = Request[Any, Any, Any]


class SendBody(msgspec.Struct, forbid_unknown_fields=True):
    """A message to sign and send. `body` is base64; `id` (at most 64) makes a retry harmless."""

    recipient: Address
    content_class: str
    content_type: str
    body: bytes
    stream: str = "main"
    id: str = ""
    answers: str = ""
    hub: str = ""


class BatchBody(msgspec.Struct, forbid_unknown_fields=True):
    refs: Annotated[list[str], msgspec.Meta(max_length=MOST_REFS)]
    at: str | int = ""


class DecisionBody(msgspec.Struct, forbid_unknown_fields=True):
    """What is decided about a message that came in."""

    outcome: str
    code: str = ""
    reason: str = ""


def scope(name: FromPath[str]) -> dict[str, str]:
    """What a route needs; as `opt` of its handler."""
    return {"scope": name}


async def _guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    dealer: Dealer = connection.app.state.dealer
    dealer.tokens.check(connection.headers.get("authorization", ""), handler.opt["scope"])


@get("/v1/lists", opt=scope("prices.read"))
async def lists(state: State) -> Any:
    """The lists held here, each with its number, since when, and its brand."""
    return _dealer(state).prices.lists()


@get("/v1/lists/{name:str}/parts", opt=scope("prices.read"))
async def search(
    state: State, name: FromPath[str], q: FromQuery[str], count: Annotated[int, QueryParameter(ge=1, le=200)] = 50
) -> Any:
    """Parts whose reference or label contains `q`."""
    cards = _dealer(state).prices.search(name, q, count)
    return [dict(zip(_PART, msgspec.to_builtins(card.description), strict=True)) for card in cards]


@get("/v1/lists/{name:str}/parts/{ref:str}/price", opt=scope("prices.read"))
async def price(
    state: State, name: FromPath[str], ref: FromPath[str], at: FromQuery[str] = "", known: FromQuery[int | None] = None
) -> Any:
    """The price of a part at an instant (default now), as known now or at number `known` of the list."""
    dealer = _dealer(state)
    return dealer.prices.price(name, ref, instant(at, dealer.prices.now_us(name)), known)


@post("/v1/lists/{name:str}/prices", opt=scope("prices.read"), status_code=200)
async def prices(state: State, name: FromPath[str], data: JSONBody[BatchBody]) -> Any:
    """Many prices at one instant; a reference the list does not hold is answered with null."""
    dealer = _dealer(state)
    return dealer.prices.prices(name, data.refs, instant(data.at, dealer.prices.now_us(name)))


@get("/v1/lists/{name:str}/parts/{ref:str}/history", opt=scope("prices.read"))
async def history(state: State, name: FromPath[str], ref: FromPath[str]) -> Any:
    """Everything that was ever said about a part's price, oldest first."""
    return _dealer(state).prices.entries(name, ref)


@get("/v1/lists/{name:str}/changes/{number:int}", opt=scope("prices.read"))
async def changes(state: State, name: FromPath[str], number: FromPath[int]) -> Any:
    """What one release changed."""
    return _dealer(state).prices.changed(name, number)


@get("/v1/lists/{name:str}/parts/{ref:str}/proof", opt=scope("prices.read"))
async def proof(state: State, name: FromPath[str], ref: FromPath[str], at: FromQuery[str] = "") -> Response[bytes]:
    """A file that `rocade verify` accepts or refuses without this agent, the hub or a network."""
    dealer = _dealer(state)
    made = dealer.prices.prove(name, ref, instant(at, dealer.prices.now_us(name)))
    return Response(made, media_type="application/json")


@post("/v1/messages", opt=scope("messages.send"), status_code=202)
async def send(state: State, data: JSONBody[SendBody]) -> Sent:
    """Sign a message and keep it; it leaves when the line is up. 202 = it is on this disk, and stays until it is taken."""
    dealer = _dealer(state)
    draft = Draft(
        recipient=data.recipient, content_class=data.content_class, content_type=data.content_type, body=data.body,
        stream=data.stream, id=data.id, answers=data.answers,
    )  # fmt: skip
    return await dealer.send(data.hub, draft)


@get("/v1/messages", opt=scope("messages.read"))
async def messages(
    state: State, status: FromQuery[str] = "", text: FromQuery[str] = "", before: FromQuery[int] = 1 << 62,
    count: Annotated[int, QueryParameter(ge=1, le=500)] = 100,
) -> list[Sent]:  # fmt: skip
    """What was sent, newest first; `status` is waiting, taken, received, accepted, refused or set_aside."""
    return _dealer(state).outbox.find(state=status, text=text, before=before, count=count)


@get("/v1/messages/{message:str}", opt=scope("messages.read"))
async def message(state: State, message: FromPath[str], hub: FromQuery[str] = "") -> dict[str, Any]:
    """Where a message stands, with its receipts as documents that prove themselves."""
    dealer = _dealer(state)
    name = dealer.hub(hub).name
    sent = dealer.outbox.get(name, message)
    receipts = [
        {"kind": kind, "at_us": at_us, "document": msgspec.Raw(proof)}
        for kind, at_us, proof in dealer.outbox.receipts(name, message)
    ]
    return {"message": sent, "receipts": receipts}


@get("/v1/inbox", opt=scope("messages.read"))
async def inbox(
    state: State, hub: FromQuery[str] = "", after: FromQuery[int] = 0, count: Annotated[int, QueryParameter(ge=1, le=500)] = 100,
    wait_s: Annotated[float, QueryParameter(ge=0, le=LONGEST_WAIT_S)] = 0,
) -> list[Arrived]:  # fmt: skip
    """What came in after a cursor, oldest first; with `wait_s` the answer waits for something to come."""
    dealer = _dealer(state)
    name = dealer.hub(hub).name
    found = dealer.inbox.after(name, after, count)
    if not found and wait_s:
        await dealer.arrival(wait_s)
        found = dealer.inbox.after(name, after, count)
    return found


@get("/v1/inbox/{cursor:int}", opt=scope("messages.read"))
async def arrived(state: State, cursor: FromPath[int], hub: FromQuery[str] = "") -> Response[bytes]:
    """One message that came in: the envelope its sender signed, whole."""
    dealer = _dealer(state)
    envelope = dealer.inbox.envelope(dealer.hub(hub).name, cursor)
    if not envelope:
        raise Refused("dealer.message.unknown", "nothing came in under this cursor")
    return Response(envelope, media_type="application/vnd.rocade.message+dsse")


@post("/v1/inbox/{cursor:int}/decision", opt=scope("messages.send"), status_code=202)
async def decide(state: State, cursor: FromPath[int], data: JSONBody[DecisionBody], hub: FromQuery[str] = "") -> Sent:
    """Sign what is decided about a message that came in; it leaves like any message."""
    return _dealer(state).decide(hub, cursor, data.outcome, data.code, data.reason)


@get("/v1/state", opt=scope("state.read"))
async def show_state(state: State) -> Any:
    """How the agent is: lines, lists, outbox, certificates."""
    return _dealer(state).standing()


class _Document(Controller):
    path = "/v1"
    opt = scope("state.read")

    @get("/openapi.json", include_in_schema=False, media_type="application/vnd.oai.openapi+json")
    async def show(self, request: AnyRequest) -> Response[bytes]:
        body = msgspec.json.encode(request.app.openapi_schema.to_schema())
        return Response(body, media_type="application/vnd.oai.openapi+json")


HANDLERS = (
    lists, search, price, prices, history, changes, proof, send, messages, message, inbox, arrived, decide, show_state,
)  # fmt: skip


def build(dealer: Dealer) -> Litestar:
    """The application; the caller puts `web.Shell` around it."""
    return Litestar(
        route_handlers=list(HANDLERS),
        guards=[_guard],
        state=State({"dealer": dealer}),
        exception_handlers={RocadeError: _on_error, HTTPException: _on_http, Exception: _on_unforeseen},
        openapi_config=OpenAPIConfig("Rocade dealer agent", __version__, openapi_controller=_Document),  # type: ignore[arg-type]
        request_max_body_size=MAX_BODY_BYTES,
        response_cache_config=ResponseCacheConfig(),
        logging_config=None,
    )


def _dealer(state: State) -> Dealer:
    return state["dealer"]  # type: ignore[no-any-return]  # a State knows no types


def _problem(error: RocadeError) -> Response[bytes]:
    status, body = document(error)
    headers = {"retry-after": "2"} if status == 503 else {"www-authenticate": "Bearer"} if status == 401 else {}
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)


def _on_error(_: AnyRequest, error: RocadeError) -> Response[bytes]:
    return _problem(error)


def _on_http(_: AnyRequest, error: HTTPException) -> Response[bytes]:
    wrong = [f"{one.get('key', '')}: {one.get('message', '')}" for one in error.extra or () if isinstance(one, dict)]
    refusal = Refused("dealer.web.request", "; ".join(wrong) or error.detail)
    status, body = document(refusal)
    body = body.replace(f'"status":{status}'.encode(), f'"status":{error.status_code}'.encode())
    return Response(body, status_code=error.status_code, media_type="application/problem+json")


def _on_unforeseen(_: AnyRequest, error: Exception) -> Response[bytes]:
    logging.getLogger(__name__).error("unforeseen error", exc_info=error)
    body = msgspec.json.encode(
        {"type": "urn:rocade:error:dealer.unforeseen", "status": 500, "code": "dealer.unforeseen"}
    )
    return Response(body, status_code=500, media_type="application/problem+json")
