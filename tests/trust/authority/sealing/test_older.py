"""A region from before its columns were sealed: rows as they were written then, sealed once, found as ever."""

from __future__ import annotations

import struct
from pathlib import Path

import asyncpg
import msgspec
from tests.notebook import Notebook

from rocade.app.sealing import OLDER
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.battery import Point
from rocade.services.battery import store as battery
from rocade.services.charging import Departure, Goal, ledger
from rocade.services.charging import store as charging
from rocade.services.charging.stations import Connector, Stations, Tags
from rocade.services.vehicles import Registry, Wanted
from rocade.trust.authority.papers import Papers
from rocade.trust.authority.people import People
from rocade.trust.authority.sealing import keyring_of
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.authority.sealing.older import seal_older

WH, POINT = 7_318_461.0625, Point(3, 91.5, 90.0, 93.0, 52.75, 12)
VIN, NAME, LABEL = "VF3ABCDEFGG123456", "Ottilie Quarrington", "Mme Quarrington"
URI = f"spiffe://rocade.test/eu/vehicle/{VIN}"
DAY_US = 86_400_000_000


async def write_as_before(connection: asyncpg.Connection, now_us: int) -> None:
    """What an older version wrote."""
    vehicle = "ref, id, kind, brand, model, powertrain, region, hardware, added_us, changed_us"
    await connection.execute(
        f"INSERT INTO vehicle ({vehicle}) VALUES (11, $1, 'car', 'peugeot', '208', 'petrol', 'eu', '', 1, 1)", VIN
    )
    await connection.execute(
        "INSERT INTO person (id, name, organisation, language, added_us) VALUES (5, $1, '', 'en', 1)", NAME
    )
    await connection.execute(
        "INSERT INTO person (id, name, organisation, language, added_us, ended_us) VALUES (6, '', '', 'en', 1, 2)"
    )
    await connection.execute(
        "INSERT INTO passkey (number, credential_id, person, public_key, sign_count, name, is_synced, added_us)"
        " VALUES (3, 'c', 5, 'k', 0, $1, false, 1)", f"{NAME}'s phone",
    )  # fmt: skip
    await connection.execute("INSERT INTO person_account VALUES ('https://id.example', 'ottilie@example.org', 5, 1)")
    await connection.execute(
        "INSERT INTO certificate (serial, identity, purpose, issuer_key_id, key_id, not_before_us, not_after_us, issued_us)"
        " VALUES (decode(lpad('9', 40, '0'), 'hex'), $1, 'operational', 'k', 'k', $2, $3, $2)",
        URI, now_us - DAY_US, now_us + 50 * DAY_US,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO claim_code (code_hash, identity, made_us, expires_us) VALUES ('h', $1, 1, 2)", URI
    )
    goal = Goal(11, 80.0, Departure("calendar", calendar=NAME), version=4)
    await connection.execute("INSERT INTO charging_goal VALUES (11, 4, $1, false, 1)", msgspec.msgpack.encode(goal))
    await connection.execute(
        "INSERT INTO station_tag (digest, reference, label, made_us) VALUES ('d', '0a1b', $1, 1)", LABEL
    )
    await connection.execute(
        "INSERT INTO station_transaction (number, station, reference, evse, connector, vehicle, began_us, began_wh, ended_us, ended_wh,"
        " reason, last_us, last_wh, last_w, last_soc, changed_us) OVERRIDING SYSTEM VALUE VALUES"
        " (7, 'CP-1', $1, 1, 1, 11, 1, $2, 9, 7, 'Local', 5, 6, 400, 50, 9), (8, 'CP-1', 'own', 1, 1, NULL, 2, $2, NULL, NULL, '', 2, NULL,"
        " NULL, NULL, 9)", f"1/2026-11-01T00:00:00Z/{WH:.0f}", WH,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO station_meter (station, evse, at_us, digest, transaction, energy_wh, power_w, current_a, context, other) VALUES"
        " ('CP-1', 1, 3, 1, 7, $1, 400, '{1.5,2.5}', 'Sample.Periodic', '{\"Temperature\": 31}'), ('CP-1', 1, 4, 2, 0, $1, NULL, NULL, '', NULL)", WH,
    )  # fmt: skip
    await connection.execute(
        "INSERT INTO charging_session (id, ref, began_us, ended_us, site, station, energy_kwh, cost_minor, currency, tariff, soc_end)"
        " VALUES ('cs-1', 11, 1, 9, 'nord', 'CP-1/1/1', $1, 812, 'EUR', 'night', 80)", WH,
    )  # fmt: skip
    await connection.execute("INSERT INTO battery_point VALUES (11, 3, $1)", msgspec.msgpack.encode(POINT))
    await connection.execute(
        "INSERT INTO exchange_refused (at_us, party, tail, code, reason, id, sha, body) VALUES (9, 'dealer/x', '', 'c', '', '', 's', $1)",
        VIN.encode(),
    )


async def everything(connection: asyncpg.Connection) -> bytes:
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    for (table,) in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        await connection.copy_from_query(f'SELECT * FROM "{table}"', output=take, format="binary")
    return b"".join(parts)


async def test_older_rows_are_sealed_once_and_found_as_before(database: Database, tmp_path: Path) -> None:
    clock = SystemClock()
    async with database.pool.acquire() as connection:
        await write_as_before(connection, clock.now_us())
        before = await everything(connection)
        assert all(struct.pack(">d", number) in before for number in (WH, POINT.percent))
        assert all(text.encode() in before for text in (VIN, NAME, LABEL, "ottilie@example.org"))
        assert await seal_older(database, OLDER, 1) == 17
        assert await seal_older(database, OLDER, 1) == 0
        after = await everything(connection)
    assert not [text for text in (VIN, NAME, LABEL, "ottilie@example.org", "Quarrington") if text.encode() in after]

    assert not [number for number in (WH, POINT.percent) if struct.pack(">d", number) in after]
    assert f"{WH:.0f}".encode() not in after

    registry = Registry(database, SystemRandom(), clock)
    assert (await registry.resolve(VIN)).ref == 11
    assert [one.id for one in (await registry.find(Wanted(words=("123456",)))).vehicles] == [VIN]
    people = People(database, Notebook(), clock, SystemRandom())
    assert [one.name for one in await people.find("quarr")] == [NAME]
    assert [one.name for one in await people.list()] == [NAME, ""]
    [passkey] = await people.passkeys.list((await people.find("ott"))[0].id)
    assert passkey.name == f"{NAME}'s phone"
    papers = Papers(database, clock)
    assert [one.identity for one in (await papers.certificates("live", find="3456")).papers] == [URI]
    assert [one.identity for one in await papers.codes()] == [URI]
    async with database.pool.acquire() as connection:
        goals = await charging.goals(connection, Columns(database), [11])
        [session] = await ledger.site_sessions(connection, Columns(database), "nord", 0, 10)
        assert await battery.points(connection, Columns(database), 11) == [POINT]
    assert goals[11].departure.calendar == NAME
    assert (session.ref, session.station, session.energy_kwh, session.cost_minor, session.soc_end) == (
        11,
        "CP-1/1/1",
        WH,
        812,
        80,
    )
    stations = Stations(database, Tags(tmp_path / "stations.key", SystemRandom()), Notebook(), clock, SystemRandom())
    nobodys, own = await stations.transactions("CP-1")
    assert (own.vehicle, own.began_wh, own.ended_wh, own.last_w, own.last_soc, own.reason) == (
        11,
        WH,
        7,
        400,
        50,
        "Local",
    )
    assert (nobodys.vehicle, nobodys.began_wh, nobodys.reference) == (None, WH, "own")
    first, second = await stations.meter(Connector("CP-1", 1), 0, 10)
    assert (first.energy_wh, first.power_w, first.current_a, first.other) == (WH, 400, (1.5, 2.5), {"Temperature": 31})
    assert (second.energy_wh, second.power_w, second.context) == (WH, None, "")
    async with database.pool.acquire() as connection, connection.transaction():
        await keyring_of(database).destroy(connection, [11])
    assert [one.energy_wh for one in await stations.meter(Connector("CP-1", 1), 0, 10)] == [WH], (
        "the car's own went with its key"
    )
