"""Our own client going through a vendor's first day: what to do, in order, as code to read; and a test of the sandbox itself."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from rocade.core.errors import Refused, Unavailable
from rocade.sdk import Client
from rocade.trust.identity.tls import client_context
from rocade.wire.resources import Message

DAY_US = 86_400_000_000
WAIT_S = 60.0


def rehearse(address: str, identity: Path, now_us: int) -> list[str]:
    """Do everything the report looks at; what was found, in words. Raises: what the hub refuses and should not."""
    said = []
    with Client(identity, address) as hub:
        said.append(f"{len(list(hub.sites()))} points of sale")
        then, now = hub.price("lune-fr", "L-100", now_us - 60 * DAY_US), hub.price("lune-fr", "L-100")
        said.append(f"L-100 was {then.price_minor} sixty days ago and is {now.price_minor} {now.currency} now")
        gone = hub.price("lune-fr", "L-300")
        said.append(f"L-300 is {'withdrawn' if gone.price_minor is None else gone.price_minor}")
        try:
            hub.price("lune-fr", "no such part")
        except Refused as refusal:
            said.append(f"an unknown part: {refusal.code}")
        said.append(f"{len(list(hub.price_changes('lune-fr', 0)))} price changes since the beginning")
        for id, body in (("order-1", b"<order part='L-100'/>"), ("order-2", b"<order refuse='please'/>")):
            said.append(f"{id}: {_send(hub, id, body, now_us)}")
        said += [f"{id}: {_decided(hub, id)}" for id in ("order-1", "order-2")]
    with httpx.Client(base_url=address, verify=client_context(identity), trust_env=False) as http:
        items = http.get("/v1/exchange/news").raise_for_status().json()["items"]
        said.append(f"{len(items)} news: {', '.join(sorted({one['type'] for one in items}))}")
    return said


def _send(hub: Client, id: str, body: bytes, now_us: int) -> str:
    """Send until it is receipted: the same message, so one effect however often."""
    message = Message(
        id=id, service="orders", content_class="technical", content_type="application/xml", created_us=now_us, body=body
    )
    for attempt in range(1, 6):
        try:
            receipt = hub.send(message)
        except (Unavailable, Refused) as error:
            if error.code not in {"sandbox.receipt.lost", "sdk.hub"}:
                raise
            continue
        return f"{receipt.kind} after {attempt} attempts"
    raise Unavailable("sdk.hub", "no receipt after five attempts")


def _decided(hub: Client, id: str) -> str:
    end_s = time.monotonic() + WAIT_S
    while time.monotonic() < end_s:
        for one in hub.receipts(id):
            if one.kind == "decided":
                return f"{one.outcome} {one.reason}".strip()
        time.sleep(0.2)
    raise Unavailable("sdk.hub", f"{id} was not decided within a minute")
