"""The register of web applications that people of dealers open with their passkey here; what they may do: `openid_provider`.

Kept by the security duty, with a touch. A secret is seen once, in the answer to the registration. Refuses `openid.invalid`,
`openid.application.unknown`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import Body, FromPath, SkipValidation

from rocade.doors.http.access import AnyRequest, caller_of, does
from rocade.trust.authority.applications import Application, Applications
from rocade.trust.authority.gate import acts

ApplicationsDependency = NamedDependency[SkipValidation[Applications]]


class Wanted(msgspec.Struct, frozen=True):
    """An application to register. `redirect_uris` are compared letter by letter; `has_secret` false = a program in a browser."""

    id: str
    name: str
    redirect_uris: list[str]
    roles: list[str]
    brand: str = ""
    post_logout_redirect_uris: list[str] = []
    scopes: tuple[str, ...] = ("openid", "roles")
    has_secret: bool = True


class ApplicationView(msgspec.Struct, frozen=True):
    """`client_secret` is seen only in the answer to the registration, '' else."""

    id: str
    name: str
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    brand: str
    roles: list[str]
    scopes: list[str]
    has_secret: bool
    added_us: int
    client_secret: str = ""


@get("/v1/applications", opt=does(acts.READ_APPLICATIONS))
async def list_applications(applications: ApplicationsDependency) -> list[ApplicationView]:
    """Registered web applications."""
    return [_view(one) for one in await applications.registered()]


@post("/v1/applications", opt=does(acts.CHANGE_APPLICATIONS))
async def add_application(
    request: AnyRequest, applications: ApplicationsDependency, data: Annotated[Wanted, Body()]
) -> ApplicationView:
    """Register an application, or replace it; its secret is shown once."""
    made, secret = await applications.add(
        data.id, data.name, data.redirect_uris, data.roles, brand=data.brand, logouts=data.post_logout_redirect_uris,
        scopes=data.scopes, has_secret=data.has_secret, actor=caller_of(request).id,
    )  # fmt: skip
    return _view(made, secret)


@delete("/v1/applications/{id:str}", opt=does(acts.CHANGE_APPLICATIONS))
async def drop_application(request: AnyRequest, applications: ApplicationsDependency, id: FromPath[str]) -> None:
    """Take an application off the register; its codes and tokens end."""
    await applications.drop(id, caller_of(request).id)


def _view(one: Application, secret: str = "") -> ApplicationView:
    return ApplicationView(
        one.id, one.name, list(one.redirects), list(one.logouts), one.brand, list(one.roles), list(one.scopes),
        one.secret_hash is not None, one.added_us, secret,
    )  # fmt: skip


HANDLERS = [list_applications, add_application, drop_application]
