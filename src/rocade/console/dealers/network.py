"""The network of dealers: every point of sale on a map and in a list, with how its line is.

A site is `connected`, `lagging` (connected, and a price list behind), `away` (its line is down) or `never` (no agent has dialled in
yet). All states are read at once and kept for `FRESH_US`: a page of 6,500 sites costs one query.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, SkipValidation

from rocade.console.pages import render
from rocade.core.ports import Clock
from rocade.doors.http import AnyRequest, does
from rocade.fabric.database import Database
from rocade.services.dealers import Site, SiteTable
from rocade.services.exchange import Standing, Wanted, read_presence
from rocade.services.interconnection import Interconnection
from rocade.services.prices import Lists
from rocade.services.showcase import Showcase
from rocade.trust.authority.gate import acts

STATES = ("connected", "lagging", "away", "never")
FRESH_US = 2_000_000
DAY_US = 86_400_000_000
PAGE = 50


class Said(msgspec.Struct, frozen=True):
    """What an agent last said of itself, as far as pages show it."""

    version: str = ""
    outbox: int = 0
    set_aside: int = 0
    lists: dict[str, int] = {}


class SiteState(msgspec.Struct, frozen=True):
    """How a site's line is. `behind`: its lists that are not at their last release."""

    state: str = "never"
    since_us: int = 0
    until_us: int = 0
    certificate_end_us: int = 0
    said_us: int = 0
    said: Said = Said()
    behind: tuple[str, ...] = ()

    def days_left(self, now_us: int) -> int | None:
        """Whole days its certificate still lives; None = it never had one here."""
        return (self.certificate_end_us - now_us) // DAY_US if self.certificate_end_us else None


NEVER = SiteState()


class Messages(Protocol):
    """What is known of messages (`services.exchange.Exchange`)."""

    async def search(self, wanted: Wanted, before: int = ..., limit: int = ...) -> list[Standing]: ...
    async def standing(self, number: int) -> Standing: ...


@dataclass(kw_only=True)
class Network:
    """What the pages of dealers ask; put together in `app.dealing`."""

    table: SiteTable
    database: Database
    clock: Clock
    interconnection: Interconnection
    lists: Lists | None = None
    messages: Messages | None = None
    showcase: Showcase | None = None
    _read_us: int = field(default=0, init=False)
    _states: dict[str, SiteState] = field(default_factory=dict, init=False)

    async def states(self) -> dict[str, SiteState]:
        """Every site that ever had a line, by its id, as of two seconds ago at most."""
        now_us = self.clock.now_us()
        if now_us - self._read_us > FRESH_US:
            last = {one.id: one.seq for one in await self.lists.lists()} if self.lists else {}
            rows = await read_presence(self.database)
            self._states = {
                row.party.removeprefix("dealer/"): _state(row.since_us, row.until_us, row.certificate_end_us,
                                                          row.state, row.state_us, last)
                for row in rows if row.party.startswith("dealer/")
            }  # fmt: skip
            self._read_us = now_us
        return self._states


def _state(
    since_us: int, until_us: int, end_us: int, raw: bytes | None, said_us: int, last: dict[str, int]
) -> SiteState:
    try:
        said = msgspec.json.decode(raw, type=Said) if raw else Said()
    except (msgspec.MsgspecError, UnicodeDecodeError):  # another program's, or a later version's
        said = Said()
    behind = tuple(sorted(name for name, seq in said.lists.items() if seq < last.get(name, 0)))
    state = "away" if until_us else "lagging" if behind else "connected"
    return SiteState(state, since_us, until_us, end_us, said_us, said, behind)


NetworkDependency = NamedDependency[SkipValidation[Network]]


class Points(msgspec.Struct, frozen=True):
    """Columns of equal length, for the map. `states`: numbers into `STATES`; positions in degrees."""

    ids: list[str]
    names: list[str]
    longitudes: list[float]
    latitudes: list[float]
    states: list[int]
    days_left: list[int | None]


@get("/dealers/points", opt=does(acts.READ_DEALERS), include_in_schema=False)
async def points(network: NetworkDependency) -> Points:
    """Every open site that has a position."""
    now_us, states = network.clock.now_us(), await network.states()
    shown = [
        one for one in network.table if one.latitude is not None and one.longitude is not None and one.is_open(now_us)
    ]
    known = [states.get(one.id, NEVER) for one in shown]
    return Points(
        [one.id for one in shown],
        [one.name for one in shown],
        [one.longitude or 0.0 for one in shown],
        [one.latitude or 0.0 for one in shown],
        [STATES.index(one.state) for one in known],
        [one.days_left(now_us) for one in known],
    )


@get("/dealers", opt=does(acts.READ_DEALERS), include_in_schema=False)
async def show_network(
    request: AnyRequest,
    network: NetworkDependency,
    find: FromQuery[str] = "",
    brand: FromQuery[str] = "",
    country: FromQuery[str] = "",
    line: FromQuery[str] = "",
    cursor: FromQuery[str] = "",
) -> Response[str]:
    now_us, states = network.clock.now_us(), await network.states()
    everything = sorted((one for one in network.table if one.is_open(now_us)), key=lambda one: one.id)
    counts = Counter(states.get(one.id, NEVER).state for one in everything)
    found = [one for one in everything if _fits(one, states.get(one.id, NEVER), find, brand, country, line, now_us)]
    shown = [one for one in found if one.id > cursor][:PAGE]
    asked = {"find": find, "brand": brand, "country": country, "line": line}
    query = urlencode({name: value for name, value in asked.items() if value})
    last = shown[-1].id if shown else ""
    return render(
        request,
        "dealers/network.html",
        "dealers",
        {"states": STATES},
        sites=[(one, states.get(one.id, NEVER)) for one in shown],
        now_us=now_us,
        counts=[(state, counts[state]) for state in STATES],
        found=len(found),
        all=len(everything),
        asked=asked,
        brands=_choices(brand.brand for one in everything for brand in one.brands_at(now_us)),
        countries=_choices(one.country for one in everything),
        next=f"/dealers?{query}&cursor={last}" if found and last != found[-1].id else "",
        first=f"/dealers?{query}" if cursor else "",
    )


def _fits(one: Site, state: SiteState, find: str, brand: str, country: str, line: str, now_us: int) -> bool:
    words = f"{one.id} {one.name} {one.city} {one.dealer} {one.group}".casefold()
    return (
        all(word in words for word in find.casefold().split())
        and (not country or one.country == country)
        and (not line or state.state == line)
        and (not brand or any(held.brand == brand for held in one.brands_at(now_us)))
    )


def _choices(values: Iterable[str]) -> list[tuple[str, str]]:
    return [(value, value) for value in sorted(set(values))]


HANDLERS = [show_network, points]
