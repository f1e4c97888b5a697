"""Moving over: comparing, steps in their order, the way back, progress; orders to agents; opening hours."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from tests.notebook import Notebook
from tests.services.dealers.conftest import DAY_US, SetClock, site

from rocade.core.errors import Refused
from rocade.fabric.database import Database
from rocade.services.dealers import BrandAt, Dealers, Moving, Orders, SiteTable, moving, opening
from rocade.services.dealers.model import Compared, Example


@pytest.fixture
def steps(network: Dealers, database: Database, audit: Notebook, clock: SetClock) -> Moving:
    return Moving(database, audit, clock)


FILES: list[tuple[bytes, dict[str, int]]] = [
    (b"ref;price\r\n16100-01;12,50\r\nA;1 234,5\r\n", {"16100-01": 1250, "A": 123450}),
    (b'\xef\xbb\xbfReference,Price\n16100-01,12.50\nB,"1,234.50"\n', {"16100-01": 1250, "B": 123450}),
    (b"16100-01\t12.5\nC\t7\n", {"16100-01": 1250, "C": 700}),
    (b"ref;price_minor;label\n16100-01;1250;Vis\n", {"16100-01": 1250}),
    ("ref;prix\nV\u00e9;3,00\u00a0\u20ac\n".encode("cp1252"), {"V\u00e9": 300}),
]  # fmt: skip


@pytest.mark.parametrize(("content", "prices"), FILES)
def test_old_files_are_read_as_they_come(content: bytes, prices: dict[str, int]) -> None:
    assert moving.read_prices(content) == prices


@pytest.mark.parametrize("content", [b"ref;price\nA\n", b"ref;price\nA;x\n", b"A;12,345\n"])
def test_a_line_without_a_price_is_told(content: bytes) -> None:
    with pytest.raises(Refused, match=r"dealers\.compare\.unreadable"):
        moving.read_prices(content)


def test_what_differs_is_counted_and_shown() -> None:
    found = moving.compare({"a": 1, "b": 2, "c": 3}, {"b": 2, "c": 4, "d": 5})
    assert found == Compared(4, 1, 1, 1, 1, [Example("c", "3", "4"), Example("a", "1", ""), Example("d", "", "5")])
    assert moving.compare({"a": 1}, {"a": 1}).is_same


SAME, OTHER = moving.compare({"a": 1}, {"a": 1}), moving.compare({"a": 1}, {"a": 2})


async def test_a_site_is_cut_over_after_a_fresh_report_without_differences(
    steps: Moving, table: SiteTable, clock: SetClock
) -> None:
    with pytest.raises(Refused, match=r"dealers\.move\.order"):
        await steps.move("FR-1-1", "cut-over", "", "operator")
    with pytest.raises(Refused, match=r"dealers\.move\.order"):
        await steps.report("FR-1-1", "parts", 3, SAME, "FR-1-1")
    await steps.move("FR-1-1", "shadow", "", "operator")
    for report in (None, OTHER):
        if report is not None:
            await steps.report("FR-1-1", "parts", 3, report, "FR-1-1")
        with pytest.raises(Refused, match=r"dealers\.move\.unready"):
            await steps.move("FR-1-1", "cut-over", "", "operator")
    await steps.report("FR-1-1", "parts", 4, SAME, "FR-1-1")
    clock.us += 8 * DAY_US
    with pytest.raises(Refused, match=r"older than seven days"):
        await steps.move("FR-1-1", "cut-over", "", "operator")
    await steps.report("FR-1-1", "parts", 5, SAME, "FR-1-1")
    assert (await steps.move("FR-1-1", "cut-over", "", "operator")).state == "cut-over"
    await table.refresh()
    assert table.move_state("FR-1-1") == "cut-over"
    await steps.move("FR-1-1", "rolled-back", "line down", "operator")
    assert [one.state for one in await steps.history("FR-1-1")] == ["shadow", "cut-over", "rolled-back"]
    assert [one.seq for one in await steps.shadows("FR-1-1")] == [5, 4, 3]


async def test_one_list_that_differs_keeps_the_others_waiting(steps: Moving) -> None:
    await steps.move("FR-1-1", "shadow", "", "operator")
    await steps.report("FR-1-1", "parts", 3, SAME, "FR-1-1")
    await steps.report("FR-1-1", "tyres", 3, OTHER, "FR-1-1")
    with pytest.raises(Refused, match=r"list tyres shows differences"):
        await steps.move("FR-1-1", "cut-over", "", "operator")
    with pytest.raises(Refused, match=r"dealers\.invalid"):
        await steps.move("FR-1-1", "cut-over", "", "operator", is_accepted=True)
    assert await steps.move("FR-1-1", "cut-over", "tyres are rounded", "operator", is_accepted=True)


async def test_progress_is_told_by_group(steps: Moving) -> None:
    await steps.move("FR-1-1", "shadow", "", "operator")
    told = {one.group: (one.sites, one.states["old"], one.states["shadow"]) for one in await steps.progress()}
    assert told == {"": (1, 1, 0), "martin": (2, 1, 1)}


async def test_counts_that_do_not_add_up_and_unknown_sites_are_refused(steps: Moving) -> None:
    with pytest.raises(Refused, match=r"dealers\.invalid"):
        await steps.report("FR-1-1", "parts", 3, Compared(9, 1, 1, 1, 1, []), "FR-1-1")
    with pytest.raises(Refused, match=r"dealers\.invalid"):
        await steps.report("FR-1-1", "Parts!", 3, SAME, "FR-1-1")
    with pytest.raises(Refused, match=r"dealers\.site\.unknown"):
        await steps.move("FR-9", "shadow", "", "operator")
    with pytest.raises(Refused, match=r"dealers\.invalid"):
        await steps.move("FR-1-1", "gone", "", "operator")


async def test_an_order_waits_for_its_site_and_is_told_once(
    network: Dealers, database: Database, audit: Notebook, clock: SetClock
) -> None:
    orders, connected, told = Orders(database, audit, clock), set[str](), list[tuple[str, str, bytes]]()

    async def send(site: str, tail: str, body: bytes) -> bool:
        told.append((site, tail, body))
        return True

    delivering = asyncio.create_task(orders.deliver(connected.__contains__, send, poll_s=0.02))
    given = await orders.give("FR-1-1", "renew", "spiffe://rocade.test/eu/partner/helios")
    await orders.give("FR-1-1", "install", "helios")
    assert [one.sent_us for one in await orders.of("FR-1-1")] == [0, 0]
    assert told == []
    connected.add("FR-1-1")
    async with asyncio.timeout(30):
        while not (await orders.of("FR-1-1"))[-1].sent_us:
            await asyncio.sleep(0.01)
    delivering.cancel()
    assert len(told) == 1
    assert told[0][:2] == ("FR-1-1", "notice")
    assert b'"dealer.renew"' in told[0][2]
    assert str(given.number).encode() in told[0][2]
    for refused in (("FR-1-1", "sign"), ("FR-9", "renew")):
        with pytest.raises(Refused, match=r"dealers\.(order|site)\.unknown"):
            await orders.give(*refused, "helios")


HOURS: list[tuple[str, str, bool]] = [
    ("Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "2026-06-01T07:59", False),
    ("Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "2026-06-01T08:00", True),
    ("Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "2026-06-01T12:00", False),
    ("Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "2026-06-06T11:59", True),
    ("Mo-Fr 08:00-12:00,14:00-18:30; Sa 09:00-12:00", "2026-06-07T11:59", False),
    ("Mo-Su 00:00-24:00; 2026-12-25 off", "2026-12-25T10:00", False),
    ("Mo-Su 00:00-24:00; 2026-12-25 off", "2026-12-26T23:59", True),
    ("Sa-Mo 10:00-11:00", "2026-06-08T10:30", True),
    ("Mo,We 10:00-11:00", "2026-06-02T10:30", False),
    ("", "2026-06-02T10:30", False),
    ("Mo-Su 02:30-03:30", "2026-03-29T03:15", True),  # 02:30 does not exist that night; the wall clock counts
]


@pytest.mark.parametrize(("text", "local", "is_open"), HOURS)
def test_doors_open_as_the_wall_clock_shows(text: str, local: str, is_open: bool) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=opening.zone("Europe/Paris")).astimezone(UTC)
    assert opening.parse(text).is_open(int(at.timestamp()) * 1_000_000, "Europe/Paris") is is_open


async def test_a_brand_is_given_for_a_period_and_cut_where_a_new_one_begins(network: Dealers, clock: SetClock) -> None:
    now_us = clock.now_us()
    await network.set_brand("FR-1-1", BrandAt("renault", False, True, now_us + DAY_US, now_us + 2 * DAY_US), "op")
    periods = [one for one in (await network.site("FR-1-1")).brands if one.brand == "renault"]
    assert [(one.sells, one.from_us - now_us, one.until_us - now_us) for one in periods][1:2] == [
        (False, DAY_US, 2 * DAY_US)
    ]
    assert len(periods) == 3
    with pytest.raises(Refused, match=r"dealers\.invalid"):
        await network.set_brand("FR-1-1", BrandAt("renault", False, False, now_us), "op")
    for far in (BrandAt("renault", True, True, now_us, 1 << 62), BrandAt("renault", True, True, -(1 << 62))):
        with pytest.raises(Refused, match=r"dealers\.invalid"):
            await network.set_brand("FR-1-1", far, "op")
    with pytest.raises(Refused, match=r"dealers\.brand\.foreign"):
        await network.end_brand("FR-1-1", "lune")


async def test_acts_are_in_the_audit_log_and_refusals_too(network: Dealers, audit: Notebook) -> None:
    with pytest.raises(Refused, match=r"dealers\.dealer\.unknown"):
        await network.put([site("ES-1-1", "ES-1")])
    with pytest.raises(Refused, match=r"dealers\.person\.foreign"):
        await network.give_role("person:a1", "dealer:FR-2", "FR-1-1", "parts")
    with pytest.raises(Refused, match=r"dealers\.role\.self"):
        await network.give_role("person:a1", "dealer:FR-1", "FR-1-1", "parts", actor="person:a1")
    with pytest.raises(Refused, match=r"dealers\.provider\.unknown"):
        await network.delegate("nobody", "site:FR-1-1", ["renew"])
    for acts in (["sign"], [], ["renew", "read"]):
        with pytest.raises(Refused, match=r"dealers\.invalid"):
            await network.delegate("nobody", "site:FR-1-1", acts)
    assert audit.refusals == [
        "dealers.dealer.unknown", "dealers.person.foreign", "dealers.role.self", "dealers.provider.unknown",
    ]  # fmt: skip
    assert {"dealers.put", "dealers.site"} <= set(audit.actions)


async def test_sites_are_found_a_page_at_a_time(network: Dealers) -> None:
    first = await network.sites(limit=2)
    assert ([one.id for one in first.sites], first.cursor) == (["FR-1-1", "FR-1-2"], "FR-1-2")
    rest = await network.sites(first.cursor or "", 2)
    assert ([one.id for one in rest.sites], rest.cursor) == (["FR-2-1"], None)
    for wanted, found in (
        ({"group": "martin"}, 2), ({"dealer": "FR-2"}, 1), ({"country": "DE"}, 0), ({"brand": "lune"}, 1),
        ({"primary": "FR-1-1"}, 1), ({"find": "LYON"}, 3), ({"find": "%"}, 0),
    ):  # fmt: skip
        assert len((await network.sites(**wanted)).sites) == found, wanted
    with pytest.raises(Refused, match=r"dealers\.cursor"):
        await network.sites("no cursor")
