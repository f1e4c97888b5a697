"""Benchmarks in parts: each measured by its own file in a process of its own, all written into one record.

A part's module has `measure(*, full)`, asynchronous or not, which returns its rows, made by `figure`. Parts run one
after the other with nothing else beside them; the record is build/bench/<area>.json with the conditions they were taken under.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

type Figure = dict[str, object]


def measure_part(module: str, *, full: bool) -> list[Figure]:
    """The rows of one part; a part's `measure` may be asynchronous."""
    found = importlib.import_module(module).measure(full=full)
    return asyncio.run(found) if inspect.isawaitable(found) else found  # type: ignore[arg-type]  # a part's own coroutine


def figure(
    name: str, value: float, unit: str, goal: float | None = None, *, less: bool = True, is_exact: bool = True, peer: str = "",
    peer_value: float | None = None, **detail: object,
) -> Figure:  # fmt: skip
    """A row. `less`: the goal is met by what is no more than it; `is_exact`: what was measured counts at all."""
    met = None if goal is None else is_exact and (value <= goal if less else value >= goal)
    ratio = value / peer_value if peer_value else None
    return {"figure": name, "value": round(value, 3), "unit": unit, "goal": goal, "met": met, "peer": peer,
            "peer_value": peer_value and round(peer_value, 3), "ratio": ratio and round(ratio, 3), **detail}  # fmt: skip


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Their CPU seconds so far; one that has ended counts nothing."""
    used = 0.0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def show(rows: list[Figure]) -> None:
    for row in rows:
        goal = "" if row.get("goal") is None else f"  goal {row['goal']:g}: {'met' if row['met'] else 'MISSED'}"
        peer = f"  {row['peer']}: {row['peer_value']} ({row['ratio']} x)" if row.get("peer") else ""
        print(f"{row['figure']:78} {row['value']:>12} {row['unit']}{goal}{peer}", flush=True)


def installed(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"


def main(program: str, about: str, parts: Mapping[str, str], libraries: Sequence[str]) -> int:
    """What the program at this path does: `parts` are modules by name, `libraries` those whose versions count."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the size the goals are stated for")
    parser.add_argument("--parts", default=",".join(parts), help=f"of {', '.join(parts)}")
    parser.add_argument("--part", choices=tuple(parts), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print("\n" + json.dumps(measure_part(parts[options.part], full=options.full)))
        return 0
    load = os.getloadavg()[0]
    rows: list[Figure] = []
    failed: list[str] = []
    for part in options.parts.split(","):
        print(f"-- {part}", flush=True)
        command = [sys.executable, program, "--part", part, *(["--full"] if options.full else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        said, _, last = done.stdout.decode().rstrip().rpartition("\n")
        print(said.strip(), flush=True)
        if done.returncode:
            print(f"{last}\n{part} failed with {done.returncode}")
            failed.append(part)
            continue
        found = json.loads(last)
        show(found)
        rows += found
    write(Path(program).stem, rows, failed, load, libraries, full=options.full)
    return int(bool(failed) or (options.full and any(row.get("met") is False for row in rows)))


def write(
    area: str, rows: list[Figure], failed: list[str], load: float, libraries: Sequence[str], *, full: bool
) -> None:
    build = Path("build/bench")
    build.mkdir(parents=True, exist_ok=True)
    conditions = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} when begun",
        "versions": {name: installed(name) for name in libraries} | {"python": platform.python_version()},
        "full": full,
        "failed": failed,
        "load": "peer and ours on the same cores one after the other, loopback",
    }
    (build / f"{area}.json").write_text(json.dumps({"conditions": conditions, "figures": rows}, indent=1))
