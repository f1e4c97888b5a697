"""The demo's terminal view: what connects, flows and waits, once a second; plain lines where there is no terminal."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from rocade.agents.vehicle.convoy import Totals
from rocade.app import demo_dealers
from rocade.app.configuration import Configuration
from rocade.fabric.status import ProcessStatus


class View:
    def __init__(
        self,
        screen: Console,
        configuration: Configuration,
        links: Mapping[str, str],
        started_s: float,
        *,
        with_chaos: bool,
    ) -> None:
        self._screen = screen
        self._live = Live(console=screen, refresh_per_second=2, transient=False)
        self._before: Totals | None = None
        self._missing = 0
        self._said = ""
        self._bytes_per_point = 0.0
        self.twin_p99_ms = 0.0
        address = f"http://localhost:{configuration.http.pages_port}"
        directory = configuration.root
        screen.print(f"\n  [bold]Rocade is running[/] (in {started_s:.1f} s) at [bold cyan]{address}[/]\n")
        screen.print("  open one of these (each works once) and click a vehicle on the live map:", style="dim")
        for role, link in links.items():
            screen.print(f"    {role:<9} [bold cyan]{link}[/]", soft_wrap=True)
        screen.print()
        screen.print("  commands to try in another terminal:", style="dim")
        for command in ("vehicles", "status", "audit verify"):
            screen.print(f"    {program()} {command} --config {shown(directory)}", highlight=False, soft_wrap=True)
        dealer = f"{program()} dealer price {demo_dealers.REFERENCE} --dir {shown(directory / 'dealer')}"
        screen.print(f"    {dealer}", highlight=False, soft_wrap=True)
        if with_chaos:
            screen.print(f"  pull a plug yourself: {address}/#plug", style="dim")
        screen.print()

    def __enter__(self) -> Self:
        if self._screen.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._screen.is_terminal:
            self._live.stop()

    def say(self, text: str) -> None:
        self._said = text
        if not self._screen.is_terminal:
            self._screen.print(text, highlight=False)

    def weigh(self, bytes_per_point: float) -> None:
        self._bytes_per_point = bytes_per_point

    def show(
        self, totals: Totals | None, processes: list[ProcessStatus], restarts: int, lost: int, missing: int
    ) -> None:
        """One look; rates are since the look before. `lost`: points the senders know to be acknowledged and history lacks.
        `missing`: numbers the platform lacks and asks for.
        """
        if totals is None:
            return
        worker = next((one.values for one in processes if one.role == "worker" and one.is_alive), {})
        gateway = next((one.values for one in processes if one.role == "gateway" and one.is_alive), {})
        self.twin_p99_ms = float(worker.get("visible_p99_ms", self.twin_p99_ms))
        before, self._before = self._before or totals, totals
        messages = totals.acknowledged_batches - before.acknowledged_batches
        points = totals.acknowledged_points - before.acknowledged_points
        alive = ", ".join(sorted(one.process for one in processes if one.is_alive))
        rows = {
            "vehicles connected": f"{totals.connected:,} of {totals.vehicles:,}",
            "acknowledged": f"{messages:,} messages/s, {points:,} points/s; {totals.acknowledged_points:,} points in all",
            "acknowledgement": f"p50 {totals.ack_p50_ms:.1f} ms, p99 {totals.ack_p99_ms:.1f} ms",
            "visible in the twin": f"p99 {self.twin_p99_ms:.0f} ms after arrival",
            "waiting": f"{totals.waiting_batches:,} vehicles hold batches, gateway holds {int(gateway.get('waiting_bytes', 0)):,} bytes",
            "acknowledged and lost": f"[bold red]{lost:,} points[/]" if lost else "0",
            "lag": f"{float(worker.get('lag_s', 0.0)):.1f} s; {int(worker.get('lag_records', 0)):,} records wait for the worker",
            "disk": f"{self._bytes_per_point:.2f} bytes per point (falls as parts merge)"
            if self._bytes_per_point
            else "-",
            "gaps": f"{missing:,} batches missing now; {totals.resent_batches:,} sent again because they were asked for",
            "processes": f"{alive or 'none reports'}; restarts {restarts}",
        }
        if self._said:
            rows["last plug pulled"] = self._said
        if not self._screen.is_terminal:
            if missing != self._missing:
                self._screen.print(f"gaps: {rows['gaps']}", highlight=False)
            self._missing = missing
            return
        table = Table.grid(padding=(0, 2))
        for name, value in rows.items():
            table.add_row(f"  [dim]{name}[/]", value)
        self._live.update(table)


def program() -> str:
    """How the shell in the present folder calls this program."""
    me, known = Path(sys.argv[0]).absolute(), which("rocade")
    if me.name == "__main__.py":
        return f"{shown(Path(sys.executable))} -m rocade"
    return "rocade" if known and Path(known).absolute() == me else shown(me)


def shown(path: Path) -> str:
    """The path as the shell reads it, from the present folder where it lies below it."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))
