"""The dealer road, measured: prices, messages, lines and formats, each part by its own file, one table and one record of all.

    python -m benchmarks --only dealers [--full]          quick, or at the size the goals are stated for
    python benchmarks/dealers.py --parts prices,soap      some parts

Parts run one after the other in processes of their own, with nothing else beside them. Each says its rows as JSON; together they
are build/bench/dealers.json with the conditions they were taken under.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

PARTS = {
    "prices": "dealer_prices",
    "lists": "dealer_lists",
    "messages": "dealer_messages",
    "soap": "dealer_soap",
    "joining": "dealer_joining",
    "fanout": "dealer_fanout",
}
LIBRARIES = ("cryptography", "asyncpg", "lxml", "zstandard", "uvloop", "msgspec")
type Figure = dict[str, object]


def measure_part(part: str, *, full: bool) -> list[Figure]:
    """The rows of one part; a part's `measure` may be asynchronous and may know rows of its own."""
    module = importlib.import_module(PARTS[part])
    measure = module.measure
    arguments = (("messages", "storm"),) if "rows" in inspect.signature(measure).parameters else ()
    found = measure(*arguments, full=full)
    return asyncio.run(found) if inspect.isawaitable(found) else found  # type: ignore[arg-type]  # a part's own coroutine


def show(rows: list[Figure]) -> None:
    for row in rows:
        goal = "" if row.get("goal") is None else f"  goal {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        peer = f"  {row['peer']}: {row['peer_value']} ({row['ratio']} x)" if row.get("peer") else ""
        print(f"{row['figure']:78} {row['value']:>12} {row['unit']}{goal}{peer}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the size the goals are stated for")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print("\n" + json.dumps(measure_part(options.part, full=options.full)))
        return 0
    rows: list[Figure] = []
    status = 0
    for part in options.parts.split(","):
        print(f"-- {part}", flush=True)
        command = [sys.executable, __file__, "--part", part, *(["--full"] if options.full else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        if done.returncode:
            print(f"{part} failed with {done.returncode}")
            status = 1
            continue
        found = json.loads(done.stdout.decode().rstrip().rpartition("\n")[2])
        show(found)
        rows += found
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    conditions = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "full": options.full,
        "load": "generators and hub on the same cores, loopback",
    }
    (build / "dealers.json").write_text(json.dumps({"conditions": conditions, "figures": rows}, indent=1))
    return status or int(any(row.get("met") is False for row in rows) and options.full)


if __name__ == "__main__":
    sys.exit(main())
