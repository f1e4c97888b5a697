"""What is done when a station's line comes up: ask what it can, find profiles it should no longer hold, send what is wanted now.

A station that was away may keep a limit long after the plan behind it has changed. 2.x stations report what they hold
(GetChargingProfiles): what is ours and not wanted in just this form is cleared, and so is what an earlier central system left.
1.6 stations cannot be asked: each profile of ours that is not wanted is cleared by its number, which they answer with whether
it was there; where nothing at all is wanted everything is cleared; where something is, the composite schedule shows whether
anything else holds the connector down. What was found is an event (`stations.profile.obsolete`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rocade.core.errors import Refused, RocadeError, Unavailable
from rocade.core.ports import Clock
from rocade.fabric.database import Database
from rocade.services.charging.stations import profiles, reading, store
from rocade.services.charging.stations.dialect import PURPOSES, Dialect, amperes
from rocade.services.charging.stations.intake import Context
from rocade.services.charging.stations.limiting import SILENT, Call
from rocade.services.charging.stations.model import Purpose, Standing, Unit

REPORT_S = 30.0
METER_S = 60
OBSOLETE = "stations.profile.obsolete"
_KEYS_16 = (
    "ChargingScheduleAllowedChargingRateUnit", "ChargeProfileMaxStackLevel", "ChargingScheduleMaxPeriods",
    "MeterValueSampleInterval",
)  # fmt: skip
_VARIABLES_2 = (
    ("SmartChargingCtrlr", "RateUnit"), ("SmartChargingCtrlr", "ProfileStackLevel"),
    ("SmartChargingCtrlr", "PeriodsPerSchedule"), ("SampledDataCtrlr", "TxUpdatedInterval"),
)  # fmt: skip


class Returning:
    def __init__(self, database: Database, call: Call, clock: Clock) -> None:
        self._database, self._call, self._clock = database, call, clock
        self._number = 0
        self._reports: dict[tuple[str, int], tuple[asyncio.Future[None], list[tuple[int, dict[str, Any]]]]] = {}

    # --- what it can ----------------------------------------------------------------------------------------------

    async def learn(self, context: Context, memory: Dialect) -> None:
        """Ask for units, sizes and the interval of meter values; a station that does not say is taken as it comes.

        Raises: Unavailable.
        """
        try:
            said = await (self._ask_16 if context.version == "1.6" else self._ask_2)(context.station.id)
        except (Refused, Unavailable) as error:
            _unless_silent(error)
            said = {}
        units, stack, most, interval = (
            said.get("unit", ""),
            said.get("stack"),
            said.get("periods"),
            said.get("interval"),
        )
        memory.units = _units(units)
        memory.most_stack = _count(stack)
        memory.most_periods = _count(most)
        memory.is_asked = True
        if interval is not None and not 0 < _count(interval) <= METER_S:
            await self._set_interval(context)

    async def _ask_16(self, station: str) -> dict[str, str]:
        answer = await self._call(station, "GetConfiguration", {"key": list(_KEYS_16)})
        values = {one["key"]: one.get("value", "") for one in answer.get("configurationKey", [])}
        names = ("unit", "stack", "periods", "interval")
        return {name: values[key] for name, key in zip(names, _KEYS_16, strict=True) if key in values}

    async def _ask_2(self, station: str) -> dict[str, str]:
        wanted = [{"component": {"name": one}, "variable": {"name": name}} for one, name in _VARIABLES_2]
        answer = await self._call(station, "GetVariables", {"getVariableData": wanted})
        values = {one["variable"]["name"]: one.get("attributeValue", "") for one in answer["getVariableResult"]
                  if one["attributeStatus"] == "Accepted"}  # fmt: skip
        names = ("unit", "stack", "periods", "interval")
        return {name: values[key] for name, (_, key) in zip(names, _VARIABLES_2, strict=True) if key in values}

    async def _set_interval(self, context: Context) -> None:
        """Limits are proven by meter values: at least one a minute."""
        if context.version == "1.6":
            action = "ChangeConfiguration"
            payload: dict[str, Any] = {"key": "MeterValueSampleInterval", "value": str(METER_S)}
        else:
            action = "SetVariables"
            one = {"component": {"name": "SampledDataCtrlr"}, "variable": {"name": "TxUpdatedInterval"}}
            payload = {"setVariableData": [{**one, "attributeValue": str(METER_S)}]}
        try:
            await self._call(context.station.id, action, payload)
        except (Refused, Unavailable) as error:
            _unless_silent(error)  # then its own interval it is

    # --- what it holds --------------------------------------------------------------------------------------------

    async def clean(self, context: Context, wanted: Sequence[Standing]) -> list[str]:
        """Clear what is held and not wanted; codes of what was found. Raises: Unavailable."""
        if context.version != "1.6":
            try:
                return await self._clean_reported(context, wanted)
            except (Refused, Unavailable) as error:
                _unless_silent(error)  # it does not report; then as with 1.6
        return await self._clean_blindly(context, wanted)

    async def _clean_reported(self, context: Context, wanted: Sequence[Standing]) -> list[str]:
        id, now_us = context.station.id, self._clock.now_us()
        live = {
            profiles.profile_id(one.place.evse, _purpose(one.purpose)): one for one in wanted if one.purpose
        }  # what is held in just this form may stay until it is sent again
        codes: list[str] = []
        for _evse, profile in await self._report(id):
            held = profiles.read_profile(context.version, profile, now_us)
            standing = live.get(held.id)
            if standing is not None and abs(held.until_us - standing.limit.until_us) < 2_000_000:
                continue
            answer = await self._call(id, "ClearChargingProfile", profiles.clear_profile(context.version, held.id))
            if answer["status"] == "Accepted":  # else it has gone by itself meanwhile
                codes.append(OBSOLETE)
        return codes

    async def _report(self, station: str) -> list[tuple[int, dict[str, Any]]]:
        """Profiles (EVSE, profile) set by a central system. Raises: Refused where it cannot report; Unavailable."""
        self._number += 1
        number = self._number
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found: list[tuple[int, dict[str, Any]]] = []
        self._reports[station, number] = done, found
        try:
            criterion = {"chargingLimitSource": ["CSO"]}
            answer = await self._call(
                station, "GetChargingProfiles", {"requestId": number, "chargingProfile": criterion}
            )
            if answer["status"] == "Accepted":
                async with asyncio.timeout(REPORT_S):
                    await done
        except TimeoutError:
            raise Refused("stations.report", "the station announced its profiles and did not report them") from None
        finally:
            del self._reports[station, number]
        return found

    def reported(self, station: str, report: reading.Profiles) -> None:
        """Hear a ReportChargingProfiles."""
        waiting = self._reports.get((station, report.request))
        if waiting is None:
            return
        waiting[1].extend((report.evse, profile) for profile in report.profiles)
        if report.is_last and not waiting[0].done():
            waiting[0].set_result(None)

    async def _clean_blindly(self, context: Context, wanted: Sequence[Standing]) -> list[str]:
        id = context.station.id
        if not wanted and context.version == "1.6":
            return [OBSOLETE] if await self._clear(context, {}) else []
        kept = {profiles.profile_id(one.place.evse, _purpose(one.purpose)) for one in wanted if one.purpose}
        known = {one.evse for one in await store.read_connectors(self._database.pool, [id])} | {1}
        numbers = {profiles.profile_id(evse, purpose) for evse in known for purpose in PURPOSES}
        codes = [
            OBSOLETE
            for number in sorted(numbers - kept)
            if await self._clear(context, profiles.clear_profile(context.version, number))
        ]
        if context.version == "1.6":
            codes += [OBSOLETE for standing in wanted if await self._was_held_down(context, standing)]
        return codes

    async def _was_held_down(self, context: Context, standing: Standing) -> bool:
        """Whether something that is not ours held a 1.6 connector below what is wanted; all is cleared then, and what is
        wanted is sent anew right after.
        """
        now_us, evse, station = self._clock.now_us(), standing.place.evse, context.station
        wanted_kw = standing.limit.kw_at(now_us)
        before = await self._composite(context, evse)
        if wanted_kw is None or before is None:
            return False
        limit, unit = before
        wanted = wanted_kw * 1000 if unit == "W" else amperes(wanted_kw, station.phases, station.voltage)
        if limit >= wanted * 0.95 - 0.1 or not await self._clear(context, {}):
            return False
        after = await self._composite(context, evse)
        return after is None or after[0] > limit

    async def _composite(self, context: Context, evse: int) -> tuple[float, str] | None:
        """(limit, unit) at this moment, as the station says; None = it does not say."""
        payload = profiles.get_composite(context.version, evse, METER_S, "")
        try:
            answer = await self._call(context.station.id, "GetCompositeSchedule", payload)
        except (Refused, Unavailable) as error:
            _unless_silent(error)
            return None
        schedule = answer.get("chargingSchedule")
        if answer["status"] != "Accepted" or not schedule or not schedule["chargingSchedulePeriod"]:
            return None
        return float(schedule["chargingSchedulePeriod"][0]["limit"]), str(schedule["chargingRateUnit"])

    async def _clear(self, context: Context, payload: dict[str, Any]) -> bool:
        try:
            answer = await self._call(context.station.id, "ClearChargingProfile", payload)
        except (Refused, Unavailable) as error:
            _unless_silent(error)
            return False
        return bool(answer["status"] == "Accepted")


def _unless_silent(error: RocadeError) -> None:
    """A station that refuses or never answers a call does not know it; one that left is another matter."""
    if isinstance(error, Unavailable) and error.code != SILENT:
        raise error


def _purpose(name: str) -> Purpose:
    return next(one for one in PURPOSES if one == name)


def _units(said: str) -> tuple[Unit, ...]:
    """`Current,Power` in 1.6, `A,W` in 2.x; nothing said = both are tried."""
    names: dict[str, Unit] = {"Current": "A", "Power": "W", "A": "A", "W": "W"}
    found = [names[part.strip()] for part in said.split(",") if part.strip() in names]
    return tuple(dict.fromkeys(found))


def _count(said: str | None) -> int:
    return int(said) if said is not None and said.isdecimal() and len(said) < 9 else 0
