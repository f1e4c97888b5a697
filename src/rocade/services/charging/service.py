"""The use cases of charge control: goals with their plans, the one big stop, what is known of a car, how everything stands.

A goal is stored together with the plan made for it, in one transaction; `replanning` (the `charging` role) takes it from there:
it commands, follows every change and watches. `stop` alone commands at once, wherever it is called: nobody waits for a role.
Refuses: `charging.*`, `vehicles.unknown`. With those of `sites`, `importing` and `sessions` one class, `Charging`.
Source: docs/decisions/0052-charging.md.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from rocade.services.charging import errors, store
from rocade.services.charging.acting import Picture
from rocade.services.charging.importing import Tariffs
from rocade.services.charging.leaving import next_departure
from rocade.services.charging.making import make
from rocade.services.charging.model import (
    CarFacts,
    Goal,
    Standing,
    StoredPlan,
)
from rocade.services.charging.rules import check_car, check_goal
from rocade.services.charging.sessions import Sessions
from rocade.services.charging.sites import Sites
from rocade.services.vehicles.commands import Order

PURPOSE = "charging"
STOP_LIFE_US = 24 * 3_600_000_000


class Charging(Sites, Tariffs, Sessions):
    """Charge control of one region."""

    # Goals --------------------------------------------------------------------------------------------------------------

    async def set_goal(self, ref: int, goal: Goal, actor: str) -> Standing:
        """Store what is wanted, with its plan.

        Raises: Refused `charging.goal.*`, `charging.departure.*`, `charging.tariff.unknown`, `charging.car.battery`.
        """
        await self.vehicle(ref)
        async with self.acting(actor, "charging.goal", f"vehicle:{ref}") as connection:
            goal = await self._checked(connection, ref, goal, actor)
            await self.record(
                "charging.goal", actor, f"vehicle:{ref}",
                target_percent=goal.target_percent, departure=goal.departure.kind,
            )  # fmt: skip
            stored = await store.put_goal(connection, self.columns, goal)
            await self._replan(connection, stored, "charging.replan.goal")
        return await self.standing(ref)

    async def preview(self, ref: int, goal: Goal, actor: str = "") -> StoredPlan:
        """The plan a goal would get; nothing is stored or commanded. Raises: as `set_goal`."""
        await self.vehicle(ref)
        async with store.transaction(self.database) as connection:
            goal = await self._checked(connection, ref, goal, actor)
            return await self._made(connection, goal, "charging.replan.preview")

    async def goal(self, ref: int) -> Goal | None:
        found: dict[int, Goal] = await store.fetch(self.database, store.goals, self.columns, [ref])
        return found.get(ref)

    async def drop_goal(self, ref: int, actor: str) -> None:
        """Nothing is wanted any more; the car charges as it likes, without the schedule it was given.

        Raises: Refused `charging.goal.missing`.
        """
        async with self.acting(actor, "charging.goal.drop", f"vehicle:{ref}") as connection:
            await self.record("charging.goal.drop", actor, f"vehicle:{ref}")
            if not await store.drop_goal(connection, ref):
                raise errors.no_goal()
            await store.note_changes(connection, [f"goal:{ref}"], self.clock.now_us())
        if self.engines.commands is not None:
            until_us = self.clock.now_us() + STOP_LIFE_US
            free = Order(ref, "charge.schedule", {"slots": []}, actor, until_us, purpose=PURPOSE)
            await self.engines.commands.order_many([free])

    async def plan(self, ref: int, cause: str = "charging.replan.asked") -> StoredPlan:
        """Plan anew and store it. Raises: Refused `charging.goal.missing`."""
        async with store.transaction(self.database) as connection:
            goal = (await store.goals(connection, self.columns, [ref])).get(ref)
            if goal is None:
                raise errors.no_goal()
            return await self._replan(connection, goal, cause)

    async def stop(self, ref: int, actor: str) -> Standing:
        """The one big stop: nothing is charged until `resume`; what the car was told is taken back at once."""
        await self.vehicle(ref)
        async with self.acting(actor, "charging.stop", f"vehicle:{ref}") as connection:
            await self.record("charging.stop", actor, f"vehicle:{ref}")
            await self._set_stopped(connection, ref, is_stopped=True)
        now_us = self.clock.now_us()
        if self.engines.commands is not None:
            await self.engines.commands.order_many([
                Order(ref, "charge.stop", by=actor, expires_us=now_us + STOP_LIFE_US, purpose=PURPOSE),
                Order(ref, "charge.schedule", {"slots": []}, actor, now_us + STOP_LIFE_US, purpose=PURPOSE),
            ])  # fmt: skip
        if self.engines.stations is not None:
            at = (await self.engines.stations.connectors_of([ref])).get(ref)
            if at is not None and at.can_limit:
                await self.engines.stations.set_limit(at, [(now_us, 0.0)], now_us + STOP_LIFE_US)
        return await self.standing(ref)

    async def resume(self, ref: int, actor: str) -> Standing:
        """Go on as the goal says, from a fresh plan. Raises: Refused `charging.goal.missing`."""
        async with self.acting(actor, "charging.resume", f"vehicle:{ref}") as connection:
            await self.record("charging.resume", actor, f"vehicle:{ref}")
            goal = await self._set_stopped(connection, ref, is_stopped=False)
            if goal is None:
                raise errors.no_goal()
            await self._replan(connection, goal, "charging.replan.resumed")
        return await self.standing(ref)

    async def _set_stopped(self, connection: Any, ref: int, *, is_stopped: bool) -> Goal | None:
        goal = (await store.goals(connection, self.columns, [ref])).get(ref)
        if goal is None:
            return None
        goal = await store.put_goal(connection, self.columns, msgspec.structs.replace(goal, is_stopped=is_stopped))
        await store.note_changes(connection, [f"goal:{ref}"], self.clock.now_us())
        return goal

    async def _checked(self, connection: Any, ref: int, goal: Goal, actor: str) -> Goal:
        now_us = self.clock.now_us()
        goal = check_goal(msgspec.structs.replace(goal, ref=ref, by=actor, set_us=now_us, is_stopped=False), now_us)
        for id, kind in ((goal.tariff, "price"), (goal.carbon, "co2")):
            if id:
                await self.of_kind(connection, id, kind)
        if next_departure(goal.departure, now_us) <= now_us:
            raise errors.departure("never")
        return goal

    async def _replan(self, connection: Any, goal: Goal, cause: str) -> StoredPlan:
        await store.lock_plans(connection, [goal.ref])
        (stored,) = await store.add_plans(connection, self.columns, [await self._made(connection, goal, cause)])
        await store.note_changes(connection, [f"goal:{goal.ref}"], self.clock.now_us())
        return stored

    async def _made(self, connection: Any, goal: Goal, cause: str) -> StoredPlan:
        picture = await self._picture(connection, goal.ref, goal)
        (known,) = await self.knowns(connection, [picture])
        return await asyncio.to_thread(make, known, self.clock.now_us(), cause)

    async def _picture(self, connection: Any, ref: int, goal: Goal | None = None) -> Picture:
        """Raises: Refused `vehicles.unknown`."""
        found = await self.pictures(connection, [ref], {ref: goal} if goal else None)
        if ref not in found:
            await self.vehicle(ref)
        return found[ref]

    # The car ------------------------------------------------------------------------------------------------------------

    async def set_car(self, ref: int, car: CarFacts, actor: str) -> CarFacts:
        """What charging must know of battery and plug. Raises: Refused `charging.car`."""
        await self.vehicle(ref)
        async with self.acting(actor, "charging.car", f"vehicle:{ref}") as connection:
            car = check_car(msgspec.structs.replace(car, assumed=()))
            await self.record("charging.car", actor, f"vehicle:{ref}", capacity_kwh=car.capacity_kwh)
            await store.put_car(connection, self.columns, ref, car, self.clock.now_us())
            goal = (await store.goals(connection, self.columns, [ref])).get(ref)
            if goal is not None:
                await self._replan(connection, goal, "charging.replan.car")
            else:
                await store.note_changes(connection, [f"car:{ref}"], self.clock.now_us())
        return car

    async def forget(self, connection: Any, ref: int) -> None:
        """Inside the caller's transaction: everything about a reference whose data are erased."""
        await store.forget(connection, ref)
        await store.note_changes(connection, [f"goal:{ref}"], self.clock.now_us())
