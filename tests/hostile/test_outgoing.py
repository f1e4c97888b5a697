"""What a server of Rocade asks of other hosts is in its configuration, never in a request. OWASP API7, API10 (2023)."""

from __future__ import annotations

import ast
from pathlib import Path

import rocade

SOURCE = Path(rocade.__file__).parent
CLIENTS = {"httpx", "urllib.request", "aiohttp", "requests", "http.client", "urllib3", "ftplib", "smtplib"}
MAY = {
    "doors/http/openid.py": "the identity provider named in rocade.toml",
    "fabric/history/http_shape.py": "the history named in rocade.toml or ROCADE_HISTORY_URL",
    "fabric/history/client.py": "the same",
    "fabric/history/unix.py": "the store process, over its local socket",
    "fabric/log/cluster.py": "the NATS servers it started itself",
    "app/client.py": "the command line, on its own region's API",
    "app/witnessing.py": "a witness of the command line, at the region it was told of",
    "console/vendor.py": "set-up: the browser's libraries, before anything is served",
    "sdk.py": "a dealer's or partner's own program, at the hub it was told of",
    "app/sandbox/rehearsal.py": "the sandbox, at its own hub",
    "agents/dealer/following.py": "a dealer's agent, at the hubs in its settings",
    "agents/dealer/doctor.py": "the same",
    "trust/identity/est_client.py": "vehicles and the command line, at the enrolment door they were told of",
}
"""Modules that speak HTTP to somebody, and to whom."""


def imported(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_only_named_modules_speak_to_other_hosts() -> None:
    speaking = {
        str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if imported(file) & CLIENTS
    }  # fmt: skip
    assert speaking <= set(MAY), speaking - set(MAY)
