"""Traces are optional: nothing without the variable, spans with counts and codes with it."""

from __future__ import annotations

from typing import Any

import pytest

from rocade.app import tracing
from rocade.app.tracing_requests import TracedTraffic
from rocade.core.errors import Misconfigured, Unavailable
from rocade.doors.mqtt import Publish


class Kept:
    """Spans as they were finished."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any], str]] = []

    def finished(self, name: str, began_ns: int, facts: dict[str, Any], error: str = "") -> None:
        assert began_ns > 0
        self.spans.append((name, facts, error))


class Reluctant:
    """An intake whose log is full."""

    async def admit(self, client: Any) -> object:
        return client

    async def leave(self, context: object) -> None:
        pass

    async def accept(self, publishes: Any) -> Any:
        raise Unavailable("log.full", "wait")


def test_nothing_is_traced_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert not tracing.wanted()


def test_the_variable_without_the_packages_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(Misconfigured, match=r"rocade\[otel\]"):
        tracing.open_spans("api")


def test_a_request_is_a_span_named_by_its_route() -> None:
    kept = Kept()
    traffic = TracedTraffic(kept)
    traffic.note("GET", "/v1/vehicles/{ref}", 200, 0.01)
    assert kept.spans == [("GET /v1/vehicles/{ref}", {"http.response.status_code": 200}, "")]
    assert traffic.requests["GET", "/v1/vehicles/{ref}", 200] == 1


async def test_a_refused_tick_is_a_span_with_its_code() -> None:
    kept = Kept()
    publishes = [Publish(None, "batch", b"", 1, 5)] * 3
    with pytest.raises(Unavailable):
        await tracing.TracedIntake(Reluctant(), kept).accept(publishes)
    assert kept.spans == [("intake.accept", {"messages": 3}, "log.full")]
