"""Every error answer is one RFC 9457 problem document: type, title, status, detail, code, request_id, why and safe facts.

`why` is where the refusal is explained: by its request's id if the audit log took it, else by its code in general.

Never a stack, never another party's identifier. The status of a refusal follows its code: an exact entry, else one of
its first two words, else its last word, else its first, else 400. Unavailable is 503 with Retry-After, Corrupt and anything unforeseen 500.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, cast

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from rocade.core import request as request_in_hand
from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.fabric.database.connection import UNFIT

RETRY_AFTER_S = 2
_INVALID = ', error="invalid_token"'
"""What RFC 6750 3.1 wants beside the challenge when a token was shown."""
_log = logging.getLogger("rocade.http")

STATUS_BY_CODE = {
    "access.missing": 401,
    "access.token": 401,
    "access.session": 401,
    "gate.denied": 403,
    "gate.touch": 403,
    "access.cross_site": 403,
    "access.host": 421,
    "people.session.missing": 401,
    "people.invalid": 400,
    "people.passkey.malformed": 400,
    "consent.purpose": 400,
    "consent.class": 400,
    "consent.owner.missing": 403,
    "consent.conflict.open": 409,
    "consent.grant.widens": 409,
    "consent.many": 409,
    "consent.claim.used": 409,
    "consent.claim.expired": 410,
    "consent.invitation.used": 409,
    "consent.invitation.ended": 410,
}
STATUS_BY_LAST_WORD = {
    "unknown": 404,
    "missing": 404,
    "gone": 410,
    "exists": 409,
    "conflict": 409,
    "stale": 412,
    "too_large": 413,
    "too_many": 413,
}
STATUS_BY_FIRST_WORD = {"trust": 403, "access": 403, "gate": 403, "people": 403, "quota": 429}


def status_of(error: RocadeError) -> int:
    """The HTTP status of an error; see the tables above."""
    if isinstance(error, Unavailable):
        return 503
    if not isinstance(error, Refused):
        return 500
    words = error.code.split(".")
    return (
        STATUS_BY_CODE.get(error.code)
        or STATUS_BY_CODE.get(".".join(words[:2]))
        or STATUS_BY_LAST_WORD.get(words[-1])
        or STATUS_BY_FIRST_WORD.get(words[0])
        or 400
    )


def document(status: int, code: str, detail: str, request_id: str, **facts: Any) -> dict[str, Any]:
    """Shape: the problem document itself."""
    return {
        "type": f"urn:rocade:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        "why": f"/v1/why/{why_id(code)}",
        **({"facts": facts} if facts else {}),
    }


def why_id(code: str) -> str:
    """What `why` is to be asked about the request in hand, refused with this code."""
    at_hand = request_in_hand.current.get()
    return at_hand.id if at_hand is not None and at_hand.is_noted else code


def _request_id(request: Request[Any, Any, Any]) -> str:
    return str(cast("dict[str, Any]", request.scope).get("rocade.request_id", ""))


def _answer(request: Request[Any, Any, Any], status: int, code: str, detail: str, **facts: Any) -> Response[Any]:
    headers = {"cache-control": "no-store"}
    if status == 503:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if "retry_after_s" in facts:
        headers["retry-after"] = str(facts["retry_after_s"])
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="rocade"' + _INVALID * code.startswith("access.token.")
    body = document(status, code, detail, _request_id(request), **facts)
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)


def on_rocade_error(request: Request[Any, Any, Any], error: RocadeError) -> Response[Any]:
    status = status_of(error)
    if status >= 500:
        _log.error("%s", error, extra={"request_id": _request_id(request)})
    if status == 500:
        return _answer(
            request, 500, error.code, "Stored data or the set-up is not as it should be; the operator was told."
        )
    return _answer(request, status, error.code, error.message, **error.facts)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """What Litestar itself refuses: unknown path, wrong method, malformed query or body."""
    codes = {
        400: "http.request.invalid",
        404: "http.path.unknown",
        405: "http.method.refused",
        413: "http.body.too_large",
    }
    code = codes.get(error.status_code, f"http.status.{error.status_code}")
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        wrong = [f"{item.get('key', '?')}: {item.get('message', '')}" for item in error.extra if isinstance(item, dict)]
        return _answer(request, error.status_code, code, "; ".join(wrong) or "The request is malformed.")
    if error.status_code >= 500:
        return on_unforeseen(request, error)
    return _answer(request, error.status_code, code, error.detail)


def on_unforeseen(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """A fault of ours; but a value that no database keeps came with the request, wherever it was noticed."""
    request_id = _request_id(request)
    if _is_unfit(error):
        _log.warning("unfit value: %s", type(error).__name__, extra={"request_id": request_id})  # which is not repeated
        return _answer(request, 400, "http.request.invalid", "a number is too large, or a text is no Unicode")
    if isinstance(error, RecursionError):  # of reading the body: nothing here calls itself as deep
        return _answer(request, 400, "http.request.invalid", "brackets are nested too deep")
    _log.error("unforeseen error", exc_info=error, extra={"request_id": request_id})
    return _answer(request, 500, "http.unforeseen", "Something went wrong here; the request id finds it in the log.")


def _is_unfit(error: BaseException | None) -> bool:
    """Whether this came of a value no column takes, raised by the driver itself or by what stands on it."""
    return error is not None and (isinstance(error, UNFIT) or _is_unfit(error.__cause__))


def reads_pages(request: Request[Any, Any, Any]) -> bool:
    """Whether a browser asks for something to show; programs and scripts do not name HTML."""
    return "text/html" in request.headers.get("accept", "")


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """The problem document of any error."""
    handler = next(HANDLERS[kind] for kind in type(error).__mro__ if kind in HANDLERS)
    return cast("Response[Any]", handler(request, error))


HANDLERS: dict[Any, Any] = {
    RocadeError: on_rocade_error,
    HTTPException: on_http_exception,
    Exception: on_unforeseen,
}
