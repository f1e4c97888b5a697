"""Limits and the stations that are given them: obedient, deaf, choosy; what is remembered, what is cleared, what is said."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from chargers import Character, Charger16, Charger201, charger
from ocpp_stand import Stand, until

from rocade.services.charging.stations import Connector, Limit, Slot, Standing
from rocade.services.charging.stations import store as table
from rocade.services.charging.stations.dialect import Dialect

PLACE = Connector("CP-1", 1)
BOTH = pytest.mark.parametrize("kind", [Charger16, Charger201], ids=["1.6", "2.0.1"])


def limited(stand: Stand, power_kw: float, hours: float = 2.0) -> Limit:
    now_us = stand.clock.now_us()
    return Limit((Slot(now_us, power_kw),), now_us + round(hours * 3_600_000_000))


async def stands(stand: Stand, *states: str, place: Connector = PLACE) -> Standing:
    async def found() -> Standing | None:
        now = await stand.stations.standing(place)
        return now if now is not None and now.state in states else None

    return await until(found)


async def memory(stand: Stand, id: str = "CP-1") -> dict[tuple[str, str], str]:
    kept = await table.read_dialects(stand.database.pool, [id])
    shown = msgspec.json.decode(kept[id], type=Dialect).shown
    return {(one.way.purpose, one.way.unit): one.proof for one in shown if one.proof != "untried"}


@BOTH
async def test_a_limit_that_is_obeyed_is_proven_by_the_meter(stand: Stand, kind: type[Any]) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1", kind=kind) as point:
        await point.begin()
        await point.tick()
        await stand.stations.limit(PLACE, limited(stand, 4.14))
        taken = await stands(stand, "accepted")
        assert (taken.purpose, taken.unit) == ("tx", "A")
        assert await point.tick() == pytest.approx(4140)
        proven = await stands(stand, "proven")
        assert proven.code == ""
    assert await memory(stand) == {("tx", "A"): "proven"}
    [held] = point.character.held.values()
    assert held["profile"]["valid_to"]


@BOTH
async def test_a_station_that_rejects_two_of_three_purposes_is_limited_by_the_third(
    stand: Stand, kind: type[Any]
) -> None:
    await stand.register("CP-1")
    character = Character(refuses=("TxProfile", "TxDefaultProfile"))
    async with charger(stand, "CP-1", character, kind) as point:
        await point.begin()
        await point.tick()
        await stand.stations.limit(PLACE, limited(stand, 4.14))
        taken = await stands(stand, "accepted")
        assert taken.purpose == "station_max"
        assert [purpose for purpose, _ in character.tried][:2] == ["TxProfile", "TxProfile"]
        await point.tick()
        await stands(stand, "proven")
        first = len(character.tried)
        await stand.stations.limit(PLACE, limited(stand, 5.0))
        await stands(stand, "accepted", "proven")
        assert len(character.tried) == first + 1, "what it rejected is not tried again"
    known = await memory(stand)
    assert known["tx", "A"] == known["tx_default", "W"] == "rejected"
    assert known["station_max", "A"] == "proven"


@BOTH
async def test_a_station_that_accepts_and_ignores_is_found_out_and_tried_another_way(
    stand: Stand, kind: type[Any]
) -> None:
    await stand.register("CP-1")
    character = Character(ignores=("TxProfile",))
    async with charger(stand, "CP-1", character, kind) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 4.14))
        await stands(stand, "accepted")

        async def obeyed() -> bool:
            return await point.tick(25) < 5000

        await until(obeyed)
        taken = await stands(stand, "accepted", "proven")
        assert taken.purpose == "tx_default"
        assert not [one for one in character.held.values() if one["purpose"] == "TxProfile"], (
            "what is ignored is cleared"
        )
    known = await memory(stand)
    assert known["tx", "A"] == known["tx", "W"] == "ignored"


async def test_a_station_that_ignores_everything_is_said_to(stand: Stand) -> None:
    await stand.register("CP-1")
    character = Character(ignores=("A", "W"))
    async with charger(stand, "CP-1", character) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 0))
        await stands(stand, "accepted")

        async def given_up() -> bool:
            await point.tick(25)
            now = await stand.stations.standing(PLACE)
            return now is not None and now.state == "ignored"

        await until(given_up)
    found = await stand.stations.standing(PLACE)
    assert found is not None
    assert found.code == "stations.limit.ignored"
    assert "stations.limit.ignored" in [event.code for _, event in await stand.stations.events("CP-1")]
    assert "stations.limit.ignored" in [event.code for event in stand.events if event.kind == "limit"]


async def test_a_station_that_rejects_everything_is_said_to(stand: Stand) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1", Character(refuses=("A", "W"))) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 4))
        found = await stands(stand, "rejected")
    assert found.code == "stations.limit.none_left"


@BOTH
async def test_a_station_that_comes_back_with_an_obsolete_profile_loses_it(stand: Stand, kind: type[Any]) -> None:
    await stand.register("CP-1")
    character = Character()

    async def is_away() -> bool:
        return not (await stand.stations.station("CP-1")).is_here

    async with charger(stand, "CP-1", character, kind) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 4))
        await stands(stand, "accepted")
    await until(lambda: not stand.door.stations)
    await until(is_away)
    await stand.stations.unlimit(PLACE)
    assert character.held
    async with charger(stand, "CP-1", character, kind):
        await until(lambda: not character.held)
        await until(lambda: [event for event in stand.events if event.kind == "obsolete"])
    assert "stations.profile.obsolete" in [event.code for _, event in await stand.stations.events("CP-1")]


async def test_what_an_earlier_central_system_left_is_found_by_the_composite_schedule(stand: Stand) -> None:
    await stand.register("CP-1")
    character = Character()
    async with charger(stand, "CP-1", character) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 11))
        await stands(stand, "accepted")
    await until(lambda: not stand.door.stations)
    character.held[1] = {"purpose": "TxDefaultProfile", "unit": "A", "rows": [{"limit": 6}], "profile": {}}
    async with charger(stand, "CP-1", character):
        await until(lambda: list(character.held) and 1 not in character.held)
        await until(lambda: [event for event in stand.events if event.kind == "obsolete"])


async def test_a_limit_wanted_while_the_station_is_away_is_sent_when_it_returns(stand: Stand) -> None:
    await stand.register("CP-1")
    await stand.stations.limit(PLACE, limited(stand, 4))
    assert (await stands(stand, "wanted")).version == 1
    character = Character()
    async with charger(stand, "CP-1", character):
        taken = await stands(stand, "accepted")
        assert taken.purpose == "tx_default", "no transaction is open yet"


async def test_a_transaction_gets_the_limit_that_waits_for_it(stand: Stand) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1") as point:
        await stand.stations.limit(PLACE, limited(stand, 4))
        await stands(stand, "accepted")
        await point.begin()
        await until(lambda: ("TxProfile", "A") in point.character.tried)


async def test_a_vehicle_that_changes_its_plug_is_found_at_the_new_one_and_leaves_no_limit(stand: Stand) -> None:
    await stand.register("CP-1")
    await stand.register("CP-2")
    await stand.stations.put_tag("CAR-9", "test", vehicle=9)  # type: ignore[arg-type]
    async with charger(stand, "CP-1") as one, charger(stand, "CP-2") as two:
        await one.begin("CAR-9")
        await stand.stations.limit(PLACE, limited(stand, 4))
        await stands(stand, "accepted", "proven")
        await two.begin("CAR-9")
        place = await stand.stations.connector_of(9)  # type: ignore[arg-type]
        assert place == Connector("CP-2", 1)
        await stands(stand, "ended")
        await until(lambda: not one.character.held)
    assert "stations.vehicle.moved" in [event.code for event in stand.events]


async def test_new_firmware_forgets_what_the_old_one_did(stand: Stand) -> None:
    await stand.register("CP-1")
    async with charger(stand, "CP-1", Character(refuses=("TxProfile",))) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 4))
        await stands(stand, "accepted")
        tried = point.character.tried
        assert tried.count(("TxProfile", "A")) == 1
        from ocpp.v16 import call

        await point.call(
            call.BootNotification(charge_point_model="M16", charge_point_vendor="Maker", firmware_version="2")
        )
        await until(lambda: tried.count(("TxProfile", "A")) == 2)


async def test_a_station_never_seen_begins_with_what_its_kin_has_shown(stand: Stand) -> None:
    for id in ("CP-1", "CP-2"):
        await stand.register(id)
    async with charger(stand, "CP-1", Character(refuses=("TxProfile",))) as point:
        await point.begin()
        await stand.stations.limit(PLACE, limited(stand, 4))
        await stands(stand, "accepted")
    async with charger(stand, "CP-2") as point:
        await point.begin()
    async with charger(stand, "CP-2") as point:
        await point.begin("TAG2")
        place = Connector("CP-2", 1)
        await stand.stations.limit(place, limited(stand, 4))
        taken = await stands(stand, "accepted", place=place)
        assert (taken.purpose, point.character.tried[0][0]) == ("tx_default", "TxDefaultProfile")
