"""What each topic's lines are, made from this region's own summaries. Nothing here reads a position, a name or an owned vehicle's value."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

from rocade.core.catalogue import Catalogue
from rocade.fabric.history import History
from rocade.services.consent import ConsentTable
from rocade.services.crossing import errors
from rocade.services.crossing.model import DAY_US, FEWEST_VEHICLES, Content
from rocade.services.telemetry import Ledger, store
from rocade.services.vehicles import Registry

NEVER = ("identity", "location", "cabin", "other")
"""Data classes of which not even a mean crosses."""
PAGE = 1_000
FEW, OWNED = "fewer than 10 vehicles", "owned vehicles"


class Sources:
    """What topics are made from."""

    def __init__(
        self, history: History, registry: Registry, ledger: Ledger, rights: ConsentTable, catalogue: Catalogue
    ) -> None:
        self._history = history
        self._registry = registry
        self._ledger = ledger
        self._rights = rights
        self._catalogue = catalogue

    async def content(self, topic: str, signals: Sequence[str], from_us: int, until_us: int) -> Content:
        """The lines of a topic for whole days. Raises: Refused `crossing.signal`."""
        match topic:
            case "fleet.daily":
                return await self._daily(self._wanted(signals), from_us, until_us)
            case "fleet.models":
                models = await self._registry.models()
                kept = [line for line in models if line[3] >= FEWEST_VEHICLES]
                return Content(tuple(kept), _counted({FEW: len(models) - len(kept)}))
            case _:
                return Content(tuple(sorted((await self._ledger.counts()).items())), {})

    def _wanted(self, names: Sequence[str]) -> dict[int, str]:
        """Ids and names of the signals asked for; those that could tell of a person are refused."""
        found = [self._catalogue.by_name(name) for name in names]
        if not found:
            raise errors.signals("name at least one signal")
        for signal in found:
            if signal.data_class in NEVER:
                raise errors.signals(f"{signal.name} is of class {signal.data_class}, which never leaves a region")
        return {int(signal.id): signal.name for signal in found}

    async def _daily(self, signals: dict[int, str], from_us: int, until_us: int) -> Content:
        models, owned = await self._models()
        found = await store.hourly(
            self._history, list(signals), from_us, until_us, every_us=DAY_US, vehicles=list(models), without=()
        )
        lines: dict[tuple[str, str, str, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
        columns = (found.column(name).to_pylist() for name in ("signal", "group", "from_us", "count", "mean"))
        for signal, ref, day_us, count, mean in zip(*columns, strict=True):
            line = lines[signals[signal], *models[ref], datetime.fromtimestamp(day_us / 1e6, UTC).date().isoformat()]
            line[0], line[1], line[2] = line[0] + 1, line[1] + count, line[2] + count * mean
        kept = [
            (*key, int(vehicles), int(count), round(total / count, 6))
            for key, (vehicles, count, total) in sorted(lines.items())
            if vehicles >= FEWEST_VEHICLES
        ]
        return Content(tuple(kept), _counted({FEW: len(lines) - len(kept), OWNED: owned}))

    async def _models(self) -> tuple[dict[int, tuple[str, str]], int]:
        """Brand and model of every vehicle without an owner, and how many have one."""
        models: dict[int, tuple[str, str]] = {}
        owned, cursor = 0, None
        while True:
            page = await self._registry.list(cursor, PAGE)
            for vehicle in page.vehicles:
                if self._rights.is_owned(vehicle.ref):
                    owned += 1
                else:
                    models[vehicle.ref] = vehicle.brand, vehicle.model
            if (cursor := page.cursor) is None:
                return models, owned


def _counted(left_out: dict[str, int]) -> dict[str, int]:
    return {why: count for why, count in left_out.items() if count}
