"""The refusals of charging stations. Messages name neither tags nor passwords nor vehicles."""

from __future__ import annotations

from rocade.core.errors import Refused, Unavailable


def refused(reason: str) -> Refused:
    """Why a station may not come in. `reason`: unknown | password | certificate | profile | closed | attempts."""
    say = {
        "unknown": "no such station is registered here; register it first",
        "password": "the station's password is not the one that was given; make a new one and enter it there",
        "certificate": "the certificate belongs to another station than the address names",
        "profile": "this station must come with a higher OCPP security profile; configure TLS or its certificate",
        "closed": "this station was closed",
        "attempts": "too many wrong passwords from this address; wait ten minutes",
    }
    return Refused(f"stations.refused.{reason}", say[reason])


def limit(reason: str) -> Refused:
    """`reason`: slots | order | power | past | long | unknown."""
    say = {
        "slots": "a limit has 1 to 96 slots",
        "order": "the slots of a limit stand in order, each with a later start than the one before",
        "power": "a limit is 0 to 1000 kW; 0 pauses",
        "past": "a limit ends after its last slot begins, and not in the past",
        "long": "a limit ends within seven days; renew it then",
        "unknown": "no limit is set there",
    }
    return Refused(f"stations.limit.{reason}", say[reason])


def invalid(field: str, reason: str) -> Refused:
    return Refused("stations.invalid", f"{field}: {reason}", field=field)


def exists() -> Refused:
    return Refused("stations.exists", "a station of this name is registered already")


def tag(reason: str) -> Refused:
    """`reason`: unknown | form."""
    say = {
        "unknown": "no such tag is known here",
        "form": "a tag has 1 to 36 printable characters and may not be a vehicle's number",
    }
    return Refused(f"stations.tag.{reason}", say[reason])


def transaction_unknown() -> Refused:
    return Refused("stations.transaction", "there is no open transaction of this number")


def said_no(kind: str) -> Refused:
    return Refused("stations.said_no", f"the station refused: {kind}", kind=kind)


def database_down(name: str) -> Unavailable:
    return Unavailable("database.down", f"PostgreSQL does not answer: {name}")
