"""Plans for charging: pure computation on slots, prices and needs; no engines, no clock.

slots = Slots.over(now_us, departure_us)
price = tariff.on(slots)
plan = plan_one(need, slots, objective(price.value, carbon.on(slots).value, share=0.3), price=price)
"""

from rocade.services.charging.planning.plan import AtOnce, Need, Plan, Reason, Remedy
from rocade.services.charging.planning.single import frontier, objective, plan_many, plan_many_load, plan_one
from rocade.services.charging.planning.slots import OnSlots, Series, Slots, local_day, zone_of
from rocade.services.charging.planning.taper import Taper

__all__ = [
    "AtOnce",
    "Need",
    "OnSlots",
    "Plan",
    "Reason",
    "Remedy",
    "Series",
    "Slots",
    "Taper",
    "frontier",
    "local_day",
    "objective",
    "plan_many",
    "plan_many_load",
    "plan_one",
    "zone_of",
]
