"""How charging stands: everything about one vehicle now, in one word and in full, and the alerts of a goal in danger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocade.services.charging import ledger, store
from rocade.services.charging.acting import Acts, Picture
from rocade.services.charging.model import Alert, Standing, StoredPlan, Word

SILENT_US = 1_800_000_000
REACHED_PERCENT = 0.5
"""So close to its target a car counts as there: gauges have steps."""


class Standings(Acts):
    """Questions about vehicles."""

    async def standing(self, ref: int) -> Standing:
        """Everything about one vehicle's charging now. Raises: Refused `vehicles.unknown`, `charging.car.battery`."""
        await self.vehicle(ref)
        async with store.transaction(self.database) as connection:
            return (await self.standings(connection, [ref]))[ref]

    async def standings(self, connection: Any, refs: Sequence[int]) -> dict[int, Standing]:
        """Of many vehicles at once, those that are registered."""
        pictures = await self.pictures(connection, refs)
        plans = await store.plans(connection, self.columns, refs)
        sessions = await ledger.open_sessions(connection, self.columns, refs)
        alerts: dict[int, list[Alert]] = {}
        for alert in await store.open_alerts(connection, self.columns, refs):
            alerts.setdefault(alert.ref, []).append(alert)
        now_us = self.clock.now_us()
        return {
            ref: Standing(
                ref,
                word_of(one, plans.get(ref), alerts.get(ref, ()), now_us),
                one.now,
                one.car,
                one.goal,
                plans.get(ref) if one.goal else None,
                sessions.get(ref),
                tuple(alerts.get(ref, ())),
                one.departure_us,
            )
            for ref, one in pictures.items()
        }

    async def alerts(self, ref: int, limit: int = 100) -> list[Alert]:
        """The newest first, ended ones too."""
        found: list[Alert] = await store.fetch(self.database, store.alerts, self.columns, ref, max(1, min(limit, 1000)))
        return found


def word_of(picture: Picture, plan: StoredPlan | None, alerts: Sequence[Alert], now_us: int) -> Word:
    """How a vehicle stands to its goal, in one word."""
    goal, now = picture.goal, picture.now
    if goal is None:
        return "charging" if now.is_charging else "no_goal"
    if goal.is_stopped:
        return "stopped"
    if now.soc_percent is not None and now.soc_percent >= goal.target_percent - REACHED_PERCENT:
        return "reached"
    if alerts or (plan is not None and plan.shortfall_kwh > 0.1):
        return "late"
    if now.is_moving:
        return "moving"
    if not now.is_plugged:
        return "unplugged"
    if now.is_charging:
        return "charging"
    if plan is not None and plan.power_at(now_us) and now_us - now.seen_us > SILENT_US:
        return "silent"
    return "waiting" if plan is not None else "unknown"
