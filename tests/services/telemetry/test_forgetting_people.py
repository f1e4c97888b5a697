"""A driver asks to be forgotten: name, passkeys, sessions, duties, consents and his vehicles' data go, with a certificate."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocade.app import wiring
from rocade.app.configuration import Configuration
from rocade.app.erasing import region_erasing
from rocade.core.data_classes import ALL
from rocade.core.errors import Refused
from rocade.services.consent import FOREVER_US, Consents
from rocade.services.sharing import Book, Contract
from rocade.services.sharing import store as sharing
from rocade.trust.authority import AuditLog
from rocade.trust.authority.people import People, Site
from rocade.trust.authority.people.model import person_number
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.identity import proof
from rocade.trust.identity.directory import load_root

PERSONAL = {
    "person_session": "person", "passkey": "person", "person_duty": "person", "person_link": "person", "person_account": "person",
}  # fmt: skip
CONSENTS = {
    "owner": ("person",), "grant": ("owner", "recipient"), "guest": ("owner", "person"), "claim": ("giver", "used_by"),
    "conflict": ("holder", "claimant"), "look": ("actor", "recipient"),
}  # fmt: skip


async def left_of(road: Any, person: str) -> dict[str, int]:
    """Rows that still name somebody, by table."""
    number, found = person_number(person), dict[str, int]()
    for table, column in PERSONAL.items():
        found[table] = await road.database.pool.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", number)
    for table, columns in CONSENTS.items():
        named = " OR ".join(f"{column} = $1" for column in columns)
        found[table] = await road.database.pool.fetchval(f"SELECT count(*) FROM consent_{table} WHERE {named}", person)
    return {table: count for table, count in found.items() if count}


async def test_nothing_of_a_person_is_left_and_what_others_have_stays(road: Any, tmp_path: Path) -> None:
    audit = AuditLog(road.database, tmp_path / "trust/audit", road.clock)
    configuration = Configuration("eu", "rocade.test", directory=str(tmp_path))
    parts = wiring.Common(configuration, road.clock, road.random, road.database, audit, keyring_of(road.database))
    erasing = region_erasing(parts, road.history, road.log)
    consents: Consents = erasing.consents
    people = People(road.database, audit, road.clock, road.random, Site(), "eu")
    ida, ben = await people.add("Ida Farge", ["support"]), await people.add("Ben Roux")
    car, bens = await road.add_vehicle(), await road.add_vehicle()
    for vehicle, owner in ((car, ida), (bens, ben)):
        await consents.own(vehicle.ref, owner.id)
        await road.publish(await road.connect(vehicle), road.speed_batch(1, [1.0, 2.0]))
    await road.drain()
    await consents.grant(car.ref, ida.id, "partner:p", "insurance", ALL)
    guest, code = await consents.invite(bens.ref, ben.id, ALL, road.clock.now_us() + 10**12)
    await consents.accept(code, ida.id)
    await consents.grant(bens.ref, ben.id, "partner:p", "insurance", ALL)
    await road.database.pool.execute(
        "INSERT INTO person_session (number, secret_hash, person, means, opened_us, used_us, idle_us, until_us)"
        " VALUES (1, 'x', $1, 'passkey', 1, 1, 1, 1)", person_number(ida.id),
    )  # fmt: skip
    before = await left_of(road, ida.id)
    assert {"person_session", "person_duty", "owner", "grant", "guest"} <= before.keys()

    ordered = await erasing.eraser.erase_person(ida.id, ida.id)
    await erasing.eraser.work()

    assert await left_of(road, ida.id) == {}
    assert await people.find("Ida") == []
    assert await road.samples(car.ref) == {}
    assert await consents.owner(car.ref) is None
    assert (await consents.owner(bens.ref)).person == ben.id  # type: ignore[union-attr]
    assert len(await consents.grants(bens.ref)) == 1
    assert len(await road.samples(bens.ref)) == 1
    assert (await road.registry.resolve(car.id)).ref != car.ref
    done = await erasing.eraser.erasures.find(ordered.id)
    assert (done.step, done.facts["sessions"], done.facts["guests"]) == ("done", 1, 1)
    await audit.close()
    said = proof.verify(await erasing.eraser.erasures.certificate(ordered.id), load_root(tmp_path / "trust/trust.pem"))
    assert ida.id in " ".join(said)
    assert guest.id


async def test_contracts_follow_a_vehicle_in_the_transaction_that_gives_it_its_new_reference(
    road: Any, tmp_path: Path
) -> None:
    """What it sends under that one would otherwise wait for nobody until somebody looks."""
    audit = AuditLog(road.database, tmp_path / "trust/audit", road.clock)
    configuration = Configuration("eu", "rocade.test", directory=str(tmp_path))
    parts = wiring.Common(configuration, road.clock, road.random, road.database, audit, keyring_of(road.database))
    erasing, book = region_erasing(parts, road.history, road.log), await Book.open(road.database)
    car, now_us = await road.add_vehicle(), road.clock.now_us()
    contract = Contract("contract-1", 1, car.ref, "partner:p", "insurance", ALL, (), ("sse",), 0, "grant-1", now_us, FOREVER_US, now_us, now_us)  # fmt: skip
    await sharing.add_contract(road.database.pool, contract)
    await erasing.eraser.erase(car.ref, "operator:test")
    renewed = (await road.registry.resolve(car.id)).ref
    assert renewed != car.ref
    assert [one.ref for one in await sharing.live(road.database.pool)] == [renewed]
    async with asyncio.timeout(30):
        while renewed not in book.by_ref:
            await asyncio.sleep(0.02)
    await book.close()
    await audit.close()


async def test_somebody_unknown_is_not_forgotten(road: Any, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"people\.unknown"):
        await road.eraser.erase_person("person:nobody", "person:1")
