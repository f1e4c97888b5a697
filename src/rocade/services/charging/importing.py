"""Series over time: prices, CO2 of the grid, a building's load and sun; made once, filled from files or values, read on slots.

What is published takes the place of a forecast, never the other way round. A file in another currency, for another bidding zone or
in another unit is refused whole. Each import is a version: plans that rest on the series are made anew within a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import numpy as np

from rocade.services.charging import errors, ledger, store
from rocade.services.charging.acting import Acts
from rocade.services.charging.ledger import Values
from rocade.services.charging.model import Tariff
from rocade.services.charging.planning import Series
from rocade.services.charging.planning.series import require
from rocade.services.charging.rules import check_tariff
from rocade.services.charging.tariffs import Note, read_carbon, read_prices

MOST_VALUES = 200_000
LATEST_US = 7_258_118_400_000_000
"""The year 2200."""


class SeriesValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One value for [start, end); `low` and `high` bound a forecast."""

    start_us: int
    end_us: int
    value: float
    is_forecast: bool = False
    low: float | None = None
    high: float | None = None


class Imported(msgspec.Struct, frozen=True):
    """What a file brought, and what is to be said about it."""

    tariff: Tariff
    values: int
    notes: tuple[Note, ...]


class Tariffs(Acts):
    """Keeping series."""

    async def add_tariff(self, tariff: Tariff, actor: str) -> Tariff:
        """Make an empty series; made again as it is, nothing changes. Raises: Refused `charging.tariff.*`, `charging.zone`."""
        async with self.acting(actor, "charging.tariff.add", f"tariff:{tariff.id[:64]}") as connection:
            wanted = check_tariff(msgspec.structs.replace(tariff, changed_us=self.clock.now_us()))
            await self.record("charging.tariff.add", actor, f"tariff:{tariff.id}", kind=tariff.kind)
            made = await ledger.add_series(connection, wanted)
            same = ("kind", "currency", "zone", "area")
            if any(getattr(made, name) != getattr(wanted, name) for name in same):
                raise errors.tariff("exists")
            return made

    async def tariffs(self) -> list[Tariff]:
        found: list[Tariff] = await store.fetch(self.database, ledger.series)
        return found

    async def tariff(self, id: str) -> Tariff:
        """Raises: Refused `charging.tariff.unknown`."""
        found: list[Tariff] = await store.fetch(self.database, ledger.series, [id])
        if not found:
            raise errors.tariff("unknown")
        return found[0]

    async def drop_tariff(self, id: str, actor: str) -> None:
        """Plans that rest on it go on without prices. Raises: Refused `charging.tariff.unknown`."""
        async with self.acting(actor, "charging.tariff.drop", f"tariff:{id[:64]}") as connection:
            await self.record("charging.tariff.drop", actor, f"tariff:{id[:64]}")
            if not await ledger.drop_series(connection, id):
                raise errors.tariff("unknown")
            await store.note_changes(connection, [f"series:{id}"], self.clock.now_us())

    async def put_values(self, id: str, values: Sequence[SeriesValue], actor: str) -> Tariff:
        """Lay values over a series. Raises: Refused `charging.tariff.*`."""
        return await self._put(id, _checked(values), actor)

    async def put_series(self, id: str, series: Series, actor: str) -> Tariff:
        """Lay a series that was read from a file over a stored one.

        Raises: Refused `charging.tariff.*`, `charging.prices.*` where unit, currency or bidding zone are others.
        """
        tariff = await self.tariff(id)
        require(series, unit=tariff.unit, zone=tariff.area, currency=tariff.currency)
        values = Values(series.start_us, series.end_us, series.value, series.low, series.high, series.is_forecast)
        return await self._put(id, values, actor)

    async def import_file(self, id: str, content: bytes, actor: str, *, unit: str = "", sequence: int = 0) -> Imported:
        """Take a file in: prices as CSV or as ENTSO-E publishes them, CO2 as CSV. `sequence` chooses an auction of several.

        Raises: Refused `charging.file.*`, `xml.*`, `charging.prices.*`, `charging.tariff.*`.
        """
        tariff = await self.tariff(id)
        if tariff.kind == "price":
            parsed = await asyncio.to_thread(
                read_prices, content, clock=tariff.zone, zone=tariff.area, currency=tariff.currency, unit=unit,
                sequence=sequence,
            )  # fmt: skip
        elif tariff.kind == "co2":
            parsed = await asyncio.to_thread(read_carbon, content, clock=tariff.zone, zone=tariff.area, unit=unit)
        else:
            raise errors.tariff("use")
        stored = await self.put_series(id, parsed.series, actor)
        return Imported(stored, len(parsed.series), parsed.notes)

    async def values(self, id: str, from_us: int, until_us: int) -> Values:
        """What a series says in [from, until). Raises: Refused `charging.tariff.unknown`."""
        await self.tariff(id)
        found: Values = await store.fetch(self.database, ledger.values, id, from_us, until_us)
        return found

    async def series(self, id: str) -> Series | None:
        """A series about now with its forecast, as plans see it."""
        async with store.transaction(self.database) as connection:
            return await self.series_of(connection, id)

    async def _put(self, id: str, values: Values, actor: str) -> Tariff:
        if not len(values):
            raise errors.tariff("empty")
        async with self.acting(actor, "charging.tariff.import", f"tariff:{id[:64]}") as connection:
            if not await ledger.series(connection, [id]):
                raise errors.tariff("unknown")
            await self.record("charging.tariff.import", actor, f"tariff:{id}", values=len(values))
            tariff = await ledger.put_values(connection, id, values, self.clock.now_us())
            await store.note_changes(connection, [f"series:{id}"], self.clock.now_us())
        return tariff


def _checked(given: Sequence[SeriesValue]) -> Values:
    """In order of time, none over another, all numbers. Raises: Refused `charging.tariff.values`."""
    if len(given) > MOST_VALUES:
        raise errors.tariff("values")
    if any(not 0 <= one.start_us < one.end_us < LATEST_US for one in given):
        raise errors.tariff("values")
    ordered = sorted(given, key=lambda one: one.start_us)
    start = np.array([one.start_us for one in ordered], np.int64)
    end = np.array([one.end_us for one in ordered], np.int64)
    value = np.array([one.value for one in ordered], np.float64)
    low = np.array([one.value if one.low is None else one.low for one in ordered], np.float64)
    high = np.array([one.value if one.high is None else one.high for one in ordered], np.float64)
    is_forecast = np.array([one.is_forecast for one in ordered], np.bool_)
    if (start[1:] < end[:-1]).any() or not np.isfinite(np.concatenate([value, low, high])).all():
        raise errors.tariff("values")
    return Values(start, end, value, low, high, is_forecast)
