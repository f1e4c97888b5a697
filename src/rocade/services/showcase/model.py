"""What a dealer chose to show (`Card`), and what visitors see of it now (`Shown`)."""

from __future__ import annotations

import re
from datetime import date

import msgspec

from rocade.core.errors import Refused

MOST_ITEMS = 20
MOST_ORIGINS = 10
_ORIGIN = re.compile(r"https://[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?(:\d{1,5})?\Z")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part whose price is shown. `list`: a retail list of a brand the site sells or services."""

    list: str
    ref: str


class Card(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`origins`: web sites that may show it in a frame; none = any."""

    is_on: bool = False
    origins: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()

    def check(self) -> None:
        """Raises: Refused `showcase.origin`, `showcase.items`."""
        if len(self.origins) > MOST_ORIGINS or not all(map(_ORIGIN.match, self.origins)):
            raise Refused("showcase.origin", f"name at most {MOST_ORIGINS} web sites, each like https://garage.example")
        if len(self.items) > MOST_ITEMS or any(not 0 < len(item.ref) <= 64 for item in self.items):
            raise Refused("showcase.items", f"show at most {MOST_ITEMS} parts, each by its reference")


class Offered(msgspec.Struct, frozen=True):
    """One price as visitors see it."""

    ref: str
    label: str
    price_minor: int
    currency: str


class BrandShown(msgspec.Struct, frozen=True):
    brand: str
    sells: bool
    services: bool


class Shown(msgspec.Struct, frozen=True):
    """`week`: minutes after midnight, local, Monday first; `exceptions`: the next dates that differ; `as_of_us`: of the prices."""

    site: str
    name: str
    address: str
    city: str
    country: str
    phone: str
    timezone: str
    is_open: bool | None
    week: tuple[tuple[tuple[int, int], ...], ...]
    exceptions: tuple[tuple[date, tuple[tuple[int, int], ...]], ...]
    brands: tuple[BrandShown, ...]
    items: tuple[Offered, ...]
    origins: tuple[str, ...]
    as_of_us: int
