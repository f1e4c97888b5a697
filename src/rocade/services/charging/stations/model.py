"""Words of charging stations: connectors, limits, samples, transactions, what a station has shown that it accepts.

A station is named as in its own address; a connector by station, EVSE and connector number (OCPP 1.6 has connectors alone:
there both numbers are the same). Powers are kW in limits (as plans say) and W in samples (as meters say).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from rocade.core.identifiers import VehicleRef
from rocade.services.charging.stations import errors

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,47}\Z")
VOLTAGE = 230.0
LEAST_A = 6.0
"""Below it a car does not charge (IEC 61851-1): a smaller limit is a pause."""
MOST_SLOTS = 96
MOST_KW = 1_000.0

type Purpose = Literal["tx", "tx_default", "station_max"]
type Unit = Literal["A", "W"]
type Proof = Literal["untried", "accepted", "proven", "rejected", "ignored"]
"""What a station did with a way to limit it: took it, was seen to keep it, refused it, took it and charged on as before."""
type LimitState = Literal["wanted", "accepted", "proven", "rejected", "ignored", "ended"]


class Station(msgspec.Struct, frozen=True, kw_only=True):
    """A registered station. `profile` is the least OCPP security profile it may come with."""

    id: str
    name: str = ""
    site: str = ""
    profile: int = 2
    is_open: bool = False
    """Anybody may charge: unknown tags are taken too."""
    is_closed: bool = False
    phases: int = 3
    voltage: float = VOLTAGE
    version: str = ""
    vendor: str = ""
    model: str = ""
    serial: str = ""
    firmware: str = ""
    booted_us: int = 0
    seen_us: int = 0
    is_here: bool = False
    made_us: int = 0


class Connector(msgspec.Struct, frozen=True, order=True):
    station: str
    evse: int
    connector: int = 1


class ConnectorState(msgspec.Struct, frozen=True, kw_only=True):
    """What a connector said last. `state`: available, preparing, charging, suspended_car, suspended_station, finishing,
    reserved, unavailable, faulted.
    """

    station: str
    evse: int
    connector: int
    state: str
    error: str = ""
    at_us: int = 0


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One reading of a meter. Per-phase values in the order L1, L2, L3; None = not said."""

    at_us: int
    energy_wh: float | None = None
    """The register, as it counts since ever."""
    power_w: float | None = None
    current_a: tuple[float, ...] = ()
    voltage_v: tuple[float, ...] = ()
    soc_percent: float | None = None
    offered_a: float | None = None
    context: str = ""
    other: dict[str, float] = {}
    """What else was said, by OCPP's own names."""

    @property
    def watts(self) -> float | None:
        """Power, from the currents where it is not said."""
        if self.power_w is not None or not self.current_a:
            return self.power_w
        volts = self.voltage_v if len(self.voltage_v) == len(self.current_a) else (VOLTAGE,) * len(self.current_a)
        return sum(a * v for a, v in zip(self.current_a, volts, strict=True))


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One charging at a connector. `reference` is the station's own name for it (2.x); 1.6 uses `number`."""

    number: int
    station: str
    evse: int
    connector: int
    reference: str
    began_us: int
    began_wh: float | None = None
    ended_us: int | None = None
    ended_wh: float | None = None
    reason: str = ""
    vehicle: VehicleRef | None = None
    last_us: int = 0
    last_wh: float | None = None
    last_w: float | None = None
    last_soc: float | None = None
    missing: int = 0
    """Events of it (2.x) that never came."""

    @property
    def place(self) -> Connector:
        return Connector(self.station, self.evse, self.connector)

    @property
    def energy_kwh(self) -> float | None:
        """Charged so far."""
        until = self.ended_wh if self.ended_wh is not None else self.last_wh
        return None if until is None or self.began_wh is None else (until - self.began_wh) / 1000


class Slot(msgspec.Struct, frozen=True):
    """A part of a limit; `power_kw` 0 = pause."""

    start_us: int
    power_kw: float


class Limit(msgspec.Struct, frozen=True):
    """The most a connector may draw: slots in order, each until the next; all of it ends at `until_us`, after which the station
    is free again. Always bounded, so that a station that is lost keeps nothing for ever.
    """

    slots: tuple[Slot, ...]
    until_us: int
    by: str = ""

    def check(self, now_us: int) -> None:
        """Raises: Refused `stations.limit.*`."""
        starts = [slot.start_us for slot in self.slots]
        if not self.slots or len(self.slots) > MOST_SLOTS:
            raise errors.limit("slots")
        if starts != sorted(set(starts)):
            raise errors.limit("order")
        if any(not 0 <= slot.power_kw <= MOST_KW for slot in self.slots):
            raise errors.limit("power")
        if self.until_us <= max(now_us, starts[-1]):
            raise errors.limit("past")
        if self.until_us > now_us + 7 * 86_400_000_000:
            raise errors.limit("long")

    def kw_at(self, at_us: int) -> float | None:
        """The limit at an instant; None = none."""
        if at_us >= self.until_us:
            return None
        found = None
        for slot in self.slots:
            if slot.start_us <= at_us:
                found = slot.power_kw
        return found


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a limit stands: `state`, by which purpose and unit, why not."""

    place: Connector
    version: int
    limit: Limit
    state: LimitState
    purpose: str = ""
    unit: str = ""
    code: str = ""
    at_us: int = 0


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """An id tag (idToken) as it is known here: a keyed digest, never the tag itself."""

    reference: str
    vehicle: VehicleRef | None = None
    label: str = ""
    ends_us: int | None = None
    is_blocked: bool = False


type EventKind = Literal[
    "here", "gone", "booted", "state", "began", "sample", "ended", "moved", "limit", "obsolete", "security"
]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened at a station; told after it is durable."""

    kind: EventKind
    station: str
    at_us: int
    evse: int = 0
    connector: int = 0
    transaction: int = 0
    vehicle: VehicleRef | None = None
    sample: Sample | None = None
    code: str = ""
