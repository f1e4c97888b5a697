"""The refusals of consent. Messages never repeat a code, a name or another party's identifier."""

from __future__ import annotations

from rocade.core.errors import Refused


def not_owner() -> Refused:
    return Refused("consent.owner.missing", "this vehicle is not yours now; only its present owner may do this")


def is_owned() -> Refused:
    return Refused("consent.owner.exists", "this vehicle has an owner; he hands it over himself, or support settles it")


def bad_person() -> Refused:
    return Refused("consent.person", "a person is named person:<hex>, as the sign-in gives it")


def purpose(known: str) -> Refused:
    return Refused("consent.purpose.unknown", f"consent is for one of these purposes: {known}")


def recipient() -> Refused:
    return Refused(
        "consent.recipient", "a recipient is operator, partner:<id>, dealer:<id> or person:<hex>, and not yourself"
    )


def no_class() -> Refused:
    return Refused("consent.class.none", "name at least one data class")


def period(reason: str) -> Refused:
    return Refused("consent.period", reason)


def grant_unknown() -> Refused:
    return Refused("consent.grant.unknown", "this vehicle has no such consent, or it has ended")


def widens() -> Refused:
    return Refused("consent.grant.widens", "a consent can only be narrowed; give a new one, it takes this one's place")


def too_many(what: str, limit: int) -> Refused:
    return Refused("consent.many", f"a vehicle may have {limit} {what} at once; end one first")


def guest_unknown() -> Refused:
    return Refused("consent.guest.unknown", "this vehicle has no such driver or invitation, or it has ended")


def invitation(reason: str) -> Refused:
    """`reason`: unknown | used | ended | own."""
    say = {
        "unknown": "this invitation is not known; check the code, or ask the owner for a new one",
        "used": "this invitation was used already; ask the owner for a new one",
        "ended": "this invitation has ended; ask the owner for a new one",
        "own": "you own this vehicle; you need no invitation",
    }
    return Refused(f"consent.invitation.{reason}", say[reason])


def claim(reason: str) -> Refused:
    """`reason`: unknown | used | expired | own | conflict."""
    say = {
        "unknown": "this claim code is not known; check it, or ask for a new one",
        "used": "this claim code was used already, by you",
        "expired": "this claim code has ended; ask for a new one",
        "own": "you own this vehicle already",
        "conflict": "somebody else owns this vehicle or claimed it too; support was told and decides, nothing has changed",
    }
    return Refused(f"consent.claim.{reason}", say[reason])


def is_disputed() -> Refused:
    return Refused(
        "consent.conflict.open", "two persons claim this vehicle; nothing changes hands until support decided"
    )


def conflict_unknown() -> Refused:
    return Refused("consent.conflict.unknown", "there is no such open conflict of ownership")


def bad_cursor() -> Refused:
    return Refused("consent.cursor", "the cursor was not made by this list; begin again without one")
