"""What is known of a battery in the shape of the EU battery passport, field by field, with what is not known said as such.

The regulation (EU) 2023/1542 asks for a passport of each traction battery from 18 February 2027 (Article 77; contents: Annex
XIII, parameters of ageing: Annex VII). Its issuer is who places the battery on the market, so this is no passport: it is the
part of one that a platform can fill from driving and charging, in the words of the Battery Pass data model 1.2 (DIN DKE
SPEC 99100). Every field says on what it rests (`basis`): measured, estimated, declared by the brand, reported by the car, or
unknown; nothing is filled in by guess.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from rocade.services.battery.model import CHARGE, Health, Interval, Segment

MEASURED, ESTIMATED, DECLARED, REPORTED, UNKNOWN = "measured", "estimated", "declared", "reported", "unknown"
SHAPE = "BatteryPass 1.2.0"

NOT_OURS = {
    "Annex XIII 1(a)": ("batteryPassportIdentifier", "manufacturerInformation", "manufacturingDate", "manufacturingPlace", "batteryMass"),
    "Annex XIII 1(b)": ("batteryMaterials", "hazardousSubstances"),
    "Annex XIII 1(c)": ("batteryCarbonFootprint", "carbonFootprintPerformanceClass"),
    "Annex XIII 1(d)": ("dueDiligenceReport",),
    "Annex XIII 1(e)": ("recycledContent",),
    "Annex XIII 1(f)": ("renewableContent",),
    "Annex XIII 1(h)": ("minimumVoltage", "maximumVoltage"),
    "Annex XIII 1(i)": ("originalPowerCapability",),
    "Annex XIII 1(j)": ("expectedNumberOfCycles", "lifetimeReferenceTest"),
    "Annex XIII 1(k)": ("capacityThresholdForExhaustion",),
    "Annex XIII 1(l)": ("temperatureRangeIdleState",),
    "Annex XIII 1(m)": ("warrantyPeriod",),
    "Annex XIII 1(n)": ("initialRoundTripEnergyEfficiency",),
    "Annex XIII 1(o)": ("initialInternalResistance",),
    "Annex XIII 1(p)": ("cRate",),
    "Annex XIII 1(r)": ("declarationOfConformity",),
    "Annex XIII 4(c)": ("batteryStatus",),
    "Annex XIII 4(d)": ("negativeEvents",),
    "Annex VII A": ("powerFade", "roundTripEfficiencyFade", "evolutionOfSelfDischarge"),
}  # fmt: skip
"""Fields that only the maker, the issuer or a laboratory can fill; or that no signal of a vehicle tells."""


class Field(msgspec.Struct, frozen=True):
    """One attribute. `value` None = unknown; `low` and `high`: its interval, where it was estimated."""

    name: str
    source: str
    value: float | str | None
    unit: str
    basis: str
    updated_us: int = 0
    low: float | None = None
    high: float | None = None
    note: str = ""


class Passport(msgspec.Struct, frozen=True):
    """Not the passport of Article 77: what this platform can say for its dynamic part."""

    vehicle: str
    shape: str
    made_us: int
    fields: tuple[Field, ...]
    known: int
    unknown: int


def passport(health: Health, segments: Sequence[Segment], made_us: int) -> Passport:
    """Every field in order of the regulation; pure."""
    fields = (*_declared(health), *_condition(health), *_use(segments), *_not_ours())
    known = sum(one.value is not None for one in fields)
    return Passport(str(health.ref), SHAPE, made_us, fields, known, len(fields) - known)


def _declared(health: Health) -> list[Field]:
    pack = health.pack
    nominal = pack.nominal_v
    rated_ah = round(1000 * pack.new_kwh / nominal, 1) if pack.new_kwh and nominal else None
    return [
        _field("batteryCategory", "Annex XIII 1(a)", "ev", "", DECLARED),
        _field("batteryChemistry", "Annex XIII 1(a)", pack.chemistry or None, "", DECLARED),
        _field("certifiedUsableBatteryEnergy", "Annex VII A", pack.new_kwh, "kWh", DECLARED,
               note="usable energy when new by the brand's file, not from a certificate"),
        _field("ratedCapacity", "Annex XIII 1(g)", rated_ah, "Ah", DECLARED, note="usable energy over nominal voltage"),
        _field("nominalVoltage", "Annex XIII 1(h)", nominal, "V", DECLARED),
    ]  # fmt: skip


def _condition(health: Health) -> list[Field]:
    found, seen = health.found, health.seen
    why = "" if found.percent else f"state {found.state}: {found.used} of {found.needed} segments"
    fade = found.percent and Interval(
        *(round(100 - one, 2) for one in (found.percent.value, found.percent.high, found.percent.low))
    )
    return [
        _estimated("stateOfCertifiedEnergy", "Annex XIII 4(b)", found.percent, "percent", found.as_of_us,
                   why or "estimated from use, not measured by the certification test"),
        _estimated("remainingEnergy", "Annex VII A", found.capacity_kwh, "kWh", found.as_of_us, "" if found.capacity_kwh else why),
        _estimated("capacityFade", "Annex XIII 4(a)", fade, "percent", found.as_of_us, why),
        _field("stateOfHealthReportedByVehicle", "no attribute of the model", seen.reported_percent, "percent", REPORTED,
               health.read_until_us, note="the maker's own figure, by a method it does not publish"),
        _field("internalResistance", "Annex VII A", seen.resistance_mohm, "mOhm", MEASURED, health.read_until_us,
               note="from quick changes of current while driving, at the temperatures of use"),
        _field("internalResistanceIncrease", "Annex VII A", None, "percent", UNKNOWN, note="the value when new is not known here"),
        _field("remainingPowerCapability", "Annex VII A", None, "W", UNKNOWN, note="no vehicle tells it"),
    ]  # fmt: skip


def _use(segments: Sequence[Segment]) -> list[Field]:
    """What was seen of use: a lower bound, since short stretches and silence are not counted."""
    charged = sum(one.energy_kwh for one in segments if one.kind == CHARGE)
    swing = sum(one.swing for one in segments)
    seen_us = segments[-1].end_us if segments else 0
    temperatures = [one.temperature_c for one in segments if one.temperature_c is not None]
    note = f"since {segments[0].start_us} only, long stretches only: a lower bound" if segments else "nothing seen yet"
    mean = round(sum(temperatures) / len(temperatures), 1) if temperatures else None
    return [
        _field("energyThroughput", "Annex VII B", round(charged, 1) if segments else None, "kWh", MEASURED, seen_us, note=note),
        _field("numberOfFullCycles", "Annex XIII 4(d)", round(swing / 200, 1) if segments else None, "cycles", MEASURED, seen_us,
               note=note),
        _field("temperatureInformation", "Annex XIII 4(d)", mean, "Celsius", MEASURED, seen_us, note="mean over the stretches counted",
               low=min(temperatures, default=None), high=max(temperatures, default=None)),
    ]  # fmt: skip


def _estimated(name: str, source: str, found: Interval | None, unit: str, at_us: int, note: str) -> Field:
    if found is None:
        return Field(name, source, None, unit, UNKNOWN, note=note)
    return Field(name, source, found.value, unit, ESTIMATED, at_us, found.low, found.high, note)


def _not_ours() -> list[Field]:
    return [Field(name, source, None, "", UNKNOWN) for source, names in NOT_OURS.items() for name in names]


def _field(
    name: str, source: str, value: float | str | None, unit: str, basis: str, updated_us: int = 0, *, note: str = "",
    low: float | None = None, high: float | None = None,
) -> Field:  # fmt: skip
    is_known = value is not None
    return Field(
        name, source, value, unit, basis if is_known else UNKNOWN, updated_us if is_known else 0, low, high, note
    )
