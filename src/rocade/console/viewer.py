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
    """The viewer of this request, of one that was refused too; NOBODY where nobody is proven."""
    permit, session = _permit(request), signed_in(request)
    principal = permit.principal if permit else session.principal if session else None
    if principal is None or principal.kind == "nobody":
        return NOBODY
    return Viewer(session.person.name if session else principal.recipient, principal.is_person, principal.duties)


def may(request: AnyRequest, act: Act, ref: int | None = None) -> bool:
    """Whether to offer this: what the gate would allow him, if need be after a touch of his passkey."""
    permit, session = _permit(request), signed_in(request)
    principal = session.acting(act.name) if session else permit.principal if permit else None
    if principal is None or principal.kind == "nobody":
        return False
    purpose = (permit.purpose if permit else "") or ("operation" if principal.duties else "own")
    return cast("Access", request.app.state.access).would_allow(principal, act, ref, purpose)


def _permit(request: AnyRequest) -> Permit | None:
    return cast("dict[str, Permit]", request.scope).get("rocade.permit")
