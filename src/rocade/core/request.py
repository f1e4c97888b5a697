"""The request in hand: its id, so that a refusal noted while it is worked on can be found by that id afterwards.

The HTTP shell opens one around each request; the audit log writes its id beside the refusals noted meanwhile and says so
in `is_noted`; the problem document then links to the refusal itself, else to its code in general. Whoever works outside a
request (workers, commands) sees None.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Request:
    """Shape: `id` is 16 hexadecimal digits."""

    id: str
    is_noted: bool = False
    """Whether the audit log took a refusal of this request."""


current: ContextVar[Request | None] = ContextVar("rocade_request", default=None)
