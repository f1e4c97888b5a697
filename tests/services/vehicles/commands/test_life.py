"""A command's life from the order to its proof, and every order in which what is said of it may come."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from rocade.core.errors import Refused
from rocade.services.vehicles.commands import Order, store
from rocade.services.vehicles.commands.keeping import pass_time


def states(standing: Any) -> list[str]:
    return [one.state for one in standing.life]


async def test_a_command_goes_from_the_order_to_its_proof(hub: Any) -> None:
    car = await hub.add_vehicle()
    ordered = await hub.order(car)
    assert (ordered.state, ordered.is_open, ordered.parameters) == ("queued", True, {"percent": 80})
    gateway, door = hub.gateway(car)
    await gateway.deliver({int(car.ref)}, set())
    ((party, body),) = door.sent
    command = hub.opened(body)
    assert (party, command.vehicle, command.id, command.version) == (car.id, car.id, ordered.id, ordered.version)
    await hub.say(car, hub.report(ordered, "accepted"), hub.report(ordered, "applied"))
    assert (await hub.commands.standing(ordered.id)).state == "applied"
    await hub.verifier.look()
    await hub.measure(car, limit=80)
    done = await hub.commands.standing(ordered.id)
    assert (done.state, done.is_open, done.doubt) == ("verified", False, False)
    assert states(done) == ["created", "queued", "sent", "accepted", "applied", "verified"]
    assert [one.at_us for one in done.life] == sorted(one.at_us for one in done.life)
