"""The application of the API process: what it is made of (`Services`) and how it is put together (`create_app`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from litestar import Litestar
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler

from rocade.console import live, my, operator, pages, verifying
from rocade.console import signin as signin_pages
from rocade.console import why as why_pages
from rocade.console.chaos import Chaos
from rocade.console.feed import Feed
from rocade.core.catalogue import Catalogue
from rocade.core.ports import Audit, Clock, Random
from rocade.doors.http import Access, build, does, openid, operations, people_api, signin
from rocade.doors.http import clients as machine_clients
from rocade.doors.http import oauth as machine_access
from rocade.doors.http import papers as papers_api
from rocade.doors.http import why as why_api
from rocade.fabric.database import Database
from rocade.fabric.history import History
from rocade.fabric.log import Log
from rocade.fabric.status import StatusBoard
from rocade.services.consent import Consents, Looks
from rocade.services.consent import api as consent_api
from rocade.services.telemetry import Eraser, Forget, Ledger, erasing_api, history_api
from rocade.services.telemetry import api as telemetry_api
from rocade.services.vehicles import Registry, enrolment
from rocade.services.vehicles import api as vehicles_api
from rocade.services.vehicles.changes import Changes
from rocade.services.vehicles.twin import TwinStore
from rocade.services.vehicles.watching import TwinWatch
from rocade.trust.authority import Authority
from rocade.trust.authority.gate import Rights, acts
from rocade.trust.authority.machines import Clients, Tokens
from rocade.trust.authority.papers import Papers
from rocade.trust.authority.people import People
from rocade.trust.authority.why import Why


@dataclass(frozen=True)
class Module:
    """A service's part of the API: its handlers, what they ask for by name, how it forgets a vehicle whose data are erased."""

    handlers: Sequence[ControllerRouterHandler]
    dependencies: Mapping[str, object] = field(default_factory=dict)
    forget: Forget | None = None


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything the API process needs, handed in by `app`.

    `ready` names what must work before traffic is welcome, with a check each (raises or returns False = not ready);
    `town` is the GeoJSON of the town drawn under the fleet, `pmtiles` a file with street maps, `chaos` the plug corner.
    """

    access: Access
    audit: Audit
    clock: Clock
    random: Random
    catalogue: Catalogue
    registry: Registry
    authority: Authority
    twins: TwinStore
    status: StatusBoard
    book: operations.AuditReader
    ready: Mapping[str, Callable[[], Awaitable[bool]]]
    ledger: Ledger
    log: Log
    database: Database
    history: History
    town: bytes | None = None
    pmtiles: Path | None = None
    chaos: Chaos | None = None
    tokens: Tokens | None = None
    clients: Clients | None = None
    why: Why | None = None
    consents: Consents | None = None
    rights: Rights | None = None
    looks: Looks | None = None
    people: People | None = None
    openid: openid.Provider | None = None
    eraser: Eraser | None = None
    mine: my.Mine | None = None
    desk: operator.Desk | None = None
    modules: Sequence[Module] = ()


def create_app(services: Services) -> Litestar:
    """Put handlers, dependencies and access rules together; serve it with `doors.http.Listeners`."""
    desk = services.desk or desk_of(services)
    static = create_static_files_router(
        path="/static",
        directories=[Path(str(resources.files(__package__).joinpath("static")))],
        opt=does(acts.READ_STATIC),
        include_in_schema=False,
    )
    handlers = [
        *operations.HANDLERS,
        *papers_api.HANDLERS,
        *why_api.HANDLERS,
        *([*signin.HANDLERS, *people_api.HANDLERS] if services.people else ()),
        *(openid.HANDLERS if services.openid else ()),
        *vehicles_api.HANDLERS,
        *enrolment.HANDLERS,
        *([*machine_access.HANDLERS, *machine_clients.HANDLERS] if services.tokens else ()),
        *(consent_api.HANDLERS if services.consents else ()),
        *telemetry_api.HANDLERS,
        *history_api.HANDLERS,
        *(erasing_api.HANDLERS if services.eraser else ()),
        pages.router(
            [
                *pages.HANDLERS,
                *why_pages.HANDLERS,
                *verifying.HANDLERS,
                *operator.handlers(desk),
                *(signin_pages.HANDLERS if services.people else ()),
            ]
        ),
        *([pages.router(my.HANDLERS, purpose="own")] if services.mine else ()),
        *([pages.router(openid.REDIRECTS)] if services.openid else ()),
        *live.HANDLERS,
        *(handler for module in services.modules for handler in module.handlers),
        static,
    ]
    dependencies = {
        "audit": services.audit,
        "clock": services.clock,
        "catalogue": services.catalogue,
        "registry": services.registry,
        "authority": services.authority,
        "twins": services.twins,
        "changes": Changes(services.twins),
        "status": services.status,
        "book": services.book,
        "ready": services.ready,
        "feed": Feed(services.twins, services.registry, services.access.gate.rights, services.clock),
        "ledger": services.ledger,
        "log": services.log,
        "database": services.database,
        "history": services.history,
        "eraser": services.eraser,
        "town": services.town,
        "pmtiles": services.pmtiles,
        "chaos": services.chaos,
        "consents": services.consents,
        "rights": services.rights,
        "looks": services.looks,
        "tokens": services.tokens,
        "clients": services.clients,
        "people": services.people,
        "openid": services.openid,
        "applications": None,
        "mine": services.mine,
        "desk": desk,
        "watch": TwinWatch(services.twins),
        "papers": desk.papers,
        "why": services.why or Why({}, services.clock),
    }
    for module in services.modules:
        dependencies |= module.dependencies
    return build(handlers, dependencies, services.access, version=_version(), answer_error=pages.answer_problem)


def forgetting(modules: Sequence[Module]) -> list[Forget]:
    """How each module that keeps something of vehicles forgets one."""
    return [module.forget for module in modules if module.forget]


def desk_of(services: Services, **more: Any) -> operator.Desk:
    """What the operator's pages ask, of what this process has."""
    plain = ("registry", "twins", "ledger", "log", "catalogue", "authority", "book", "audit", "clock")
    names = (*plain, "consents", "people")
    has = {name: getattr(services, name) for name in names}
    return operator.Desk(**{**has, "papers": Papers(services.database, services.clock), **more})


def _version() -> str:
    try:
        return version("rocade")
    except PackageNotFoundError:
        return "0"
