"""The registry on a real PostgreSQL."""

from __future__ import annotations

import asyncpg
import numpy as np
import pytest
from keyed import DerivedKeys
from tests.chance import Seeded

from rocade.core.errors import Refused, Unavailable
from rocade.core.identifiers import VehicleRef
from rocade.fabric.database import Database
from rocade.services.vehicles import Registry, Vehicle, Wanted, twin
from rocade.trust.authority.sealing import keyring_of

VIN = "VF3ABCDEFGG123456"


class FixedClock:
    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def now_us(self) -> int:
        self.us += 1
        return self.us

    def monotonic_s(self) -> float:
        return self.us / 1e6


@pytest.fixture
def registry(database: Database) -> Registry:
    return Registry(database, Seeded(7), FixedClock())


async def add_car(registry: Registry, vin: str = VIN, brand: str = "peugeot", model: str = "e-208") -> Vehicle:
    return await registry.add(vin, "car", brand, model, "electric", "eu", "unit 3")


async def test_an_added_vehicle_is_found_by_id_and_by_reference(registry: Registry) -> None:
    added = await add_car(registry)
    assert await registry.resolve(VIN) == added
    assert await registry.by_ref(added.ref) == added
    assert added.wmi == "VF3"
    assert added.model_years == (1986, 2016)


async def test_a_reference_is_random_and_not_derived_from_the_vin(database: Database) -> None:
    first = await Registry(database, Seeded(1), FixedClock()).add(VIN, "car", "peugeot", "208", "petrol", "eu")
    assert first.ref == Seeded(1).bits(63)
    assert Registry(database, Seeded(2), FixedClock()).draw_ref() == Seeded(2).bits(63)


async def test_the_same_id_twice_is_refused(registry: Registry) -> None:
    await add_car(registry)
    with pytest.raises(Refused) as refused:
        await add_car(registry)
    assert refused.value.code == "vehicles.exists"
    assert await registry.count() == 1


async def test_many_ids_resolve_in_one_call_and_strangers_are_left_out(registry: Registry) -> None:
    cars = [await add_car(registry, f"VF3ABCDEFGG12345{n}") for n in range(5)]
    found = await registry.resolve_many([car.id for car in cars[:3]] + ["VF3ABCDEFGG999999"])
    assert found == {car.id: car for car in cars[:3]}
    refs = await registry.by_refs([cars[4].ref, VehicleRef(1)])
    assert refs == {cars[4].ref: cars[4]}


async def test_a_list_walked_by_cursor_returns_each_vehicle_once_and_honours_filters(registry: Registry) -> None:
    for n in range(9):
        await add_car(registry, f"VF3ABCDEFGG00000{n}", "peugeot" if n % 3 else "citroen", f"m{n % 2}")
    walked: list[Vehicle] = []
    cursor: str | None = None
    while True:
        page = await registry.list(cursor, 2)
        walked += page.vehicles
        cursor = page.cursor
        if cursor is None:
            break
    assert len(walked) == len({vehicle.ref for vehicle in walked}) == 9
    assert {v.brand for v in (await registry.list(brand="citroen")).vehicles} == {"citroen"}
    assert len((await registry.list(brand="citroen", model="m0")).vehicles) == 2
    assert VIN not in str((await registry.list(limit=1)).cursor)


async def test_a_change_is_stored_and_a_broken_one_refused(registry: Registry) -> None:
    added = await add_car(registry)
    changed = await registry.update(VIN, model="e-308", hardware="unit 4")
    assert (changed.model, changed.hardware, changed.ref) == ("e-308", "unit 4", added.ref)
    assert changed.changed_us > added.changed_us
    assert await registry.resolve(VIN) == changed
    with pytest.raises(Refused, match=r"vehicles\.invalid"):
        await registry.update(VIN, powertrain="steam")
    with pytest.raises(Refused, match=r"vehicles\.invalid"):
        await registry.update(VIN, kind="van")


async def test_a_renewed_vehicles_old_reference_names_nobody(registry: Registry, database: Database) -> None:
    old = await add_car(registry)
    renewed = registry.draw_ref()
    async with database.pool.acquire() as connection, connection.transaction():
        await registry.renew_ref(connection, old.ref, renewed)
        with pytest.raises(Refused, match=r"vehicles\.unknown"):
            await registry.renew_ref(connection, old.ref, registry.draw_ref())
    assert renewed != old.ref
    assert (await registry.resolve(VIN)).ref == renewed
    with pytest.raises(Refused, match=r"vehicles\.unknown"):
        await registry.by_ref(old.ref)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("kind", "tank", "vehicles.invalid"),
        ("powertrain", "steam", "vehicles.invalid"),
        ("brand", "nobody", "catalogue.brand.unknown"),
        ("region", "EU", "vehicles.invalid"),
        ("region", "../eu", "vehicles.invalid"),
        ("model", "x" * 65, "vehicles.invalid"),
        ("model", "a\nb", "vehicles.invalid"),
        ("hardware", "\x00", "vehicles.invalid"),
        ("id", "VF3ABCDEFIG123456", "vehicles.vin.character"),
        ("id", "VF3'; DROP TABLE", "vehicles.vin.length"),
    ],
)
async def test_a_bad_field_is_refused_with_its_code_and_stores_nothing(
    registry: Registry, field: str, value: str, code: str
) -> None:
    fields = {"id": VIN, "kind": "car", "brand": "peugeot", "model": "208", "powertrain": "petrol", "region": "eu"}
    with pytest.raises(Refused) as refused:
        await registry.add(**(fields | {field: value}))
    assert refused.value.code == code
    assert await registry.count() == 0


@pytest.mark.parametrize("kind", ["bicycle", "moped", "standing_scooter"])
async def test_light_vehicles_have_free_serials(registry: Registry, kind: str) -> None:
    added = await registry.add("LUNE-00042.b", kind, "lune", "Trail", "electric", "eu")
    assert (added.wmi, added.model_years) == ("", ())
    with pytest.raises(Refused, match=r"vehicles\.invalid"):
        await registry.add("a/b", kind, "lune", "Trail", "electric", "eu")


@pytest.mark.parametrize("call", ["resolve", "update"])
async def test_an_unknown_vehicle_is_refused_without_repeating_its_id(registry: Registry, call: str) -> None:
    with pytest.raises(Refused) as refused:
        await getattr(registry, call)(VIN)
    assert refused.value.code == "vehicles.unknown"
    assert VIN not in str(refused.value)


@pytest.mark.parametrize("cursor", ["", "zz", "-1", "f" * 17, "1; DROP"])
async def test_a_foreign_cursor_is_refused(registry: Registry, cursor: str) -> None:
    with pytest.raises(Refused, match=r"vehicles\.cursor"):
        await registry.list(cursor)


async def test_a_database_that_is_away_is_unavailable() -> None:
    async with asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0) as pool:

        class Away:
            keyring = DerivedKeys()
            lookups = pool

        registry = Registry(Away(), Seeded(1), FixedClock())  # type: ignore[arg-type]  # only lookups are used
        with pytest.raises(Unavailable, match=r"database\.down"):
            await registry.resolve(VIN)


SEARCHES = [
    (Wanted(words=("E-2",)), {"VF3ABCDEFGG123456"}),
    (Wanted(words=("renault", "wi")), {"VF1ABCDEFGG000002"}),
    (Wanted(words=("123456",)), {"VF3ABCDEFGG123456"}),
    (Wanted(words=("vf3abcdefgg123456",)), {"VF3ABCDEFGG123456"}),
    (Wanted(words=("456",)), set()),
    (Wanted(words=("VF3ABC",)), set()),
    (Wanted(words=("123456",), is_id_searched=False), set()),
    (Wanted(words=("%",)), set()),
    (Wanted({"brand": "renault"}, state="silent"), {"VF1ABCDEFGG000002"}),
    (Wanted(state="moving"), {"VF3ABCDEFGG123456"}),
    (Wanted(state="doubtful"), {"VF1ABCDEFGG000002"}),
    (Wanted(state="never"), {"lune-3"}),
    (Wanted(state="standing"), set()),
]


@pytest.fixture
async def fleet(database: Database) -> Registry:
    clock = FixedClock()
    registry = Registry(database, Seeded(7), clock)
    first = await add_car(registry)
    second = await add_car(registry, "VF1ABCDEFGG000002", "renault", "Twizy")
    await registry.add("lune-3", "bicycle", "lune", "Croissant", "electric", "eu")
    empty = twin.pack(np.zeros(0, twin.SLOT), ())
    async with database.pool.acquire() as connection:
        rows = [
            twin.Row(first.ref, clock.us, 0, 48.0, 2.0, 31.0, empty),
            twin.Row(second.ref, clock.us - 301_000_000, 0, 48.0, 2.0, 0.0, empty, 4),
        ]
        await twin.upsert_many(connection, rows, keyring_of(database))
    return registry


async def test_vehicles_are_found_by_words_and_by_how_they_are(fleet: Registry) -> None:
    for wanted, ids in SEARCHES:
        assert {one.id for one in (await fleet.find(wanted)).vehicles} == ids, wanted
        assert await fleet.count(wanted) == len(ids), wanted
    with pytest.raises(Refused, match=r"vehicles\.invalid"):
        await fleet.find(Wanted(state="flying"))
    assert await fleet.models() == [
        ("lune", "bicycle", "electric", 1), ("peugeot", "car", "electric", 1), ("renault", "car", "electric", 1)
    ]  # fmt: skip
