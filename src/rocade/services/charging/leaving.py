"""When the driver leaves next, by what he said."""

from __future__ import annotations

from rocade.services.charging.model import Departure
from rocade.services.charging.planning.departures import next_in_calendar, next_weekly


def next_departure(departure: Departure, now_us: int) -> int:
    """The next instant he leaves after now, 0 = none is known; one that was meant once stays what it was.

    Raises: Refused `charging.calendar.*`, `charging.zone`.
    """
    if departure.kind == "once":
        return departure.at_us
    if departure.kind == "weekly":
        return next_weekly([(one.weekday, one.minute) for one in departure.weekly], departure.zone, now_us) or 0
    return next_in_calendar(departure.calendar, departure.zone, now_us, departure.word) or 0
