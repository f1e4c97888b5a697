"""The page that explains: /why asks for an id or a code, /why/{id} tells the chain of facts, each with what explains it further.

Open to everybody; what is told is decided by `trust.authority.why`, and what is not the asker's is not told apart from what
does not exist.
"""

from __future__ import annotations

from urllib.parse import quote

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, SkipValidation
from litestar.response import Redirect

from rocade.console.pages import language_of, render
from rocade.core.errors import Refused
from rocade.core.why import is_code
from rocade.doors.http import AnyRequest, caller_of, does, problems
from rocade.trust.authority.gate import acts
from rocade.trust.authority.why import Why

_OPT = does(acts.EXPLAIN)


@get("/why", opt=_OPT, include_in_schema=False)
async def ask(request: AnyRequest, id: FromQuery[str] = "") -> Response[str] | Redirect:
    """A field to type an id into, for whoever has one on paper or in a log."""
    if id.strip():
        return Redirect(f"/why/{quote(id.strip(), safe=':')}", status_code=303)
    return render(request, "why.html", "why", {}, asked="", sentences=(), is_code=False)


@get("/why/{id:str}", opt=_OPT, include_in_schema=False)
async def explain(
    request: AnyRequest, id: FromPath[str], why: NamedDependency[SkipValidation[Why]], purpose: FromQuery[str] = ""
) -> Response[str]:
    """The sentences, or the same page with an empty chain and status 404."""
    try:
        answer = await why.explain(id, language_of(request), caller_of(request), purpose)
    except Refused as refusal:
        status = problems.status_of(refusal)
        return render(request, "why.html", "why", {}, status_code=status, asked=id, sentences=(), is_code=False)
    return render(
        request, "why.html", "why", {}, asked=answer.id, sentences=answer.sentences, is_code=is_code(answer.id)
    )


HANDLERS = [ask, explain]
