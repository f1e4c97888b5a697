"""Orders reach the station in its own version's words, wherever they were given; what it says comes back; no secret is kept."""

from __future__ import annotations

from typing import Any

import pytest
from chargers import Charger16, Charger201, charger
from ocpp.routing import on
from ocpp.v16 import call_result as result16
from ocpp.v201 import call_result as result201
from ocpp_stand import Stand, until

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.services.charging.stations import Connector, ordering


class Obedient16(Charger16):
    """Does what it is told and keeps what it was told."""

    def told(self, **said: Any) -> None:
        self.__dict__.setdefault("heard", []).append(said)

    @on("RemoteStartTransaction")
    def start_remotely(self, **said: Any) -> Any:
        self.told(start=said)
        return result16.RemoteStartTransaction(status="Accepted")

    @on("RemoteStopTransaction")
    def stop_remotely(self, **said: Any) -> Any:
        self.told(stop=said)
        return result16.RemoteStopTransaction(status="Accepted")

    @on("Reset")
    def reset(self, **said: Any) -> Any:
        self.told(reset=said)
        return result16.Reset(status="Rejected")

    @on("UnlockConnector")
    def unlock(self, **said: Any) -> Any:
        self.told(unlock=said)
        return result16.UnlockConnector(status="Unlocked")

    @on("GetCompositeSchedule")
    def composite(self, **said: Any) -> Any:
        self.told(composite=said)
        return result16.GetCompositeSchedule(status="Accepted", connector_id=1)


class Obedient201(Charger201):
    def told(self, **said: Any) -> None:
        self.__dict__.setdefault("heard", []).append(said)

    @on("RequestStartTransaction")
    def start_remotely(self, **said: Any) -> Any:
        self.told(start=said)
        return result201.RequestStartTransaction(status="Accepted")

    @on("RequestStopTransaction")
    def stop_remotely(self, **said: Any) -> Any:
        self.told(stop=said)
        return result201.RequestStopTransaction(status="Accepted")

    @on("Reset")
    def reset(self, **said: Any) -> Any:
        self.told(reset=said)
        return result201.Reset(status="Rejected")

    @on("UnlockConnector")
    def unlock(self, **said: Any) -> Any:
        self.told(unlock=said)
        return result201.UnlockConnector(status="Unlocked")

    @on("GetCompositeSchedule")
    def composite(self, **said: Any) -> Any:
        self.told(composite=said)
        return result201.GetCompositeSchedule(status="Accepted")


async def done(stand: Stand, act: str, **body: Any) -> tuple[str, dict[str, Any], str]:
    ordering.check(act, body)
    return await stand.stations.outcome(await stand.stations.order("CP-1", act, body, "test"), 30)


@pytest.mark.parametrize("kind", [Obedient16, Obedient201], ids=["1.6", "2.0.1"])
async def test_orders_are_carried_out_and_answered(stand: Stand, kind: type[Any]) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1", kind=kind) as point:
        await point.begin()
        [running] = await stand.stations.open_at("CP-1")
        assert (await done(stand, "stop", transaction=running.number))[0] == "done"
        assert (await done(stand, "unlock", evse=1))[1]["status"] == "Unlocked"
        assert (await done(stand, "composite", evse=1))[0] == "done"
        state, answer, code = await done(stand, "reset", hard=True)
        assert (state, answer, code) == ("failed", {"kind": "Rejected"}, "stations.said_no")
        assert (await done(stand, "stop", transaction=4711))[2] == "stations.transaction"
    names = [name for heard in point.heard for name in heard]
    assert names == ["stop", "unlock", "composite", "reset"]
    named = point.heard[0]["stop"]["transaction_id"]
    assert named == (running.number if kind is Obedient16 else running.reference)


@pytest.mark.parametrize("kind", [Obedient16, Obedient201], ids=["1.6", "2.0.1"])
async def test_a_remote_start_is_for_one_vehicle_and_its_tag_is_kept_nowhere(
    stand: Stand, database: Database, kind: type[Any]
) -> None:
    await stand.register("CP-1", is_open=False)
    async with charger(stand, "CP-1", kind=kind) as point:
        assert (await done(stand, "start", evse=1, vehicle=77))[0] == "done"
        said = point.heard[0]["start"]
        tag = said["id_tag"] if kind is Obedient16 else said["id_token"]["id_token"]
        await point.begin(tag)
        assert await stand.stations.connector_of(77) == Connector("CP-1", 1)  # type: ignore[arg-type]
    kept = [
        await database.pool.fetch(f"SELECT {what}")
        for what in ("t::text FROM station_tag t", "o::text FROM station_order o")
    ]
    assert tag not in str(kept)


async def test_an_order_for_a_station_that_is_away_ends_with_its_time(stand: Stand) -> None:
    await stand.register("CP-1")
    number = await stand.stations.order("CP-1", "reset", {}, "test", life_s=-1)
    async with charger(stand, "CP-1", kind=Obedient16) as point:

        async def expired() -> bool:
            return (await stand.stations.outcome(number, 0))[0] == "expired"

        await until(expired)
        assert not point.__dict__.get("heard")


@pytest.mark.parametrize(("act", "body"), [
    ("dance", {}), ("start", {}), ("stop", {}), ("unlock", {"evse": 0}), ("trigger", {"message": "Everything"}),
])  # fmt: skip
def test_orders_no_station_could_follow_are_refused_before_they_are_sent(act: str, body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        ordering.check(act, body)
    assert caught.value.code == "stations.invalid"


async def test_a_closed_station_is_sent_away(stand: Stand) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1", kind=Obedient16):
        await until(lambda: stand.door.stations)
        await stand.stations.change("CP-1", "test", is_closed=True)
        await until(lambda: not stand.door.stations)


async def test_a_vehicle_that_is_erased_is_named_nowhere(stand: Stand, database: Database) -> None:
    await stand.register("CP-1")
    await stand.stations.put_tag("CAR-9", "test", vehicle=9)  # type: ignore[arg-type]
    async with charger(stand, "CP-1") as point:
        await point.begin("CAR-9")
    async with database.pool.acquire() as connection, connection.transaction():
        await stand.stations.forget(connection, 9)
    assert await stand.stations.connector_of(9) is None  # type: ignore[arg-type]
    assert not await database.pool.fetchval("SELECT count(*) FROM station_tag WHERE vehicle IS NOT NULL")
