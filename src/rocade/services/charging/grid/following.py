"""What was done about each signal, written down while it holds: plan, cars told, obedience, load, end.

Flow: every `STEP_S` the signals whose time has come and whose end is not written yet -> the depot's board -> lines of proof, each of
its kind once (`once`), so that a restart goes on where it stood and two processes write the same. The load is measured as cars and
stations say it, and counts only when every car that draws has been heard after the signal began to hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from rocade.core.errors import RocadeError
from rocade.fabric.database.connection import DOWN
from rocade.services.charging import store as charging_store
from rocade.services.charging.grid import store
from rocade.services.charging.grid.dimming import Grid
from rocade.services.charging.grid.model import (
    ENDED,
    KEPT,
    MEASURED,
    PLANNED,
    PROVEN,
    TOLD,
    Proof,
    is_within,
)
from rocade.services.charging.model import Board, Dimming

STEP_S = 2.0
REACHED = ("accepted", "waking", "applied", "verified")
EVERY_US = 900_000_000
"""A measured load is written when it comes within or goes above, and this often."""
_log = logging.getLogger("rocade.charging")

type Lines = list[tuple[Proof, str | None]]
type Told = Callable[[Sequence[int], int], Awaitable[Mapping[int, Sequence[Proof]]]]
"""`await told(refs, since_us)`: what stations were told and did, by vehicle (`app` knows stations; this does not)."""


class Follower:
    """The proof of all depots of a region."""

    def __init__(self, grid: Grid, at_stations: Told | None = None) -> None:
        self._grid, self._charging = grid, grid.charging
        self._at_stations = at_stations

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.step()
            except (RocadeError, OSError, *DOWN):
                _log.exception("the proof of grid signals was not written; tried again")
            await asyncio.sleep(STEP_S)

    async def step(self) -> int:
        """Follow every signal once; how many."""
        now_us = self._charging.clock.now_us()
        async with charging_store.transaction(self._charging.database) as connection:
            due = await store.unfinished(connection, now_us)
        boards: dict[str, Board] = {}
        for one in due:
            if one.site not in boards:
                boards[one.site] = await self._charging.board(one.site)
            lines = await self._lines(one, boards[one.site])
            async with charging_store.transaction(self._charging.database) as connection:
                await store.add_proof(connection, self._charging.columns, one.site, one.signal, lines)
        return len(due)

    async def _lines(self, one: Dimming, board: Board) -> Lines:
        end_us = one.ended_us or one.until_us
        if board.at_us >= end_us:
            return [(Proof(end_us, ENDED), f"ended {one.told_us}")]
        begun_us = max(one.told_us, one.from_us)
        lines: Lines = []
        if one.honoured_us:
            planned = sum(car.planned_kw for car in board.cars)
            lines.append((Proof(one.honoured_us, PLANNED, 0, round(planned, 3)), f"planned {one.told_us}"))
        refs = [car.ref for car in board.cars]
        lines += await self._commanded(refs, one.told_us)
        if self._at_stations is not None:
            for ref, found in (await self._at_stations(refs, one.told_us)).items():
                lines += [(line, f"station {line.what} {ref} {line.at_us}") for line in found]
        return lines + await self._measured(one, board, begun_us)

    async def _commanded(self, refs: Sequence[int], since_us: int) -> Lines:
        """Commands about charging that these cars were given since the signal came."""
        commands = self._charging.engines.commands
        lines: Lines = []
        for ref in refs if commands is not None else ():
            assert commands is not None
            for given in (await commands.of(ref, limit=10)).commands:
                if given.created_us < since_us or not given.lane.startswith("charging"):
                    continue
                at = {moment.state: moment.at_us for moment in given.life}
                if sent_us := at.get("sent", given.created_us if given.state in REACHED else 0):
                    lines.append((Proof(sent_us, TOLD, ref, None, given.act), f"told {given.id}"))
                if proven_us := at.get("verified"):
                    lines.append((Proof(proven_us, PROVEN, ref, None, given.act), f"proven {given.id}"))
        return lines

    async def _measured(self, one: Dimming, board: Board, begun_us: int) -> Lines:
        """The depot's load now, once everything that draws was heard after the signal began to hold."""
        heard = await self._heard(board)
        drawing = [car.ref for car in board.cars if car.power_kw > 0]
        if any(heard.get(ref, 0) <= begun_us for ref in drawing):
            return []
        within = is_within(board.load_kw, one.limit_kw)
        line = Proof(board.at_us, MEASURED, 0, board.load_kw, "within" if within else "above")
        async with charging_store.transaction(self._charging.database) as connection:
            last = await store.last_measured(connection, self._charging.columns, one.site, one.signal)
        lines: Lines = []
        if last is None or last.code != line.code or line.at_us - last.at_us >= EVERY_US:
            lines.append((line, None))
        if within:
            lines.append((Proof(board.at_us, KEPT, 0, board.load_kw), f"kept {begun_us}"))
        return lines

    async def _heard(self, board: Board) -> dict[int, int]:
        """When each car's power was last said, by itself or by its station."""
        async with charging_store.transaction(self._charging.database) as connection:
            found = await self._charging.standings(connection, [car.ref for car in board.cars])
        return {ref: one.now.seen_us for ref, one in found.items()}
