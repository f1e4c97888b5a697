"""How often a parked vehicle may be woken: each time costs its battery, so a parked day has a budget.

A vehicle is awake while its data come. One that sleeps was woken for every command that its own word says it woke up for;
the count begins anew when it has driven, and a day later.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rocade.core.catalogue import standard
from rocade.services.vehicles import twin
from rocade.services.vehicles.commands import store
from rocade.trust.authority.sealing import Keys

DAY_US = 86_400_000_000


class WakeBudget(msgspec.Struct, frozen=True):
    """`most` times a day; a vehicle whose newest data arrived within `awake_us` is awake and costs nothing."""

    most: int = 6
    awake_us: int = 120_000_000

    async def spent(self, connection: Any, keys: Keys, refs: Iterable[int], now_us: int) -> dict[int, int]:
        """Of these vehicles those that sleep and have been woken as often as they may be, with how often."""
        found = {}
        for ref, wakes in (await store.read_wakes(connection, keys, list(refs), now_us - DAY_US, self.most)).items():
            if wakes.arrived_us >= now_us - self.awake_us:
                continue
            parked_us = parked_since_us(wakes.reported)
            woken = sum(at_us > parked_us for at_us in wakes.woken_us)
            if woken >= self.most:
                found[ref] = woken
        return found


def parked_since_us(reported: bytes) -> int:
    """Since when a vehicle has stood, by its packed twin; 0 = not known."""
    speed = twin.values_of(reported).get(int(standard().by_name("Vehicle.Speed").id)) if reported else None
    return speed.changed_us if speed and speed.value == 0 else 0
