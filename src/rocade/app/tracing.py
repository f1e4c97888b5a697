"""OpenTelemetry traces, if an operator wants them: set `OTEL_EXPORTER_OTLP_ENDPOINT` and install `rocade[otel]`.

Spans: each HTTP request (method and route template, never a path), each tick the gateway takes in (messages), each insert
into the history (rows). They carry counts and codes, no vehicle, no value. Without
the variable nothing is imported and nothing is wrapped. Standard OTEL_* variables configure the exporter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Protocol

from rocade.core.errors import Misconfigured, RocadeError
from rocade.doors.mqtt import Intake, Publish, Verdict
from rocade.fabric.history import History


class Spans(Protocol):
    def finished(self, name: str, began_ns: int, facts: dict[str, str | int], error: str = "") -> None:
        """Record a span from `began_ns` (time.time_ns) until now; `error` is the code that ended it."""
        ...


def wanted() -> bool:
    return bool(os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"))


def open_spans(role: str) -> Spans:
    """Connect to the collector named by the environment.

    Raises: Misconfigured `app.tracing.missing` when the packages are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise Misconfigured(
            "app.tracing.missing", "OTEL_EXPORTER_OTLP_ENDPOINT is set: pip install 'rocade[otel]', or unset it"
        ) from error
    provider = TracerProvider(resource=Resource.create({"service.name": f"rocade-{role}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return _OpenTelemetry(provider.get_tracer("rocade"))


class _OpenTelemetry:
    def __init__(self, tracer: Any) -> None:
        self._tracer = tracer

    def finished(self, name: str, began_ns: int, facts: dict[str, str | int], error: str = "") -> None:
        span = self._tracer.start_span(
            name, start_time=began_ns, attributes={**facts, **({"error": error} if error else {})}
        )
        span.end(time.time_ns())


class TracedIntake:
    """An intake, and a span for each tick."""

    def __init__(self, intake: Intake, spans: Spans) -> None:
        self.admit, self.leave = intake.admit, intake.leave
        self._intake = intake
        self._spans = spans

    async def accept(self, publishes: Sequence[Publish]) -> Sequence[Verdict]:
        began_ns, code = time.time_ns(), ""
        try:
            return await self._intake.accept(publishes)
        except RocadeError as error:
            code = error.code
            raise
        finally:
            self._spans.finished("intake.accept", began_ns, {"messages": len(publishes)}, code)


def trace_inserts(history: History, spans: Spans) -> None:
    """A span for each insert through this client."""
    insert = history.insert

    async def traced(table: str, rows: Any, token: str) -> None:
        began_ns, code = time.time_ns(), ""
        try:
            await insert(table, rows, token)
        except RocadeError as error:
            code = error.code
            raise
        finally:
            spans.finished("history.insert", began_ns, {"table": table, "rows": rows.num_rows}, code)

    history.insert = traced  # type: ignore[method-assign]  # wrapped for this process alone
