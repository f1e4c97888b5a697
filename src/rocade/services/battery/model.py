"""Words of battery health: what a pack was when new, a segment of charging or driving, what was found, and the rules of finding.

Percent of charge and of health are 0 to 100; energies are kWh at the cells, always positive; instants microseconds UTC.
"""

from __future__ import annotations

import msgspec

CHARGE, DRIVE = "charge", "drive"
KNOWN, WAITING, UNRELATED, DOUBTFUL, SILENT = "known", "waiting", "unrelated", "doubtful", "silent"
"""What an answer can be: known; not enough data yet; a capacity without the figure of the new pack to relate it to; more
capacity than the pack had when new or less than a third, so that one of the two figures is wrong; nothing that energy could be counted from."""


class Rules(msgspec.Struct, frozen=True):
    """The measures of the method; docs/battery.md gives the reason of each."""

    least_segments: int = 10
    least_swing: float = 20.0
    """Percent of charge between a segment's ends; below it the noise of both readings weighs too much."""
    coldest_c: float = 10.0
    hottest_c: float = 45.0
    longest_h: float = 72.0
    window_days: float = 730.0
    most_segments: int = 120
    reading_sd: float = 1.5
    """Percent of charge: of one reading, beside its rounding. Scaled by what the segments themselves show."""
    flat_reading_sd: float = 3.0
    """The same for a pack whose voltage says little of its charge (LFP), away from full."""
    energy_sd: float = 0.01
    gain_sd: float = 0.01
    """Of the current sensor's own scale, the same in all segments of a vehicle: no number of them takes it away."""
    drift_per_year: float = 1.5
    """Points of health a pack is expected to lose in a year, before its own segments speak."""
    level: float = 0.9
    """What share of truths the interval is meant to hold."""


class Pack(msgspec.Struct, frozen=True):
    """What is known of a pack from elsewhere. `new_kwh`: usable when new, None = unknown; `source`: who says so."""

    new_kwh: float | None = None
    chemistry: str = ""
    nominal_v: float | None = None
    source: str = ""

    @property
    def is_flat(self) -> bool:
        return self.chemistry.upper() == "LFP"


class Segment(msgspec.Struct, frozen=True):
    """One stretch of charging or driving. `left_out`: '' = used, else why not; `loss_kwh`: warmed the pack, taken off already."""

    kind: str
    start_us: int
    end_us: int
    from_percent: float
    to_percent: float
    energy_kwh: float
    loss_kwh: float = 0.0
    temperature_c: float | None = None
    rounding: float = 1.0
    """Step of the charge readings, percent."""
    left_out: str = ""
    turn_us: int = 0
    """The reading before the first one that counts: from here on the same segment is found again."""

    @property
    def swing(self) -> float:
        return abs(self.to_percent - self.from_percent)

    @property
    def capacity_kwh(self) -> float:
        """What this segment alone would say: a ratio, never shown as an answer."""
        return 100 * self.energy_kwh / self.swing


class Interval(msgspec.Struct, frozen=True):
    """A value with the interval it lies in with the rules' `level`."""

    value: float
    low: float
    high: float


class Finding(msgspec.Struct, frozen=True):
    """What the segments say. `fit_kwh` is the plain fit without prior, for whoever checks."""

    state: str
    used: int
    needed: int
    as_of_us: int = 0
    percent: Interval | None = None
    capacity_kwh: Interval | None = None
    drift_per_year: float | None = None
    fit_kwh: float | None = None
    noise: float | None = None
    """How much louder the segments are than the rules expect (1 = as expected)."""
    charges: int = 0
    drives: int = 0
    odd: int = 0
    """Segments so far from all others that they were not weighed at all."""
    from_us: int = 0
    flags: tuple[str, ...] = ()


class Seen(msgspec.Struct, frozen=True):
    """What a stretch of history held, beside its segments: which signals there were, resistance, the car's own figure."""

    charge_from: str = ""
    energy_from: str = ""
    has_temperature: bool = False
    resistance_mohm: float | None = None
    steps: int = 0
    """Changes of current the resistance was read from."""
    reported_percent: float | None = None
    open_from_us: int | None = None
    """Where a run begins that had not ended; the next stretch is read from there."""


class Health(msgspec.Struct, frozen=True):
    """The answer about one vehicle's battery, as it is kept and shown."""

    ref: int
    found: Finding
    pack: Pack
    seen: Seen
    read_until_us: int = 0
    """History is read up to here."""
    made_us: int = 0
    left_out: dict[str, int] = {}
    is_behind: bool = False
    """There is history that was not read yet; the next question reads on."""


class Point(msgspec.Struct, frozen=True):
    """One entry of the history of answers."""

    as_of_us: int
    percent: float
    low: float
    high: float
    capacity_kwh: float
    used: int
