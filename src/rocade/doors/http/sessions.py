"""A person's session as HTTP carries it: two cookies, the header of a touch, and who is meant by them.

`rocade_session` holds the session's secret (HttpOnly, SameSite=Lax; Secure wherever the site is https). `rocade_browser` is
a random value that binds the challenges of a sign-in to the browser that asked. At a public address both carry the prefix
`__Host-`, so that no neighbour below the same domain can set them. `Rocade-Touch` carries a touch, good for
one act on one subject: `subject_of` says what an address's subject is.
"""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any

from litestar.datastructures import Cookie

from rocade.trust.authority.people import Site

SESSION, BROWSER = "rocade_session", "rocade_browser"
TOUCH = "rocade-touch"
IS_PUBLIC = "rocade.is_public"
"""In a request's scope: it came under the console's public name, which is https always."""
_OWN_HOST = "__Host-"
SECRET_LIMIT = 128


def secret_of(scope: Any, name: str = SESSION) -> str:
    """The value of one of our cookies, '' where there is none."""
    header = b"; ".join(value for key, value in scope["headers"] if key == b"cookie").decode("latin-1")
    if name not in header:
        return ""
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return ""
    found = cookies.get(_OWN_HOST + name) or (None if IS_PUBLIC in scope else cookies.get(name))
    return found.value if found and len(found.value) <= SECRET_LIMIT else ""


def subject_of(scope: Any) -> str:
    """What a touch for a request is bound to besides its act: what its path names (`vehicle:7`, `number:2`), and its query.

    So an act that needs a touch carries nothing that matters in its body.
    """
    parameters: Mapping[str, Any] = scope["path_params"]
    kinds = {"ref": "vehicle:", "person": ""}
    named = " ".join(f"{kinds.get(name, f'{name}:')}{value}" for name, value in sorted(parameters.items()))
    query = bytes(scope["query_string"]).decode("latin-1")
    return f"{named}{'?' + query if query else ''}"


def session_cookie(secret: str, site: Site) -> Cookie:
    """Ends with the browser; the server's own limits end it before."""
    return Cookie(key=_name(SESSION, site), value=secret, path="/", httponly=True, samesite="lax", secure=site.is_https)


def browser_cookie(secret: str, site: Site) -> Cookie:
    """Lax, not strict: it must come along when an external provider sends the browser back."""
    return Cookie(key=_name(BROWSER, site), value=secret, path="/", httponly=True, samesite="lax", secure=site.is_https)


def no_cookie(site: Site) -> Cookie:
    """Takes the session's secret out of the browser."""
    return Cookie(
        key=_name(SESSION, site), value="", path="/", httponly=True, samesite="lax", secure=site.is_https, max_age=0,
    )  # fmt: skip


def _name(name: str, site: Site) -> str:
    return _OWN_HOST + name if site.is_https else name
