"""The whole OpenAPI document against the running API, as each role: no 5xx, answers as described, every refusal one shape.

Requests are drawn by schemathesis from the document the application itself serves; they are sent over the listener each
role really uses (pages with a session, mutual TLS with a certificate or token). Two in three name what there really is (a
vehicle, a grant, a signal, a time), so that they come further than to a refusal. Streams are opened and left. Touches of a
passkey are taken as given: what they prove is tested elsewhere, and behind them stand the acts that change most.
OWASP API Security Top 10 (2023): API8.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from tests.hostile.crossroads import Crossroads, Role

from rocade.doors.http import Access

MANY = ["owner", "partner", "nobody", "command line"]
EVERYBODY = [
    *MANY, "other owner", "former owner", "driver", "ended driver", "dealer's employee", "support", "security", "release",
    "owner by link", "security by link", "monitor", "partner, certificate alone", "dealer without consent", "dealer's seller",
    "dealer's manager", "dealer's manager by link", "point of sale", "provider",
]  # fmt: skip
OAUTH_ERROR = {"error", "error_description", "code", "request_id"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}


@pytest.fixture(scope="module")
def document(road: Crossroads) -> Any:
    """The document as the application serves it."""
    raw = road.roles["nobody"].client.get("/v1/openapi.json").json()
    return schemathesis.openapi.from_dict(raw)


@pytest.fixture(autouse=True, scope="module")
def touched() -> Iterator[None]:
    async def is_touched(*_: object) -> bool:
        return True

    with mock.patch.object(Access, "_is_touched", is_touched):
        yield


def known(road: Crossroads) -> dict[str, Sequence[object]]:
    """Values there are, by the name of a parameter."""
    refs = road.find_vehicles()
    return {
        "ref": refs, "person": [road.new_victim()], "id": [*road.guests.values(), road.others_grant.id, *road.vins.values()],
        "number": [1, 7], "limit": [1, 1000], "signal": ["Vehicle.Speed", "Vehicle.CurrentLocation.Latitude"],
        "from": ["2020-01-01T00:00:00Z", "-1h"], "to": ["2030-01-01T00:00:00Z"], "every": ["1m", "1h", "1d"],
        "by": ["vehicle", "brand", "model"], "format": ["json", "csv", "parquet"], "purpose": ["insurance", "operation", "own"],
        "language": ["fr", "zh"], "kind": ["partner", "vehicle", "car"], "brand": ["peugeot"], "duty": ["support"],
        "since_us": [0], "until_us": [4_000_000_000_000_000], "cursor": ["1", ""],
    }  # fmt: skip


def name_known(case: Any, real: Mapping[str, Sequence[object]], data: st.DataObject) -> None:
    """Put what there is in place of most of what was drawn."""
    if "wait_s" in (case.query or {}):  # a long poll that is asked to wait does
        case.query["wait_s"] = 0.01
    for drawn in (case.path_parameters, case.query):
        for name in drawn or ():
            if name in real and data.draw(st.integers(0, 2)):
                value = data.draw(st.sampled_from(real[name]))
                drawn[name] = [value] if isinstance(drawn[name], list) else value


def send(road: Crossroads, role: Role, case: Any) -> httpx.Response | None:
    """The answer; None for a stream, which never ends."""
    asked = case.as_transport_kwargs(base_url=str(role.client.base_url).rstrip("/"))
    headers = {name: value for name, value in asked.get("headers", {}).items() if name.lower() not in OURS}
    body = {name: asked[name] for name in ("json", "data", "params") if asked.get(name) is not None}
    request = role.client.build_request(asked["method"], asked["url"], headers=headers, **body)
    answer = role.client.send(request, stream=True)
    try:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return None
        answer.read()
        return answer
    finally:
        answer.close()
        if answer.status_code == 401 or (answer.is_success and asked["method"] != "GET"):
            road.renew(role)  # this may have ended his sessions


FORGETS_HIM = "DELETE /v1/account/data"
"""Who asks for it is nobody afterwards; tests/trust/authority/erasure and test_every_route_and_role ask."""
OURS = {"user-agent", "x-schemathesis-testcaseid", "cookie", "authorization", "host", "origin"}
"""Headers that say who asks: the role's own are sent."""


def check(case: Any, answer: httpx.Response) -> None:
    assert answer.status_code < 500, f"{case.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"].startswith(("application/problem+json", "application/json"))
        body = answer.json()
        assert body.keys() >= (OAUTH_ERROR if case.path.startswith(("/oauth/", "/openid/")) else PROBLEM), body
        assert "Traceback" not in answer.text
    elif answer.status_code < 300:
        case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])


def run(road: Crossroads, document: Any, role: Role, examples: int) -> Counter[str]:
    """Draw and send so many requests for each operation; what came back, by operation and status.

    Raises: one group of all that was wrong, a fault for each operation.
    """
    road.renew(role)
    came: Counter[str] = Counter()
    real, wrong = known(road), []
    every = [result.ok() for result in document.get_all_operations()]
    operations = [one for one in every if f"{one.method.upper()} {one.path}" != FORGETS_HIM]
    for operation in operations:
        try:
            ask(road, role, operation, examples, real, came)
        except (Exception, BaseExceptionGroup) as fault:
            wrong.append(fault)
    if wrong:
        raise BaseExceptionGroup(f"{len(wrong)} operations answered {role.name} wrongly", wrong)
    assert len(covered(came)) == len(operations)
    print(role.name, came.total(), "requests;", dict(Counter(line.rpartition(" ")[2] for line in came.elements())))
    return came


def ask(
    road: Crossroads,
    role: Role,
    operation: Any,
    examples: int,
    real: Mapping[str, Sequence[object]],
    came: Counter[str],
) -> None:
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(case=operation.as_strategy(), data=st.data())
    def once(case: Any, data: st.DataObject) -> None:
        name_known(case, real, data)
        answer = send(road, role, case)
        came[f"{operation.method.upper()} {operation.path} {answer.status_code if answer else 'stream'}"] += 1
        if answer is not None:
            check(case, answer)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        once()


def covered(came: Counter[str]) -> set[str]:
    return {line.rpartition(" ")[0] for line in came}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", MANY)
def test_the_whole_document_as_a_role(name: str, road: Crossroads, document: Any) -> None:
    came = run(road, document, road.roles[name], 2)
    assert name == "nobody" or sum(count for line, count in came.items() if line.endswith(" 401")) < 10


UNFIT = [
    "/v1/quarantine?ref=99999999999999999999", "/v1/quarantine?cursor=%C2%B2", f"/v1/quarantine?cursor={'9' * 5000}",
    "/v1/history?ref=-99999999999999999999&signal=Vehicle.Speed", "/v1/vehicles/9223372036854775808", "/v1/why/%00",
]  # fmt: skip
"""Numbers of more than 63 bits, a digit that is no number, a NUL: found by these walks once."""


@pytest.mark.parametrize("path", UNFIT)
def test_what_no_database_keeps_is_the_callers_fault(path: str, road: Crossroads) -> None:
    answer = road.roles["command line"].client.get(path)
    assert answer.status_code in {400, 403, 404}, answer.text
    assert answer.json().keys() >= PROBLEM


def test_everybody_has_a_turn(road: Crossroads) -> None:
    assert sorted(EVERYBODY) == sorted(road.roles)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", EVERYBODY)
def test_the_whole_document_at_length_as_every_role(name: str, road: Crossroads, document: Any) -> None:
    run(road, document, road.roles[name], 30)
