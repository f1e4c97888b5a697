"""Battery health: how much a traction battery still holds, found in its own charges and drives, with an interval, or not at all.

`Batteries` reads a vehicle's history on and answers; `find_segments` finds stretches of charging and driving in the history, `estimate` weighs them; below the minimum of data, or
where the vehicle says too little, the answer is a reason and not a number.
"""

from rocade.services.battery.estimating import estimate
from rocade.services.battery.model import Finding, Health, Interval, Pack, Point, Rules, Seen, Segment
from rocade.services.battery.passport import Passport, passport
from rocade.services.battery.segments import ROLES, find_segments, resistance
from rocade.services.battery.service import Batteries

__all__ = [
    "ROLES",
    "Batteries",
    "Finding",
    "Health",
    "Interval",
    "Pack",
    "Passport",
    "Point",
    "Rules",
    "Seen",
    "Segment",
    "estimate",
    "find_segments",
    "passport",
    "resistance",
]
