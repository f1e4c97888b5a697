"""Words of the grid: who signals, how a signal came, what was done about it and what the load was afterwards."""

from __future__ import annotations

import re

import msgspec

from rocade.services.charging.model import Dimming

PARTY = re.compile(r"partner:[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HTTP, OPENADR, DESK = "http", "openadr", "desk"
"""How a signal came: a plain call, an OpenADR event, an operator's own hand."""
RECEIVED, CHANGED, PLANNED, TOLD, PROVEN, MEASURED, KEPT, ENDED, CALLED_OFF = (
    "received", "changed", "planned", "told", "proven", "measured", "kept", "ended", "called_off",
)  # fmt: skip
"""What a line of a proof says. planned: a plan that keeps the limit is on the road; told: a car or its station got its part;
proven: telemetry or the meter shows that it obeys; measured: the depot's load; kept: the first load within the limit."""
TOLERANCE, TOLERANCE_KW = 0.02, 0.1
"""How far a measured load may lie above a limit: what meters of cars and stations can tell."""


class Proof(msgspec.Struct, frozen=True):
    """One line of what was done. `ref` 0 = the depot as a whole; `code`: the act, or within | above of a measured load."""

    at_us: int
    what: str
    ref: int = 0
    kw: float | None = None
    code: str = ""


class Received(msgspec.Struct, frozen=True):
    """How a signal came: from whom, when first and last, how often the same was told."""

    signal: str
    event: str
    party: str
    via: str
    first_us: int
    last_us: int
    times: int


class Signal(msgspec.Struct, frozen=True):
    """A signal as it stands. `state`: waiting (its time has not come), active, over, called_off; `kept_us` 0 = the load was not
    seen within the limit (yet); `within_period`: that took no longer than the depot's control period, None while nobody knows.
    """

    dimming: Dimming
    received: Received
    state: str
    kept_us: int
    within_period: bool | None
    proof: tuple[Proof, ...] = ()


def state_of(dimming: Dimming, now_us: int) -> str:
    if dimming.ended_us:
        return "called_off"
    if now_us >= dimming.until_us:
        return "over"
    return "active" if now_us >= dimming.from_us else "waiting"


def is_within(load_kw: float, limit_kw: float) -> bool:
    return load_kw <= limit_kw * (1 + TOLERANCE) + TOLERANCE_KW
