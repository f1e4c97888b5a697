"""How a message changes a transaction: what is known stays, what is missing is filled in, what was measured last counts. Pure.

A message may come twice, late, or before the one it follows; each of these leaves the same transaction behind.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rocade.services.charging.stations.sealing import row_of
from rocade.trust.authority.sealing import REGION

type Has = Callable[[int], bool]
"""Whether a vehicle's keys are there; those of an erased one are not, and what comes then is nobody's."""


class Values(msgspec.Struct, array_like=True, gc=False):
    """What is sealed of a transaction."""

    began_wh: float | None = None
    ended_wh: float | None = None
    reason: str = ""
    last_wh: float | None = None
    last_w: float | None = None
    last_soc: float | None = None


class Held(msgspec.Struct, gc=False):
    """A transaction as it is stored, opened; `number` 0 = not stored yet."""

    row: int
    """Its number in what is sealed."""
    number: int
    station: str
    reference: str
    evse: int
    connector: int
    tag: bytes | None
    began_us: int
    ended_us: int | None
    last_us: int
    sequence: int
    events: int
    vehicle: int | None
    values: Values = msgspec.field(default_factory=Values)

    @property
    def owner(self) -> int:
        return self.vehicle or REGION


class Turned(msgspec.Struct, gc=False):
    """A transaction named by (station, reference), as one message or several of a tick changed it."""

    station: str
    reference: str
    evse: int
    connector: int
    tag: bytes | None
    vehicle: int | None
    began_us: int
    began_wh: float | None
    ended_us: int | None
    ended_wh: float | None
    reason: str
    last_us: int
    last_wh: float | None
    last_w: float | None
    last_soc: float | None
    sequence: int


class Known(msgspec.Struct, gc=False):
    """What the table says of a transaction after the tick."""

    number: int
    vehicle: int | None
    evse: int
    connector: int
    is_new: bool = False


class Went(msgspec.Struct, gc=False):
    """A transaction named by its number (1.6) goes on or ends."""

    station: str
    number: int
    ended_us: int | None
    ended_wh: float | None
    reason: str
    last_us: int
    last_wh: float | None
    last_w: float | None
    last_soc: float | None


def begun(row: Turned, has: Has) -> Held:
    values = Values(row.began_wh, row.ended_wh, row.reason, row.last_wh, row.last_w, row.last_soc)
    vehicle = row.vehicle if row.vehicle and has(row.vehicle) else None
    return Held(
        row_of(row.station, row.reference), 0, row.station, row.reference, row.evse, row.connector, row.tag, row.began_us, row.ended_us, row.last_us, row.sequence,
        1, vehicle, values,
    )  # fmt: skip


def turned(one: Held, row: Turned, has: Has) -> bool:
    """What a message says more than was known; whether its vehicle is known only now."""
    if one.evse == 0:
        one.evse, one.connector = row.evse, row.connector
    one.tag = one.tag or row.tag
    is_owned = one.vehicle is not None
    if not is_owned and row.vehicle and has(row.vehicle):
        one.vehicle = row.vehicle
    one.began_us = min(one.began_us, row.began_us)
    one.values.began_wh = row.began_wh if one.values.began_wh is None else one.values.began_wh
    one.events += row.sequence > one.sequence
    one.sequence = max(one.sequence, row.sequence)
    ended(one, row.ended_us, row.ended_wh, row.reason)
    last(one, row)
    return not is_owned and one.vehicle is not None


def ended(one: Held, at_us: int | None, wh: float | None, reason: str) -> None:
    one.ended_us = at_us if one.ended_us is None else one.ended_us
    one.values.ended_wh = wh if one.values.ended_wh is None else one.values.ended_wh
    one.values.reason = one.values.reason or reason


def last(one: Held, row: Turned | Went) -> None:
    """What was measured last; a value that was not said stays."""
    if row.last_us < one.last_us:
        return
    one.last_us, values = row.last_us, one.values
    values.last_wh = values.last_wh if row.last_wh is None else row.last_wh
    values.last_w = values.last_w if row.last_w is None else row.last_w
    values.last_soc = values.last_soc if row.last_soc is None else row.last_soc
