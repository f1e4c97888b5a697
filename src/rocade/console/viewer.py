"""Who looks at a page, and what may be offered to him: pages show only what the gate would allow.

`viewer_of(request)` reads what the guard admitted; NOBODY on pages that are open to everybody. Roles here choose links
and words only: whether something is done, the guard of its own route decides, again and alone.
"""

from __future__ import annotations

from typing import cast

import msgspec

from rocade.doors.http import Access, AnyRequest, signed_in
from rocade.trust.authority.gate import Act, Permit


class Viewer(msgspec.Struct, frozen=True):
    """`name` as the account menu shows it, '' where nobody signed in; `duties`: those of an operator."""

    name: str = ""
    is_person: bool = False
    duties: frozenset[str] = frozenset()

    @property
    def is_operator(self) -> bool:
        return bool(self.duties)

    @property
    def role(self) -> str:
        """operator | owner | nobody: which links the bar holds."""
        return "operator" if self.is_operator else "owner" if self.is_person else "nobody"


NOBODY = Viewer()


def viewer_of(request: AnyRequest) -> Viewer:
    """The viewer of this request; NOBODY where nobody is proven."""
    permit = cast("dict[str, Permit]", request.scope).get("rocade.permit")
    if permit is None or permit.principal.kind == "nobody":
        return NOBODY
    session = signed_in(request)
    name = session.person.name if session else permit.principal.recipient
    return Viewer(name, permit.principal.is_person, permit.principal.duties)


def may(request: AnyRequest, act: Act, ref: int | None = None) -> bool:
    """Whether to offer this: what the gate would allow him, if need be after a touch of his passkey."""
    permit = cast("dict[str, Permit]", request.scope).get("rocade.permit")
    if permit is None or permit.principal.kind == "nobody":
        return False
    access = cast("Access", request.app.state.access)
    session = signed_in(request)
    principal = session.acting(act.name) if session else permit.principal
    purpose = permit.purpose or ("operation" if principal.duties else "own")
    return access.would_allow(principal, act, ref, purpose)
