"""The pages staff look at: state, prices now and at a date, a part's curve, changes, messages, receipts, errors, tests of the line."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from rocade.agents.dealer.doctor import examine
from rocade.agents.dealer.instants import instant_utc
from rocade.agents.dealer.outbox import STATES
from rocade.agents.dealer.pages.drawing import HEIGHT, WIDTH, curve
from rocade.agents.dealer.pages.frame import AnyRequest, dealer_of, manager_of, person_of, render
from rocade.agents.dealer.pages.signing_in import Form
from rocade.core.errors import Refused

_CHANGES_SHOWN = 500


@get("/")
async def show_state(request: AnyRequest, state: State) -> Response[str]:
    dealer = dealer_of(state)
    values: dict[str, Any] = {"standing": dealer.standing(), "behind_s": dealer.prices.clock_behind_us() // 1_000_000}
    return render(request, "state", person=person_of(request), **values)


@get("/prices")
async def show_prices(
    request: AnyRequest, state: State, q: FromQuery[str] = "", list: FromQuery[str] = "", at: FromQuery[str] = ""
) -> Response[str]:
    """Search by reference or label; with a date, the prices of that instant."""
    dealer, person = dealer_of(state), person_of(request)
    names = dealer.prices.names()
    name = list if list in names else names[0] if names else ""
    at_us = instant_utc(at) or (dealer.prices.now_us(name) if name else 0)
    found: Any = []
    if q and name:
        cards = dealer.prices.search(name, q.strip(), 50)
        priced = dealer.prices.prices(name, [card.description.ref for card in cards], at_us)
        found = [(card.description, priced[card.description.ref]) for card in cards]
    values: dict[str, Any] = {"q": q, "list": name, "names": names, "at": at, "at_us": at_us, "found": found}
    return render(request, "prices", person=person, **values)


@get("/parts")
async def show_part(
    request: AnyRequest, state: State, list: FromQuery[str], ref: FromQuery[str], at: FromQuery[str] = ""
) -> Response[str]:
    """One part: its price now and at a date, its curve, where it comes from."""
    dealer, person = dealer_of(state), person_of(request)
    now_us = dealer.prices.now_us(list)
    at_us = instant_utc(at) or now_us
    price = dealer.prices.prices(list, [ref], at_us)[ref]
    steps = dealer.prices.steps(list, ref)
    values: dict[str, Any] = {
        "list": list, "card": dealer.prices.part(list, ref), "price": price, "at": at, "at_us": at_us, "steps": steps,
        "successors": dealer.prices.successors(list, ref), "curve": curve(steps, now_us), "now_us": now_us,
        "width": WIDTH, "height": HEIGHT, "currency": steps[-1][2] if steps else "",
    }  # fmt: skip
    return render(request, "part", person=person, **values)


@get("/proofs")
async def show_proof(
    request: AnyRequest, state: State, list: FromQuery[str], ref: FromQuery[str], at: FromQuery[str] = ""
) -> Response[bytes]:
    """The proof of a price as a file."""
    dealer = dealer_of(state)
    person_of(request)
    made = dealer.prices.prove(list, ref, instant_utc(at) or dealer.prices.now_us(list))
    headers = {"content-disposition": 'attachment; filename="price-proof.json"'}
    return Response(made, media_type="application/json", headers=headers)


@get("/changes")
async def show_changes(
    request: AnyRequest, state: State, list: FromQuery[str] = "", number: FromQuery[int] = 0
) -> Response[str]:
    """What a release changed: the newest of each list, or the one asked for."""
    dealer, person = dealer_of(state), person_of(request)
    names = dealer.prices.names()
    name = list if list in names else names[0] if names else ""
    held = dealer.prices.held(name) if name else None
    asked = min(max(1, number or held.seq), held.seq) if held else 0
    changed = dealer.prices.changes(name, asked, _CHANGES_SHOWN) if held else []
    values: dict[str, Any] = {
        "names": names,
        "list": name,
        "held": held,
        "number": asked,
        "changed": changed,
        "most": _CHANGES_SHOWN,
    }
    return render(request, "changes", person=person, **values)


@get("/messages")
async def show_messages(
    request: AnyRequest,
    state: State,
    status: FromQuery[str] = "",
    q: FromQuery[str] = "",
    before: FromQuery[int] = 1 << 62,
) -> Response[str]:
    dealer, person = dealer_of(state), person_of(request)
    found = dealer.outbox.find(state=status, text=q, before=before, count=50)
    values: dict[str, Any] = {
        "found": found,
        "status": status,
        "q": q,
        "states": STATES,
        "counts": dealer.outbox.counts(),
    }
    return render(request, "messages", person=person, **values)


@get("/messages/{hub:str}/{message:str}")
async def show_message(request: AnyRequest, state: State, hub: FromPath[str], message: FromPath[str]) -> Response[str]:
    dealer, person = dealer_of(state), person_of(request)
    sent = dealer.outbox.get(hub, message)
    return render(request, "message", person=person, sent=sent, receipts=dealer.outbox.receipts(hub, message))


@get("/messages/{hub:str}/{message:str}/receipts/{kind:str}")
async def show_receipt(
    request: AnyRequest, state: State, hub: FromPath[str], message: FromPath[str], kind: FromPath[str]
) -> Response[bytes]:
    """A receipt as the file that proves it."""
    person_of(request)
    for found, _, proof in dealer_of(state).outbox.receipts(hub, message):
        if found == kind:
            headers = {"content-disposition": f'attachment; filename="receipt-{kind}.json"'}
            return Response(proof, media_type="application/json", headers=headers)
    raise Refused("dealer.message.unknown", "no such receipt has come yet")


@get("/inbox")
async def show_inbox(request: AnyRequest, state: State) -> Response[str]:
    return render(request, "inbox", person=person_of(request), found=dealer_of(state).inbox.newest())


@get("/errors")
async def show_errors(request: AnyRequest, state: State) -> Response[str]:
    return render(request, "errors", person=person_of(request), found=dealer_of(state).store.troubles(200))


@get("/tests")
async def show_tests(request: AnyRequest) -> Response[str]:
    return render(request, "tests", person=person_of(request), findings=None)


@post("/tests", status_code=200)
async def run_tests(request: AnyRequest, state: State) -> Response[str]:
    """Test the line from here, step by step; each step says what to do."""
    dealer, person = dealer_of(state), person_of(request)
    findings = await examine(dealer.place, dealer.settings, dealer.clock)
    return render(request, "tests", person=person, findings=findings)


@get("/versions")
async def show_versions(request: AnyRequest, state: State) -> Response[str]:
    dealer = dealer_of(state)
    values: dict[str, Any] = {"offers": dealer.offers.list(), "can_apply": bool(dealer.settings.update.command)}
    return render(request, "versions", person=person_of(request), **values)


@post("/versions", status_code=303)
async def answer_version(request: AnyRequest, state: State, data: Form) -> Redirect:
    """The manager's consent, or refusal."""
    dealer, person = dealer_of(state), manager_of(request)
    dealer.offers.answer(data.get("version", ""), f"staff:{person.id}", accept=data.get("answer") == "accept")
    dealer.consented()
    return Redirect("/versions", status_code=303)


HANDLERS = (
    show_state, show_prices, show_part, show_proof, show_changes, show_messages, show_message, show_receipt, show_inbox,
    show_errors, show_tests, run_tests, show_versions, answer_version,
)  # fmt: skip
