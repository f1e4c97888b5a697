"""Charging on a phone and the operator's depots, in a real browser over real engines: plans, previews, commands and their life."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import toytown
from city import fresh_database
from forecourt import HOUR_US, SITE, Forecourt
from phones import Phone, with_passkey
from playwright.sync_api import Browser, expect
from test_every_page import LANGUAGES, VIEWS, walk

from rocade.console import vendor
from rocade.console.charging import drawing, health, life, wishes
from rocade.console.languages import texts
from rocade.core import data_classes
from rocade.fabric.history.process import StoreProcess
from rocade.services.battery import Finding, Health, Interval, Pack, Seen
from rocade.services.charging import Departure, Goal, Remedy, StoredPlan, WeeklyTime
from rocade.services.vehicles.commands import Moment, Standing

DAY_US = 86_400_000_000
PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def court(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forecourt]:
    vendor.fetch(with_development=True)
    with tempfile.TemporaryDirectory(prefix="rocade-charging-") as directory:
        process = StoreProcess(Path(directory))
        process.start()
        url = fresh_database(postgres_url, template, "forecourt")
        with Forecourt(url, process.url, tmp_path_factory.mktemp("charging")) as made:
            yield made
        process.stop()


type Phones = Callable[..., Phone]


@pytest.fixture
def phone(browser: Browser, court: Forecourt) -> Iterator[Phones]:
    made: list[Phone] = []

    def make(who: str = "Léa", size: tuple[int, int] = PHONE, **options: Any) -> Phone:
        made.append(Phone(browser, court, who, **{"timezone_id": "Europe/Paris", **options}))
        made[-1].page.set_viewport_size({"width": size[0], "height": size[1]})
        return made[-1]

    yield make
    for one in made:
        one.leave()


# --- a driver's page ----------------------------------------------------------------------------------------------------


def test_a_slider_that_moves_draws_the_plan_it_would_make_and_one_tap_takes_it(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    one = phone()
    page = one.open(f"/my/{ref}/charging")
    expect(page.locator("#goal-said")).to_contain_text("80 % by")
    page.fill("#g-by", f"{datetime.now(ZoneInfo('Europe/Paris')) + timedelta(hours=12):%H:%M}")  # time enough
    expect(page.locator("#plan-title + .pill")).to_have_text("Preview")
    toytown.wait(page, "rocade.plan()?.power_kw.some((kw) => kw > 0)")
    expect(page.locator("#plot canvas")).to_be_visible()
    page.fill("#g-target", "100")
    expect(page.locator("#goal-said")).to_contain_text("100 % by")
    toytown.wait(page, "rocade.plan().soc.at(-1) > 99")
    assert court.call(court.charging.goal(ref)) is None, "a preview stores nothing"
    page.click("#g-save")
    expect(page.locator("#charge-now h2")).to_contain_text(re.compile("waiting|Charging|not be full"))
    toytown_wait(lambda: court.call(court.charging.goal(ref)) is not None)  # it may have said so before, too
    stored = court.call(court.charging.goal(ref))
    assert stored is not None
    assert (stored.target_percent, stored.tariff, stored.carbon, stored.departure.zone) == (
        100,
        "home",
        "grid-co2",
        "Europe/Paris",
    )
    assert page.evaluate("rocade.plan().price.length === rocade.plan().times_s.length")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert one.complaints == []
    assert one.foreign() == []
    court.call(court.charging.drop_goal(ref, "test"))


def test_what_is_out_of_reach_is_said_with_the_smallest_change_and_one_tap_makes_it(
    phone: Phones, court: Forecourt
) -> None:
    ref = court.ref("e208")
    court.call(court.charging.set_goal(ref, court.goal(2.0, 95.0), "test"))
    page = phone().open(f"/my/{ref}/charging")
    expect(page.locator("#charge-plan .short")).to_contain_text("instead of 95 %")
    expect(page.locator("#charge-plan .short")).to_contain_text("not enough time")
    page.locator("#charge-plan .short button").click()
    expect(page.locator("#charge-plan .short")).to_have_count(0)
    goal = court.call(court.charging.goal(ref))
    assert goal is not None
    assert goal.target_percent < 95 or goal.departure.at_us > court.clock.now_us() + 2 * HOUR_US
    court.call(court.charging.drop_goal(ref, "test"))


def test_one_big_stop_is_followed_step_by_step_until_the_car_proves_it(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    court.call(court.car("e208", soc=44.0, cable=True, charging=True, power=7.2))
    court.call(court.charging.set_goal(ref, court.goal(), "test"))
    one = phone()
    page = one.open(f"/my/{ref}/charging")
    expect(page.locator("#charge-now h2")).to_have_text("Charging with 7.2\u202fkW")
    page.get_by_role("button", name="Stop charging").click()
    expect(page.locator("#charge-now h2")).to_have_text("Stopped by you")
    life_of_stop = page.locator("#commands .command", has_text="Stop charging").locator(".life")
    step = life_of_stop.locator("[aria-current=step]")
    expect(step).to_have_text("noted")
    court.call(court.deliver("e208"))
    expect(step).to_have_text("sent")
    standing = court.call(court.open("e208", "charge.stop"))
    court.call(court.car_says("e208", standing, "accepted"))
    expect(step).to_have_text("received")
    court.call(court.car_says("e208", standing, "applied"))
    expect(step).to_have_text("done")
    court.call(court.car("e208", soc=44.0, cable=True, charging=False, power=0.0))
    expect(life_of_stop.locator(".step-done")).to_have_count(5)
    expect(page.locator("#commands .command", has_text="Stop charging")).to_contain_text("Proven by the vehicle")
    expect(page.locator("#charge-said")).to_contain_text("Stop charging: proven")
    page.get_by_role("button", name="Charge again as planned").click()
    expect(page.locator("#charge-now h2")).not_to_have_text("Stopped by you")
    assert one.complaints == []
    court.call(court.charging.drop_goal(ref, "test"))


def test_sessions_tell_what_was_saved_and_the_plan_is_there_as_a_table(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    court.call(court.charged("e208"))
    court.call(court.charging.set_goal(ref, court.goal(16.0), "test"))
    page = phone(locale="fr").open(f"/my/{ref}/charging")
    expect(page.locator(".sessions li").first).to_contain_text("3,12\u00a0€")
    expect(page.locator(".sessions li").first).to_contain_text("1,43\u00a0€ et 600\u202fg CO₂ de moins")
    page.click("#as-table summary")
    expect(page.locator("#plan-table tbody tr").first).to_be_visible()
    assert "prévision" in page.inner_text("#plan-table"), "what is forecast is said in words too"
    court.call(court.charging.drop_goal(ref, "test"))


def test_the_page_goes_by_keyboard_alone(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    page = phone().open(f"/my/{ref}/charging")
    page.wait_for_selector("#live[data-state=live]")
    page.focus("#g-target")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#g-target-said")).to_have_text("85 %")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "g-by"
    page.focus("#g-save")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Stop charging")).to_be_visible()
    page.locator("#charge-now .big-act").press("Enter")  # in one go: the piece may be drawn anew at any moment
    expect(page.locator("#charge-now h2")).to_have_text("Stopped by you")
    court.call(court.charging.drop_goal(ref, "test"))


def test_a_driver_with_the_energy_class_alone_sees_no_departure_and_no_buttons(phone: Phones, court: Forecourt) -> None:
    ref, lea = court.ref("e208"), court.persons["Léa"]
    court.call(court.charging.set_goal(ref, court.goal(), "test"))
    guest, code = court.call(
        court.consents.invite(ref, lea, data_classes.mask(["energy"]), court.clock.now_us() + DAY_US)
    )
    court.call(court.consents.accept(code, court.persons["Max"]))
    one = phone("Max")
    toytown_wait(lambda: one.page.request.get(f"{court.address}/my/{ref}/charging").status == 200)
    page = one.open(f"/my/{ref}/charging")
    expect(page.locator("#charge-now")).to_be_visible()
    assert page.locator("#goal, .big-act, #plot, #commands").count() == 0
    assert "% by" not in page.inner_text("#charge-now")
    answer = page.request.post(f"{court.address}/my/{ref}/charging/stop", headers={"origin": court.address})
    assert answer.status == 403
    court.call(court.consents.end(ref, lea, guest.id))
    court.call(court.charging.drop_goal(ref, "test"))


def toytown_wait(is_true: Callable[[], bool], timeout_s: float = 90.0) -> None:
    import time

    end = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_battery_health_stands_with_its_interval_its_past_and_how_it_was_found(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    one = phone()
    page = one.open(f"/my/{ref}/battery")
    expect(page.locator("#health-title")).to_have_text("Not enough data yet: 0 of 10 segments")
    court.call(court.weigh_battery("e208"))
    page = one.open(f"/my/{ref}/battery")
    expect(page.locator("#health-title")).to_contain_text("93.4%")
    expect(page.locator("#health-title")).to_contain_text("between 91.2 and 95.5 %")
    expect(page.locator("#health-plot canvas")).to_be_visible()
    page.locator(".as-table summary").click()
    expect(page.locator(".as-table tbody tr")).to_have_count(24)
    expect(page.locator("main")).to_contain_text("The car’s own figure")
    assert page.request.get(court.address + str(page.get_attribute("a[download]", "href"))).status == 200
    page = one.open(f"/my/{ref}/charging")
    expect(page.locator(".battery-link")).to_contain_text("93.4 % (91.2 to 95.5 %)")
    assert one.complaints == []


# --- commands by hand -----------------------------------------------------------------------------------------------------


def test_a_petrol_car_has_no_charging_page_but_its_own_commands(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("c3")
    one = phone()
    page = one.open(f"/my/{ref}")
    menu = page.locator(".menu-list")
    expect(menu).to_contain_text("Lights, doors, where it stands")
    assert menu.locator(f"a[href='/my/{ref}/charging']").count() == 0
    assert page.request.get(f"{court.address}/my/{ref}/charging", headers={"accept": "text/html"}).status in {
        400,
        404,
        409,
    }
    page = one.open(f"/my/{ref}/controls")
    names = page.locator(".acts [data-act]").evaluate_all("(all) => all.map((one) => one.dataset.act)")
    assert names == ["attention.lights", "doors.lock", "doors.unlock", "location.report", "attention.horn"]
    page.get_by_role("button", name="Lock", exact=True).click()
    expect(page.locator("#commands .command b")).to_have_text("Lock the doors")


def test_unlocking_asks_for_a_passkey_and_is_refused_without(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("e208")
    one = phone()
    page = one.open(f"/my/{ref}/controls")
    answer = page.request.post(f"{court.address}/my/{ref}/controls/doors.unlock", headers={"origin": court.address})
    assert (answer.status, "gate.touch" in answer.text()) == (403, True)
    with_passkey(one)
    page = one.open(f"/my/{ref}/controls")
    page.get_by_role("button", name="Unlock").click()
    expect(page.locator("#commands .command b").first).to_have_text("Unlock the doors")


# --- the operator ---------------------------------------------------------------------------------------------------------


def test_a_depot_shows_the_tightest_car_first_and_dimming_as_it_comes(phone: Phones, court: Forecourt) -> None:
    one = phone("Ada", DESK)
    page = one.open(f"/depots/{SITE}")
    expect(page.locator(".cars-board tbody tr")).to_have_count(8)
    board = court.call(court.charging.board(SITE))
    assert (
        "too late" in page.inner_text(".cars-board tbody tr:first-child")
        or board.cars[0].laxity_h is None
        or board.cars[0].laxity_h >= 0
    )
    expect(page.locator("#load-plot canvas")).to_be_visible()
    expect(page.locator("#flex-plot canvas")).to_be_visible()
    now_us = court.clock.now_us()
    court.call(court.charging.dim(SITE, 20.0, now_us, now_us + HOUR_US, "signal-1"))
    expect(page.locator("#board .notice")).to_contain_text("allows 20 kW until")
    toytown.wait(page, "rocade.data.load.dimmed.length === 1 && Math.min(...rocade.data.load.limit_kw) === 20")
    court.call(court.charging.end_dimming(SITE, "signal-1"))
    expect(page.locator("#board .notice")).to_have_count(0)
    assert one.complaints == []
    page = one.open("/depots")
    expect(page.locator(".depot h2")).to_have_text("Dépôt Nord")


def test_the_operator_orders_of_the_fleets_own_cars_and_reads_what_came_of_it(phone: Phones, court: Forecourt) -> None:
    ref = court.ref("fleet-0")
    one = phone("Ada", DESK)
    page = one.open(f"/vehicles/{ref}")
    page.locator("#commands-title").scroll_into_view_if_needed()
    page.get_by_role("button", name="Lock", exact=True).click()
    expect(page.locator("#commands .command")).to_contain_text("Lock the doors")
    court.call(court.deliver("fleet-0"))
    expect(page.locator("#commands [aria-current=step]")).to_have_text("sent")
    owned = page.request.get(f"{court.address}/vehicles/{court.ref('c3')}/commands")
    assert owned.status == 403, "an owned car is its owner's"


def pages(court: Forecourt) -> list[tuple[str, str]]:
    e208, c3 = court.ref("e208"), court.ref("c3")
    return [
        ("Léa", f"/my/{e208}/charging"), ("Léa", f"/my/{e208}/controls"), ("Léa", f"/my/{e208}/battery"),
        ("Léa", f"/my/{c3}/controls"), ("Léa", f"/my/{e208}/drivers"), ("Ada", "/depots"), ("Ada", f"/depots/{SITE}"),
        ("Ada", f"/vehicles/{court.ref('fleet-0')}"),
    ]  # fmt: skip


@pytest.mark.timeout(300)
def test_charging_pages_are_fit_for_everybody(browser: Browser, court: Forecourt) -> None:
    court.call(court.charging.set_goal(court.ref("e208"), court.goal(16.0, 100.0), "test"))
    wrong = [
        one
        for at, way in enumerate([*pages(court)[:3], pages(court)[6]])
        for one in walk(browser, court, [way], [LANGUAGES[at % 3]], [VIEWS[at % 4]])
    ]
    assert wrong == [], "\n" + "\n".join(wrong)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("language", LANGUAGES)
def test_charging_pages_are_fit_in_every_language(browser: Browser, court: Forecourt, language: str) -> None:
    court.call(court.charging.set_goal(court.ref("e208"), court.goal(16.0, 100.0), "test"))
    wrong = walk(browser, court, pages(court), [language], VIEWS)
    assert wrong == [], "\n" + "\n".join(wrong)


# --- words, without a browser -------------------------------------------------------------------------------------------


def standing(state: str, *seen: str, **more: Any) -> Standing:
    moments = tuple(Moment(name, 1_000_000 + at * 500_000) for at, name in enumerate(("created", *seen)))
    return Standing("0" * 32, 7, "charge.limit", {"percent": 80}, "charging.limit", 1, "person:1", "own", state,
                    more.pop("code", ""), 0, 9, 9, moments, **more)  # fmt: skip


LIVES = [
    (standing("queued", "queued"), ["queued:here", "sent:todo", "accepted:todo", "applied:todo", "verified:todo"], "open"),
    (standing("waking", "queued", "sent", "waking"),
     ["queued:done", "sent:done", "accepted:done", "waking:here", "applied:todo", "verified:todo"], "open"),
    (standing("verified", "queued", "sent", "applied", "verified"),
     ["queued:done", "sent:done", "accepted:done", "applied:done", "verified:done"], "good"),
    (standing("rejected", "queued", "sent", "rejected", code="command.late"), ["queued:done", "sent:done", "rejected:bad"], "bad"),
    (standing("superseded", "queued", "superseded"), ["queued:done", "superseded:gone"], "gone"),
    (standing("expired", "queued", "expired"), ["queued:done", "expired:bad"], "bad"),
    (standing("applied", "queued", "sent", "applied", doubt=True, code="command.unproven"),
     ["queued:done", "sent:done", "accepted:done", "applied:done", "unproven:bad"], "doubt"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "steps", "outcome"), LIVES)
def test_a_life_shows_how_far_it_came_and_where_it_ended(one: Standing, steps: list[str], outcome: str) -> None:
    for language in LANGUAGES:
        shown = life.view(texts(language), language, one)
        assert [f"{step.name}:{step.mark}" for step in shown.steps] == steps
        assert shown.outcome == outcome
        assert "80" in shown.words
        assert shown.said or one.state == "verified"


class Form(dict[str, str]):
    def getall(self, name: str, default: list[str]) -> list[str]:
        return self[name].split() if name in self else default


NOW_US = 1_795_341_600_000_000
"""22 November 2026, 10:00 UTC, a Sunday: 11:00 in Paris."""
FORM = {"target": "80", "minimum": "20", "share": "2", "by": "07:00", "in_zone": "Europe/Paris"}
FORMS = [
    ({}, ("once", NOW_US + 20 * HOUR_US, ())),
    ({"by": "11:30"}, ("once", NOW_US + HOUR_US // 2, ())),
    ({"by": "11:00"}, ("once", NOW_US + 24 * HOUR_US, ())),
    ({"day": "0 4"}, ("weekly", 0, ((0, 420), (4, 420)))),
    ({"calendar": "BEGIN:VCALENDAR"}, ("calendar", 0, ())),
    ({"later_us": str(NOW_US + HOUR_US)}, ("once", NOW_US + HOUR_US, ())),
]


@pytest.mark.parametrize(("change", "departure"), FORMS)
def test_a_form_says_when_he_leaves(change: dict[str, str], departure: tuple[Any, ...]) -> None:
    goal = wishes.wanted(Form(FORM | change), 7, None, "person:1", NOW_US)  # type: ignore[arg-type]  # the two methods it asks
    found = goal.departure
    assert (found.kind, found.at_us, tuple((one.weekday, one.minute) for one in found.weekly)) == departure
    assert (goal.target_percent, goal.minimum_percent, goal.share_co2, goal.care) == (80, 20, 0.5, False)


@pytest.mark.parametrize(
    ("change", "code"),
    [({"by": "25:00"}, "console.goal"), ({"by": ""}, "console.goal"), ({"target": "much"}, "console.goal"),
     ({"target": "nan"}, "console.goal"), ({"share": "-1"}, "console.goal"), ({"in_zone": "Mars/Olympus"}, "charging.zone")],
)  # fmt: skip
def test_a_form_that_makes_no_sense_is_refused(change: dict[str, str], code: str) -> None:
    from rocade.core.errors import Refused

    with pytest.raises(Refused) as refusal:
        wishes.wanted(Form(FORM | change), 7, None, "person:1", NOW_US)  # type: ignore[arg-type]  # the two methods it asks
    assert refusal.value.code == code


def plan(**more: Any) -> StoredPlan:
    quarter = 900_000_000
    return StoredPlan(**{
        "ref": 7, "version": 1, "goal_version": 1, "made_us": NOW_US, "departure_us": NOW_US + 4 * quarter,
        "start_us": tuple(NOW_US + at * quarter for at in range(4)), "length_s": (900,) * 4, "power_kw": (7.0, 7.0, 0.0, 7.0),
        "soc_percent": (40.0, 43.0, 46.0, 46.0, 49.0), "pieces": (), "cost_minor": 120, "currency": "EUR", "co2_g": 300,
        "at_once_minor": 150, "at_once_g": 380, "energy_kwh": 5.25, "target_percent": 80.0, "price": (0.1, -0.02, 0.3, 0.2),
        "carbon_g": (40.0, 41.0, 60.0, 50.0), "is_forecast": (False, False, True, True), **more,
    })  # fmt: skip


def test_a_chart_holds_steps_with_an_end_and_where_the_forecast_begins() -> None:
    chart = drawing.plan_chart(plan())
    assert len(chart.times_s) == len(chart.power_kw) == len(chart.price) == len(chart.carbon) == len(chart.soc) == 5
    assert (chart.price[:2], chart.price_unit) == ([10.0, -2.0], "ct/kWh")
    assert chart.known_s * 1_000_000 == NOW_US + 2 * 900_000_000
    assert drawing.windows(plan()) == [
        (NOW_US, NOW_US + 2 * 900_000_000),
        (NOW_US + 3 * 900_000_000, NOW_US + 4 * 900_000_000),
    ]


def test_a_remedy_is_a_form_that_changes_one_thing() -> None:
    goal = Goal(
        7, 80.0, Departure("once", "Europe/Paris", at_us=NOW_US + HOUR_US), 20.0, 0.5, tariff="home", carbon="co2"
    )
    short = plan(shortfall_kwh=4.0, reason="charging.plan.short")
    for smallest, name, value in (
        ("later", "later_us", str(short.departure_us + 40 * 60_000_000)),
        ("target", "target", "63"),
        ("power", "power", "11.00"),
    ):
        remedy = Remedy(40, 63.4, 11.0, smallest)
        fields = dict(wishes.remedy_fields(goal, plan(shortfall_kwh=4.0, remedy=remedy)))
        assert fields[name] == value
        again = wishes.wanted(Form(fields), 7, goal, "person:1", NOW_US)  # type: ignore[arg-type]  # the two methods it asks
        assert (again.tariff, again.carbon, again.share_co2, again.minimum_percent) == ("home", "co2", 0.5, 20.0)
        assert (again.departure == goal.departure) is (smallest != "later")


def test_leaving_later_keeps_what_repeats_every_week_and_leaves_a_calendar_alone() -> None:
    monday_us = NOW_US + 20 * HOUR_US
    weekly = Departure("weekly", "Europe/Paris", weekly=tuple(WeeklyTime(day, 420) for day in range(5)))
    goal = Goal(7, 80.0, weekly, 20.0, 0.5, tariff="home")
    short = plan(departure_us=monday_us, shortfall_kwh=4.0, remedy=Remedy(40, 63.4, 11.0, "later"))
    again = wishes.wanted(Form(dict(wishes.remedy_fields(goal, short))), 7, goal, "person:1", NOW_US)  # type: ignore[arg-type]
    assert [(one.weekday, one.minute) for one in again.departure.weekly] == [
        (0, 460),
        (1, 420),
        (2, 420),
        (3, 420),
        (4, 420),
    ]
    by_calendar = Goal(7, 80.0, Departure("calendar", "Europe/Paris", calendar="BEGIN:VCALENDAR"), 20.0, 0.5)
    fields = dict(wishes.remedy_fields(by_calendar, short))
    assert (fields["target"], fields["keep_departure"]) == ("63", "1")


FINDINGS = [
    (Finding("waiting", 6, 10), "Not enough data yet: 6 of 10 segments"),
    (
        Finding("unrelated", 12, 10, capacity_kwh=Interval(45, 44, 46)),
        "Its capacity is known, but not what it was when new",
    ),
    (Finding("silent", 0, 10), "This vehicle does not report what is needed"),
]


@pytest.mark.parametrize(("found", "said"), FINDINGS)
def test_battery_health_is_a_reason_where_there_is_no_figure(found: Finding, said: str) -> None:
    shown = health.view(texts("en"), "en", Health(7, found, Pack(48.0), Seen()), [])
    assert (shown.percent, shown.refusal) == (None, said)


def test_battery_health_comes_with_its_interval() -> None:
    found = Finding(
        "known", 42, 10, NOW_US, Interval(93.4, 91.2, 101.5), Interval(44.8, 43.8, 45.8), 1.8, charges=30, drives=12
    )
    shown = health.view(texts("en"), "en", Health(7, found, Pack(48.0), Seen(), left_out={"cold": 7}), [])
    assert shown.interval == "between 91.2 and 101.5 % (90 % interval)"
    assert "Of 48\u202fkWh when new, 44.8\u202fkWh are left." in shown.means
    assert ("left_out", "7") in shown.found
