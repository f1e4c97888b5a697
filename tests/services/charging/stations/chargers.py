"""Charging stations of several characters, on the charge point of the package `ocpp`: their wires and schemas are not ours.

A charger keeps profiles as its `character` says and draws what they leave of `wish_w`; `tick` sends a meter value of that draw.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import websockets
from ocpp.routing import on
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call as call16
from ocpp.v16 import call_result as result16
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call as call201
from ocpp.v201 import call_result as result201
from ocpp_stand import Stand


class Character:
    """What a charger does with profiles. `refuses` and `ignores` name purposes or units."""

    def __init__(
        self, *, refuses: tuple[str, ...] = (), ignores: tuple[str, ...] = (), units: str = "Current,Power"
    ) -> None:
        self.refuses, self.ignores, self.units = refuses, ignores, units
        self.held: dict[int, dict[str, Any]] = {}
        self.tried: list[tuple[str, str]] = []
        self.cleared: list[Any] = []
        self.configured: dict[str, str] = {}

    def set(self, profile: dict[str, Any], schedule: dict[str, Any], id: int) -> str:
        purpose, unit = profile["charging_profile_purpose"], schedule["charging_rate_unit"]
        self.tried.append((purpose, unit))
        if {purpose, unit} & set(self.refuses):
            return "Rejected"
        self.held[id] = {
            "purpose": purpose,
            "unit": unit,
            "rows": schedule["charging_schedule_period"],
            "profile": profile,
        }
        return "Accepted"

    def clear(self, id: int | None) -> str:
        self.cleared.append(id)
        found = list(self.held) if id is None else [one for one in self.held if one == id]
        for one in found:
            del self.held[one]
        return "Accepted" if found else "Unknown"

    def draw_w(self, wish_w: float) -> float:
        limits = [wish_w]
        for one in self.held.values():
            if not {one["purpose"], one["unit"]} & set(self.ignores):
                limit = float(one["rows"][0]["limit"])
                limits.append(limit * 690 if one["unit"] == "A" else limit)
        return min(limits)


class Charger16(ChargePoint16):
    version = "ocpp1.6"

    def __init__(self, id: str, socket: Any, character: Character) -> None:
        super().__init__(id, socket, 60)
        self.character = character
        self.transaction = 0
        self.wh = 1000.0
        self.wish_w = 11_000.0

    @on("GetConfiguration")
    def get_configuration(self, key: list[str] | None = None, **_: Any) -> Any:
        known = {"ChargingScheduleAllowedChargingRateUnit": self.character.units, "ChargeProfileMaxStackLevel": "5",
                 "ChargingScheduleMaxPeriods": "10", "MeterValueSampleInterval": "0"}  # fmt: skip
        rows = [{"key": one, "readonly": False, "value": known[one]} for one in key or () if one in known]
        return result16.GetConfiguration(configuration_key=rows, unknown_key=[])

    @on("ChangeConfiguration")
    def change_configuration(self, key: str, value: str) -> Any:
        self.character.configured[key] = value
        return result16.ChangeConfiguration(status="Accepted")

    @on("SetChargingProfile")
    def set_profile(self, connector_id: int, cs_charging_profiles: dict[str, Any]) -> Any:
        profile = cs_charging_profiles
        status = self.character.set(profile, profile["charging_schedule"], profile["charging_profile_id"])
        return result16.SetChargingProfile(status=status)

    @on("ClearChargingProfile")
    def clear_profile(self, id: int | None = None, **_: Any) -> Any:
        return result16.ClearChargingProfile(status=self.character.clear(id))

    @on("GetCompositeSchedule")
    def composite(self, connector_id: int, **_: Any) -> Any:
        drawn_w = self.character.draw_w(22_080.0)
        schedule = {
            "charging_rate_unit": "W",
            "charging_schedule_period": [{"start_period": 0, "limit": round(drawn_w, 1)}],
        }
        return result16.GetCompositeSchedule(status="Accepted", connector_id=connector_id, charging_schedule=schedule)

    @on("TriggerMessage")
    def trigger(self, **_: Any) -> Any:
        return result16.TriggerMessage(status="NotImplemented")

    @on("RemoteStartTransaction")
    def remote_start(self, id_tag: str, connector_id: int = 1, **_: Any) -> Any:
        self.shown = id_tag
        return result16.RemoteStartTransaction(status="Accepted")

    async def begin(self, tag: str = "TAG1", connector: int = 1) -> int:
        await self.call(call16.BootNotification(charge_point_model="M16", charge_point_vendor="Maker"))
        await self.call(call16.StatusNotification(connector, "NoError", "Preparing"))
        answer = await self.call(call16.StartTransaction(connector, tag, int(self.wh), now()))
        self.transaction = answer.transaction_id
        return self.transaction

    async def tick(self, ahead_s: float = 0.0, connector: int = 1) -> float:
        drawn_w = self.character.draw_w(self.wish_w)
        sampled = [{"value": str(self.wh)}, {"value": str(drawn_w), "measurand": "Power.Active.Import", "unit": "W"}]
        value = {"timestamp": now(ahead_s), "sampled_value": sampled}
        await self.call(call16.MeterValues(connector, [value], self.transaction))
        return drawn_w

    async def end(self) -> None:
        await self.call(call16.StopTransaction(int(self.wh), now(), self.transaction))


class Charger201(ChargePoint201):
    version = "ocpp2.0.1"

    def __init__(self, id: str, socket: Any, character: Character) -> None:
        super().__init__(id, socket, 60)
        self.character = character
        self.wish_w = 11_000.0
        self.sequence = 0
        self.reference = f"tx-{time.monotonic_ns()}"

    @on("GetVariables")
    def get_variables(self, get_variable_data: list[dict[str, Any]], **_: Any) -> Any:
        rows = [{**one, "attribute_status": "Accepted", "attribute_value": self.character.units.replace("Current", "A").replace("Power", "W")}
                if one["variable"]["name"] == "RateUnit" else {**one, "attribute_status": "UnknownVariable"}
                for one in get_variable_data]  # fmt: skip
        return result201.GetVariables(get_variable_result=rows)

    @on("SetChargingProfile")
    def set_profile(self, evse_id: int, charging_profile: dict[str, Any]) -> Any:
        profile = charging_profile
        status = self.character.set(profile, profile["charging_schedule"][0], profile["id"])
        return result201.SetChargingProfile(status=status)

    @on("ClearChargingProfile")
    def clear_profile(self, charging_profile_id: int | None = None, **_: Any) -> Any:
        return result201.ClearChargingProfile(status=self.character.clear(charging_profile_id))

    @on("GetChargingProfiles")
    def get_profiles(self, request_id: int, **_: Any) -> Any:
        if not self.character.held:
            return result201.GetChargingProfiles(status="NoProfiles")
        self.reporting = asyncio.create_task(self._report(request_id))
        return result201.GetChargingProfiles(status="Accepted")

    async def _report(self, request_id: int) -> None:
        held = list(self.character.held.values())
        for place, one in enumerate(held):
            more = {"tbc": True} if place + 1 < len(held) else {}
            await self.call(call201.ReportChargingProfiles(request_id, "CSO", [one["profile"]], 1, **more))

    @on("TriggerMessage")
    def trigger(self, **_: Any) -> Any:
        return result201.TriggerMessage(status="NotImplemented")

    async def begin(self, tag: str = "TAG1", connector: int = 1) -> str:
        station = {"model": "M2", "vendor_name": "Maker"}
        await self.call(call201.BootNotification(charging_station=station, reason="PowerUp"))
        await self.call(call201.StatusNotification(now(), "Occupied", connector, 1))
        await self._event("Started", connector, id_token={"id_token": tag, "type": "ISO14443"})
        return self.reference

    async def tick(self, ahead_s: float = 0.0, connector: int = 1) -> float:
        drawn_w = self.character.draw_w(self.wish_w)
        sampled = {"value": drawn_w, "measurand": "Power.Active.Import", "unit_of_measure": {"unit": "W"}}
        await self._event("Updated", connector, meter_value=[{"timestamp": now(ahead_s), "sampled_value": [sampled]}])
        return drawn_w

    async def end(self) -> None:
        await self._event("Ended", 1)

    async def _event(self, kind: str, connector: int, **more: Any) -> None:
        await self.call(call201.TransactionEvent(
            event_type=kind, timestamp=now(), trigger_reason="Trigger", seq_no=self.sequence,
            transaction_info={"transaction_id": self.reference}, evse={"id": connector, "connector_id": 1}, **more,
        ))  # fmt: skip
        self.sequence += 1


def now(ahead_s: float = 0.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=ahead_s)).isoformat()


@contextlib.asynccontextmanager
async def charger(
    stand: Stand, id: str, character: Character | None = None, kind: type[Any] = Charger16
) -> AsyncIterator[Any]:
    async with websockets.connect(
        stand.address(id), subprotocols=[kind.version], additional_headers=stand.headers(id)
    ) as socket:
        made = kind(id, socket, character or Character())
        listening = asyncio.create_task(made.start())
        try:
            yield made
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
