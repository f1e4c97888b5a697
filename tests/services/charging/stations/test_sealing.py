"""What stations measure and at whose car: sealed in every table, the car's own from the moment it is known, gone with its key."""

from __future__ import annotations

import struct
from typing import Any

import asyncpg
import pytest
from ocpp_stand import Stand

from rocade.core.errors import Corrupt
from rocade.doors.ocpp.contract import Asked
from rocade.fabric.database import Database
from rocade.services.charging.stations import Connector, Station, Transaction
from rocade.services.charging.stations.intake import Context
from rocade.trust.authority.sealing import keyring_of

CAR, OTHER = 6_148_914_691_236_517_205, 3_074_457_345_618_258_603
BEGAN_WH, ONGOING_WH, ENDED_WH, WATTS, SOC = 731_846_109.0, 731_847_231.0, 731_849_395.0, 7_391.515625, 61.25
"""Long enough not to occur by chance in instants and sealed values."""
PLACE = Connector("CP-1", 2)


async def say(stand: Stand, action: str, **payload: Any) -> Any:
    """One message of the station, in 1.6."""
    context = Context(Station(id="CP-1", is_open=True), "1.6", 1, 0, 0)
    asked = Asked(context=context, version="1.6", action=action, payload=payload, arrived_us=stand.clock.now_us())
    return (await stand.intake.accept([asked]))[0]


def at(minute: int) -> str:
    return f"2026-11-01T10:{minute:02d}:00Z"


async def begin(stand: Stand, tag: str = "CAR-TAG", wh: float = BEGAN_WH) -> int:
    answer = await say(stand, "StartTransaction", connectorId=2, idTag=tag, meterStart=int(wh), timestamp=at(0))
    return int(answer["transactionId"])


async def meter(stand: Stand, number: int, minute: int = 5, wh: float = ONGOING_WH) -> None:
    values = [{"value": str(wh)}, {"value": str(WATTS), "measurand": "Power.Active.Import", "unit": "W"},
              {"value": str(SOC), "measurand": "SoC"}]  # fmt: skip
    sample = {"timestamp": at(minute), "sampledValue": values}
    await say(stand, "MeterValues", connectorId=2, transactionId=number, meterValue=[sample])


async def charge(stand: Stand, tag: str = "CAR-TAG") -> int:
    """A whole charging."""
    number = await begin(stand, tag)
    await meter(stand, number)
    await say(stand, "StopTransaction", transactionId=number, meterStop=int(ENDED_WH), timestamp=at(40))
    return number


@pytest.fixture
async def known(stand: Stand) -> Stand:
    await stand.register("CP-1")
    await stand.stations.put_tag("CAR-TAG", "test", vehicle=CAR)  # type: ignore[arg-type]
    return stand


async def dump(database: Database) -> bytes:
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    async with database.pool.acquire() as connection:
        for table in ("station_transaction", "station_meter", "station_event"):
            for form in ("binary", "text"):
                await connection.copy_from_query(f"SELECT * FROM {table}", output=take, format=form)
    return b"".join(parts)


async def test_no_table_shows_what_was_measured_or_at_which_vehicle(known: Stand, database: Database) -> None:
    number = await charge(known)
    stored = await dump(database)
    shown = [value for value in (BEGAN_WH, ONGOING_WH, ENDED_WH, WATTS)
             if any(form in stored for form in (f"{value:.10g}".encode(), struct.pack(">d", value), struct.pack("<d", value),
                                                struct.pack(">f", value)))]  # fmt: skip
    assert not shown
    assert struct.pack(">q", CAR) not in stored
    assert str(CAR).encode() not in stored
    found = await known.stations.transaction(number)
    assert found is not None
    assert (found.began_wh, found.last_wh, found.ended_wh, found.last_w, found.last_soc, found.vehicle, found.reason) == (
        BEGAN_WH, ENDED_WH, ENDED_WH, WATTS, SOC, CAR, "Local")  # fmt: skip
    [sample] = await known.stations.meter(PLACE, 0, 1 << 62)
    assert (sample.energy_wh, sample.power_w, sample.soc_percent) == (ONGOING_WH, WATTS, SOC)


async def test_a_transaction_told_twice_is_one_and_its_name_does_not_show_the_register(known: Stand) -> None:
    assert await begin(known) == await begin(known)
    assert await begin(known) != await begin(known, wh=BEGAN_WH + 1)
    [one, other] = await known.stations.transactions("CP-1")
    assert one.reference != other.reference
    assert str(int(BEGAN_WH)) not in other.reference


async def test_a_vehicles_open_transaction_is_found_by_its_reference(known: Stand) -> None:
    number = await begin(known)
    assert await known.stations.connector_of(CAR) == Connector("CP-1", 2, 2)  # type: ignore[arg-type]
    assert await known.stations.connector_of(OTHER) is None  # type: ignore[arg-type]
    found = await known.stations.transactions_of_vehicles([CAR, OTHER])  # type: ignore[list-item]
    assert [(ref, one.number) for ref, one in found.items()] == [(CAR, number)]
    assert [one.vehicle for _, one in await known.stations.changed_since(0)] == [CAR]


async def destroy(database: Database, ref: int) -> None:
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring_of(database).destroy(connection, [ref])


def told(one: Transaction | None) -> list[object]:
    assert one is not None
    return [one.vehicle, one.began_wh, one.last_wh, one.last_w, one.last_soc, one.ended_wh, one.reason]


NOTHING = [None, None, None, None, None, None, ""]


async def test_with_the_vehicles_key_its_values_are_gone_wherever_a_copy_lies(known: Stand, database: Database) -> None:
    number = await charge(known)
    await destroy(database, CAR)
    assert told(await known.stations.transaction(number)) == NOTHING
    assert await known.stations.meter(PLACE, 0, 1 << 62) == []
    assert await known.stations.connector_of(CAR) is None  # type: ignore[arg-type]
    await meter(known, number, minute=50)  # the car still hangs there: it is nobody's now
    assert [one.energy_wh for one in await known.stations.meter(PLACE, 0, 1 << 62)] == [ONGOING_WH]


async def test_an_erasure_takes_the_values_out_of_the_tables(known: Stand, database: Database) -> None:
    number = await charge(known)
    await known.stations.put_tag("NOBODYS", "test")
    kept = await begin(known, "NOBODYS", wh=5.0)
    await meter(known, kept, wh=6.0)
    async with database.pool.acquire() as connection, connection.transaction():
        await known.stations.forget(connection, CAR)
    assert told(await known.stations.transaction(number)) == NOTHING
    assert told(await known.stations.transaction(kept))[1:3] == [5.0, 6.0]
    assert [one.energy_wh for one in await known.stations.meter(PLACE, 0, 1 << 62)] == [6.0]
    assert await database.pool.fetchval("SELECT count(*) FROM station_meter WHERE transaction = $1", number) == 0


async def test_what_was_measured_before_a_car_was_known_becomes_its_own(known: Stand, database: Database) -> None:
    await known.stations.put_tag("NOBODYS", "test")
    number = await begin(known, "NOBODYS")
    await meter(known, number)
    owned = "SELECT bool_and(is_owned) FROM station_meter"
    assert await database.pool.fetchval(owned) is False
    await known.stations.bind(number, CAR)  # type: ignore[arg-type]
    await meter(known, number, minute=10, wh=ENDED_WH)
    assert await database.pool.fetchval(owned) is True
    assert told(await known.stations.transaction(number))[:3] == [CAR, BEGAN_WH, ENDED_WH]
    await known.stations.bind(number, OTHER)  # type: ignore[arg-type]
    assert [one.energy_wh for one in await known.stations.meter(PLACE, 0, 1 << 62)] == [ONGOING_WH, ENDED_WH]
    await destroy(database, OTHER)
    assert told(await known.stations.transaction(number)) == NOTHING
    assert await known.stations.meter(PLACE, 0, 1 << 62) == []


@pytest.mark.parametrize("moved", [
    "UPDATE station_transaction SET body = (SELECT body FROM station_transaction WHERE number = $1) WHERE number = $2",
    "UPDATE station_transaction o SET vehicle_sealed = t.vehicle_sealed FROM station_transaction t WHERE t.number = $1 AND o.number = $2",
    "UPDATE station_meter SET body = (SELECT body FROM station_meter WHERE transaction = $1) WHERE transaction = $2",
    "UPDATE station_meter SET at_us = at_us + $1 WHERE transaction = $2",
])  # fmt: skip
async def test_a_value_that_was_moved_does_not_open(known: Stand, database: Database, moved: str) -> None:
    numbers = []
    for wh in (1.0, 2.0):
        numbers.append(await begin(known, wh=wh))
        await meter(known, numbers[-1], wh=wh)
    await database.pool.execute(moved, *numbers)
    with pytest.raises(Corrupt, match=r"seal\.broken"):
        await known.stations.transaction(numbers[1])
        await known.stations.meter(PLACE, 0, 1 << 62)


async def test_a_transaction_another_process_wrote_first_is_changed_not_lost(known: Stand, database: Database) -> None:
    """Between the looking and the writing: the row is there, and what both were told is in it."""
    from rocade.services.charging.stations import ledger

    looked = ledger._named
    calls = []

    async def late(connection: asyncpg.Connection, hand: Any, rows: Any) -> Any:
        calls.append(rows)
        return {} if len(calls) == 1 else await looked(connection, hand, rows)

    number = await begin(known)
    ledger._named = late  # type: ignore[assignment]
    try:
        assert await begin(known) == number
    finally:
        ledger._named = looked
    assert len(calls) == 2
