"""The pages of people: sign in, arrive by a one-time link, one's own account. What they ask for: `doors.http.signin`.

A link's page shows a button and does nothing by itself, so that programs which open links to look at them use none up.
"""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Redirect

from rocade.console.pages import render
from rocade.doors.http import AnyRequest, does, signed_in
from rocade.doors.http.access import peer_of, session_of
from rocade.doors.http.openid import Provider, local
from rocade.doors.http.openid_provider import allowed_views
from rocade.doors.http.sessions import no_cookie
from rocade.doors.http.signin import account_view, home_of
from rocade.trust.authority.applications import Applications
from rocade.trust.authority.gate import acts
from rocade.trust.authority.people import People

OpenId = NamedDependency[SkipValidation[Provider | None]]

_OPT = does(acts.SIGN_IN)


@get("/signin", opt=_OPT, include_in_schema=False)
async def show_sign_in(request: AnyRequest, openid: OpenId, back: FromQuery[str] = "") -> Response[str]:
    data = {"back": local(back)}
    return render(request, "signin.html", "signin", data, back=data["back"], providers=names(openid))


@get("/signin/link/{secret:str}", opt=_OPT, include_in_schema=False)
async def show_link(
    request: AnyRequest,
    secret: FromPath[str],
    people: NamedDependency[SkipValidation[People]],
    back: FromQuery[str] = "",
) -> Response[str]:
    """`back`: a page of ours to go to, else where a passkey is registered."""
    shown = await people.links.whose(secret, peer_of(request.scope))
    data = {"secret": secret if shown else "", "back": local(back), "asks": shown is not None and shown.must_ask}
    return render(request, "link.html", "signin", data, shown=shown)


@get("/account", opt=does(acts.READ_ACCOUNT), include_in_schema=False)
async def show_account(
    request: AnyRequest,
    people: NamedDependency[SkipValidation[People]],
    openid: OpenId,
    applications: NamedDependency[SkipValidation[Applications | None]],
) -> Response[str]:
    session = session_of(request)
    account = await account_view(people, session)
    allowed = await allowed_views(applications, session) if applications else []
    data = {"passkeys": len(account.passkeys), "home": home_of(session.person, 1)}
    return render(request, "account.html", "account", data, account=account, providers=names(openid), allowed=allowed)


@post("/signout", opt=does(acts.SIGN_OUT), include_in_schema=False)
async def sign_out(request: AnyRequest, people: NamedDependency[SkipValidation[People]]) -> Redirect:
    """End this browser's session, if there is one, and show the sign-in page."""
    if session := signed_in(request):
        await people.sessions.end(session)
    return Redirect("/signin", cookies=[no_cookie(people.site)], status_code=303)


def names(openid: Provider | None) -> tuple[str, ...]:
    return (openid.settings.name,) if openid else ()


HANDLERS: list[Any] = [show_sign_in, show_link, show_account, sign_out]
