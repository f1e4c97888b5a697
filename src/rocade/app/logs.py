"""Structured logs: one JSON object a line on standard error, without personal data (no VIN, no position, no body).

Fields: `at` (ISO 8601 UTC), `level`, `role`, `process`, `event`, and what the caller passed as `extra={"facts": {...}}`.
`ROCADE_LOG=debug|info|warning` sets the level.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime

import msgspec


class JsonLines(logging.Formatter):
    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        self._process = os.environ.get("ROCADE_PROCESS", role)

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "role": self._role,
            "process": self._process,
            "event": record.getMessage(),
            "where": record.name,
        }
        facts = getattr(record, "facts", None)
        if isinstance(facts, dict):
            line |= facts
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def configure(role: str) -> None:
    """Send all logging of this process to standard error as JSON lines.

    What a line does not hold (thread, process, task, caller) is not looked for: a fifth of a line's cost.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.logAsyncioTasks = False  # type: ignore[attr-defined]  # typeshed lacks it
    logging._srcfile = None  # as the standard library's own notes on speed advise
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(role))
    level = os.environ.get("ROCADE_LOG", "info").upper()
    logging.basicConfig(
        level=level if level in logging.getLevelNamesMapping() else "INFO", handlers=[handler], force=True
    )
    for noisy in ("httpx", "httpcore", "alembic", "uvicorn.access", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # a stack each time a lost database is tried again


def quiet() -> None:
    """For commands that own the terminal: only errors of our own code, as plain lines."""
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr, force=True)
