"""What is sealed, forgotten, given away and proven, measured; each part by its own file, one record of all.

    python -m benchmarks --only proof [--full]          quick, or at the size the goals are stated for
    python benchmarks/proof.py --parts seal,audit       some parts

Parts run one after the other in processes of their own, with nothing else beside them. Each says its rows as JSON; together they
are build/bench/proof.json with the conditions they were taken under.
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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dealers

PARTS = {
    "keys": "proof_keys",
    "seal": "proof_seal",
    "erase": "proof_erase",
    "audit": "proof_audit",
    "backup": "proof_backup",
    "feeds": "proof_feeds",
    "simulation": "proof_simulation",
}
LIBRARIES = ("numpy", "pyarrow", "chdb", "asyncpg", "cryptography", "obstore", "python-pkcs11", "msgspec", "uvloop")
type Figure = dict[str, object]


def measure_part(part: str, *, full: bool) -> list[Figure]:
    """The rows of one part; a part's `measure` may be asynchronous."""
    found = importlib.import_module(PARTS[part]).measure(full=full)
    return asyncio.run(found) if inspect.isawaitable(found) else found  # type: ignore[arg-type]  # a part's own coroutine


def installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the size the goals are stated for")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {', '.join(PARTS)}")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print("\n" + json.dumps(measure_part(options.part, full=options.full)))
        return 0
    load = os.getloadavg()[0]
    rows: list[Figure] = []
    failed: list[str] = []
    for part in options.parts.split(","):
        print(f"-- {part}", flush=True)
        command = [sys.executable, __file__, "--part", part, *(["--full"] if options.full else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        said, _, last = done.stdout.decode().rstrip().rpartition("\n")
        print(said.strip(), flush=True)
        if done.returncode:
            print(f"{last}\n{part} failed with {done.returncode}")
            failed.append(part)
            continue
        found = json.loads(last)
        dealers.show(found)
        rows += found
    write(rows, failed, load, full=options.full)
    return int(bool(failed) or (options.full and any(row.get("met") is False for row in rows)))


def write(rows: list[Figure], failed: list[str], load: float, *, full: bool) -> None:
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    conditions = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} when begun",
        "versions": {name: installed(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "full": full,
        "failed": failed,
        "load": "peer and ours on the same cores one after the other, loopback",
    }
    (build / "proof.json").write_text(json.dumps({"conditions": conditions, "figures": rows}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
