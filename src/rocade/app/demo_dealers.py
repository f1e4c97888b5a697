"""The demo's dealers: a small network over Europe, a price list with two releases, and one point of sale whose agent really runs.

Made at the first start, found again at later ones. The agent is a process of its own; the others are not joined yet, and the
console's map of dealers tells them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from rocade.agents.dealer import settings as agent_settings
from rocade.app import wiring
from rocade.app.configuration import Configuration
from rocade.app.custodies import open_keyring
from rocade.app.pricing import price_lists
from rocade.core.ports import SystemClock, SystemRandom
from rocade.fabric.database import Database
from rocade.services.dealers import FOREVER_US, BrandAt, Dealer, Dealers, Group, Site, SiteTable
from rocade.trust.authority import AuditLog, Authority, Region

SEED = 20_261_122
DAY_US = 86_400_000_000
ACTOR = "service:demo"
BRANDS = ("renault", "peugeot", "opel")
LIST, PARTS = "renault-fr-retail", 2_000
REFERENCE = 7_700_001
AGENT = "FR-Paris-1"
TOWNS = (
    ("FR", "Paris", 48.86, 2.35), ("FR", "Lyon", 45.76, 4.84), ("FR", "Lille", 50.63, 3.06), ("FR", "Nantes", 47.22, -1.55),
    ("FR", "Marseille", 43.30, 5.37), ("FR", "Bordeaux", 44.84, -0.58), ("DE", "Berlin", 52.52, 13.40), ("DE", "Hamburg", 53.55, 9.99),
    ("DE", "Muenchen", 48.14, 11.58), ("IT", "Milano", 45.46, 9.19), ("IT", "Roma", 41.90, 12.50), ("ES", "Madrid", 40.42, -3.70),
    ("ES", "Barcelona", 41.39, 2.17), ("PT", "Lisboa", 38.72, -9.14), ("BE", "Bruxelles", 50.85, 4.35), ("NL", "Rotterdam", 51.92, 4.48),
    ("AT", "Wien", 48.21, 16.37), ("PL", "Warszawa", 52.23, 21.01), ("CZ", "Praha", 50.08, 14.44), ("SE", "Stockholm", 59.33, 18.07),
)  # fmt: skip
"""Country, town, latitude, longitude: well-known places, rounded."""


async def settle(configuration: Configuration, database: Database, audit: AuditLog, directory: Path) -> Path:
    """The folder of the one agent that runs."""
    clock = SystemClock()
    async with open_keyring(configuration, database, clock) as keyring:
        return await _settle(wiring.Common(configuration, clock, SystemRandom(), database, audit, keyring), directory)


async def _settle(parts: wiring.Common, directory: Path) -> Path:
    configuration, database, audit = parts.configuration, parts.database, parts.audit
    dealers = Dealers(database, audit, parts.clock, parts.random)
    if not await dealers.count():
        await _fill(parts, dealers, directory)
    place = directory / "dealer"
    if not (place / "hubs").exists():
        region = Region(configuration.trust, parts.clock, parts.random)
        authority = Authority(region, database, audit, parts.clock, parts.random)
        (credential,) = await authority.provision([region.identity("dealer", AGENT)], ACTOR)
        credential.write(place / "hubs" / "main")
    hub = agent_settings.Hub("main", "localhost", configuration.exchange.port, configuration.http.api_port,
                             configuration.est.port)  # fmt: skip
    settings = place / agent_settings.FILE
    await asyncio.to_thread(settings.write_text, "# Written anew at each start of the demo.\n[local]\nport = 0\n")
    agent_settings.add_hub(place, hub)
    return place


async def _fill(parts: wiring.Common, dealers: Dealers, directory: Path) -> None:
    dice, now_us = random.Random(SEED), parts.clock.now_us()
    sites, companies = [], []
    for country, town, north, east in TOWNS:
        dealer = f"{country}-{town}"
        companies.append(Dealer(dealer, f"Autohaus {town}", "nord" if north > 50 else "sud", country))
        for place in (1, 2):
            held = tuple(BrandAt(brand, sells=place == 1, services=True, from_us=now_us - 900 * DAY_US)
                         for brand in BRANDS if brand == "renault" or dice.random() < 0.5)  # fmt: skip
            sites.append(
                Site(
                    f"{dealer}-{place}", dealer, companies[-1].group, f"{town} {'Centre' if place == 1 else 'Port'}",
                    country, "" if place == 1 else f"{dealer}-1", "", town, north + dice.uniform(-0.06, 0.06),
                    east + dice.uniform(-0.06, 0.06), "Europe/Paris", "Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "",
                    now_us - 900 * DAY_US, FOREVER_US, held,
                )
            )  # fmt: skip
    await dealers.put(sites, companies, [Group("nord", "Groupe Nord"), Group("sud", "Groupe Sud")], ACTOR)
    await _publish(parts, directory, dice, now_us)


async def _publish(parts: wiring.Common, directory: Path, dice: random.Random, now_us: int) -> None:
    """A list as of a month ago, and a tenth of it changed since yesterday."""
    table = await SiteTable.open(parts.database, parts.clock)
    try:
        lists = price_lists(parts, table)
        if lists is None:
            return
        await lists.add(LIST, "renault", "FR", "EUR", "retail", ACTOR)
        prices = [dice.randrange(150, 90_000) for _ in range(PARTS)]
        file = directory / "prices.csv"
        for days in (30, 1):
            rows = [f"{REFERENCE + at};{price / 100:.2f};Part {at};{'brakes' if at % 2 else 'filters'}"
                    for at, price in enumerate(prices)]  # fmt: skip
            await asyncio.to_thread(file.write_text, "ref;price;label;family\n" + "\n".join(rows) + "\n")
            draft = await lists.draft(LIST, file, now_us - days * DAY_US, ACTOR)
            await lists.release(LIST, draft.id, ACTOR, draft.report.needs)
            prices = [price + price // 20 if dice.random() < 0.1 else price for price in prices]
        file.unlink()
    finally:
        await table.close()


@contextlib.asynccontextmanager
async def agent(place: Path, log: Path) -> AsyncIterator[None]:
    """Run the agent of `place` in a process of its own while the demo lasts."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "rocade", "dealer", "run", "--dir", str(place),
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        if process.returncode is None:
            process.kill()
            await process.wait()
