"""Charging stations in a table: how each line is, what it speaks, and which limits it has been seen to obey."""

from __future__ import annotations

import msgspec

from rocade.console.charging import acts
from rocade.console.charging.desk import ChargeDesk
from rocade.console.my.frame import texts_of
from rocade.console.viewer import may
from rocade.doors.http import AnyRequest

SHOWN = 100


class StationRow(msgspec.Struct, frozen=True):
    """`kind`: of the pill; `dialect`: the ways of limiting that its meter proved, or that it took."""

    id: str
    model: str
    state: str
    kind: str
    protocol: str
    dialect: str
    seen_us: int


async def rows(request: AnyRequest, charge: ChargeDesk, site: str) -> list[StationRow]:
    """Of one depot, or of all (`site` '')."""
    if charge.stations is None or not may(request, acts.READ_STATIONS):
        return []
    texts, found = texts_of(request), await charge.stations.page(count=SHOWN, site=site)
    shown = []
    for one in found:
        state = "connected" if one.is_here else "away" if one.seen_us else "never"
        dialect = await charge.stations.dialect(one.id)
        obeys = [f"{way.way.purpose} ({way.way.unit})" for way in dialect.shown if way.proof in {"proven", "accepted"}]
        kind = {"connected": "good", "away": "bad"}.get(state, "")
        model = f"{one.vendor} {one.model}".strip()
        shown.append(
            StationRow(
                one.id, model, texts[f"charging_station.{state}"], kind, one.version, ", ".join(obeys), one.seen_us
            )
        )
    return shown
