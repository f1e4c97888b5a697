"""Why, asked by everybody about everything: who is told is who may read the thing itself, and nobody else; over real HTTP."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import load_pem_x509_certificate
from tests.hostile import crossroads
from tests.hostile.crossroads import Crossroads, Role

from rocade.core import catalogue
from rocade.core.identifiers import Identity
from rocade.core.why import LANGUAGES
from rocade.fabric.history.process import StoreProcess
from rocade.services.telemetry.gaps import Numbers
from rocade.services.telemetry.model import BATCH, Held

OWNERS = {"owner", "owner by link"}
KEEPERS = {"security", "security by link", "command line"}
ANY_DUTY = {"support", "security", "security by link", "release", "command line"}
RECIPIENTS = {"driver", "partner", "dealer's employee"}
ALL = {
    "nobody", "owner", "owner by link", "other owner", "former owner", "driver", "ended driver", "dealer's employee", "support",
    "security", "security by link", "release", "command line", "partner", "partner, certificate alone",
    "dealer without consent", "monitor", "dealer's manager", "dealer's manager by link", "dealer's seller", "point of sale",
    "provider",
}  # fmt: skip
TOLD = {
    "code": ALL,
    "act": ALL,
    "policy": ALL,
    "flag of energy, owned": OWNERS | RECIPIENTS,
    "flag of driving, owned": OWNERS,
    "flag of driving, fleet": ANY_DUTY,
    "flag of driving, sold": {"former owner"},
    "gap, owned": OWNERS | RECIPIENTS | {"support", "command line"},
    "gap, fleet": ANY_DUTY,
    "quarantine, owned": OWNERS | {"support", "command line"},
    "certificate of a vehicle": KEEPERS,
    "claim code": {"support", "command line"},
    "grant": OWNERS | {"partner", "partner, certificate alone"},
    "guest": OWNERS | {"driver"},
    "look of the partner": OWNERS | {"partner", "partner, certificate alone"},
    "vehicle, owned": OWNERS,
    "vehicle, sold": {"former owner"},
    "vehicle, fleet": ANY_DUTY,
    "entry about a look": OWNERS | KEEPERS | {"partner", "partner, certificate alone"},
    "refusal of the other owner": KEEPERS | {"other owner"},
    "refusal of nobody": KEEPERS | {"nobody"},
    "refusal of the partner": KEEPERS | {"partner", "partner, certificate alone"},
}
"""Whom each is told, by role; everybody else hears what he would hear of an id that does not exist."""


@pytest.fixture(scope="module")
def road(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossroads]:
    database_url = crossroads.new_database(postgres_url, "crossroads_why")
    with tempfile.TemporaryDirectory(prefix="rocade-xw-") as place:
        history = StoreProcess(Path(place))
        try:
            with Crossroads(tmp_path_factory.mktemp("why"), database_url, history.start()) as region:
                yield region
        finally:
            history.stop()


@pytest.fixture(scope="module")
def ids(road: Crossroads) -> dict[str, str]:
    """One id of every kind, made by really doing what it is about."""
    made = {
        "code": "gate.denied",
        "act": "act:vehicle.twin.read",
        "policy": "policy:owner",
        "guest": road.guests["driver"],
    }
    made |= {f"vehicle, {name}": f"vehicle:{road.vehicles[name]}" for name in ("owned", "sold", "fleet")}
    twin = f"/v1/vehicles/{road.vehicles['owned']}/twin"
    assert road.roles["partner"].client.get(twin, params={"purpose": "insurance"}).status_code == 200
    for name, role in (("other owner", "other owner"), ("nobody", "nobody")):
        made[f"refusal of {'the ' if name != 'nobody' else ''}{name}"] = refusal(road.roles[role], twin)
    made["refusal of the partner"] = refusal(road.roles["partner"], f"/v1/vehicles/{road.vehicles['others']}/trips")
    return made | road.call(_things(road))


def refusal(role: Role, path: str) -> str:
    """What the problem document says should be asked."""
    answer = role.client.get(path)
    assert answer.status_code in {401, 403, 404}
    id = str(answer.json()["why"]).removeprefix("/v1/why/")
    assert id == answer.json()["request_id"]
    return id


async def _things(road: Crossroads) -> dict[str, str]:
    services, vehicles, signals = road.services, road.vehicles, catalogue.standard()
    made: dict[str, str] = {}
    names = {"energy": "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", "driving": "Vehicle.Speed"}
    for kind, vehicle in (("energy", "owned"), ("driving", "owned"), ("driving", "fleet"), ("driving", "sold")):
        number = int(signals.by_name(names[kind]).id)
        twin = await services.twins.latest(vehicles[vehicle])
        at_us = twin.reported[number].time_us if twin else 0
        made[f"flag of {kind}, {vehicle}"] = f"flag:{vehicles[vehicle]}:{number}:{at_us}"
    ledger = services.ledger
    async with services.database.pool.acquire() as connection, connection.transaction():
        for vehicle in ("owned", "fleet"):
            missing = Numbers(vehicles[vehicle], 7, 1, 2, 9, [(3, 5)])
            await ledger.store_numbers(connection, [missing.row()])
            made[f"gap, {vehicle}"] = f"gap:{vehicles[vehicle]}:{7:016x}:3"
        await ledger.hold(connection, [Held(vehicles["owned"], 1, BATCH, "batch.checksum", "wrong", b"x")])
    made["quarantine, owned"] = f"quarantine:{(await ledger.list_held())[-1].id}"
    identity = Identity("rocade.test", "eu", "vehicle", road.vins["owned"])
    (credential,) = await services.authority.provision([identity], "test")
    made["certificate of a vehicle"] = f"certificate:{load_pem_x509_certificate(credential.chain_pem).serial_number:x}"
    await services.authority.claim(identity, "test")
    hashed = await services.database.pool.fetchval("SELECT code_hash FROM claim_code ORDER BY made_us DESC LIMIT 1")
    made["claim code"] = f"claim:{hashed[:8].hex()}"
    consents, looks = services.consents, services.looks
    assert consents
    assert looks
    grants = await consents.grants(vehicles["owned"])
    made["grant"] = next(grant.id for grant in grants if grant.recipient == "partner:assur")
    await looks.settled()
    partner = next(one for one in (await looks.of(vehicles["owned"])).looks if one.recipient == "partner:assur")
    made["look of the partner"] = f"look:{partner.id}"
    made["entry about a look"] = await _entry(services, f"vehicle:{vehicles['owned']}", partner.actor)
    return made


async def _entry(services: Any, subject: str, actor: str) -> str:
    for _ in range(100):
        for position, entry in await services.book.tail(200):
            if (entry.action, entry.subject, entry.actor) == ("consent.look", subject, actor):
                return f"audit:{position}"
    raise AssertionError("the look is not in the audit log")


def ask(role: Role, id: str, language: str = "en") -> Any:
    parameters = {"language": language, "purpose": role.purpose} if role.purpose else {"language": language}
    return role.client.get(f"/v1/why/{id}", params=parameters)


def test_the_tables_name_the_same_roles_and_things(road: Crossroads, ids: dict[str, str]) -> None:
    assert set(road.roles) == ALL
    assert set(ids) == set(TOLD)


@pytest.mark.parametrize("thing", TOLD)
def test_each_is_told_to_whom_it_concerns_and_to_nobody_else(road: Crossroads, ids: dict[str, str], thing: str) -> None:
    nowhere = ask(road.roles["owner"], "audit:99999999").json()
    heard = set()
    for name, role in road.roles.items():
        answer = ask(role, ids[thing])
        if answer.status_code == 200:
            heard.add(name)
            assert answer.json()["sentences"]
            continue
        problem = answer.json()
        assert answer.status_code == 404, name
        assert {key: problem[key] for key in ("code", "detail", "title")} == {
            key: nowhere[key] for key in ("code", "detail", "title")
        }
    assert heard == TOLD[thing]


def test_the_page_tells_the_same_ones(road: Crossroads, ids: dict[str, str]) -> None:
    for thing, id in ids.items():
        for name, role in road.roles.items():
            if role.client.base_url.scheme == "https":
                continue
            parameters = {"purpose": role.purpose} if role.purpose else {}
            page = role.client.get(f"/why/{id}", params=parameters, headers={"accept": "text/html"})
            assert page.headers["content-type"].startswith("text/html")
            assert page.status_code == (200 if name in TOLD[thing] else 404), (thing, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_chain_is_told_in_each_language_and_holds_nobodys_number_or_name(
    road: Crossroads, ids: dict[str, str], language: str
) -> None:
    others = {person for name, person in road.persons.items() if name not in {"owner", "driver"}}
    for thing, id in ids.items():
        role = road.roles[min(TOLD[thing] - {"nobody"})]
        answer = ask(role, id, language)
        text = " ".join(one["text"] for one in answer.json()["sentences"])
        assert answer.json()["language"] == language
        assert not [vin for vin in road.vins.values() if vin in text], thing
        assert "Crossroads" not in text
        assert "{" not in text
        assert not [person for person in others - {role.person} if person in text], thing


def test_ids_of_chains_lead_on_to_the_end(road: Crossroads, ids: dict[str, str]) -> None:
    """Whoever is told a chain is told every further one its ids name, or hears that it is not his; nothing breaks."""
    role, asked, waiting = road.roles["command line"], set[str](), list(ids.values())
    while waiting:
        id = waiting.pop()
        if id in asked:
            continue
        asked.add(id)
        answer = ask(role, id)
        assert answer.status_code in {200, 404}, id
        if answer.status_code == 200:
            waiting += [one["id"] for one in answer.json()["sentences"] if one["id"]]
    assert len(asked) > len(ids)


def test_a_flag_that_is_told_is_a_look_the_owner_sees(road: Crossroads, ids: dict[str, str]) -> None:
    looks = road.services.looks
    assert looks
    assert ask(road.roles["partner"], ids["flag of energy, owned"]).status_code == 200
    road.call(looks.settled())
    found = road.call(looks.of(road.vehicles["owned"])).looks
    assert "partner:assur" in {one.recipient for one in found if one.what == "vehicle.history.read" and one.signals}


def test_a_refused_browser_gets_a_page_with_the_way_to_why(road: Crossroads) -> None:
    path = f"/vehicles/{road.vehicles['owned']}"
    answer = road.roles["other owner"].client.get(path, headers={"accept": "text/html", "accept-language": "fr"})
    assert answer.status_code == 403
    link = re.search(r'href="(/why/[0-9a-f]{16})"', answer.text)
    assert link
    page = road.roles["other owner"].client.get(link[1], headers={"accept": "text/html", "accept-language": "fr"})
    assert "consentement" in page.text
    assert 'lang="fr"' in page.text


STRANGE = [
    "",
    "%00",
    "a" * 5000,
    "audit:1'--",
    "../etc/passwd",
    "gate.denied%0aX",
    "flag:1:2:3:4",
    "request:zz",
    "<b>x</b>",
]


@pytest.mark.parametrize("id", STRANGE)
def test_strange_ids_are_unknown_and_never_break_anything(road: Crossroads, id: str) -> None:
    for role in ("nobody", "command line"):
        assert road.roles[role].client.get(f"/v1/why/{id}").status_code in {400, 404}
    page = road.roles["nobody"].client.get(f"/why/{id}", headers={"accept": "text/html"})
    assert page.status_code in {200, 400, 404}
    assert "<b>x</b>" not in page.text
