"""The operator's pages: the fleet on a map and in a list, one vehicle, ingestion, and the region's papers and people.

`handlers(desk)` gives those that this process can serve: consents and people only where they are.
"""

from __future__ import annotations

from typing import Any

from rocade.console.operator import (
    audit,
    certificates,
    consents,
    duties,
    enrolment,
    fleet,
    people,
    quarantine,
    recovery,
    vehicle,
)
from rocade.console.operator.desk import Desk

__all__ = ["Desk", "handlers"]


def handlers(desk: Desk) -> list[Any]:
    found = [
        *fleet.HANDLERS,
        *vehicle.HANDLERS,
        *certificates.HANDLERS,
        *enrolment.HANDLERS,
        *quarantine.HANDLERS,
        *audit.HANDLERS,
    ]
    return [
        *found,
        *(consents.HANDLERS if desk.consents else ()),
        *([*people.HANDLERS, *duties.HANDLERS, *recovery.HANDLERS] if desk.people else ()),
    ]
