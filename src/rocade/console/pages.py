"""What every page is made with: `render` (a whole page), `fragment` (a piece htmx swaps in), errors as pages.

A page is a template, the texts of the reader's language, the links his role may follow and a small JSON block its script
starts from; what moves comes from `live`. How to write one: docs/console.md. A refused page is a page that says why
(`answer_problem`): a browser gets HTML, htmx a notice in the region read aloud, programs the problem document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, cast
from urllib.parse import quote, urlsplit

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response, Router, get
from litestar.datastructures import Cookie
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from rocade.console import languages, reference
from rocade.console.viewer import Viewer, may, viewer_of
from rocade.core.why.texts import part
from rocade.doors.http import AnyRequest, does, problems
from rocade.doors.http.sessions import secret_of
from rocade.trust.authority.gate import Act, acts

HTMX = msgspec.json.encode(
    {
        "includeIndicatorStyles": False,
        "allowEval": False,
        "allowScriptTags": False,
        "selfRequestsOnly": True,
        "historyCacheSize": 0,
        "refreshOnHistoryMiss": True,
        "responseHandling": [
            {"code": "204", "swap": False},
            {"code": "[23]..", "swap": True},
            {"code": "[45]..", "swap": True, "error": True},
        ],
    }
).decode()
"""No style or script of htmx's own in the page, nothing of a page kept in the browser's storage, errors shown."""

type Link = tuple[str, str, Act]
LINKS: tuple[Link, ...] = (
    ("map", "/", acts.WATCH_FLEET),
    ("vehicles", "/vehicles", acts.WATCH_FLEET),
    ("depots", "/depots", acts.READ_DEPOTS),
    ("dealers", "/dealers", acts.READ_DEALERS),
    ("prices", "/prices", acts.READ_PRICE_LISTS),
    ("enrolment", "/enrolment", acts.READ_ENROLMENTS),
    ("consents", "/consents", acts.READ_CONSENTS),
    ("people", "/people", acts.READ_PEOPLE),
    ("my", "/my", acts.MY_VEHICLES),
)
"""The bar: page, address, and the act its route asks for; who may not do it is not shown the link."""
MORE: tuple[Link, ...] = (
    ("ingest", "/ingest", acts.READ_STATUS),
    ("messages", "/messages", acts.SEARCH_EXCHANGE),
    ("quarantine", "/quarantine", acts.READ_QUARANTINE),
    ("recovery", "/recovery", acts.FIND_PERSON),
    ("certificates", "/certificates", acts.READ_CERTIFICATES),
    ("crossings", "/crossings", acts.READ_CROSSINGS),
    ("sharing", "/sharing", acts.READ_SHARING),
    ("audit", "/audit", acts.READ_AUDIT),
    ("api", "/docs", acts.READ_STATUS),
)
"""Behind "Operation"."""
FIRST_S, LAST_S = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999, beyond which no date is written; a vehicle's clock or a caller's period may be."""
HOME = {"operator": "/", "owner": "/my", "nobody": "/"}


@cache
def _templates() -> Environment:
    made = Environment(loader=PackageLoader("rocade.console"), autoescape=True, undefined=StrictUndefined)
    made.filters["iso"] = iso
    return made


def iso(us: int) -> str:
    """An instant for people without scripts and for `datetime` attributes: ISO 8601, UTC, whole seconds, years 1 to 9999."""
    return datetime.fromtimestamp(min(max(us // 1_000_000, FIRST_S), LAST_S), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class _Safe(str):
    """Markup that is known to be safe, such as JSON from `_json`: nothing in it can leave its script element."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _json(value: Any) -> _Safe:
    """JSON that is safe inside a script element."""
    return _Safe(msgspec.json.encode(value).decode().replace("<", "\\u003c"))


def language_of(request: AnyRequest) -> str:
    return languages.choose(request.cookies.get(languages.COOKIE), request.headers.get("accept-language", ""))


def render(
    request: AnyRequest, template: str, page: str, data: Mapping[str, Any], *, status_code: int = 200, **values: Any
) -> Response[str]:
    """A whole page. `page` names it (its link is marked, its styles apply), `data` is what its scripts start from."""
    html = _filled(request, template, page, page_json=_json(data), **values)
    headers = {"cache-control": "no-store", "vary": "cookie, accept-language"}
    return Response(html, status_code=status_code, media_type="text/html", headers=headers)


def fragment(request: AnyRequest, template: str, *, status_code: int = 200, **values: Any) -> Response[str]:
    """A piece of a page, for htmx to swap in."""
    html = _filled(request, template, "", **values)
    return Response(html, status_code=status_code, media_type="text/html", headers={"cache-control": "no-store"})


def filled(template: str, **values: Any) -> str:
    """A template by itself, without the page around it."""
    return _templates().get_template(template).render(**values)


def is_fragment(request: AnyRequest) -> bool:
    """Whether htmx asks for a piece (its history asks for whole pages)."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def _filled(request: AnyRequest, template: str, page: str, **values: Any) -> str:
    language, viewer = language_of(request), viewer_of(request)
    return _templates().get_template(template).render(
        page=page,
        path=request.url.path,
        language=language,
        languages=[(code, languages.texts(code)["name"]) for code in languages.CODES],
        t=languages.texts(language),
        texts=f"/texts/{language}.js?{languages.version(language)}",
        htmx=_Safe(HTMX),
        viewer=viewer,
        nav=_navigation(request, viewer),
        may=lambda name: may(request, acts.ACTS[name]),
        words=lambda section, keys, prefix="": _words_of(languages.texts(language), section, keys, prefix),
        **values,
    )  # fmt: skip


def _words_of(texts: Mapping[str, str], section: str, keys: Iterable[str], prefix: str) -> list[tuple[str, str]]:
    """Keys with their texts, for selects; a key without a text stands for itself."""
    return [(key, texts.get(f"{section}.{prefix}{key}", key)) for key in keys]


def _navigation(request: AnyRequest, viewer: Viewer) -> dict[str, Any]:
    has = {route.path for route in request.app.routes}
    is_somebody = not viewer.name and bool(secret_of(request.scope))  # whom no route asked for yet

    def open_to_him(links: tuple[Link, ...]) -> list[tuple[str, str]]:
        return [(key, address) for key, address, act in links if address in has and may(request, act)]

    return {
        "home": HOME["owner" if is_somebody else viewer.role],
        "links": open_to_him(LINKS),
        "more": open_to_him(MORE),
        "signin": "/signin" in has and not viewer.name and not is_somebody,
    }


# --- errors ---------------------------------------------------------------------------------------------------------


def answer_problem(request: AnyRequest, error: Exception) -> Response[Any]:
    """The problem as the asking one can read it: a page, a notice, or the document programs get."""
    answer = problems.answer(request, error)
    if not (problems.reads_pages(request) or is_fragment(request)) or not isinstance(answer.content, dict):
        return answer
    said, status = answer.content, cast("int", answer.status_code)
    if is_fragment(request):
        made = fragment(request, "problem_notice.html", status_code=status, **_words(request, said))
        made.headers.update({"HX-Retarget": "#notices", "HX-Reswap": "innerHTML"})
        return made
    if status == 401 and request.method == "GET" and "/signin" in {r.path for r in request.app.routes}:
        return Redirect(f"/signin?back={quote(request.url.path)}", status_code=303)
    return render(request, "problem.html", "problem", {}, status_code=status, **_words(request, said))


def _words(request: AnyRequest, said: dict[str, Any]) -> dict[str, Any]:
    """The problem in the reader's language: what its code means and what to do; its own sentence where that is English."""
    language = language_of(request)
    why = said.get("why", "").rpartition("/")[2] or said["request_id"]
    means, remedy = part(said["code"], "means", language), part(said["code"], "do", language)
    return {
        "title": languages.texts(language).get(f"problem.{said['status']}", said["title"]),
        "why_id": why,
        "means": means,
        "remedy": remedy,
        **{name: said[name] for name in ("status", "detail", "code", "request_id")},
    }


def router(handlers: list[Any], **options: Any) -> Router:
    """Pages with their errors answered as pages; `options` as in `does`, for all of them."""
    answers: dict[Any, Any] = dict.fromkeys(problems.HANDLERS, answer_problem)
    return Router("/", route_handlers=handlers, exception_handlers=answers, opt=options)


# --- pages open to everybody ----------------------------------------------------------------------------------------


@get("/docs", opt=does(acts.READ_REFERENCE), include_in_schema=False)
async def show_reference(request: AnyRequest) -> Response[str]:
    state = request.app.state
    if "reference" not in state:
        state.reference = reference.routes_of(request.app)
    return render(request, "docs.html", "api", {}, groups=state.reference)


@get("/texts/{file:str}", opt=does(acts.READ_STATIC), include_in_schema=False)
async def show_texts(file: FromPath[str]) -> Response[str]:
    """A language's texts as a module; its address holds their hash, so that browsers keep it for good."""
    code = file.removesuffix(".js")
    if code not in languages.CODES:
        raise NotFoundException
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(languages.module(code), media_type="text/javascript", headers=headers)


@get("/language", opt=does(acts.CHOOSE_LANGUAGE), include_in_schema=False)
async def set_language(to: FromQuery[str], back: FromQuery[str] = "/") -> Redirect:
    """Remember the language and go back to a page of ours."""
    parts = urlsplit(back)
    path = parts.path if back.startswith("/") and not back.startswith(("//", "/\\")) else "/"
    code = to if to in languages.CODES else "en"
    cookie = Cookie(key=languages.COOKIE, value=code, path="/", max_age=31_536_000, samesite="lax", httponly=True)
    return Redirect(path, cookies=[cookie], status_code=303)


HANDLERS = [show_reference, show_texts, set_language]
