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
