"""The page for staff's tablets on the LAN, with and without the line; server-rendered, in English, French and Chinese."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litestar import Litestar
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.static_files import create_static_files_router

from rocade.agents.dealer.pages import content, signing_in
from rocade.agents.dealer.pages.frame import AnyRequest, refused
from rocade.agents.dealer.web import MAX_BODY_BYTES
from rocade.core.errors import Refused, RocadeError

if TYPE_CHECKING:
    from rocade.agents.dealer.agent import Dealer
    from rocade.agents.dealer.lan_identity import LanIdentity

__all__ = ["build"]


def build(dealer: Dealer, identity: LanIdentity) -> Litestar:
    """The application; the caller puts `web.Shell` around it."""
    static = create_static_files_router(
        path="/static", directories=[Path(str(resources.files(__package__).joinpath("static")))]
    )
    return Litestar(
        route_handlers=[*content.HANDLERS, *signing_in.HANDLERS, static],
        state=State({"dealer": dealer, "identity": identity}),
        exception_handlers={RocadeError: refused, HTTPException: _on_http},
        openapi_config=None,
        request_max_body_size=MAX_BODY_BYTES,
        response_cache_config=ResponseCacheConfig(),
        logging_config=None,
    )


def _on_http(request: AnyRequest, error: HTTPException) -> Any:
    if error.status_code == 404:
        return refused(request, Refused("dealer.page.unknown", "there is no such page"))
    return refused(request, Refused("dealer.web.request", error.detail))
