"""Signing in to the agent's page: a one-time link or code from the manager, or a passkey where the page has a name of its own."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.datastructures import Cookie, State
from litestar.params import FromPath, FromQuery, JSONBody, URLEncodedBody
from litestar.response import Redirect

from rocade.agents.dealer.lan_identity import LanIdentity
from rocade.agents.dealer.pages.frame import SESSION, AnyRequest, dealer_of, person_of, render, session_cookie
from rocade.core import languages
from rocade.core.errors import Refused

Form = URLEncodedBody[dict[str, str]]


class Answer(msgspec.Struct):
    credential: dict[str, Any]


@get("/signin")
async def show(request: AnyRequest, state: State) -> Response[str]:
    return render(request, "signin", code="", has_passkeys=identity_of(state).is_named)


@get("/signin/link/{code:str}")
async def show_link(request: AnyRequest, code: FromPath[str]) -> Response[str]:
    """A button, so that nobody who merely looks at the address uses the link up."""
    return render(request, "signin", code=code, has_passkeys=False)


@post("/signin/link", status_code=303)
async def redeem(state: State, data: Form) -> Redirect:
    secret = dealer_of(state).staff.redeem(data.get("code", "").strip())
    return Redirect("/", status_code=303, cookies=[session_cookie(secret)])


@post("/signout", status_code=303)
async def sign_out(request: AnyRequest, state: State) -> Redirect:
    dealer_of(state).staff.sign_out(request.cookies.get(SESSION, ""))
    gone = session_cookie("")
    gone.max_age = 0
    return Redirect("/signin", status_code=303, cookies=[gone])


@get("/language")
async def choose_language(to: FromQuery[str], back: FromQuery[str] = "/") -> Redirect:
    path = back if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
    code = to if to in languages.CODES else "en"
    cookie = Cookie(
        key=languages.COOKIE, value=code, path="/", max_age=31_536_000, httponly=True, secure=True, samesite="lax"
    )
    return Redirect(path, status_code=303, cookies=[cookie])


@get("/account")
async def account(request: AnyRequest, state: State) -> Response[str]:
    return render(request, "account", person=person_of(request), has_passkeys=identity_of(state).is_named)


@post("/passkey/options", status_code=200)
async def register_options(request: AnyRequest, state: State) -> dict[str, Any]:
    return dealer_of(state).staff.passkey_options(site_of(state), person_of(request))


@post("/passkey", status_code=204)
async def register(request: AnyRequest, state: State, data: JSONBody[Answer]) -> None:
    dealer_of(state).staff.register_passkey(site_of(state), origin_of(state), person_of(request), data.credential)


@post("/signin/passkey/options", status_code=200)
async def sign_in_options(state: State) -> dict[str, Any]:
    return dealer_of(state).staff.passkey_options(site_of(state), None)


@post("/signin/passkey", status_code=204)
async def sign_in(state: State, data: JSONBody[Answer]) -> Response[None]:
    secret = dealer_of(state).staff.sign_in(site_of(state), origin_of(state), data.credential)
    return Response(None, status_code=204, cookies=[session_cookie(secret)])


def identity_of(state: State) -> LanIdentity:
    return state["identity"]  # type: ignore[no-any-return]  # a State knows no types


def site_of(state: State) -> str:
    """The name passkeys are bound to. Raises: Refused `dealer.staff.unnamed`."""
    if not identity_of(state).is_named:
        raise Refused(
            "dealer.staff.unnamed", "passkeys need a name with a certificate: lan.name, lan.certificate, lan.key"
        )
    return dealer_of(state).settings.lan.name


def origin_of(state: State) -> str:
    dealer = dealer_of(state)
    return identity_of(state).url(dealer.ports["lan"])


HANDLERS = (
    show, show_link, redeem, sign_out, choose_language, account, register_options, register, sign_in_options, sign_in,
)  # fmt: skip
