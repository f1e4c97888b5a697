"""Smart-charging profiles in the words of each OCPP version, and what several of them come to. Pure.

A profile of ours has a number made of EVSE and purpose, so that sending it again replaces it and a foreign or forgotten one is
told apart; it is absolute in time and ends with the limit (`validTo`, `duration`), so that a station that is lost is free again.
`composite` merges profiles as OCPP says: per purpose the highest stack level that is valid counts; a transaction's own profile
stands for the default; the station's maximum bounds both. Source: OCPP 1.6 edition 2, 3.13; 2.0.1 part 2, K01.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from rocade.doors.ocpp.contract import Version
from rocade.services.charging.stations.dialect import PURPOSES, Way
from rocade.services.charging.stations.model import Purpose
from rocade.services.charging.stations.reading import instant, write_instant

FIRST_ID = 7_200
"""Ours are FIRST_ID + EVSE * 3 + purpose."""
STACK_LEVEL = 1
_NAMES_16 = {"tx": "TxProfile", "tx_default": "TxDefaultProfile", "station_max": "ChargePointMaxProfile"}
_NAMES_2 = {"tx": "TxProfile", "tx_default": "TxDefaultProfile", "station_max": "ChargingStationMaxProfile"}
_PURPOSES: dict[str, Purpose] = {
    "TxProfile": "tx", "TxDefaultProfile": "tx_default", "ChargePointMaxProfile": "station_max",
    "ChargingStationMaxProfile": "station_max",
}  # fmt: skip


def profile_id(evse: int, purpose: Purpose) -> int:
    return FIRST_ID + (0 if purpose == "station_max" else evse) * 3 + PURPOSES.index(purpose)


def is_ours(id: int) -> bool:
    return id >= FIRST_ID


def name_of(version: Version, purpose: Purpose) -> str:
    return (_NAMES_16 if version == "1.6" else _NAMES_2)[purpose]


def set_profile(
    version: Version, evse: int, way: Way, begin_us: int, until_us: int, rows: Sequence[tuple[int, float]], phases: int,
    transaction: str, stack_level: int,
) -> dict[str, Any]:  # fmt: skip
    """Payload of SetChargingProfile. `transaction` is our number in 1.6, the station's reference in 2.x."""
    place = 0 if way.purpose == "station_max" else evse
    period_rows = [{"startPeriod": second, "limit": value, "numberPhases": phases} for second, value in rows]
    if way.unit == "W":
        period_rows = [{"startPeriod": second, "limit": value} for second, value in rows]
    schedule: dict[str, Any] = {
        "duration": max(1, (until_us - begin_us) // 1_000_000),
        "startSchedule": write_instant(begin_us),
        "chargingRateUnit": way.unit,
        "chargingSchedulePeriod": period_rows,
    }
    profile: dict[str, Any] = {
        "stackLevel": stack_level,
        "chargingProfilePurpose": name_of(version, way.purpose),
        "chargingProfileKind": "Absolute",
        "validFrom": write_instant(begin_us),
        "validTo": write_instant(until_us),
    }
    number = profile_id(evse, way.purpose)
    if version == "1.6":
        profile |= {"chargingProfileId": number, "chargingSchedule": schedule}
        if way.purpose == "tx":
            profile["transactionId"] = int(transaction)
        return {"connectorId": place, "csChargingProfiles": profile}
    profile |= {"id": number, "chargingSchedule": [{"id": number, **schedule}]}
    if way.purpose == "tx":
        profile["transactionId"] = transaction
    return {"evseId": place, "chargingProfile": profile}


def clear_profile(version: Version, number: int) -> dict[str, Any]:
    """Payload of ClearChargingProfile for one profile."""
    return {"id": number} if version == "1.6" else {"chargingProfileId": number}


def get_composite(version: Version, evse: int, seconds: int, unit: str) -> dict[str, Any]:
    """Payload of GetCompositeSchedule."""
    place = "connectorId" if version == "1.6" else "evseId"
    return {place: evse, "duration": seconds, **({"chargingRateUnit": unit} if unit else {})}


# --- what profiles come to ------------------------------------------------------------------------------------------------


class Held(msgspec.Struct, frozen=True):
    """A profile a station holds: `rows` of (instant, limit); without a row before an instant it says nothing of it."""

    id: int
    purpose: Purpose
    stack_level: int
    unit: str
    from_us: int
    until_us: int
    rows: tuple[tuple[int, float], ...]

    def limit_at(self, at_us: int) -> float | None:
        if not self.from_us <= at_us < self.until_us:
            return None
        return next((limit for start_us, limit in reversed(self.rows) if start_us <= at_us), None)


def read_profile(version: Version, profile: dict[str, Any], now_us: int) -> Held:
    """A profile as it is sent or reported. One without a start of its own is taken to begin now."""
    schedule = profile["chargingSchedule"]
    schedule = schedule if version == "1.6" else schedule[0]
    start_us = instant(schedule["startSchedule"], now_us) if "startSchedule" in schedule else now_us
    until_us = (1 << 62) if "validTo" not in profile else _later(profile["validTo"], now_us)
    if duration := schedule.get("duration"):
        until_us = min(until_us, start_us + duration * 1_000_000)
    return Held(
        profile["chargingProfileId" if version == "1.6" else "id"],
        _PURPOSES.get(profile["chargingProfilePurpose"], "station_max"),
        profile["stackLevel"],
        schedule["chargingRateUnit"],
        max(start_us, instant(profile["validFrom"], now_us) if "validFrom" in profile else start_us),
        until_us,
        tuple((start_us + row["startPeriod"] * 1_000_000, float(row["limit"]))
              for row in schedule["chargingSchedulePeriod"]),
    )  # fmt: skip


def _later(text: str, now_us: int) -> int:
    """An instant that may lie years ahead."""
    return instant(text, (1 << 52) + now_us)


def composite(held: Iterable[Held], from_us: int, until_us: int) -> list[tuple[int, float]]:
    """(instant, limit) from `from_us` on where it changes; profiles of one unit; no row = no limit."""
    profiles = sorted(held, key=lambda one: -one.stack_level)
    edges = {from_us}
    for one in profiles:
        edges |= {one.from_us, one.until_us, *(start_us for start_us, _ in one.rows)}
    rows: list[tuple[int, float]] = []
    for at_us in sorted(edge for edge in edges if from_us <= edge < until_us):
        by_purpose: dict[str, float] = {}
        for one in profiles:
            limit = one.limit_at(at_us)
            if limit is not None and one.purpose not in by_purpose:
                by_purpose[one.purpose] = limit
        own = by_purpose.get("tx", by_purpose.get("tx_default"))
        bounds = [limit for limit in (own, by_purpose.get("station_max")) if limit is not None]
        if bounds and (not rows or rows[-1][1] != min(bounds)):
            rows.append((at_us, min(bounds)))
        elif not bounds and rows and rows[-1][1] != float("inf"):
            rows.append((at_us, float("inf")))
    return rows
