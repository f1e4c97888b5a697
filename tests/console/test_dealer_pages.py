"""The operator's pages of the dealer road, and a dealer's card, in a real browser over real engines."""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from city import City, fresh_database
from playwright.sync_api import Browser, expect
from test_every_page import LANGUAGES, SCREENSHOTS, VIEWS, walk
from tests.services.dealers.conftest import site
from toytown import leave, wait

from rocade.app.relaying import KnownSites
from rocade.console import Services, pages, vendor
from rocade.console.application import Module
from rocade.console.dealers import Network, handlers
from rocade.fabric.history.process import StoreProcess
from rocade.services.dealers import BrandAt, Dealer, Dealers, Group, SiteTable
from rocade.services.exchange import Standing, Wanted
from rocade.services.exchange import store as exchange_store
from rocade.services.interconnection import Interconnection, NamedService, Rule
from rocade.services.prices import Engines, Lists, Signing, create
from rocade.services.showcase import Card, Item, Showcase
from rocade.services.showcase import api as showcase_api
from rocade.trust.identity.keys import new_key

DAY_US = 86_400_000_000
STATES = ("connected", "lagging", "away", "never")
LIST = "renault-fr-retail"
TOWNS = (("Lyon", 45.76, 4.83), ("Lille", 50.63, 3.06), ("Nantes", 47.22, -1.55), ("Nice", 43.70, 7.27))


class Messages:
    """The read side of the exchange."""

    def __init__(self, trade: Trade) -> None:
        self._trade = trade

    async def search(self, wanted: Wanted, before: int = (1 << 63) - 1, limit: int = 50) -> list[Standing]:
        async with self._trade.database.pool.acquire() as connection:
            return await exchange_store.search(connection, wanted, before, limit)

    async def standing(self, number: int) -> Standing:
        async with self._trade.database.pool.acquire() as connection:
            found = await exchange_store.read_standing(connection, number)
        assert found
        return found


class Trade(City):
    """Four points of sale in four states, a list with two releases, messages, an opened service."""

    fleet = 2

    async def _furnish(self) -> None:
        await super()._furnish()
        now_us = self.clock.now_us()
        self.dealers = Dealers(self.database, self.notes, self.clock, self.random)
        sites = [
            site(f"FR-{at}", f"d-{at}", city=town, name=f"Garage de {town}", latitude=north, longitude=east,
                 opened_us=now_us - 900 * DAY_US, group="martin" if at == 1 else "",
                 brands=(BrandAt("renault", True, True, now_us - 900 * DAY_US),))
            for at, (town, north, east) in enumerate(TOWNS, 1)
        ]  # fmt: skip
        companies = [Dealer(f"d-{at}", f"Société {at}", "martin" if at == 1 else "", "FR") for at in range(1, 5)]
        await self.dealers.put(sites, companies, [Group("martin", "Groupe Martin")])
        self.sites = await SiteTable.open(self.database, self.clock)
        create(self._directory / "prices-trust", new_key(), self.random)
        self.lists = Lists(
            Engines(database=self.database, audit=self.notes, clock=self.clock, random=self.random,
                    directory=self._directory / "prices", signing=Signing(self._directory / "prices-trust"), sites=self.sites)
        )  # fmt: skip
        await self.lists.add(LIST, "renault", "FR", "EUR", "retail", "person:1")
        for price in ("12.50", "13.10"):
            await self._publish(f"ref,price,family,label\nA-100,{price},filters,Oil filter\nA-200,40.00,brakes,Pad\n")
        self.interconnection = Interconnection(
            self.database, self.notes, self.clock, KnownSites(self.sites, self.clock)
        )
        await self.interconnection.put_service(NamedService(name="till", host="127.0.0.1", port=9), "x")
        await self.interconnection.add_rule(Rule(service="till", caller="all"), "x")
        self.showcase = Showcase(self.database, self.notes, self.clock, self.sites, self.lists)
        await self._connect(now_us)
        await self._exchange(now_us)

    async def _publish(self, text: str) -> None:
        path = self._directory / "prices.csv"
        await asyncio.to_thread(path.write_text, text)
        draft = await self.lists.draft(LIST, path, self.clock.now_us(), "person:1", mode="full")
        assert draft.report.is_valid, draft.report.problems
        await self.lists.release(LIST, draft.id, "person:1", draft.report.needs)

    async def _connect(self, now_us: int) -> None:
        def said(seq: int) -> bytes:
            return msgspec.json.encode(
                {"version": "0.1.0", "outbox": 3, "set_aside": 0, "lists": {LIST: seq}, "more": 1}
            )

        hour = 3_600_000_000
        rows = [
            ("dealer/FR-1", "exchange", now_us - hour, 0, now_us + 80 * DAY_US, said(2), now_us),
            ("dealer/FR-2", "exchange", now_us - hour, 0, now_us + 20 * DAY_US, said(1), now_us),
            ("dealer/FR-3", "exchange", now_us - 2 * hour, now_us - hour, now_us + 3 * DAY_US, b"not JSON", now_us),
        ]
        async with self.database.pool.acquire() as connection:
            await exchange_store.write_presence(connection, rows)

    async def _exchange(self, now_us: int) -> None:
        async with self.database.pool.acquire() as connection:
            for number, (state, code) in enumerate(((2, ""), (3, "exchange.route.none"), (1, "")), 1):
                await connection.execute(
                    "INSERT INTO exchange_message VALUES ($1, 'dealer/FR-1', $2, $3, NULL, 'renault', 'FR', 'orders', '',"
                    " 'orders', $1, 0, 'application/json', 420, $4, $4, '', 'local/orders', $5, $6, 'no route', '', 1, 0)",
                    number, f"order-{number}", hashlib.sha256(b"x").digest(), now_us, state, code,
                )  # fmt: skip

    def _services(self) -> Services:
        network = Network(table=self.sites, database=self.database, clock=self.clock, lists=self.lists,
                          interconnection=self.interconnection, messages=Messages(self), showcase=self.showcase)  # fmt: skip
        modules = [
            Module([pages.router(handlers(network))], {"network": network}),
            Module(showcase_api.HANDLERS, {"showcase": self.showcase}),
        ]
        return replace(super()._services(), modules=modules)


@pytest.fixture(scope="module")
def trade(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trade]:
    vendor.fetch(with_development=True)
    with tempfile.TemporaryDirectory(prefix="rocade-trade-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        url = fresh_database(postgres_url, template, "trade")
        with Trade(url, process.url, tmp_path_factory.mktemp("trade")) as made:
            yield made
            made.call(made.sites.close())
        process.stop()


OPENED = [
    ("Ada", "/dealers"), ("Ada", "/dealers/FR-1"), ("Ada", "/prices"), ("Ada", f"/prices/{LIST}"), ("Ada", "/messages"),
    ("Ada", "/messages/2"), ("Ada", "/dealers?line=away"), ("Ada", "/messages?message_state=refused"), ("Ada", "/dealers/FR-4"),
]  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("part", range(3))
def test_every_dealer_page_is_fit_for_everybody(browser: Browser, trade: Trade, part: int) -> None:
    wrong = walk(browser, trade, OPENED[part::3], [LANGUAGES[part]], [VIEWS[part]])
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_dealer_page_is_fit_in_every_language(browser: Browser, trade: Trade, language: str) -> None:
    wrong = walk(browser, trade, OPENED, [language], VIEWS)
    assert wrong == [], "\n" + "\n".join(wrong)


def test_the_map_shows_every_site_with_the_state_of_its_line(browser: Browser, trade: Trade) -> None:
    context = browser.new_context(locale="en")
    page = context.new_page()
    trade.sign_in(page, "Ben")
    page.goto(f"{trade.address}/dealers")
    expect(page.locator("#sites-map")).to_have_attribute("data-ready", "4")
    wait(page, "rocade.map.loaded()")
    page.screenshot(path=SCREENSHOTS / "dealers-map.png")
    for state, name in (("connected", "Lyon"), ("lagging", "Lille"), ("away", "Nantes"), ("never", "Nice")):
        page.goto(f"{trade.address}/dealers?line={state}")
        rows = page.locator("#list tbody tr")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text(name)
    points = page.request.get(f"{trade.address}/dealers/points").json()
    assert dict(zip(points["ids"], points["states"], strict=True)) == {"FR-1": 0, "FR-2": 1, "FR-3": 2, "FR-4": 3}
    assert points["days_left"][:3] == [79, 19, 2]
    leave(context)


def test_the_progress_of_a_release_moves_by_itself(browser: Browser, trade: Trade) -> None:
    context = browser.new_context(locale="en")
    page = context.new_page()
    trade.sign_in(page, "Ada")
    page.goto(f"{trade.address}/prices/{LIST}")
    expect(page.locator("#progress")).to_contain_text("0 / 4")

    async def acknowledge() -> None:
        async with trade.database.pool.acquire() as connection:
            number = await connection.fetchval("SELECT number FROM price_list")
            await connection.execute("INSERT INTO price_ack VALUES ($1, 'FR-1', 2, 'applied', '', 1)", number)

    trade.call(acknowledge())
    expect(page.locator("#progress")).to_contain_text("1 / 4")
    page.get_by_text("Who does not have it yet").click()
    expect(page.locator("details.late li").first).to_contain_text("Nantes")
    leave(context)


def test_a_refused_message_is_found_by_its_reason(browser: Browser, trade: Trade) -> None:
    context = browser.new_context(locale="en")
    page = context.new_page()
    trade.sign_in(page, "Ben")
    page.goto(f"{trade.address}/messages?party=FR-1&code=exchange.route")
    rows = page.locator("#list tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link", name="order-2", exact=True).click()
    expect(page.locator("dl.facts")).to_contain_text("no route")
    leave(context)


def test_who_may_not_search_messages_is_shown_none(browser: Browser, trade: Trade) -> None:
    context = browser.new_context(locale="en")
    page = context.new_page()
    trade.sign_in(page, "Chloé Lefebvre-Martin")
    assert page.request.get(f"{trade.address}/messages").status == 403
    assert page.request.get(f"{trade.address}/dealers/points").status == 403
    leave(context)


def test_a_card_is_shown_to_everybody_once_its_manager_switched_it_on(browser: Browser, trade: Trade) -> None:
    context = browser.new_context(locale="fr")
    page = context.new_page()
    assert page.request.get(f"{trade.address}/card/FR-1").status == 400
    card = Card(True, ("https://garage.example",), (Item(LIST, "A-100"),))
    trade.call(trade.showcase.put("FR-1", card, "person:1"))
    answer = page.goto(f"{trade.address}/card/FR-1")
    assert answer
    assert "frame-ancestors https://garage.example" in answer.headers["content-security-policy"]
    assert "x-frame-options" not in answer.headers
    assert "stale-if-error=86400" in answer.headers["cache-control"]
    expect(page.locator("h1")).to_have_text("Garage de Lyon")
    expect(page.locator("body")).to_contain_text("13.10 EUR")
    expect(page.locator("body")).to_contain_text("08:00–12:00, 14:00–18:30")
    expect(page.locator("body")).to_contain_text("lundi")
    page.goto(f"{trade.address}/card/FR-1?language=zh")
    expect(page.locator("body")).to_contain_text("星期一")
    plain = page.request.get(f"{trade.address}/v1/cards/FR-1").json()
    assert (plain["items"][0]["price_minor"], plain["origins"]) == (1310, [])
    leave(context)


def test_only_retail_prices_of_its_own_brands_can_be_shown(trade: Trade) -> None:
    from rocade.core.errors import Refused

    for card, code in (
        (Card(True, (), (Item("none", "A-100"),)), "prices.list.unknown"),
        (Card(True, ("http://garage.example",)), "showcase.origin"),
        (Card(True, (), (Item(LIST, ""),)), "showcase.items"),
    ):
        with pytest.raises(Refused) as refusal:
            trade.call(trade.showcase.put("FR-2", card, "person:1"))
        assert refusal.value.code == code
