"""The packed twin: what is packed comes out, damage is told, and writing thousands of rows is one statement."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocade.core.errors import Corrupt
from rocade.fabric.database import Database
from rocade.services.vehicles import twin
from rocade.trust.authority.sealing import keyring_of


def row_of(values: dict[int, int], ref: int = 1) -> twin.Row:
    slots = np.zeros(len(values), twin.SLOT)
    slots["signal"], slots["value"], slots["time_us"] = list(values), list(values.values()), 7
    return twin.Row(ref, 1, 0, 48.8, 2.3, None, twin.pack(slots, ()))


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.integers(0, 2**32 - 1), st.one_of(st.integers(-(2**53), 2**53), st.text(max_size=9)), max_size=9)
)
def test_values_and_texts_come_back(values: dict[int, int | str]) -> None:
    texts = [value for value in values.values() if isinstance(value, str)]
    slots = np.zeros(len(values), twin.SLOT)
    for slot, (signal, value) in zip(slots, values.items(), strict=True):
        slot["signal"], slot["form"] = signal, twin.TEXT if isinstance(value, str) else twin.INTEGER
        slot["value"] = texts.index(value) if isinstance(value, str) else value
    found = twin.values_of(twin.pack(slots, texts))
    assert {signal: value.value for signal, value in found.items()} == values


def test_a_vehicle_gets_places_for_new_signals_and_keeps_what_it_had() -> None:
    twins = twin.Twins()
    twins.load(1, None)
    twins.load(2, row_of({5: 50, 6: 60}, 2).reported)
    few, more = np.array([5, 6], "<u4").tobytes(), np.array([7, 5], "<u4").tobytes()
    places = twins.places([1, 2, 2], [few, few, more])
    assert twins.slots["signal"][places].tolist()[2:] == [5, 6, 7, 5]
    assert twin.values_of(twins.row(2))[6].value == 60
    assert places[5] == twins.slot_of(2, 5)
    assert twins.slot_of(2, 99) == 0


def test_a_vehicle_that_grows_in_the_middle_of_a_pass_takes_its_earlier_batches_along() -> None:
    twins = twin.Twins()
    twins.load(1, None)
    places = twins.places([1, 1], [np.array([5], "<u4").tobytes(), np.array([6], "<u4").tobytes()])
    assert places.tolist() == [twins.slot_of(1, 5), twins.slot_of(1, 6)]


def test_a_vehicle_cannot_grow_its_twin_without_bound() -> None:
    twins = twin.Twins()
    twins.load(1, None)
    for block in range(4):
        wanted = np.arange(2000, dtype="<u4") + 2000 * block
        places = twins.places([1], [wanted.tobytes()])
    assert (places == 0).all()
    assert len(twin.values_of(twins.row(1))) == twin.MAX_SIGNALS


def test_the_doubts_of_a_vehicle_are_those_of_all_its_values() -> None:
    twins = twin.Twins()
    for ref, flags in ((1, [0, 4, 1]), (2, []), (3, [0]), (4, [64])):
        slots = np.zeros(len(flags), twin.SLOT)
        slots["signal"], slots["quality"] = range(1, len(flags) + 1), flags
        twins.load(ref, twin.pack(slots, ()))
    assert twins.doubts([4, 2, 1, 3]) == [64, 0, 5, 0]
    assert twins.doubts([1, 2]) == [5, 0]
    assert twins.doubts([2]) == [0]
    assert twins.doubts([]) == []


@pytest.mark.parametrize("row", [b"", b"\x01\x00\x00\x00", twin.pack(np.zeros(2, twin.SLOT), ["a"])[:-1]])
def test_a_damaged_row_is_told(row: bytes) -> None:
    with pytest.raises(Corrupt, match=r"twin\.corrupt"):
        twin.values_of(row)


async def test_two_thousand_five_hundred_vehicles_are_written_in_one_statement(database: Database) -> None:
    rows = [row_of(dict.fromkeys(range(1, 21), 9), ref) for ref in range(1, 2501)]
    for _ in range(3):
        begun_s = time.perf_counter()
        async with database.pool.acquire() as connection, connection.transaction():
            await twin.upsert_many(connection, rows, keyring_of(database))
        taken_s = time.perf_counter() - begun_s
    print(f"2,500 twins: {taken_s * 1000:.0f} ms")
    store = twin.TwinStore(database)
    found = await store.latest(17)
    assert found is not None
    assert (found.latitude, found.speed_kmh, len(found.reported)) == (48.8, None, 20)
    assert len(await store.changed_since(0)) == 2500


async def test_what_is_desired_stays_when_values_are_reported(database: Database) -> None:
    store = twin.TwinStore(database)
    await store.desire(5, {1: 80.0})
    await store.desire(5, {2: "eco"})
    async with database.pool.acquire() as connection:
        await twin.upsert_many(connection, [row_of({1: 70}, 5)], keyring_of(database))
    found = await store.latest(5)
    assert found is not None
    assert found.desired == {1: 80.0, 2: "eco"}
    assert found.reported[1].value == 70
    async with database.pool.acquire() as connection:
        await store.erase(connection, 5)
    assert await store.latest(5) is None
