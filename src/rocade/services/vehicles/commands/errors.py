"""Refusals of commands. Nobody is told who else gave one."""

from __future__ import annotations

from rocade.core.errors import Refused


def unknown() -> Refused:
    return Refused("command.unknown", "no command that is yours to see has this id")


def deadline(reason: str) -> Refused:
    return Refused("command.deadline", reason)


def bad_key() -> Refused:
    return Refused("command.key.malformed", "an idempotency key has 1 to 128 printable ASCII characters")


def reused_key() -> Refused:
    return Refused("command.key.reused", "this key was used for another command; a new command needs a new key")


def incapable(act: str, brand: str, model: str) -> Refused:
    return Refused("command.capability", f"{brand} {model} cannot do {act}", act=act)


def asleep(used: int, most: int) -> Refused:
    return Refused(
        "command.wake.budget",
        f"the vehicle sleeps and was woken {used} times since it was parked, at most {most} a day spare its battery;"
        " wait until it wakes by itself",
    )


def bad_cursor() -> Refused:
    return Refused("command.cursor", "the cursor was not made by this list; begin again without one")


ENDS = {
    one.code: one.message
    for one in (
        Refused("command.superseded", "a newer command of the same kind took its place"),
        Refused("command.expired", "its deadline passed before it could be done"),
        Refused("command.unsent", "its deadline passed before it is known to have left for the vehicle"),
        Refused("command.silent", "the vehicle took it and did not speak of it again by its deadline"),
        Refused("command.unproven", "the vehicle says it is done, and its telemetry has not shown it"),
        Refused("command.owner_changed", "the vehicle changed hands before it was done"),
        Refused("command.rejected", "the vehicle refused it without saying why"),
        Refused("command.interrupted", "power was lost while it was done; nobody knows whether it happened"),
        Refused("command.version.used", "the vehicle has had another command under this version"),
    )
}
"""Why commands end without effect or in doubt, beside the reasons that vehicles and other refusals name."""
