"""Charge control: what a driver wants becomes a plan, the plan commands, and telemetry or a station proves what happened.

`Charging` holds the acts (set a goal, preview, stop, resume; sites, tariffs, dimming) and the questions (standing, sessions,
board, flexibility); `planning` computes, `replanning` follows every change, `sessions` accounts what was charged.
"""

from rocade.services.charging.acting import Engines
from rocade.services.charging.importing import SeriesValue
from rocade.services.charging.metering import HistoryMeters
from rocade.services.charging.model import (
    Alert,
    Board,
    BoardCar,
    CarFacts,
    ChargeSite,
    Departure,
    Dimming,
    Flexibility,
    Goal,
    LimitNode,
    Now,
    Place,
    Remedy,
    Session,
    SessionsPage,
    SitePlan,
    Standing,
    StoredPlan,
    Tariff,
    WeeklyTime,
)
from rocade.services.charging.service import Charging

__all__ = [
    "Alert",
    "Board",
    "BoardCar",
    "CarFacts",
    "ChargeSite",
    "Charging",
    "Departure",
    "Dimming",
    "Engines",
    "Flexibility",
    "Goal",
    "HistoryMeters",
    "LimitNode",
    "Now",
    "Place",
    "Remedy",
    "SeriesValue",
    "Session",
    "SessionsPage",
    "SitePlan",
    "Standing",
    "StoredPlan",
    "Tariff",
    "WeeklyTime",
]
