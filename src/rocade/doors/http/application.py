"""Build the Litestar application of the API process from route handlers and the things they need.

Dependencies reach handlers by name (`dependencies`), errors become problem documents, OpenAPI 3.1 stands at
/v1/openapi.json (rendered by our own page: the framework's viewers load scripts from other hosts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import msgspec
from litestar import Controller, Litestar, Request, Response, get
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig
from litestar.routes import HTTPRoute

from rocade.doors.http import problems
from rocade.doors.http.access import Access, does, guard
from rocade.doors.http.shell import Traffic
from rocade.trust.authority.gate import acts

MAX_BODY_BYTES = 1 << 20


class _Document(Controller):
    """The document alone: the framework's own router adds viewers and a catch-all page."""

    path = "/v1"
    opt = does(acts.READ_REFERENCE)

    @get("/openapi.json", include_in_schema=False, media_type="application/vnd.oai.openapi+json")
    async def show(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        made = request.app.state
        if "document" not in made:  # once: routes stay as they are
            made.document = msgspec.json.encode(request.app.openapi_schema.to_schema())
        return Response(made.document, media_type="application/vnd.oai.openapi+json")


def build(
    handlers: Sequence[Any],
    dependencies: Mapping[str, object],
    access: Access,
    *,
    version: str,
    lifespan: Sequence[Callable[[Litestar], Any]] = (),
    answer_error: Callable[[Any, Any], Response[Any]] = problems.answer,
) -> Litestar:
    """One application for both listeners; `dependencies` are handed to handlers by parameter name.

    `answer_error` answers errors instead of the plain problem documents, for callers who read pages.
    """
    openapi = OpenAPIConfig(
        title="Rocade",
        version=version,
        description="Vehicles in, values out. Errors are RFC 9457 problem documents.",
        openapi_controller=cast("Any", _Document),
    )
    app = Litestar(
        route_handlers=list(handlers),
        dependencies={name: Provide(_giver(value), sync_to_thread=False) for name, value in dependencies.items()},
        guards=[guard],
        exception_handlers=dict.fromkeys(problems.HANDLERS, answer_error),
        state=State({"access": access, "traffic": Traffic(), "answer_error": answer_error}),
        openapi_config=openapi,
        request_max_body_size=MAX_BODY_BYTES,
        response_cache_config=ResponseCacheConfig(),
        logging_config=None,
        lifespan=list(lifespan),
        debug=False,
    )
    _give_one_after_another(app)
    return app


def _give_one_after_another(app: Litestar) -> None:
    """Dependencies here are constants: a task group to fetch them side by side, the framework's way, costs a task each."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for _, model in route.route_handler_map.values():
                model.dependency_batches = [{one} for batch in model.dependency_batches for one in batch]


def _giver(value: object) -> Callable[[], Any]:
    def give() -> Any:
        return value

    return give
