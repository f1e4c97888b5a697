"""What all sessions of one door share: its limits, its counters, and the ways onward."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from rocade.core.ports import Clock
from rocade.doors.mqtt.contract import Intake, Publish, Sessions, Settings
from rocade.doors.mqtt.meter import Meter
from rocade.doors.mqtt.refusals import Refusals

if TYPE_CHECKING:
    from rocade.doors.mqtt.session import Session


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
    vehicles: dict[str, Session]
    """The one open session of each vehicle id."""
