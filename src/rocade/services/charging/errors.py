"""The refusals of charge control. Messages never name another party or a vehicle's number."""

from __future__ import annotations

from rocade.core.errors import Refused, Unavailable


def goal(reason: str, field: str = "") -> Refused:
    """`reason`: percent | target | minimum | share | power."""
    say = {
        "percent": "a charge is 0 to 100 percent",
        "target": "say how far to charge: a target above 0 percent",
        "minimum": "the minimum that is charged first lies above the target; lower it",
        "share": "share_co2 lies between 0 (cheap) and 1 (green)",
        "power": "a power limit is 0.1 to 1000 kW, or 0 for none",
    }
    return Refused(f"charging.goal.{reason}", say[reason], **({"field": field} if field else {}))


def no_goal() -> Refused:
    return Refused("charging.goal.missing", "no goal is set for this vehicle; PUT one first")


def departure(reason: str) -> Refused:
    """`reason`: past | far | never | weekly."""
    say = {
        "past": "the departure lies in the past; name one to come",
        "far": "the departure is more than a year away; name a nearer one",
        "never": "nobody ever leaves by this: name at least one time or event",
        "weekly": "a weekly time is a weekday from 0 (Monday) to 6 and a minute of the day from 0 to 1439",
    }
    return Refused(f"charging.departure.{reason}", say[reason])


def car(field: str, low: float, high: float) -> Refused:
    return Refused("charging.car", f"{field} lies between {low:g} and {high:g}", field=field)


def no_battery() -> Refused:
    return Refused("charging.car.battery", "this vehicle has no battery that is charged from a plug")


def bad_id() -> Refused:
    return Refused("charging.id", "an id has small letters, digits and hyphens, 64 at most, like depot-nord")


def site(reason: str) -> Refused:
    """`reason`: unknown | name | period | load | nodes | tree | limit | unlimited | node | used | priority | place."""
    say = {
        "unknown": "there is no such depot; `rocade charging sites` lists them",
        "name": "a depot has a name of 1 to 80 printable characters",
        "period": "a control period is 1 to 3600 s",
        "load": "the building's load and its sun are kW from 0 up",
        "nodes": "each limit has an id of its own, 10,000 at most",
        "tree": "limits form a tree: one without parent, every other below one that is there",
        "limit": "a limit is kW or A from 0.001 up, 0 = none of its own",
        "unlimited": "the topmost limit has kW or A above 0; a depot without limit needs no plan of its own",
        "node": "the depot has no limit of this id",
        "used": "vehicles hang under a limit that would be gone; move them first",
        "priority": "a priority is a whole number from -100 to 100",
        "place": "this vehicle does not charge at this depot",
    }
    return Refused(f"charging.site.{reason}", say[reason])


def tariff(reason: str) -> Refused:
    """`reason`: unknown | exists | name | kind | currency | empty | values | use."""
    say = {
        "unknown": "there is no such tariff or series; `rocade charging tariffs` lists them",
        "exists": "there is a tariff of this id with another kind, currency or zone; choose another id",
        "name": "a name has at most 80 printable characters, an area 64",
        "kind": "a series is one of price, co2, building, solar",
        "currency": "a price has a currency of three letters (ISO 4217), any other series none",
        "empty": "the file holds no value; nothing was taken in",
        "values": "values have an end after their start, none lies over another, each is a number, 200,000 at most",
        "use": "this series is of another kind than what it is wanted for",
    }
    return Refused(f"charging.tariff.{reason}", say[reason])


def dimming(reason: str) -> Refused:
    """`reason`: limit | period | past | long | signal | unknown."""
    say = {
        "limit": "a dimming limit is kW from 0 up",
        "period": "a dimming begins before it ends",
        "past": "this dimming is over already",
        "long": "a dimming lasts 31 days at most; send the next one then",
        "signal": "a signal has an id of 1 to 128 printable characters",
        "unknown": "there is no signal of this id at this depot",
    }
    return Refused(f"charging.dimming.{reason}", say[reason])


def bad_cursor() -> Refused:
    return Refused("charging.cursor", "this cursor was not made by this list; begin without one")


def session_unknown() -> Refused:
    return Refused("charging.session.unknown", "there is no such charging session of this vehicle")


def down(error: BaseException) -> Unavailable:
    return Unavailable("database.down", f"PostgreSQL does not answer: {type(error).__name__}")
