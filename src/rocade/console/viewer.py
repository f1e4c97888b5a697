"""Who looks at a page, and what may be offered to him: pages show only what the gate would allow.

`viewer_of(request)` reads what the guard admitted; `None` on pages that are open to everybody. Roles here choose links
and words only: whether something is done, the guard of its own route decides, again and alone.
"""

from __future__ import annotations

from typing import cast

import msgspec

from rocade.doors.http import AnyRequest, Audience, Caller


class Viewer(msgspec.Struct, frozen=True):
    """`name` as the account menu shows it, '' where nobody signed in; `is_operator`: shown the region's pages."""

    name: str = ""
    is_operator: bool = False
    is_person: bool = False

    @property
    def role(self) -> str:
        """operator | owner | nobody: which links the bar holds."""
        return "operator" if self.is_operator else "owner" if self.is_person else "nobody"


NOBODY = Viewer()


def viewer_of(request: AnyRequest) -> Viewer:
    """The viewer of this request; NOBODY where nobody is proven."""
    caller = cast("dict[str, Caller]", request.scope).get("rocade.caller")
    if caller is None:
        return NOBODY
    return Viewer(is_operator=bool(caller.audience & (Audience.OPERATOR | Audience.LOCAL)))
