"""The hosting partner: with root on database, log, blobs and configuration, but without key custody, nobody finds a vehicle
number, a name, a position, or what a car was charged with and what that cost.

A whole region runs. Two cars with numbers are enrolled and drive; people with names get links, passkeys with names, a
calendar with a doctor's appointment; stations get labelled tags; a car charges at one; one car is revoked; a backup is made. Then every byte under
the region's folder, but for custody and people's own key files, every byte of the backup and every value of every table is
searched for all of it in every form it could stand in. The same search finds each form where it is planted, and
finds them all when the seal is taken out of the program.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
import pytest
from tests.app import forked
from tests.app.stand import PLACED, Region
from tests.notebook import Notebook
from tests.scenarios.disk_search import Search, forms_of_amounts, forms_of_text, forms_of_track
from tests.trust.authority.people.authenticator import Authenticator

from rocade.app.custodies import hang_keyring
from rocade.core.identifiers import VehicleRef
from rocade.core.ports import SystemClock, SystemRandom
from rocade.doors.ocpp.contract import Asked
from rocade.fabric.database import Database, EmbeddedPostgres
from rocade.services.battery import Point, Segment
from rocade.services.battery import store as battery
from rocade.services.charging import Departure, Goal, Session
from rocade.services.charging import ledger as sessions
from rocade.services.charging import store as charging
from rocade.services.charging.stations import Station, StationIntake, Stations, Tags
from rocade.services.charging.stations import sealing as station_sealing
from rocade.services.charging.stations import store as stations
from rocade.services.charging.stations.intake import Context
from rocade.services.charging.stations.model import Tag
from rocade.services.vehicles import Registry, twin
from rocade.services.vehicles.sessions import GatewaySessions
from rocade.trust.authority import Authority, create_region
from rocade.trust.authority.people import People
from rocade.trust.authority.people import store as people_store
from rocade.trust.authority.people.model import Passkey, person_id, person_number
from rocade.trust.authority.sealing import columns, keyring_of, seals
from rocade.trust.authority.sealing.columns import Columns
from rocade.trust.identity.tls import client_context

VINS = ("VF1HSTNX0A9731846", "VR3HSTNAX5T284159")
NAMES = ("Ottilie Quarrington", "Bartholomäus Zwickelstorf", "欧阳泽宇")
WORDS = (*VINS, "731846", "284159", *NAMES, "Ottilie", "Quarrington", "Bartholom", "Zwickelstorf", "Quarringtons Telefon",
         "Praxis Weidenfeller", "Hollerbuschgasse 17", "Karte Zwickelstorf")  # fmt: skip
TRACK = [(47.1839127 + at * 0.0131071, 9.4317259 + at * 0.0057193) for at in range(24)]
CALENDAR = """BEGIN:VCALENDAR
VERSION:2.0
BEGIN:VEVENT
UID:1
DTSTART:{at}
SUMMARY:Praxis Weidenfeller
LOCATION:Hollerbuschgasse 17
END:VEVENT
END:VCALENDAR
"""
AMOUNTS = {
    "register": 6_284_917.0625, "register at the end": 6_308_398.8125, "power": 7_391.515625, "current of L1": 15.7265625,
    "current of L2": 14.9140625, "charge": 61.26953125, "energy": 23.48193359375, "cost": 734_193_817.0, "CO2": 912_837_465.0,
    "health": 91.384765625, "capacity": 48.7265625,
}  # fmt: skip
"""What is measured at a plug, what that cost, how worn a battery is."""
CHARGED = 4711
FORMS = (
    {f"{word}: {name}": form for word in WORDS for name, form in forms_of_text(word).items()}
    | {f"position {name}": form for name, form in forms_of_track(TRACK).items()}
    | forms_of_amounts(AMOUNTS)
)


def drive(region: Region, folder: Path, vin: str) -> None:
    """Enrol a car and let it send its way; short batches stand in the log as they are, long ones compressed."""
    identity = region.enrol(vin, folder / vin, "--brand", "renault", "--model", "Zoe")
    begin = datetime.now(UTC) - timedelta(seconds=len(TRACK))
    lines = ["time,speed,charge,lat,lon"]
    for at, (latitude, longitude) in enumerate(TRACK):
        time = (begin + timedelta(seconds=at)).isoformat()
        lines.append(f"{time},{40 + at % 7},{60 - at / 100:.2f},{latitude:.7f},{longitude:.7f}")
    (folder / f"{vin}.csv").write_text("\n".join(lines) + "\n")
    (folder / "car.toml").write_text(PLACED)
    region.rocade("replay", folder / f"{vin}.csv", "--identity", identity, "--mapping", folder / "car.toml")


def person(region: Region, name: str, passkey: str) -> None:
    """Somebody comes by a one-time link, registers a passkey under a name of his own, and signs in with it."""
    address = f"http://localhost:{region.configuration.http.pages_port}"
    _, link = region.rocade("person", "add", name).split()
    held = Authenticator(address, name.encode())
    with httpx.Client(base_url=address, headers={"origin": address}, trust_env=False, timeout=60) as browser:
        secret = link.rpartition("/")[2]
        _done(browser.post("/v1/signin/link", json={"secret": secret}))
        options = _done(browser.post("/v1/account/passkeys/options", json={})).json()
        _done(browser.post("/v1/account/passkeys", json={"credential": held.create(options), "name": passkey}))
        options = _done(browser.post("/v1/signin/options", json={})).json()
        _done(browser.post("/v1/signin", json={"credential": held.get(options)}))


def _done(answer: httpx.Response) -> httpx.Response:
    assert answer.is_success, answer.text
    return answer


def live(region: Region, folder: Path) -> None:
    """What a region sees of its people and cars in a day."""
    for vin in VINS:
        drive(region, folder, vin)
    for name in NAMES:
        person(region, name, f"{name.split()[-1]}s Telefon")
    region.settled()
    configuration = region.configuration
    address, tls = f"https://localhost:{configuration.http.api_port}", client_context(configuration.operator)
    with httpx.Client(base_url=address, verify=tls, trust_env=False, timeout=60) as api:
        ref = _done(api.get(f"/v1/vehicles/by-id/{VINS[0]}")).json()["ref"]
        assert _done(api.get("/v1/vehicles", params={"id": VINS[1]})).json()["items"][0]["id"] == VINS[1]
        twin = _done(api.get(f"/v1/vehicles/{ref}/twin")).json()
        assert f"{TRACK[-1][0]:.5f}"[:-1] in str(twin), "the last position arrived"
        soon = datetime.now(UTC) + timedelta(hours=9)
        departure = {"kind": "calendar", "zone": "UTC", "calendar": CALENDAR.format(at=f"{soon:%Y%m%dT%H%M%SZ}")}
        goal = {"target_percent": 80, "departure": departure}
        _done(api.put(f"/v1/vehicles/{ref}/charging", json=goal))
        _done(api.post("/v1/station-tags", json={"tag": "04A1B2C3D4", "label": "Karte Zwickelstorf"}))
        found = _done(api.get("/v1/people/found", params={"name": "quarri"})).json()
        assert [one["name"] for one in found] == [NAMES[0]]
        late = _done(api.get("/v1/certificates", params={"state": "live", "find": VINS[0][-6:]})).json()
        assert {one["id"] for one in late["items"]} == {VINS[0]}
    region.rocade("revoke", "--kind", "vehicle", "--id", VINS[1], "--reason", "sold")


async def charge_in(database: Database, folder: Path, ref: int) -> None:
    """A car charges at a station; its session is reckoned, its battery judged."""
    clock, random = SystemClock(), SystemRandom()
    tags = Tags(folder / "stations.key", random)
    at_stations = Stations(database, tags, Notebook(), clock, random)  # type: ignore[arg-type]
    intake = StationIntake(database, tags, Notebook(), clock, "test")  # type: ignore[arg-type]
    station = Station(id="CP-1", is_open=True)
    context = Context(station, "1.6", 1, 0, 0)

    async def say(action: str, **payload: object) -> dict[str, Any]:
        asked = Asked(context=context, version="1.6", action=action, payload=payload, arrived_us=clock.now_us())
        return dict((await intake.accept([asked]))[0])  # type: ignore[call-overload]

    await at_stations.put_tag("CAR-TAG", "test", vehicle=VehicleRef(ref))
    begun = await say(
        "StartTransaction",
        connectorId=1,
        idTag="CAR-TAG",
        meterStart=AMOUNTS["register"],
        timestamp="2026-11-01T10:00:00Z",
    )
    values = [
        {"value": str(AMOUNTS["register"])}, {"value": str(AMOUNTS["power"]), "measurand": "Power.Active.Import", "unit": "W"},
        {"value": str(AMOUNTS["charge"]), "measurand": "SoC"},
        *({"value": str(AMOUNTS[f"current of {phase}"]), "measurand": "Current.Import", "phase": phase} for phase in ("L1", "L2")),
    ]  # fmt: skip
    sample = {"timestamp": "2026-11-01T10:05:00Z", "sampledValue": values}
    number = begun["transactionId"]
    await say("MeterValues", connectorId=1, transactionId=number, meterValue=[sample])
    await say(
        "StopTransaction",
        transactionId=number,
        meterStop=AMOUNTS["register at the end"],
        timestamp="2026-11-01T11:00:00Z",
    )
    found = await at_stations.transaction(number)
    assert found is not None
    assert (found.vehicle, found.last_w, found.ended_wh) == (ref, AMOUNTS["power"], AMOUNTS["register at the end"])
    sealing, at_us = Columns(database), clock.now_us()
    session = Session(
        f"cs-{number}", ref, at_us - 1, at_us, station="CP-1/1/1", energy_kwh=AMOUNTS["energy"], cost_minor=int(AMOUNTS["cost"]),
        co2_g=int(AMOUNTS["CO2"]), soc_end=AMOUNTS["charge"],
    )  # fmt: skip
    async with database.pool.acquire() as connection:
        await sessions.put_session(connection, sealing, session, at_us)
        points = [Point(at_us, AMOUNTS["health"], 90.0, 93.0, AMOUNTS["capacity"], 12)]
        await battery.put_points(connection, sealing, ref, points)
        segment = Segment("charge", at_us, at_us + 1, 10.0, AMOUNTS["charge"], AMOUNTS["energy"])
        await battery.replace_segments(connection, sealing, ref, at_us, [segment])


async def charge_in_region(region: Region, folder: Path, url: str) -> None:
    database = await Database.connect(url, max_connections=4)
    keyring = await hang_keyring(region.configuration, database, SystemClock())
    try:
        await charge_in(database, folder, CHARGED)
    finally:
        await keyring.close()
        await database.close()


async def tables(url: str) -> dict[str, bytes]:
    """Every value of every table as its owner reads it: values that PostgreSQL keeps compressed too."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CHECKPOINT")
        names = [
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
        kept = {name: await _copy(connection, name, "binary") for name in names}
        return {**kept, "pg_stats": await _copy(connection, "pg_stats", "text")}
    finally:
        await connection.close()


async def _copy(connection: asyncpg.Connection, name: str, form: str) -> bytes:
    parts: list[bytes] = []

    async def take(data: bytes) -> None:
        parts.append(data)

    await connection.copy_from_query(f'SELECT * FROM "{name}"', output=take, format=form)
    return b"".join(parts)


def found_in(region: Region, folder: Path) -> dict[str, set[str]]:
    """Where on disk and in which table something was found."""
    search = Search(FORMS)
    with region.serving():
        live(region, folder)
        url = EmbeddedPostgres.url_of_running(region.directory / "postgres")
        assert url is not None
        asyncio.run(charge_in_region(region, folder, url))
        region.rocade("backup", folder / "backup", "--keys-to", folder / "backup-keys")
        kept = asyncio.run(tables(url))
    found = {f"table {name}": hits for name, body in kept.items() if (hits := search.bytes(body))}
    own = [region.directory / "custody", region.directory / "operator"]
    found |= search.folder(region.directory, own)
    for kept in ("backup", "backup-keys"):
        assert list((folder / kept).rglob("*")), "there is no backup to be searched"
        found |= {f"{kept}/{name}": hits for name, hits in search.folder(folder / kept).items()}
    if hits := search.bytes((folder / "serve.log").read_bytes()):
        found["serve.log"] = hits
    found |= {f"history/{name}": {"columns that can be read"} for name in clear_columns(region.directory / "history")}
    assert search.searched_bytes > 50 << 20, "the database's files were not searched"
    return found


def clear_columns(history: Path) -> list[str]:
    """Files of columns, or of their marks, that the encrypted disk has not written: coded values would not be found by searching."""
    files = [file for file in history.rglob("*") if file.suffix in {".bin", ".mrk2", ".cmrk2", ".mrk3", ".cmrk3"}]
    sealed = [file for file in (history / "sealed").rglob("*") if file.is_file()]
    assert sealed, "the history has no encrypted files"
    return [str(one.relative_to(history)) for one in (*files, *sealed) if one.read_bytes()[:3] not in {b"ENC", b""}]


def told(found: dict[str, set[str]]) -> str:
    return "\n".join(f"{place}: {len(hits)}, as {sorted(hits)[:3]}" for place, hits in found.items())


UNSEALED = """
import sys
from rocade.trust.authority.sealing import seals
import rocade.app.sealing
for module in list(sys.modules.values()):
    for name, broken in (
        ("seal", lambda key, plain, aad: seals.FORMAT + bytes(28) + plain),
        ("seal_many", lambda records: [seals.FORMAT + bytes(28) + plain for _, plain, _ in records]),
        ("open_sealed", lambda key, sealed, aad: bytes(sealed[29:])),
    ):
        if module is not seals and getattr(module, name, None) is getattr(seals, name):
            setattr(module, name, broken)
"""


@contextmanager
def without_seals(folder: Path) -> Iterator[None]:
    """Programs started inside seal with nothing: what sealing keeps from the disk lies on it."""
    (folder / "sitecustomize.py").write_text(UNSEALED)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = ":".join([str(folder), *([before] if before else [])])
    forked.anew()
    try:
        yield
    finally:
        forked.anew()
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_has_every_disk_but_not_the_keys_finds_no_number_no_name_and_no_position(tmp_path: Path) -> None:
    region = Region(tmp_path / "eu")
    region.init()
    found = found_in(region, tmp_path)
    assert not found, told(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_same_search_finds_them_all_when_nothing_is_sealed(tmp_path: Path) -> None:
    with without_seals(tmp_path):
        region = Region(tmp_path / "eu")
        region.init()
        found = found_in(region, tmp_path)
    everything = " ".join(hit for hits in found.values() for hit in hits)
    missing = [word for word in (*VINS, *NAMES, "Praxis Weidenfeller", "Karte Zwickelstorf") if word not in everything]
    assert not missing, told(found)
    assert "position " in everything, told(found)


# --- the same in small: one database, no region ---------------------------------------------------------------------


async def live_in(database: Database, folder: Path) -> None:
    """Vehicles, people and what they want, straight into the stores."""
    clock, random = SystemClock(), SystemRandom()
    region = create_region(folder / "trust", "eu", "rocade.test", clock, random)
    authority = Authority(region, database, Notebook(), clock, random)
    cars = [region.identity("vehicle", vin) for vin in VINS]
    await authority.provision(cars, "test")
    await authority.claim(cars[0], "test")
    registry = Registry(database, random, clock)
    refs = [int((await registry.add(vin, "car", "renault", "Zoe", "electric", "eu")).ref) for vin in VINS]
    await GatewaySessions(database, random).claim(VINS[0])
    people, sealing = People(database, Notebook(), clock, random), Columns(database)
    persons = [person_number((await people.add(name)).id) for name in NAMES]
    body = twin.pack(np.zeros(0, twin.SLOT), ())
    goal = Goal(refs[0], 80.0, Departure("calendar", calendar=CALENDAR))
    tag = Tag(reference="0a1b", label="Karte Zwickelstorf")
    async with database.pool.acquire() as connection:
        for at, number in enumerate(persons):
            passkey = Passkey(
                at + 1, b"%d" % at, person_id(number), b"k", 0, "Quarringtons Telefon", False, 1, None, None
            )
            await people_store.add_passkey(connection, sealing, passkey)
        rows = [twin.Row(ref, 1, 0, *TRACK[at], 30.0, body) for at, ref in enumerate(refs)]
        await twin.upsert_many(connection, rows, keyring_of(database))
        await charging.put_goal(connection, sealing, goal)
        await stations.put_tag(connection, sealing, b"digest", tag, 1)
    await charge_in(database, folder, CHARGED)
    assert (await registry.resolve(VINS[1])).ref == refs[1]
    assert [one.name for one in await people.find("quarr")] == [NAMES[0]]


WRITTEN = "SELECT file_name AS name, file_offset AS at FROM pg_walfile_name_offset(pg_current_wal_insert_lsn())"


async def found_in_database(database: Database, folder: Path) -> dict[str, set[str]]:
    """In its tables, its own files and the write-ahead log of this while."""
    pool, search = database.pool, Search(FORMS)
    begun = await pool.fetchrow(WRITTEN)
    await live_in(database, folder)
    found = {
        f"table {name}": hits for name, body in (await tables(database.url)).items() if (hits := search.bytes(body))
    }
    ended = await pool.fetchrow(WRITTEN)
    data = Path(await pool.fetchval("SHOW data_directory"))
    number = await pool.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    segments = sorted(file for file in (data / "pg_wal").iterdir() if begun["name"] <= file.name <= ended["name"])
    written = b"".join(file.read_bytes()[: ended["at"] if file.name == ended["name"] else None] for file in segments)
    parts = {"pg_wal": written[begun["at"] :]}  # what stands before is of other tests
    for file in (data / f"base/{number}").iterdir():
        with suppress(FileNotFoundError):  # the server replaces some while it runs
            parts[str(file.relative_to(data))] = file.read_bytes()
    return found | {name: hits for name, content in parts.items() if (hits := search.bytes(content))}


async def test_rows_of_vehicles_and_people_show_nothing_in_the_databases_own_files(
    database: Database, tmp_path: Path
) -> None:
    found = await found_in_database(database, tmp_path)
    assert not found, told(found)


async def test_the_search_of_the_database_finds_them_without_seals(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(station_sealing, "seal", lambda _key, plain, _aad: seals.FORMAT + bytes(28) + plain)
    monkeypatch.setattr(
        columns, "seal_many", lambda records: [seals.FORMAT + bytes(28) + plain for _, plain, _ in records]
    )
    for module in (columns, station_sealing):
        monkeypatch.setattr(module, "open_sealed", lambda _key, sealed, _aad: bytes(sealed[29:]))
    found = await found_in_database(database, tmp_path)
    for what in (*VINS, *NAMES, "Quarringtons Telefon", "Praxis Weidenfeller", "Karte Zwickelstorf"):
        places = [place for place, hits in found.items() if any(hit.startswith(f"{what}:") for hit in hits)]
        assert {place.partition("/")[0].partition(" ")[0] for place in places} == {"table", "base", "pg_wal"}, what
    unseen = [
        what for what in AMOUNTS if not any(hit.startswith(f"{what}:") for hits in found.values() for hit in hits)
    ]
    assert not unseen, "the search would not have found these"


def test_every_form_is_found_where_it_is_planted(tmp_path: Path) -> None:
    search = Search(FORMS)
    noise = os.urandom(1 << 20)
    assert not search.bytes(noise), "a form occurs by chance"
    for at, (name, form) in enumerate(FORMS.items()):
        place = (at * 7919) % 4000
        assert name in search.bytes(noise[:place] + form + noise[place:4096]), name


def test_what_is_compressed_is_found_and_names_of_files_too(tmp_path: Path) -> None:
    import zstandard

    (tmp_path / "heap").write_bytes(os.urandom(999) + zstandard.compress(b"{" + VINS[0].encode() * 9 + b"}") + b"rest")
    (tmp_path / f"{VINS[1]}.log").write_bytes(b"")
    found = Search(FORMS).folder(tmp_path)
    assert any("compressed" in hit for hit in found["heap"])
    assert f"{VINS[1]}: utf-8" in found[f"{VINS[1]}.log"]
