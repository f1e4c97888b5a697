"""What all sessions of one door share: its limits, its counters, and the ways onward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rocade.core.identifiers import Identity
from rocade.core.ports import Clock
from rocade.doors.mqtt.contract import Intake, Publish, Sessions, Settings
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.refusals import Refusals

if TYPE_CHECKING:
    from rocade.doors.mqtt.session import Session

_BY_ID = ("vehicle", "dealer")


class House(msgspec.Struct):
    settings: Settings
    clock: Clock
    meter: Meter
    refusals: Refusals
    intake: Intake
    sessions: Sessions
    admissions: asyncio.Semaphore
    add: Callable[[Session, int, Publish], None]
    """Put a publish with its packet identifier into the present tick."""
    part: Callable[[Session], None]
    """Close the session's socket politely."""
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    parties: dict[str, Session]
    """The one open session of each party (`party_key`)."""
    tails: Mapping[str, frozenset[str]]
    """What each kind of party may publish below its `up/`; a kind that is not here may publish nothing."""
    subscribed: Callable[[object], object]
    """Called with what `Intake.admit` returned when a party has subscribed to something: it can be sent messages from now on."""


def party_key(identity: Identity) -> str:
    """How a door names a connected party: vehicles and dealers by their id, others by kind and id."""
    return identity.id if identity.kind in _BY_ID else f"{identity.kind}/{identity.id}"
