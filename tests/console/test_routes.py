"""Every route, walked: who may not, may not; every answer to a stranger is a problem document; nothing leaks."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
import toytown

from rocade.console import create_app
from rocade.services.telemetry import quarantine
from rocade.trust.authority.gate import Act

OPEN = (
    "/health/",
    "/v1/openapi.json",
    "/static",
    "/texts/",
    "/language",
    "/docs",
    "/v1/signin",
    "/signin",
    "/oauth/",
    "/.well-known/",
    "/v1/why",
    "/why",
    "/verify",
    "/proofs/",
    "/v1/erasures",
)
"""What stands open to everybody; a route that is new here was thought about."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[toytown.Served, str, toytown.Toys]]:
    toys = toytown.Toys(5)
    services, token = toytown.services(toys, tmp_path_factory.mktemp("routes"))
    with toytown.Served(services) as running:
        yield running, token, toys


@pytest.fixture(scope="module")
def all_routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, Act | None]]:
    services, _ = toytown.services(toytown.Toys(1), tmp_path_factory.mktemp("walk"))
    return [
        (method, route.path, handler.opt.get("act"))
        for route in create_app(services).routes
        for handler in route.route_handlers
        for method in sorted(handler.http_methods)
        if method != "OPTIONS"
    ]


def concrete(path: str) -> str:
    path = re.sub(r"\{\w+:int\}", "7", path)
    return re.sub(r"\{\w+:\w+\}", "x", path)


def test_every_route_names_its_act(all_routes: list[tuple[str, str, Act | None]]) -> None:
    assert len(all_routes) > 25
    assert [path for _, path, act in all_routes if act is None] == []


def test_a_stranger_gets_a_problem_document_from_every_route_that_is_not_open(
    all_routes: list[tuple[str, str, Act | None]], served: tuple[toytown.Served, str, toytown.Toys]
) -> None:
    address = served[0].address
    walked = 0
    with httpx.Client(base_url=address, headers={"origin": address}) as client:
        for method, path, act in all_routes:
            assert act is not None
            if act.of == "nothing":
                assert path.startswith(OPEN), f"{path} is open to everybody and was not expected to be"
                continue
            answer = client.request(method, concrete(path))
            walked += 1
            assert answer.status_code == 401, path
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json().keys() == {"type", "title", "status", "detail", "code", "request_id", "why"}
            assert answer.json()["code"] == "access.missing"
    assert walked >= 14


PROBLEMS = [
    ("GET", "/v1/nothing", 404, "http.path.unknown"),
    ("PUT", "/v1/vehicles", 405, "http.method.refused"),
    ("GET", "/v1/vehicles/12345", 404, "vehicles.unknown"),
    ("GET", "/v1/vehicles/12345/gaps", 404, "vehicles.unknown"),
    ("GET", "/v1/vehicles?limit=many", 400, "http.request.invalid"),
    ("GET", "/v1/quarantine/99", 404, "quarantine.unknown"),
    ("GET", "/v1/quarantine?cursor=zz", 400, "quarantine.cursor.invalid"),
    ("GET", "/v1/stream?signal=Nonsense", 404, "catalogue.signal.unknown"),
    ("GET", "/live/streets.pmtiles", 404, "console.streets.missing"),
    ("POST", "/live/chaos", 400, "http.request.invalid"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), PROBLEMS)
def test_what_goes_wrong_is_said_in_one_shape(
    served: tuple[toytown.Served, str, toytown.Toys], method: str, path: str, status: int, code: str
) -> None:
    running, _, _ = served
    answer = httpx.request(method, running.address + path, headers=toytown.signed_in(running.address))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text


def test_a_failure_nobody_foresaw_shows_no_stack(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    running, _, toys = served
    toys.held_records["bad"] = None  # type: ignore[index, assignment]  # the fake breaks, as a bug would
    try:
        answer = httpx.get(running.address + "/v1/quarantine", headers=toytown.signed_in(running.address))
    finally:
        del toys.held_records["bad"]  # type: ignore[arg-type]
    assert answer.status_code == 500
    assert answer.json()["code"] == "http.unforeseen"
    assert "NoneType" not in answer.text


HOSTS = [("127.0.0.1", 421), ("rocade.example", 421), ("localhost.evil.example", 421), ("", 421), ("LOCALHOST", 200)]


@pytest.mark.parametrize(("host", "status"), HOSTS)
def test_loopback_answers_to_localhost_alone(
    served: tuple[toytown.Served, str, toytown.Toys], host: str, status: int
) -> None:
    port = served[0].address.rpartition(":")[2]
    answer = httpx.get(f"{served[0].address}/health/live", headers={"host": f"{host}:{port}" if host else ""})
    assert answer.status_code == status


FOREIGN = [
    ({"origin": "http://evil.example"}, 403),
    ({"origin": "http://localhost:1"}, 403),
    ({}, 403),
    ({"sec-fetch-site": "cross-site"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), FOREIGN)
def test_a_foreign_page_cannot_pull_the_plug(
    served: tuple[toytown.Served, str, toytown.Toys], headers: dict[str, str], status: int
) -> None:
    answer = httpx.post(
        served[0].address + "/live/chaos",
        json={"act": "kill_store"},
        headers={**headers, "cookie": f"rocade_session={toytown.SESSION}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (status, "access.cross_site")


def test_a_folder_of_files_is_no_list(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    for path in ("/static", "/static/", "/static/vendor/", "/static/..", "/static/%2e%2e/"):
        answer = httpx.get(served[0].address + path)
        assert answer.status_code in {401, 404}, path
        assert "console.css" not in answer.text


def test_every_answer_carries_the_security_headers(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    for path in ("/", "/v1/nothing", "/static/console.css", "/health/live"):
        headers = httpx.get(served[0].address + path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "http" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_an_unchanged_twin_costs_no_body(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    running, _, toys = served
    ref = next(iter(toys.vehicles))
    toys.frozen_us = 1_000_000
    try:
        with httpx.Client(base_url=running.address, headers=toytown.signed_in(running.address)) as client:
            first = client.get(f"/v1/vehicles/{ref}/twin")
            second = client.get(f"/v1/vehicles/{ref}/twin", headers={"if-none-match": first.headers["etag"]})
    finally:
        toys.frozen_us = None
    assert first.json()["ref"] == str(ref)
    assert {one["name"]: one["quality"] for one in first.json()["signals"]}["Vehicle.TraveledDistance"] == ["stuck"]
    assert (second.status_code, second.content) == (304, b"")


def test_answers_do_not_wait_for_acknowledgements_of_the_network(
    served: tuple[toytown.Served, str, toytown.Toys],
) -> None:
    with httpx.Client(base_url=served[0].address) as client:
        client.get("/health/live")
        times_s = [client.get("/health/live").elapsed.total_seconds() for _ in range(40)]
    assert min(times_s) < 0.035, "Nagle's algorithm and delayed ACKs cost 40 ms each time"


def test_pages_of_vehicles_are_followed_by_cursor(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    running, _, toys = served
    seen, cursor = [], ""
    with httpx.Client(base_url=running.address, headers=toytown.signed_in(running.address)) as client:
        while cursor is not None:
            page = client.get("/v1/vehicles", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
            seen += [item["ref"] for item in page["items"]]
            cursor = page["next"]
    assert seen == [str(ref) for ref in toys.vehicles]


def test_the_stream_sends_the_chosen_vehicle_and_resumes_by_its_event_id(
    served: tuple[toytown.Served, str, toytown.Toys],
) -> None:
    running, _, toys = served
    ref = next(iter(toys.vehicles))
    headers = {**toytown.signed_in(running.address), "last-event-id": "1"}
    events: list[str] = []
    address = f"{running.address}/v1/stream?ref={ref}&signal=Vehicle.Speed"
    with httpx.stream("GET", address, headers=headers) as answer:
        for line in answer.iter_lines():
            events.append(line)
            if line.startswith("data:") and '"signals"' in line:
                break
    assert events[0] == "event: position"
    assert events[1].startswith("id: 17")
    assert f'"ref":"{ref}"' in events[2]
    assert '"name":"Vehicle.Speed"' in events[-1]
    assert "StateOfCharge" not in events[-1]


def test_quarantine_is_replayed_and_dropped_with_an_audit_entry_first(
    served: tuple[toytown.Served, str, toytown.Toys], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _, toys = served
    monkeypatch.setattr(quarantine, "_seals", lambda _: toytown.Unsealed())
    with httpx.Client(base_url=running.address, headers=toytown.signed_in(running.address)) as client:
        assert client.post("/v1/quarantine/1/replay").json()["state"] == "replayed"
        assert (
            client.delete("/v1/quarantine/2", headers={"rocade-touch": "quarantine.drop number:2"}).json()["state"]
            == "dropped"
        )
        tail = client.get("/v1/audit").json()["items"]
    assert [record.key for record in toys.appended] == [7]
    done = [(line["action"], line["subject"], line["actor"][:6]) for line in tail if line["outcome"] == "done"]
    assert done[:2] == [("quarantine.drop", "quarantine:2", "person"), ("quarantine.replay", "quarantine:1", "person")]


def test_openapi_is_3_1_and_describes_the_api_routes(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    document = httpx.get(served[0].address + "/v1/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert {"/v1/vehicles", "/v1/vehicles/{ref}/twin", "/v1/stream", "/health/ready"} <= document["paths"].keys()
    assert not any(path.startswith("/live") for path in document["paths"])


def test_metrics_name_routes_and_never_vehicles(served: tuple[toytown.Served, str, toytown.Toys]) -> None:
    running, _, toys = served
    vehicle = next(iter(toys.vehicles.values()))
    httpx.get(f"{running.address}/v1/vehicles/by-id/{vehicle.id}", headers=toytown.signed_in(running.address))
    text = httpx.get(running.address + "/metrics", headers=toytown.signed_in(running.address)).text
    assert 'route="/v1/vehicles/by-id/{id}"' in text
    assert 'rocade_gateway_refusals{role="gateway",process="gateway",key="batch.truncated"} 1' in text
    assert vehicle.id not in text
    assert str(vehicle.ref) not in text
