"""Each version of OCPP spoken by the `ocpp` package's own charge point, end to end into the tables."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import websockets
from ocpp.v16 import ChargePoint as ChargePoint16
from ocpp.v16 import call as call16
from ocpp.v16.enums import ChargePointErrorCode, ChargePointStatus
from ocpp.v21 import ChargePoint as ChargePoint21
from ocpp.v21 import call as call21
from ocpp.v201 import ChargePoint as ChargePoint201
from ocpp.v201 import call as call201
from ocpp_stand import Stand

from rocade.services.charging.stations import Connector

TYPES = {"ocpp1.6": ChargePoint16, "ocpp2.0.1": ChargePoint201, "ocpp2.1": ChargePoint21}
CALLS: dict[str, Any] = {"ocpp1.6": call16, "ocpp2.0.1": call201, "ocpp2.1": call21}


def now() -> str:
    return datetime.now(UTC).isoformat()


@contextlib.asynccontextmanager
async def charge_point(stand: Stand, id: str, version: str) -> AsyncIterator[Any]:
    async with websockets.connect(
        stand.address(id), subprotocols=[version], additional_headers=stand.headers(id)
    ) as socket:
        point = TYPES[version](id, socket)
        listening = asyncio.create_task(point.start())
        try:
            yield point
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def test_a_day_of_a_station_of_1_6(stand: Stand) -> None:
    await stand.register("CP-1")
    async with charge_point(stand, "CP-1", "ocpp1.6") as point:
        booted = await point.call(call16.BootNotification(charge_point_model="M", charge_point_vendor="V"))
        assert booted.status == "Accepted"
        await point.call(call16.StatusNotification(1, ChargePointErrorCode.no_error, ChargePointStatus.preparing))
        begun = await point.call(
            call16.StartTransaction(connector_id=1, id_tag="AABB", meter_start=1000, timestamp=now())
        )
        assert begun.id_tag_info["status"] == "Accepted"
        again = await point.call(call16.Heartbeat())
        assert again.current_time
        value = {
            "timestamp": now(),
            "sampled_value": [{"value": "2500"}, {"value": "7.2", "measurand": "Power.Active.Import", "unit": "kW"}],
        }
        await point.call(call16.MeterValues(connector_id=1, transaction_id=begun.transaction_id, meter_value=[value]))
        await point.call(call16.StopTransaction(meter_stop=4000, timestamp=now(), transaction_id=begun.transaction_id))
    kept = await stand.stations.transaction(begun.transaction_id)
    assert kept is not None
    assert kept.energy_kwh == pytest.approx(3.0)
    assert (bool(kept.ended_us), kept.last_w) == (True, 7200)
    samples = await stand.stations.meter(Connector("CP-1", 1), 0, 1 << 62)
    assert [one.energy_wh for one in samples] == [2500]
    station = await stand.stations.station("CP-1")
    assert (station.vendor, station.model, station.version) == ("V", "M", "1.6")
    [state] = await stand.stations.connectors(["CP-1"])
    assert state.state == "preparing"


@pytest.mark.parametrize("version", ["ocpp2.0.1", "ocpp2.1"])
async def test_a_day_of_a_station_of_2(stand: Stand, version: str) -> None:
    await stand.register("CS-1")
    calls = CALLS[version]
    async with charge_point(stand, "CS-1", version) as point:
        booted = await point.call(
            calls.BootNotification(charging_station={"model": "M", "vendor_name": "V"}, reason="PowerUp")
        )
        assert booted.status == "Accepted"
        await point.call(
            calls.StatusNotification(timestamp=now(), connector_status="Occupied", evse_id=1, connector_id=1)
        )

        def event(kind: str, number: int, wh: float, context: str, **more: Any) -> Any:
            sampled = {"value": wh / 1000, "context": context, "unit_of_measure": {"unit": "kWh"}}
            return calls.TransactionEvent(
                event_type=kind, timestamp=now(), trigger_reason="MeterValuePeriodic", seq_no=number,
                transaction_info={"transaction_id": "tx-1", **more.pop("info", {})},
                evse={"id": 1, "connector_id": 1}, meter_value=[{"timestamp": now(), "sampled_value": [sampled]}], **more,
            )  # fmt: skip

        token = {"id_token": "AABB", "type": "ISO14443"}
        begun = await point.call(event("Started", 0, 1000, "Transaction.Begin", id_token=token))
        assert begun.id_token_info["status"] == "Accepted"
        await point.call(event("Updated", 1, 2500, "Sample.Periodic"))
        await point.call(event("Ended", 3, 4000, "Transaction.End", info={"stopped_reason": "EVDisconnected"}))
    [kept] = await stand.stations.transactions("CS-1")
    assert kept.energy_kwh == pytest.approx(3.0)
    assert (kept.reference, kept.reason, kept.missing) == ("tx-1", "EVDisconnected", 1)
    assert len(await stand.stations.meter(Connector("CS-1", 1), 0, 1 << 62, kept.number)) == 3
