"""The registry's refusals. Messages never repeat a VIN: they may be logged."""

from __future__ import annotations

from rocade.core.errors import Refused


def unknown() -> Refused:
    return Refused("vehicles.unknown", "no vehicle with this id is registered here; enrol it first")


def exists() -> Refused:
    return Refused("vehicles.exists", "a vehicle with this id is registered already")


def unseen(ref: int) -> Refused:
    return Refused("gate.denied", "you may not see this vehicle for this purpose; its owner grants that", ref=str(ref))


def bad_cursor() -> Refused:
    return Refused("vehicles.cursor", "the cursor was not made by this list; begin again without one")


def invalid(field: str, reason: str) -> Refused:
    return Refused("vehicles.invalid", f"{field}: {reason}", field=field)
