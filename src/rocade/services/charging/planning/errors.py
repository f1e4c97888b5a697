"""What planning refuses: values that no plan can be made from. A goal that cannot be reached is not among them: see `plan.py`."""

from __future__ import annotations

from rocade.core.errors import Refused


def need(reason: str) -> Refused:
    """`reason`: efficiency | power | percent | capacity | minimum | late | taper | energy | instant."""
    say = {
        "efficiency": "the efficiency of charging is above 0 and at most 1, like 0.9",
        "power": "a power limit is a number of kW, 0 or more",
        "percent": "states of charge are percentages from 0 to 100",
        "capacity": "the capacity is a number of kWh above 0; say it with the goal if the vehicle does not",
        "minimum": "the minimum to charge first may not be above the target; raise the target or lower the minimum",
        "late": "the state from which to charge late is a percentage from 0 to 100",
        "taper": "a taper names growing percentages and the power in kW, above 0, that the car takes at each",
        "energy": "the energy to charge is a number of kWh, 0 or more",
        "instant": "arrival and departure are instants between the years 1970 and 2200",
    }
    return Refused(f"charging.need.{reason}", say[reason])


def curve_length(slots: int, values: int) -> Refused:
    return Refused("charging.curve.length", f"{values} values are given for {slots} slots; give one for each")


def prices_missing(at_us: int, slots: int) -> Refused:
    return Refused(
        "charging.prices.missing",
        "some slots before the departure have no price; import the tariff for that time, or extend it by a forecast",
        first_missing_us=at_us,
        missing_slots=slots,
    )


def prices_zone(wanted: str, given: str) -> Refused:
    return Refused(
        "charging.prices.zone",
        f"the prices are for zone {given}, this place is in {wanted}; import those of {wanted}",
        wanted=wanted,
        given=given,
    )


def prices_currency(wanted: str, given: str) -> Refused:
    return Refused(
        "charging.prices.currency",
        f"the prices are in {given}, accounts here are kept in {wanted}; amounts are never converted: import them in {wanted}",
        wanted=wanted,
        given=given,
    )


def prices_unit(wanted: str, given: str) -> Refused:
    return Refused("charging.prices.unit", f"values in {wanted} are needed here, these are in {given}")


def zone(name: str) -> Refused:
    return Refused("charging.zone", f"no time zone is called {name[:60]!r}; write one like Europe/Paris")


def prices_none() -> Refused:
    return Refused("charging.prices.none", "there are no values at all to forecast from; import the tariff first")


def weekly() -> Refused:
    return Refused(
        "charging.departure.weekly", "a weekly time is a weekday from 0 (Monday) to 6 and a minute from 0 to 1439"
    )


def calendar(reason: str) -> Refused:
    """`reason`: malformed | large | zone."""
    say = {
        "malformed": "this is no iCalendar text; export the calendar as .ics and hand that in",
        "large": "the calendar is too large or repeats for too long; export the coming weeks alone",
        "zone": "the calendar defines a time zone by a rule that is not yearly; export it with a named zone like Europe/Paris",
    }
    return Refused(f"charging.calendar.{reason}", say[reason])
