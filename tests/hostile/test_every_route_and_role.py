"""Every route of the running application asked by every role, about a vehicle that is his, another's, nobody's, no longer his.

Routes come from the application itself, roles and expectations from docs/roles.md: a route's act and a role's column say what
must happen. So a new route is covered by being there, and an act that is missing in the tables fails here.
OWASP API Security Top 10 (2023): API1, API3, API5.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.hostile import crossroads
from tests.hostile.crossroads import Crossroads, Role, Route
from tests.trust.authority.gate.test_roles import tables

from rocade.fabric.history.store import serve
from rocade.trust.authority.gate import acts

COLUMNS = {
    # role: (in the table of the region, about the owned vehicle, about the fleet's, about the one he sold)
    "nobody": ("nobody", "nobody", "nobody", "nobody"),
    "owner": ("person", "owner", "stranger", "stranger"),
    "owner by link": ("person", "owner by link", "stranger", "stranger"),
    "other owner": ("person", "stranger", "stranger", "stranger"),
    "former owner": ("person", "stranger", "stranger", "former owner"),
    "driver": ("person", "driver", "stranger", "stranger"),
    "ended driver": ("person", "stranger", "stranger", "stranger"),
    "dealer's employee": ("person", "recipient", "stranger", "stranger"),
    "support": ("support", "support, owned", "support, fleet", "support, owned"),
    "security": ("security", "security, owned", "security, fleet", "security, owned"),
    "security by link": ("by link", "security, owned", "security, fleet", "security, owned"),
    "release": ("release", "stranger", "release, fleet", "stranger"),
    "command line": ("command line", "command line, owned", "command line, fleet", "command line, owned"),
    "partner": ("machine", "with token", "stranger", "stranger"),
    "partner, certificate alone": ("machine", "certificate alone", "stranger", "stranger"),
    "dealer without consent": ("machine", "stranger", "stranger", "stranger"),
    "monitor": ("monitor", "stranger", "stranger", "stranger"),
}
VEHICLES = ("owned", "fleet", "sold")
ASKS_FURTHER = {"/v1/vehicles/by-id/{id:str}": acts.READ_VEHICLE}
"""Routes whose own act only opens the door: what the handler then asks about the vehicle that was named otherwise."""
PEOPLE_ONLY = ("/v1/people", "/people", "/account", "/v1/account", "/v1/signout", "/v1/touches", "/signout")
"""Routes that need a person signed in, whatever a certificate may do: an act there is done by somebody."""


@pytest.fixture(scope="module")
def road(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crossroads]:
    database_url = crossroads.copied(postgres_url, template)
    with tempfile.TemporaryDirectory(prefix="rocade-xr-") as place:
        path = Path(place) / "store.sock"
        process = multiprocessing.get_context("spawn").Process(target=serve, args=(Path(place) / "data", path))
        process.start()
        try:
            with Crossroads(tmp_path_factory.mktemp("crossroads"), database_url, f"chdb+unix://{path}") as region:
                yield region
        finally:
            process.terminate()
            process.join(15)


def concrete(road: Crossroads, route: Route, vehicle: str) -> str:
    """The route's path with everything in it named."""
    names = {
        "ref": str(road.vehicles[vehicle]), "person": road.victim, "id": "no-such-id", "act": "end", "secret": "guess",
        "number": "7", "file": "en.json", "file_path": "console.css", "passkey": "00", "duty": "support",
    }  # fmt: skip
    if "/by-id/" in route.path:
        names["id"] = road.vins[vehicle]
    if "/why/" in route.path:
        names["id"] = "gate.denied"
    return re.sub(r"\{(\w+):\w+\}", lambda found: names[found[1]], route.path)


def ask(road: Crossroads, route: Route, role: Role, vehicle: str) -> str:
    """What happened: yes, touch, '' = refused; or what should never happen, in words."""
    query = {"purpose": role.purpose} if role.purpose else {}
    headers = {"accept": "application/json"}
    path = concrete(road, route, vehicle)
    with role.client.stream(route.method, path, params=query, headers=headers) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return "yes"
        body = answer.read()
    if route.method not in {"GET", "HEAD"}:
        road.renew(role)
    if answer.status_code == 303 and answer.headers["location"].startswith("/signin"):
        return ""
    if answer.status_code in {401, 403}:
        code = answer.json()["code"]
        return "touch" if code == "gate.touch" else ""
    return "yes" if answer.status_code < 500 else f"{answer.status_code} {body[:200]!r}"


def expected(cells: dict[tuple[str, str], str], route: Route, role: Role, vehicle: str) -> str:
    assert route.act is not None, f"{route.path} names no act"
    region, *about = COLUMNS[role.name]
    of_vehicle = about[VEHICLES.index(vehicle)]
    said = cells[route.act.name, of_vehicle if route.act.of == "vehicle" else region]
    further = ASKS_FURTHER.get(route.path)
    if further and said == "yes":
        said = cells[further.name, of_vehicle]
    if route.path.startswith(PEOPLE_ONLY) and not role.person:
        said = ""
    return said


def test_every_route_says_to_every_role_what_the_tables_say(road: Crossroads) -> None:
    cells, wrong, asked = tables(), [], set()
    assert set(COLUMNS) == set(road.roles)
    for route in road.routes:
        by_vehicle = VEHICLES if "{ref" in route.path or route.path in ASKS_FURTHER else ("owned",)
        for vehicle in by_vehicle:
            for role in road.roles.values():
                got, said = ask(road, route, role, vehicle), expected(cells, route, role, vehicle)
                asked.add((route.method, route.path, role.name))
                if got != said:
                    wrong.append(f"{role.name}: {route.method} {route.path} ({vehicle}) -> {got!r}, not {said!r}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
    assert len(asked) == len({(route.method, route.path) for route in road.routes}) * len(road.roles)
    print(f"{len(road.routes)} routes, {len(road.roles)} roles, {len(asked)} pairs")


def test_a_machine_of_another_region_does_not_even_get_in(road: Crossroads) -> None:
    for route in road.routes:
        with (
            road.foreigner() as client,
            pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)),
        ):
            client.request(route.method, concrete(road, route, "owned"))
