"""What every page of the agent is made with: who is signed in, the reader's language, a template, a refusal as a page.

Pages are whole without scripts; the only script is the passkey's. They work as well when the line is down: everything they
show is here. A session is a cookie that this page alone gets (Secure, HttpOnly, SameSite=Strict); what it opens, `Staff` says.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie, State
from litestar.response import Redirect

from rocade.agents.dealer.agent import Dealer
from rocade.agents.dealer.catalogue import texts
from rocade.agents.dealer.instants import iso
from rocade.agents.dealer.money import money
from rocade.agents.dealer.staff import SESSION_LIFE_US, Person
from rocade.agents.dealer.web import status_of
from rocade.core import languages
from rocade.core.errors import Refused, RocadeError
from rocade.core.why.texts import part

SESSION = "__Host-rocade_dealer"
LINKS = (
    ("state", "/"),
    ("prices", "/prices"),
    ("changes", "/changes"),
    ("messages", "/messages"),
    ("inbox", "/inbox"),
    ("errors", "/errors"),
    ("tests", "/tests"),
    ("versions", "/versions"),
)

AnyRequest = Request[Any, Any, Any]


@cache
def _templates() -> Environment:
    return Environment(loader=PackageLoader(__package__), autoescape=True, undefined=StrictUndefined)


def dealer_of(state: State) -> Dealer:
    return state["dealer"]  # type: ignore[no-any-return]  # a State knows no types


def person_of(request: AnyRequest) -> Person:
    """Who is signed in. Raises: Refused `dealer.staff.session`."""
    return dealer_of(request.app.state).staff.session(request.cookies.get(SESSION, ""))


def manager_of(request: AnyRequest) -> Person:
    """Raises: Refused `dealer.staff.session`, `dealer.staff.manager`."""
    person = person_of(request)
    if person.role != "manager":
        raise Refused("dealer.staff.manager", "only the manager may decide that")
    return person


def session_cookie(secret: str) -> Cookie:
    return Cookie(
        key=SESSION, value=secret, path="/", max_age=SESSION_LIFE_US // 1_000_000, httponly=True, secure=True,
        samesite="strict",
    )  # fmt: skip


def language_of(request: AnyRequest) -> str:
    return languages.choose(request.cookies.get(languages.COOKIE), request.headers.get("accept-language", ""))


def render(request: AnyRequest, page: str, *, status_code: int = 200, **values: Any) -> Response[str]:
    """A whole page from its template, `<page>.html`."""
    language = language_of(request)
    said = texts(language)
    html = _templates().get_template(f"{page}.html").render(
        page=page, path=request.url.path, language=language, t=said, iso=iso, money=money, links=LINKS,
        languages=[(code, texts(code)["frame.name"]) for code in languages.CODES],
        person=values.pop("person", None), **values,
    )  # fmt: skip
    return Response(html, status_code=status_code, media_type="text/html; charset=utf-8")


def refused(request: AnyRequest, error: RocadeError) -> Response[Any]:
    """A refusal in the reader's language; who is not signed in is shown the way in."""
    if error.code == "dealer.staff.session" and request.method == "GET":
        return Redirect("/signin", status_code=303)
    language = language_of(request)
    means = part(error.code, "means", language) or error.message
    values = {"means": means, "remedy": part(error.code, "do", language), "code": error.code, "person": None}
    return render(request, "problem", status_code=status_of(error), **values)
