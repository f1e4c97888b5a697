"""Words of charge control; what they must keep to stands in `rules`.

A *goal* is what the driver wants, a *plan* the power of each slot until he leaves, a *session* the time from plug-in to
plug-out, a *charge site* (depot, in texts to people) a place whose cars share limits that form a tree. Powers are kW at the
plug, energies kWh, charges percent, instants microseconds UTC; money is integer minor units and a currency.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LATE_FROM_PERCENT = 80.0
"""Above it a battery that is cared for is charged as late as possible."""

type DepartureKind = Literal["once", "weekly", "calendar"]
type SeriesKind = Literal["price", "co2", "building", "solar"]
UNITS: dict[str, str] = {"price": "/kWh", "co2": "g/kWh", "building": "kW", "solar": "kW"}
"""Of a price series the currency stands before the stroke."""

# Goals ----------------------------------------------------------------------------------------------------------------


class WeeklyTime(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`weekday` 0 = Monday; `minute` of the local day, 0 to 1439."""

    weekday: int
    minute: int


class Departure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When he leaves: once at an instant, every week at local times, or as events of a calendar begin (iCalendar text)."""

    kind: DepartureKind
    zone: str = "UTC"
    at_us: int = 0
    weekly: tuple[WeeklyTime, ...] = ()
    calendar: str = ""
    word: str = ""
    """Only events with this word in their title or place count."""


class Goal(msgspec.Struct, frozen=True):
    """What is wanted of one vehicle. `share_co2`: 0 = cheap, 1 = green; `minimum_percent` is charged first, at any price.

    `tariff` names the price series, `carbon` the CO2 series ('' = none: then only money counts); `power_limit_kw` 0 = none;
    `care`: what lies above 80 % is charged as late as possible; `version` counts changes of this vehicle's goal.
    """

    ref: int
    target_percent: float
    departure: Departure
    minimum_percent: float = 0.0
    share_co2: float = 0.0
    care: bool = False
    tariff: str = ""
    carbon: str = ""
    power_limit_kw: float = 0.0
    by: str = ""
    version: int = 0
    set_us: int = 0
    is_stopped: bool = False
    """The one big stop: nothing is charged until somebody says go on."""


class CarFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What charging must know of a vehicle's battery and plug. `assumed`: fields that nobody told, filled with usual values."""

    capacity_kwh: float = 50.0
    max_kw: float = 7.4
    min_kw: float = 1.4
    phases: int = 1
    efficiency: float = 0.9
    """Share of the energy at the plug that reaches the battery."""
    taper_from_percent: float = 80.0
    """From there on the power falls, down to `taper_to_kw` at 100 %; 100 = it does not."""
    taper_to_kw: float = 2.0
    assumed: tuple[str, ...] = ()


class Now(msgspec.Struct, frozen=True):
    """What the twin and a station say of a vehicle at this moment. `soc_percent` None = it never said."""

    ref: int
    soc_percent: float | None = None
    soc_us: int = 0
    is_plugged: bool = False
    plugged_us: int = 0
    """Since when the cable is as it is."""
    is_charging: bool = False
    power_kw: float = 0.0
    """Into the battery, as last measured."""
    seen_us: int = 0
    """When its last batch arrived."""
    is_moving: bool = False
    site: str = ""
    connector: str = ""
    """The station's connector it hangs on, '' = none that we know."""


# Plans ----------------------------------------------------------------------------------------------------------------


class Remedy(msgspec.Struct, frozen=True):
    """Changes each of which alone would make the target reachable, 0 = this kind cannot; `smallest`: later | target | power."""

    later_min: int = 0
    target_percent: float = 0.0
    power_kw: float = 0.0
    smallest: str = ""


class StoredPlan(msgspec.Struct, frozen=True):
    """A plan as it is kept and drawn. Shape: n slots; `soc_percent` has n + 1 values, `price` (currency/kWh) and `carbon_g`
    (g/kWh) n or none. `gap`: how far at most from the optimum, as a share of the cost; `at_once_*`: the same energy as soon
    as plugged in. `reason` '' = the target is reached, else a code `charging.plan.*`.
    """

    ref: int
    version: int
    goal_version: int
    made_us: int
    departure_us: int
    start_us: tuple[int, ...]
    length_s: tuple[int, ...]
    power_kw: tuple[float, ...]
    soc_percent: tuple[float, ...]
    pieces: tuple[tuple[int, int, float], ...]
    """(from, to, kW): when the car is to charge, as it is told."""
    cost_minor: int
    currency: str
    co2_g: int
    at_once_minor: int
    at_once_g: int
    energy_kwh: float
    target_percent: float
    shortfall_kwh: float = 0.0
    reason: str = ""
    remedy: Remedy | None = None
    gap: float = 0.0
    price: tuple[float, ...] = ()
    carbon_g: tuple[float, ...] = ()
    is_forecast: tuple[bool, ...] = ()
    """Slots whose price nobody has published yet."""
    latest_us: int = 0
    """Beginning to charge at full power after this instant would miss the target."""
    cause: str = ""
    """Why it was made: `charging.replan.*`."""
    site: str = ""

    @property
    def end_us(self) -> int:
        return self.start_us[-1] + self.length_s[-1] * 1_000_000 if self.start_us else self.made_us

    def power_at(self, at_us: int) -> float:
        """What the car is to draw at an instant, 0 = nothing."""
        return next((kw for from_us, to_us, kw in self.pieces if from_us <= at_us < to_us), 0.0)

    def edge_after(self, at_us: int) -> int:
        """When next a piece begins or ends, 0 = never."""
        return min((edge for piece in self.pieces for edge in piece[:2] if edge > at_us), default=0)

    def place_at(self, at_us: int) -> int:
        """The slot an instant lies in, -1 outside the plan."""
        if not self.start_us or not self.start_us[0] <= at_us < self.end_us:
            return -1
        low, high = 0, len(self.start_us)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.start_us[middle] <= at_us else (low, middle)
        return low

    def expected_percent(self, at_us: int) -> float:
        """State of charge the plan expects at an instant."""
        place = self.place_at(at_us)
        if place < 0:
            return self.soc_percent[-1 if self.start_us and at_us >= self.end_us else 0]
        begin_us = self.start_us[place]
        whole = self._on_us(begin_us, begin_us + self.length_s[place] * 1_000_000)
        share = self._on_us(begin_us, at_us) / whole if whole else 0.0
        return self.soc_percent[place] + share * (self.soc_percent[place + 1] - self.soc_percent[place])

    def _on_us(self, from_us: int, to_us: int) -> int:
        """How long of this time the car is to charge."""
        return sum(max(min(end, to_us) - max(begin, from_us), 0) for begin, end, _ in self.pieces)


class Alert(msgspec.Struct, frozen=True):
    """Something that endangers a goal, with its cause as code (`charging.alert.*`); `ended_us` 0 = it still does."""

    id: int
    ref: int
    code: str
    began_us: int
    ended_us: int = 0
    facts: dict[str, str | int | float] = {}


class Session(msgspec.Struct, frozen=True):
    """Plug-in to plug-out. `energy_kwh` at the plug; `ended_us` 0 = it lasts; `currency` '' = no tariff was known."""

    id: str
    ref: int
    began_us: int
    ended_us: int = 0
    site: str = ""
    station: str = ""
    energy_kwh: float = 0.0
    cost_minor: int = 0
    currency: str = ""
    co2_g: int = 0
    at_once_minor: int = 0
    at_once_g: int = 0
    source: Literal["telemetry", "station", "both"] = "telemetry"
    soc_begin: float | None = None
    soc_end: float | None = None
    peak_kw: float = 0.0
    goal_version: int = 0
    tariff: str = ""
    carbon: str = ""
    is_forecast: bool = False
    """Part of its cost rests on prices nobody had published."""

    @property
    def saved_minor(self) -> int:
        return self.at_once_minor - self.cost_minor

    @property
    def saved_g(self) -> int:
        return self.at_once_g - self.co2_g


class SessionsPage(msgspec.Struct, frozen=True):
    """The newest first; `cursor` asks for what is older, None at the end."""

    sessions: list[Session]
    cursor: str | None


type Word = Literal[
    "no_goal", "unplugged", "waiting", "charging", "reached", "stopped", "late", "silent", "moving", "unknown"
]
"""How a vehicle stands to its goal, in one word: late = an alert is open or the plan falls short."""


class Standing(msgspec.Struct, frozen=True):
    """Everything about one vehicle's charging at this moment."""

    ref: int
    state: Word
    now: Now
    car: CarFacts
    goal: Goal | None = None
    plan: StoredPlan | None = None
    session: Session | None = None
    alerts: tuple[Alert, ...] = ()
    departure_us: int = 0


# Charge sites ---------------------------------------------------------------------------------------------------------


class LimitNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One limit of the tree. `parent` '' = the root; `limit_kw` 0 = none of its own; `current_a` per phase, 0 = none."""

    id: str
    parent: str = ""
    limit_kw: float = 0.0
    current_a: float = 0.0


class ChargeSite(msgspec.Struct, frozen=True):
    """A depot: cars there share the limits of `nodes`, a tree with one root.

    `building_kw` and `solar_kw` are what the rest of the place draws and makes, as last told; `building` and `solar` name
    series that foretell them, '' = the last value goes on.
    """

    id: str
    name: str
    zone: str
    nodes: tuple[LimitNode, ...]
    tariff: str = ""
    carbon: str = ""
    building: str = ""
    solar: str = ""
    building_kw: float = 0.0
    solar_kw: float = 0.0
    latitude: float | None = None
    longitude: float | None = None
    period_s: int = 60
    """Its control period: a dimming signal is honoured within it."""
    changed_us: int = 0

    @property
    def root(self) -> LimitNode:
        return next(node for node in self.nodes if not node.parent)


class Place(msgspec.Struct, frozen=True):
    """A vehicle that charges at a site: under which node, with which priority (higher first), at which connector."""

    site: str
    ref: int
    node: str = ""
    priority: int = 0
    connector: str = ""


class Dimming(msgspec.Struct, frozen=True):
    """A grid operator's signal: the site draws at most `limit_kw` for charging from `from_us` until `until_us`."""

    site: str
    signal: str
    limit_kw: float
    from_us: int
    until_us: int
    told_us: int
    ended_us: int = 0
    """Called off before its end, 0 = not."""
    honoured_us: int = 0
    """When a plan that keeps it was first on the road, 0 = not yet."""


class SitePlan(msgspec.Struct, frozen=True):
    """The last plan of a depot. Shape: all of one length, per slot; `unserved_kwh` is what no plan could give."""

    site: str
    made_us: int
    start_us: tuple[int, ...]
    length_s: tuple[int, ...]
    limit_kw: tuple[float, ...]
    planned_kw: tuple[float, ...]
    cost_minor: int = 0
    currency: str = ""
    gap: float = 0.0
    excess_kw: float = 0.0
    unserved_kwh: float = 0.0
    cars: int = 0
    took_ms: float = 0.0
    cause: str = ""


class BoardCar(msgspec.Struct, frozen=True):
    """A car on the depot board. `name` is brand and model, never its number; `laxity_h`: how long it can wait at full power
    and still reach its target by its departure (negative = it cannot).
    """

    ref: int
    name: str
    soc_percent: float | None
    target_percent: float
    departure_us: int
    power_kw: float
    planned_kw: float
    laxity_h: float | None
    priority: int
    state: Word
    node: str = ""


class Board(msgspec.Struct, frozen=True):
    """A depot at this moment. Shape: `limit_kw`, `planned_kw` per slot of `start_us`; `gap` of the last plan of the site."""

    site: ChargeSite
    at_us: int
    start_us: tuple[int, ...]
    limit_kw: tuple[float, ...]
    planned_kw: tuple[float, ...]
    load_kw: float
    building_kw: float
    solar_kw: float
    is_dimmed: bool
    dimmings: tuple[Dimming, ...]
    cars: tuple[BoardCar, ...]
    made_us: int = 0
    gap: float = 0.0
    unserved_kwh: float = 0.0
    excess_kw: float = 0.0


class Flexibility(msgspec.Struct, frozen=True):
    """What the cars of a site, or of the fleet, may draw in each slot: at least (nobody is late) and at most."""

    start_us: tuple[int, ...]
    length_s: tuple[int, ...]
    min_kw: tuple[float, ...]
    max_kw: tuple[float, ...]
    planned_kw: tuple[float, ...]
    cars: int


# Series ---------------------------------------------------------------------------------------------------------------


class Tariff(msgspec.Struct, frozen=True):
    """A series over time: prices, CO2 of the grid, a building's load, its sun. `zone` is its clock, `area` the bidding zone
    files must be of ('' = any). `until_us`: how far it reaches, `known_us`: how far without forecast; both 0 = nothing is known
    yet. `version` counts imports.
    """

    id: str
    name: str
    kind: SeriesKind
    currency: str
    zone: str
    area: str = ""
    version: int = 0
    from_us: int = 0
    known_us: int = 0
    until_us: int = 0
    changed_us: int = 0

    @property
    def unit(self) -> str:
        return f"{self.currency}{UNITS[self.kind]}"
