"""The whole OpenAPI document against the running API, as each role: no 5xx, answers as described, every refusal one shape.

Requests are drawn by schemathesis from the document the application itself serves; they are sent over the listener each
role really uses (pages with a session, mutual TLS with a certificate or token). Streams are opened and left.
OWASP API Security Top 10 (2023): API8.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance
from tests.hostile.crossroads import Crossroads, Role

MANY = ["owner", "partner", "nobody", "command line"]
OAUTH_ERROR = {"error", "error_description", "code", "request_id"}
PROBLEM = {"type", "title", "status", "detail", "code", "request_id"}


@pytest.fixture(scope="module")
def document(road: Crossroads) -> Any:
    """The document as the application serves it."""
    raw = road.roles["nobody"].client.get("/v1/openapi.json").json()
    return schemathesis.openapi.from_dict(raw)


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
        if asked["method"] != "GET":
            road.renew(role)


OURS = {"user-agent", "x-schemathesis-testcaseid", "cookie", "authorization", "host", "origin"}
"""Headers that say who asks: the role's own are sent."""


def check(case: Any, answer: httpx.Response) -> None:
    assert answer.status_code < 500, f"{case.method} {case.path}: {answer.status_code} {answer.text[:300]}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"].startswith(("application/problem+json", "application/json"))
        body = answer.json()
        assert body.keys() >= (OAUTH_ERROR if case.path.startswith("/oauth/") else PROBLEM), body
        assert "Traceback" not in answer.text
    elif answer.status_code < 300:
        case.validate_response(answer, checks=[content_type_conformance, response_schema_conformance])


def run(road: Crossroads, document: Any, role: Role, examples: int) -> Counter[str]:
    """Draw and send so many requests for each operation; what came back, by operation and status."""
    came: Counter[str] = Counter()
    for result in document.get_all_operations():
        ask(road, role, result.ok(), examples, came)
    return came


def ask(road: Crossroads, role: Role, operation: Any, examples: int, came: Counter[str]) -> None:
    @settings(
        max_examples=examples, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck), print_blob=False,
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def once(case: Any) -> None:
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
    road.renew(road.roles[name])
    came = run(road, document, road.roles[name], 2)
    assert len(covered(came)) == len(list(document.get_all_operations()))
    assert name == "nobody" or sum(count for line, count in came.items() if line.endswith(" 401")) < 10
    print(name, sum(came.values()), "requests;", dict(Counter(line.rpartition(" ")[2] for line in came.elements())))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_document_as_every_role(road: Crossroads, document: Any) -> None:
    for role in road.roles.values():
        road.renew(role)
        came = run(road, document, role, 40)
        assert len(covered(came)) == len(list(document.get_all_operations()))
        print(role.name, sum(came.values()), "requests")
