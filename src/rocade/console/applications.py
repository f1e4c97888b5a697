"""The page that asks somebody whether a web application may know who he is: which one, what it learns, for how long.

Nothing is decided by showing it: the buttons post to /v1/account/applications, where everything is checked again
(`doors.http.openid_provider`). ASVS 10.7.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from rocade.console.pages import render
from rocade.doors.http import AnyRequest, does
from rocade.doors.http.openid_provider import asked_by
from rocade.trust.authority.applications import Applications
from rocade.trust.authority.gate import acts


@get("/openid/consent", opt=does(acts.OPEN_APPLICATION), include_in_schema=False)
async def show_consent(
    request: AnyRequest, applications: NamedDependency[SkipValidation[Applications]]
) -> Response[str]:
    query = bytes(request.scope["query_string"]).decode("latin-1")
    application, asked = await asked_by(query, applications)
    return render(
        request,
        "application.html",
        "account",
        {"query": query},
        application=application,
        host=urlsplit(asked.redirect).netloc,
        scopes=[scope for scope in ("openid", "roles", "profile") if scope in asked.scope.split()],
        is_proven=application.secret_hash is not None,
    )


HANDLERS: list[Any] = [show_consent]
