"""Messages: searched by who sent them, where they went, what became of them and why. Bodies are not shown here."""

from __future__ import annotations

from urllib.parse import urlencode

from litestar import Response, get
from litestar.params import FromPath, FromQuery

from rocade.console.dealers.network import Messages, NetworkDependency
from rocade.console.pages import render
from rocade.core.errors import Unavailable
from rocade.doors.http import AnyRequest, does
from rocade.services.exchange import Wanted
from rocade.services.exchange.model import STATES
from rocade.trust.authority.gate import acts

PAGE = 50
CLASSES = ("technical", "customer", "fiscal")


@get("/messages", opt=does(acts.SEARCH_EXCHANGE), include_in_schema=False)
async def show_messages(
    request: AnyRequest,
    network: NetworkDependency,
    party: FromQuery[str] = "",
    id: FromQuery[str] = "",
    service: FromQuery[str] = "",
    code: FromQuery[str] = "",
    message_state: FromQuery[str] = "",
    content_class: FromQuery[str] = "",
    before: FromQuery[int] = (1 << 63) - 1,
) -> Response[str]:
    """`party` may be a site's id alone."""
    sender = f"dealer/{party}" if party and "/" not in party else party
    message_state = message_state if message_state in STATES else ""
    content_class = content_class if content_class in CLASSES else ""
    wanted = Wanted(party=sender, id=id, service=service, code=code, state=message_state, content_class=content_class)
    found = await _known(network.messages).search(wanted, before, PAGE)
    asked = {"party": party, "id": id, "service": service, "code": code, "message_state": message_state,
             "content_class": content_class}  # fmt: skip
    query = urlencode({name: value for name, value in asked.items() if value})
    return render(
        request,
        "dealers/messages.html",
        "messages",
        {},
        found=found,
        asked=asked,
        states=STATES,
        classes=CLASSES,
        next=f"/messages?{query}&before={found[-1].number}" if len(found) == PAGE else "",
        first=f"/messages?{query}" if before < (1 << 63) - 1 else "",
    )


@get("/messages/{number:int}", opt=does(acts.SEARCH_EXCHANGE), include_in_schema=False)
async def show_message(request: AnyRequest, network: NetworkDependency, number: FromPath[int]) -> Response[str]:
    """One message's way: signed, recorded, routed, decided."""
    return render(request, "dealers/message.html", "messages", {}, one=await _known(network.messages).standing(number))


def _known(messages: Messages | None) -> Messages:
    if messages is None:
        raise Unavailable("exchange.off", "this process has no part in the exchange")
    return messages


HANDLERS = [show_messages, show_message]
