"""What the stations of a depot were told about a grid signal, and whether their meters prove it: lines of its proof.

A connector's limit stands as wanted, accepted (the station said so), proven (its meter shows it), rejected or ignored; each is a
line once it changed after the signal came. So a station that accepts and ignores is in the proof as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rocade.core.ports import Clock
from rocade.services.charging.acting import Stations as Hanging
from rocade.services.charging.at_stations import place_of
from rocade.services.charging.grid.model import PROVEN, TOLD, Proof
from rocade.services.charging.stations.model import Connector, Standing
from rocade.services.charging.stations.service import Stations


class ToldAtStations:
    """`following.Told` over the stations of a region; `hanging` says which car hangs where."""

    def __init__(self, stations: Stations, hanging: Hanging, clock: Clock) -> None:
        self._stations, self._hanging, self._clock = stations, hanging, clock

    async def __call__(self, refs: Sequence[int], since_us: int) -> Mapping[int, Sequence[Proof]]:
        found: dict[int, Sequence[Proof]] = {}
        for ref, at in (await self._hanging.connectors_of(refs)).items():
            place: Connector | None = place_of(at.connector)
            standing = await self._stations.standing(place) if place else None
            if standing is not None and standing.at_us >= since_us and standing.state not in ("wanted", "ended"):
                found[ref] = [_line(ref, standing, self._clock.now_us())]
        return found


def _line(ref: int, standing: Standing, now_us: int) -> Proof:
    code = standing.code or f"stations.{standing.state}"
    return Proof(
        standing.at_us, PROVEN if standing.state == "proven" else TOLD, ref, standing.limit.kw_at(now_us), code
    )
