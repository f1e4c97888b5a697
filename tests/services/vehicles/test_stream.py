"""An open stream of values and the owner's will: real tokens, real consents in PostgreSQL, real mutual TLS."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from litestar import get
from litestar.response import Stream
from tests.clocks import TurnedClock
from tests.doors.http.conftest import CLOCK, Stand
from tests.doors.http.test_oauth import GRANT

from rocade.core import catalogue
from rocade.core.data_classes import mask
from rocade.core.ports import SystemRandom
from rocade.doors.http import Access, AnyRequest, build, does, oauth, streams
from rocade.fabric.database import Database
from rocade.services.consent import FOREVER_US, PURPOSES, Consents, ConsentTable, Looks, table
from rocade.services.vehicles import api
from rocade.services.vehicles.changes import Changes
from rocade.services.vehicles.twin import SLOT, Row, TwinStore, pack, upsert_many
from rocade.trust.authority.gate import Gate
from rocade.trust.authority.gate.acts import READ_TWIN
from rocade.trust.authority.machines import Clients, Place, Tokens
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.identity.directory import load_leaf

REF, OWNER = 77, "person:00000000000000aa"
NAMES = catalogue.standard()
SPEED = int(NAMES.by_name("Vehicle.Speed").id)
CHARGE = int(NAMES.by_name("Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed").id)


class Road:
    """A vehicle that moves each time it is told to, its owner's consents, and a partner who listens."""

    def __init__(
        self,
        stand: Stand,
        database: Database,
        consents: Consents,
        rights: ConsentTable,
        looks: Looks,
        clock: TurnedClock,
    ) -> None:
        self.stand = stand
        self.looks = looks
        self.consents = consents
        self.clock = clock
        self._rights = rights
        self._database = database
        self._count = 0

    async def grant(self, *classes: str, for_us: int = FOREVER_US // 2) -> str:
        """Let the partner see these classes; the consent's id, once every process knows of it."""
        until_us = self.clock.now_us() + for_us
        made = await self.consents.grant(REF, OWNER, "partner:acme", "insurance", mask(classes), until_us=until_us)
        await self.shows(made.classes)
        return made.id

    async def shows(self, classes: int) -> None:
        """Wait until the table lets the partner see these classes."""
        async with asyncio.timeout(30):
            while self._rights.mask(REF, "partner:acme", "insurance", self.clock.now_us()) != classes:
                await asyncio.sleep(0.02)

    async def move(self) -> None:
        now_us = CLOCK.now_us()
        slots = np.zeros(2, SLOT)
        self._count += 1
        slots["signal"], slots["time_us"], slots["changed_us"], slots["value"] = (
            (SPEED, CHARGE),
            now_us,
            now_us,
            self._count,
        )
        row = Row(REF, now_us, 0, 48.1, 2.3, 50.0, pack(slots, ()))
        async with self._database.pool.acquire() as connection:
            await upsert_many(connection, [row], keyring_of(self._database))


@get("/ticking/{ref:int}", opt=does(READ_TWIN))
async def ticking(request: AnyRequest) -> Stream:
    """A stream about the vehicle its path names."""

    async def frames() -> AsyncIterator[bytes]:
        for _ in range(30):
            await asyncio.sleep(0.1)
            yield streams.event("tick", b"{}")

    return streams.events(request, frames())


@pytest.fixture
async def road(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Road]:
    monkeypatch.setattr(table, "STALE_S", 120)  # a machine that stalls is not a database that is away
    stand, clock = Stand(tmp_path), TurnedClock()
    await Clients(database, stand.audit, CLOCK, PURPOSES).put(
        stand.region.identity("partner", "acme"), ["insurance"], "test"
    )
    place = Place("test.rocade", "eu", "https://localhost:8443")
    tokens = await Tokens.open(database, tmp_path / "tokens", place, stand.audit, CLOCK, SystemRandom())
    consents = Consents(database, stand.audit, CLOCK, SystemRandom())
    await consents.own(REF, OWNER)
    rights = await ConsentTable.open(database, clock)
    looks = Looks(database, stand.audit, CLOCK)
    access = Access(
        stand._verify, stand.revoked.__contains__, Gate("eu", rights), stand.audit, clock, tokens=tokens, looks=looks
    )
    twins = TwinStore(database)
    given = {"tokens": tokens, "twins": twins, "changes": Changes(twins), "catalogue": NAMES, "audit": stand.audit}
    stand.app = build([*oauth.HANDLERS, api.stream, ticking], {**given, "clock": clock}, access, version="0")
    made = Road(stand, database, consents, rights, looks, clock)
    await made.move()
    yield made
    await looks.close()
    await rights.close()
    await tokens.close()


async def listen(client: httpx.AsyncClient) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The events of one stream as they come."""
    token = (await client.post("/oauth/token", data=GRANT)).json()["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    parameters = {"ref": str(REF), "purpose": "insurance"}
    async with client.stream("GET", "/v1/stream", params=parameters, headers=headers, timeout=30) as answer:
        assert answer.status_code == 200, await answer.aread()
        name = ""
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                yield name, json.loads(line[6:])


def names(twin: dict[str, Any]) -> set[str]:
    return {signal["name"].rpartition(".")[2] for signal in twin["signals"]}


async def test_a_withdrawal_ends_the_stream_at_once_and_no_value_follows(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    for interval in ("POLL_S", "STALE_S"):  # nobody asks the database: it is pushed, or never heard of
        monkeypatch.setattr(table, interval, 3_600)
    grant = await road.grant("driving", "energy")
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        heard = listen(client)
        name, twin = await anext(heard)
        assert (name, names(twin)) == ("twin", {"Speed", "Displayed"})
        await asyncio.sleep(1.1)  # the poll under way has ended
        await road.consents.withdraw(REF, OWNER, grant)
        await road.shows(0)
        await road.move()
        assert await anext(heard) == ("ended", {"ref": str(REF), "code": "gate.denied"})
        assert [event async for event in heard] == []


async def test_what_is_narrowed_is_missing_from_the_next_value_on(road: Road) -> None:
    grant = await road.grant("driving", "energy")
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        heard = listen(client)
        assert names((await anext(heard))[1]) == {"Speed", "Displayed"}
        await road.consents.narrow(REF, OWNER, grant, mask(["energy"]))
        await road.shows(mask(["energy"]))
        await road.move()
        assert names((await anext(heard))[1]) == {"Displayed"}


async def test_a_revoked_certificate_ends_its_streams(road: Road) -> None:
    await road.grant("energy")
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        heard = listen(client)
        await anext(heard)
        road.stand.revoked.add(load_leaf(acme).serial_number)
        name, why = await anext(heard)
        assert (name, why["code"]) == ("ended", "trust.certificate.revoked")
        assert [event async for event in heard] == []


async def test_without_consent_no_stream_begins(road: Road) -> None:
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        token = (await client.post("/oauth/token", data=GRANT)).json()["access_token"]
        answer = await client.get(f"/v1/stream?ref={REF}", headers={"authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (403, "gate.denied")


async def test_a_consent_that_runs_out_ends_the_stream_though_nobody_does_anything(road: Road) -> None:
    await road.grant("driving", for_us=60_000_000)
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        heard = listen(client)
        assert (await anext(heard))[0] == "twin"
        road.clock.ahead_us += 60_000_000
        assert await anext(heard) == ("ended", {"ref": str(REF), "code": "gate.denied"})
        assert [event async for event in heard] == []


async def test_every_value_on_a_stream_is_a_look_the_owner_sees(road: Road) -> None:
    grant = await road.grant("driving", "energy")
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        heard = listen(client)
        for _ in range(3):
            await anext(heard)
            await road.move()
    await road.looks.settled()
    found = (await road.looks.of(REF)).looks
    assert sum(look.times for look in found) >= 4, "opening it, and each of three values"
    assert {(look.recipient, look.purpose, look.grant, look.classes) for look in found} == {
        ("partner:acme", "insurance", grant, mask(["driving", "energy"]))
    }


async def test_a_stream_that_stays_open_is_a_look_again_each_minute(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    await road.grant("driving")
    monkeypatch.setattr(streams, "NOTED_EVERY_S", 0.5)
    acme = road.stand.identity("partner", "acme")
    async with road.stand.serve() as (_, address), road.stand.client(address, acme) as client:
        token = (await client.post("/oauth/token", data=GRANT)).json()["access_token"]
        asked = {"params": {"purpose": "insurance"}, "headers": {"authorization": f"Bearer {token}"}}
        begun_s = time.monotonic()
        answer = await client.get(f"/ticking/{REF}", timeout=60, **asked)
        took_s = time.monotonic() - begun_s
        assert answer.text.count("event: tick") == 30
    await road.looks.settled()
    times = sum(look.times for look in (await road.looks.of(REF)).looks)
    assert 2 <= times <= 1 + took_s / streams.RECHECK_S
