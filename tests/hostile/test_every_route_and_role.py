"""Every route of the running application asked by every role, about a vehicle that is his, another's, nobody's, no longer his.

Routes come from the application itself, roles and expectations from docs/roles.md: a route's act and a role's column say what
must happen. So a new route is covered by being there, and an act that is missing in the tables fails here.
OWASP API Security Top 10 (2023): API1, API3, API5.
"""

from __future__ import annotations

import re

import httpx
import pytest
from tests.hostile.crossroads import Crossroads, Role, Route
from tests.trust.authority.gate.test_roles import tables

from rocade.trust.authority.gate import acts

COLUMNS = {
    # role: (in the table of the region, about the owned vehicle, about the fleet's, about the one he sold, at a dealer's)
    "nobody": ("nobody", "nobody", "nobody", "nobody", "nobody"),
    "owner": ("person", "owner", "stranger", "stranger", "person"),
    "owner by link": ("person", "owner by link", "stranger", "stranger", "person"),
    "other owner": ("person", "stranger", "stranger", "stranger", "person"),
    "former owner": ("person", "stranger", "stranger", "former owner", "person"),
    "driver": ("person", "driver", "stranger", "stranger", "person"),
    "ended driver": ("person", "stranger", "stranger", "stranger", "person"),
    "dealer's employee": ("person", "recipient", "stranger", "stranger", "person"),
    "support": ("support", "support, owned", "support, fleet", "support, owned", "support"),
    "security": ("security", "security, owned", "security, fleet", "security, owned", "security"),
    "security by link": ("by link", "security, owned", "security, fleet", "security, owned", "security"),
    "release": ("release", "stranger", "release, fleet", "stranger", "release"),
    "command line": (
        "command line",
        "command line, owned",
        "command line, fleet",
        "command line, owned",
        "command line",
    ),
    "partner": ("machine", "with token", "stranger", "stranger", "other machine"),
    "partner, certificate alone": ("machine", "certificate alone", "stranger", "stranger", "other machine"),
    "dealer without consent": ("machine", "stranger", "stranger", "stranger", "other machine"),
    "monitor": ("monitor", "stranger", "stranger", "stranger", "monitor"),
    "dealer's manager": ("person", "stranger", "stranger", "stranger", "manager"),
    "dealer's manager by link": ("person", "stranger", "stranger", "stranger", "manager"),
    "dealer's seller": ("person", "stranger", "stranger", "stranger", "sales"),
    "point of sale": ("machine", "stranger", "stranger", "stranger", "site itself"),
    "provider": ("machine", "stranger", "stranger", "stranger", "provider"),
}
VEHICLES = ("owned", "fleet", "sold")
ASKS_FURTHER = {
    "/v1/vehicles/by-id/{id:str}": acts.OPEN_VEHICLE,
    "/v1/my/invitations/{ref:int}/{id:str}": acts.END_GUEST,
}
"""Routes whose own act only opens the door: what the handler then asks about the vehicle that was named otherwise. Operators
find every vehicle; whether they are told its number is `test_a_vehicles_number_...`."""
AT_HOME = ("owner", "owner by link", "former owner", "driver")
"""Whose pages /my are; a recipient and an operator have others."""
PEOPLE_ONLY = ("/account", "/v1/account", "/v1/signout", "/v1/touches", "/signout")
"""Routes about one's own session, which a machine has not, whatever else it may do."""


def concrete(road: Crossroads, route: Route, vehicle: str) -> str:
    """The route's path with everything in it named."""
    names = {
        "ref": str(road.vehicles[vehicle]), "person": road.victim() if "{person" in route.path else "", "id": "no-such-id", "act": "nothing", "secret": "guess",
        "number": "7", "position": "7", "level": "0", "file": "en.json", "file_path": "console.css", "passkey": "00", "duty": "support",
        "site": road.site,
    }  # fmt: skip
    if "/by-id/" in route.path:
        names["id"] = road.vins[vehicle]
    if "/why/" in route.path:
        names["id"] = "gate.denied"
    return re.sub(r"\{(\w+):\w+\}", lambda found: names.get(found[1], "no-such-id"), route.path)


def ask(road: Crossroads, route: Route, role: Role, vehicle: str) -> str:
    """What happened: yes, touch, '' = refused; or what should never happen, in words."""
    query = {"purpose": role.purpose} if role.purpose else {}
    assert role.line
    answer = role.line.ask(route.method, concrete(road, route, vehicle), query)
    if answer.is_stream:
        return "yes"
    if route.method not in {"GET", "HEAD"} and (role.token or answer.status_code < 400):
        road.renew(role)
    if answer.status_code == 303 and answer.headers["location"].startswith("/signin"):
        return "yes" if route.path == "/signout" and role.person else ""
    if answer.status_code == 404 and route.path in ASKS_FURTHER and answer.json()["code"] == "vehicles.unknown":
        return ""  # not even that it is there
    if answer.status_code in {401, 403}:
        code = answer.json()["code"]
        road.codes[code] = road.codes.get(code, 0) + 1
        return "touch" if code == "gate.touch" else ""
    return "yes" if answer.status_code < 500 else f"{answer.status_code} {answer.content[:200]!r}"


def expected(cells: dict[tuple[str, str], str], route: Route, role: Role, vehicle: str) -> str:
    assert route.act is not None, f"{route.path} names no act"
    region, *about, at_site = COLUMNS[role.name]
    of_vehicle = about[VEHICLES.index(vehicle)]
    said = cells[route.act.name, {"vehicle": of_vehicle, "site": at_site}.get(route.act.of, region)]
    further = ASKS_FURTHER.get(route.path)
    finds_all = further is acts.OPEN_VEHICLE and region in {"support", "security", "release", "by link", "command line"}
    if further and said == "yes" and not finds_all:
        said = cells[further.name, of_vehicle]
    is_at_home = route.act.by in {"look", "command"} or route.act is acts.OPEN_VEHICLE
    if is_at_home and route.path.startswith(("/my/{ref", "/my/live/{ref")) and of_vehicle not in AT_HOME:
        said = ""
    is_session_missing = route.path.startswith(PEOPLE_ONLY) and not role.person
    is_client_missing = route.act is acts.REQUEST_TOKEN and role.client.base_url.scheme == "http"
    is_client_missing |= route.path == "/openid/userinfo"  # nobody here has a token of an application
    is_touch_missing = said == "touch" and role.means == "link"
    return "" if is_session_missing or is_client_missing or is_touch_missing else said


def vehicles_for(route: Route, role: Role) -> list[str]:
    """About which vehicles a role asks a route: the owned one always, others where he is more than a stranger to them."""
    if "{ref" not in route.path and route.path not in ASKS_FURTHER:
        return ["owned"]
    known = [name for at, name in enumerate(VEHICLES) if COLUMNS[role.name][1 + at] not in {"stranger", "nobody"}]
    if route.path in ASKS_FURTHER:
        known = [name for name in known if name != "sold"]  # it is found by its number, which has a new reference now
    return list(dict.fromkeys(["owned", *known]))


def test_a_vehicles_number_is_told_to_those_who_may_read_the_registrys_row(road: Crossroads) -> None:
    cells = tables()
    for name, role in road.roles.items():
        for which, vehicle in enumerate(("owned", "fleet")):
            query = {"purpose": role.purpose} if role.purpose else {}
            answers = [
                role.client.get(f"/v1/vehicles/by-id/{road.vins[vehicle]}", params=query),
                role.client.get("/v1/vehicles", params={**query, "limit": 1000}),
            ]
            may = cells[acts.READ_VEHICLE.name, COLUMNS[name][1 + which]] == "yes"
            told = [road.vins[vehicle] in answer.text for answer in answers]
            assert told == [may, may], f"{name}, {vehicle}: {told}"


SIGNALS = {
    "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed": ("74.5", acts.READ_HISTORY),
    "Vehicle.Speed": ("41.25", acts.READ_TRIPS),
}
"""What each vehicle said, and the act whose row tells who sees its class."""


def test_what_is_asked_of_several_vehicles_at_once_shows_what_each_may_show(road: Crossroads) -> None:
    """Ranges of many, lists and streams: their act opens the door, the gate is asked for each vehicle."""
    cells = tables()
    for name, role in road.roles.items():
        for which, vehicle in enumerate(VEHICLES):
            query = {"purpose": role.purpose} if role.purpose else {}
            for signal, (value, act) in SIGNALS.items():
                asked = {**query, "ref": road.vehicles[vehicle], "signal": signal}
                answer = role.client.get("/v1/history", params=asked)
                may = cells[act.name, COLUMNS[name][1 + which]] == "yes"
                assert (value in answer.text) is may, f"{name}, {vehicle}, {signal}: {answer.text[:200]}"


def test_an_id_of_anothers_thing_under_ones_own_vehicle_does_nothing(road: Crossroads) -> None:
    """The owner of one vehicle names the grant, the driver, the session of somebody else's."""
    owner, others = road.roles["owner"].client, road.others_grant
    before = road.call(road.services.consents.find_grant(others.id))
    tried = 0
    for route in road.routes:
        if route.method in {"GET", "HEAD"} or "{ref" not in route.path or route.path.count("{") < 2:
            continue
        path = re.sub(r"\{ref:\w+\}", str(road.vehicles["owned"]), route.path)
        answer = owner.request(
            route.method, re.sub(r"\{\w+:\w+\}", others.id, path), headers={"accept": "application/json"}
        )
        refusals = {200, 400, 403, 404} if route.is_page else {400, 403, 404}  # a page says it in its own words
        assert answer.status_code in refusals, f"{route.method} {route.path}: {answer.status_code}"
        tried += 1
    assert road.call(road.services.consents.find_grant(others.id)) == before
    print(f"{tried} routes with an id below a vehicle")


def test_a_machine_of_another_region_does_not_even_get_in(road: Crossroads) -> None:
    for route in road.routes:
        with (
            road.foreigner() as client,
            pytest.raises((httpx.ConnectError, httpx.ReadError, httpx.RemoteProtocolError)),
        ):
            client.request(route.method, concrete(road, route, "owned"))


@pytest.mark.timeout(900)
def test_every_route_says_to_every_role_what_the_tables_say(road: Crossroads) -> None:
    """Last in this file: what somebody may do is done."""
    cells, wrong, asked = tables(), [], set()
    assert set(COLUMNS) == set(road.roles)
    for route in road.routes:
        for role in road.roles.values():
            for vehicle in vehicles_for(route, role):
                got, said = ask(road, route, role, vehicle), expected(cells, route, role, vehicle)
                asked.add((route.method, route.path, role.name))
                if got != said:
                    wrong.append(f"{role.name}: {route.method} {route.path} ({vehicle}) -> {got!r}, not {said!r}")
    if wrong:
        pytest.fail("\n".join(wrong), pytrace=False)
    assert len(asked) == len({(route.method, route.path) for route in road.routes}) * len(road.roles)
    print(f"{len(road.routes)} routes, {len(road.roles)} roles, {len(asked)} pairs")


@pytest.mark.parametrize("address", ["/v1/vehicles?id=%00", "/v1/vehicles/by-id/a%00b", "/v1/people/found?name=%00"])
def test_a_character_no_database_takes_is_the_callers_fault(address: str, road: Crossroads) -> None:
    """Found by schemathesis: PostgreSQL refuses NUL in text, which was a 500."""
    answer = road.roles["command line"].client.get(address)
    assert (answer.status_code, answer.json()["code"]) == (400, "http.request.invalid")


def test_a_number_no_database_takes_is_no_path(road: Crossroads) -> None:
    """Found by schemathesis too: a reference has 63 bits."""
    for role in ("owner", "command line"):
        answer = road.roles[role].client.delete(f"/v1/my/invitations/{1 << 70}/guest-1")
        assert (answer.status_code, answer.json()["code"]) == (404, "http.path.unknown")
