"""HTTP API of battery health: the answer with its interval, how it was found, its history; and the passport's fields.

Both need the classes energy and condition: made from the one, it says the other. What cannot be answered is a state of the
answer (`waiting`: not enough data yet: 6 of 10 segments), not an error.
"""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation

from rocade.core.identifiers import VehicleRef
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does, permit_of
from rocade.services.battery.model import DOUBTFUL, KNOWN, SILENT, UNRELATED, Health, Interval, Pack, Point, Segment
from rocade.services.battery.passport import Passport, passport
from rocade.services.battery.service import Batteries
from rocade.services.vehicles import Registry
from rocade.trust.authority.gate import acts

BatteriesDependency = NamedDependency[SkipValidation[Batteries]]
RegistryDependency = NamedDependency[SkipValidation[Registry]]
ClockDependency = NamedDependency[SkipValidation[Clock]]


class HowView(msgspec.Struct, frozen=True):
    """How it was found. `left_out`: segments that were not used, by reason; `noise`: how much louder than expected they are (1 =
    as expected); `fit_kwh`: the plain fit, without prior; `level`: what share of truths the interval is meant to hold.
    """

    method: str
    used: int
    needed: int
    charges: int
    drives: int
    odd: int
    left_out: dict[str, int]
    from_us: int
    read_until_us: int
    charge_from: str
    energy_from: str
    noise: float | None
    fit_kwh: float | None
    resistance_mohm: float | None
    level: float
    flags: tuple[str, ...]


class BatteryView(msgspec.Struct, frozen=True):
    """`state`: known, waiting, unrelated (a capacity, but nothing to relate it to), doubtful, silent; `said`: the same as a
    sentence. Percent, kWh and their intervals are null where there is none.
    """

    ref: str
    state: str
    said: str
    as_of_us: int
    percent: float | None
    low: float | None
    high: float | None
    capacity_kwh: float | None
    capacity_low: float | None
    capacity_high: float | None
    drift_per_year: float | None
    reported_percent: float | None
    pack: Pack
    how: HowView
    history: list[Point]
    segments: list[Segment]


METHOD = "total least squares over charge and drive segments, Huber loss, drift that only goes down"


def said(health: Health) -> str:
    """The answer as one sentence."""
    found = health.found
    match found.state:
        case state if state == KNOWN and found.percent:
            return f"{found.percent.value:.1f} % ({found.percent.low:.1f} to {found.percent.high:.1f})"
        case state if state == UNRELATED and found.capacity_kwh:
            return f"{found.capacity_kwh.value:.1f} kWh; what this battery held when new is not known, so there is no percentage"
        case state if state == DOUBTFUL:
            return "the segments do not fit what this model holds when new: one of the two figures is wrong, so there is no percentage"
        case state if state == SILENT:
            missing = (
                "how full it is" if not health.seen.charge_from else "power, or voltage and current, of its battery"
            )
            return f"this vehicle has not reported {missing}, so its health cannot be found"
        case _:
            return f"not enough data yet: {found.used} of {found.needed} segments"


def view(health: Health, points: list[Point], segments: list[Segment], level: float) -> BatteryView:
    """What the API and pages show."""
    found, seen = health.found, health.seen
    how = HowView(
        METHOD, found.used, found.needed, found.charges, found.drives, found.odd, health.left_out, found.from_us,
        health.read_until_us, seen.charge_from, seen.energy_from, found.noise, found.fit_kwh, seen.resistance_mohm, level,
        found.flags,
    )  # fmt: skip
    percent, capacity = _ends(found.percent), _ends(found.capacity_kwh)
    return BatteryView(
        str(health.ref), found.state, said(health), found.as_of_us, *percent, *capacity, found.drift_per_year,
        seen.reported_percent, health.pack, how, points, segments,
    )  # fmt: skip


def _ends(interval: Interval | None) -> tuple[float | None, float | None, float | None]:
    return (interval.value, interval.low, interval.high) if interval else (None, None, None)


async def _known(request: AnyRequest, registry: Registry, ref: int) -> None:
    """A former owner's reference names no vehicle any more, but still his time. Raises: Refused `vehicles.unknown`."""
    if permit_of(request).right.relation != "former":
        await registry.by_ref(VehicleRef(ref))


@get("/v1/vehicles/{ref:int}/battery", opt=does(acts.READ_BATTERY))
async def read_battery(
    request: AnyRequest, batteries: BatteriesDependency, registry: RegistryDependency, ref: FromPath[int]
) -> BatteryView:
    """State of health with its interval, how it was found, earlier answers and the segments it rests on."""
    await _known(request, registry, ref)
    health = await batteries.health(ref)
    return view(health, await batteries.points(ref), await batteries.segments(ref), batteries.rules.level)


@get("/v1/vehicles/{ref:int}/battery/passport", opt=does(acts.READ_BATTERY))
async def read_passport(
    request: AnyRequest,
    batteries: BatteriesDependency,
    registry: RegistryDependency,
    clock: ClockDependency,
    ref: FromPath[int],
) -> Passport:
    """The fields of an EU battery passport this platform can fill, and those it cannot, by name."""
    await _known(request, registry, ref)
    return passport(await batteries.health(ref), await batteries.segments(ref), clock.now_us())


HANDLERS = [read_battery, read_passport]
