"""HTTP API of the exchange: search without content, content by its class, proofs, the routing table and what a change would do.

What changes something needs a touch, which is bound to path and query: the digest of a new routing table stands in the query, the table
in the body.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter, SkipValidation

from rocade.core.errors import Refused
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.exchange import errors
from rocade.services.exchange.model import STATES, Change, Routes, Standing, Turned
from rocade.services.exchange.proving import proofs
from rocade.services.exchange.routing import Router, read_rules
from rocade.services.exchange.service import Exchange
from rocade.services.exchange.store import Wanted
from rocade.trust.authority.gate import acts
from rocade.trust.identity.directory import LiveIssuers
from rocade.wire.exchange import CLASSES

ExchangeDependency = NamedDependency[SkipValidation[Exchange]]
RouterDependency = NamedDependency[SkipValidation[Router]]
IssuersDependency = NamedDependency[SkipValidation[LiveIssuers]]
Number = Annotated[int, QueryParameter(ge=0, le=(1 << 63) - 1)]
Limit = Annotated[int, QueryParameter(ge=1, le=500)]
MOST_BYTES = 4 << 20


class MessagesView(msgspec.Struct, frozen=True):
    """`next` is the cursor of the following page, None at the end."""

    items: list[Standing]
    next: str | None


class TurnedView(msgspec.Struct, frozen=True):
    items: list[Turned]
    next: str | None


class RoutesView(msgspec.Struct, frozen=True):
    """The newest version first."""

    items: list[Routes]


class ChangesView(msgspec.Struct, frozen=True):
    """Messages that would go elsewhere; `messages` is how many altogether."""

    items: list[Change]
    messages: int


def _cursor(cursor: str) -> int:
    if not cursor:
        return (1 << 63) - 1
    if not cursor.isdecimal() or len(cursor) > 18:
        raise errors.bad_cursor()
    return int(cursor)


@get(
    "/v1/exchange/messages", opt=does(acts.SEARCH_EXCHANGE), summary="Messages without their content, the newest first"
)
async def search_messages(
    exchange: ExchangeDependency,
    party: FromQuery[str] = "",
    id: FromQuery[str] = "",
    brand: FromQuery[str] = "",
    country: FromQuery[str] = "",
    service: FromQuery[str] = "",
    site: FromQuery[str] = "",
    target: FromQuery[str] = "",
    stream: FromQuery[str] = "",
    code: FromQuery[str] = "",
    message_state: FromQuery[str] = "",
    content_class: FromQuery[str] = "",
    refused: FromQuery[bool] = False,
    since_us: Number = 0,
    until_us: Number = (1 << 63) - 1,
    cursor: FromQuery[str] = "",
    limit: Limit = 50,
) -> MessagesView:
    """`code` finds a code or a whole family; `refused` those that were refused or are in conflict."""
    if (message_state and message_state not in STATES) or (content_class and content_class not in CLASSES):
        raise Refused("exchange.search", f"states are {', '.join(STATES)}; classes are {', '.join(CLASSES)}")
    texts = {"party": party, "id": id, "brand": brand, "country": country, "service": service, "site": site,
             "target": target, "stream": stream, "code": code}  # fmt: skip
    if any("\x00" in text for text in texts.values()):
        raise Refused("exchange.search", "a text may not hold a zero character")
    wanted = Wanted(
        **texts, state=message_state, content_class=content_class, refused=refused, since_us=since_us, until_us=until_us
    )
    items = await exchange.search(wanted, _cursor(cursor), limit)
    return MessagesView(items, str(items[-1].number) if len(items) == limit else None)


@get("/v1/exchange/messages/{number:int}", opt=does(acts.SEARCH_EXCHANGE), summary="Where one message stands")
async def show_message(number: FromPath[int], exchange: ExchangeDependency) -> Standing:
    return await exchange.standing(number)


@get("/v1/exchange/messages/{number:int}/proofs", opt=does(acts.SEARCH_EXCHANGE), summary="Its receipts as proof files")
async def show_proofs(
    number: FromPath[int], exchange: ExchangeDependency, issuers: IssuersDependency
) -> list[dict[str, Any]]:
    """Each document is accepted by `rocade verify FILE --key` with the region's root key."""
    return [msgspec.json.decode(one) for one in await proofs(exchange, number, issuers.table.sealed)]


async def _content(exchange: Exchange, number: int, content_class: str) -> Response[bytes]:
    standing = await exchange.standing(number)
    if standing.content_class != content_class:
        raise errors.unknown_message()
    return Response(await exchange.envelope(number), media_type="application/json")


@get("/v1/exchange/technical/{number:int}", opt=does(acts.READ_TECHNICAL_MESSAGE), summary="A technical message, whole")
async def read_technical(number: FromPath[int], exchange: ExchangeDependency) -> Response[bytes]:
    return await _content(exchange, number, "technical")


@get(
    "/v1/exchange/customer/{number:int}",
    opt=does(acts.READ_CUSTOMER_MESSAGE),
    summary="A message about customers, whole",
)
async def read_customer(number: FromPath[int], exchange: ExchangeDependency) -> Response[bytes]:
    return await _content(exchange, number, "customer")


@get("/v1/exchange/fiscal/{number:int}", opt=does(acts.READ_FISCAL_MESSAGE), summary="A fiscal message, whole")
async def read_fiscal(number: FromPath[int], exchange: ExchangeDependency) -> Response[bytes]:
    return await _content(exchange, number, "fiscal")


@get("/v1/exchange/turned", opt=does(acts.SEARCH_EXCHANGE), summary="What was refused before it was a message")
async def list_turned(
    exchange: ExchangeDependency,
    party: FromQuery[str] = "",
    code: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
    limit: Limit = 50,
) -> TurnedView:
    if "\x00" in party + code:
        raise Refused("exchange.search", "a text may not hold a zero character")
    items = await exchange.turned(party, code, _cursor(cursor), limit)
    return TurnedView(items, str(items[-1].number) if len(items) == limit else None)


@post(
    "/v1/exchange/streams/skip", opt=does(acts.SKIP_STREAM), status_code=204, summary="Let a stream go on at a number"
)
async def skip_stream(
    request: AnyRequest, exchange: ExchangeDependency, party: FromQuery[str], stream: FromQuery[str], next: Number
) -> None:
    """For messages that can never come, as after a lost disk."""
    if "\x00" in party + stream:
        raise Refused("exchange.search", "a text may not hold a zero character")
    await exchange.skip(party, stream, next, permit_of(request).principal.id)


@get("/v1/exchange/routes", opt=does(acts.READ_ROUTES), summary="The routing table and its versions")
async def list_routes(router: RouterDependency, limit: Limit = 1) -> RoutesView:
    found = await router.versions(limit)
    return RoutesView(found or [await router.current()])


@post(
    "/v1/exchange/routes/simulation",
    opt=does(acts.READ_ROUTES),
    status_code=200,
    summary="What a new table would change",
)
async def simulate_routes(
    request: AnyRequest,
    router: RouterDependency,
    days: Annotated[float, QueryParameter(ge=0.01, le=400)] = 30.0,
) -> ChangesView:
    """Body: a JSON list of rules. Nothing is changed."""
    changes = await router.simulate(read_rules(await request.body()), days)
    return ChangesView(changes, sum(one.count for one in changes))


@put("/v1/exchange/routes", opt=does(acts.CHANGE_ROUTES), summary="Put a new routing table into force")
async def change_routes(
    request: AnyRequest, router: RouterDependency, based_on: Number, digest: FromQuery[str], note: FromQuery[str] = ""
) -> Routes:
    """Body: a JSON list of rules; `digest` is its SHA-256, `based_on` the version it was made from."""
    body = await request.body()
    if sha256(body).hexdigest() != digest:
        raise errors.bad_rules("its SHA-256 is not the digest in the query")
    return await router.publish(read_rules(body), based_on, note.replace("\x00", ""), permit_of(request).principal.id)


HANDLERS = [
    search_messages, show_message, show_proofs, read_technical, read_customer, read_fiscal, list_turned, skip_stream,
    list_routes, simulate_routes, change_routes,
]  # fmt: skip
