"""The page that verifies proofs, /verify: open to everybody, whole once it is loaded, nothing leaves the browser.

/verify/file is the same as one HTML file to keep: styles, scripts and texts in it, and a policy that names their hashes and
allows no connection at all. It opens from a disk in ten years' time without any region.
"""

from __future__ import annotations

import base64
import re
from functools import cache
from hashlib import sha256
from importlib import resources

from litestar import Response, get

from rocade.console import languages
from rocade.console.pages import _json as json_block
from rocade.console.pages import filled, language_of
from rocade.core.money import MINOR_DIGITS
from rocade.core.why.texts import part
from rocade.doors.http import AnyRequest, does
from rocade.trust.authority.gate import acts

_OPT = does(acts.READ_PROOFS)
REASONS = ("signer", "witness", "future", "path", "list", "price", "erasure", "fork", "key")
SCRIPTS = ("proof-trust.js", "proof.js", "verify.js")
_LINKS = re.compile(r"^import .*\n|^export (?=async |const |class |function )", re.MULTILINE)


@get("/verify", opt=_OPT, include_in_schema=False)
async def show(request: AnyRequest) -> Response[str]:
    """Fields for a proof, a key and witnesses, and what the proof says."""
    language = language_of(request)
    headers = {"cache-control": "no-cache", "vary": "cookie, accept-language"}
    return Response(_page(language), media_type="text/html", headers=headers)


@get("/verify/file", opt=_OPT, include_in_schema=False)
async def keep(request: AnyRequest) -> Response[str]:
    """The page as one file to keep."""
    headers = {"content-disposition": 'attachment; filename="rocade-verify.html"', "vary": "cookie, accept-language"}
    return Response(single_file(language_of(request)), media_type="text/html", headers=headers)


@cache
def _page(language: str) -> str:
    return filled("verify.html", **_values(language), style="", script="", policy="")


@cache
def single_file(language: str) -> str:
    """Everything in one document; the policy lets run what stands in it and nothing else, and connect to nothing."""
    style, *scripts = (_static(name) for name in ("verify.css", *SCRIPTS))
    script = _LINKS.sub("", "\n".join(scripts))
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return filled("verify.html", **_values(language), style=_Markup(style), script=_Markup(script), policy=policy)


def _values(language: str) -> dict[str, object]:
    texts = languages.texts(language)
    own = {key.removeprefix("verify."): text for key, text in texts.items() if key.startswith("verify.")}
    reasons = {one: part(f"proof.{one}", "means", language) for one in (*REASONS, "malformed")}
    currencies = {
        name: [one for one, digits in MINOR_DIGITS.items() if digits == count]
        for name, count in (("none", 0), ("three", 3))
    }
    return {"language": language, "t": texts, "texts": json_block(own | reasons | currencies)}


class _Markup(str):
    """Our own files, which go into the page as they are."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _static(name: str) -> str:
    return resources.files(__package__).joinpath("static", name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


HANDLERS = [show, keep]
