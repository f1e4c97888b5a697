"""Traces of HTTP requests (see `tracing`): apart, because it is the API role alone that has the HTTP door, and starts with it."""

from __future__ import annotations

import time

from rocade.app.tracing import Spans
from rocade.doors.http.shell import Traffic


class TracedTraffic(Traffic):
    """The HTTP door's counters, and a span for each request."""

    def __init__(self, spans: Spans) -> None:
        super().__init__()
        self._spans = spans

    def note(self, method: str, template: str, status: int, took_s: float) -> None:
        super().note(method, template, status, took_s)
        began_ns = time.time_ns() - int(took_s * 1e9)
        self._spans.finished(f"{method} {template}", began_ns, {"http.response.status_code": status})
